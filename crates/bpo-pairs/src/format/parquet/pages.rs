//! Pages of a column, whose counts are checked before anything is allocated for them.

use std::fs::File;
use std::sync::Arc;

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

/// Maximum number of values, nulls included, of the pages that are read. It bounds the memory for a
/// list.
const MOST_VALUES: u64 = 1 << 24;
/// Bytes of a value of a dictionary at least: its length.
const LENGTH_BYTES: usize = 4;

/// Reads the pages of a column of byte arrays in a row group.
pub(super) struct Pages {
    pages: SerializedPageReader<File>,
    /// Values of the pages that were read.
    values: u64,
}

impl Pages {
    pub(super) fn open(
        file: &Arc<File>,
        metadata: &ParquetMetaData,
        group: usize,
        column: usize,
    ) -> Result<Self> {
        let locations = metadata.page_index_for_row_group(group).page_locations(column).cloned();
        let group = metadata.row_group(group);
        let rows = usize::try_from(group.num_rows())?;
        let pages = SerializedPageReader::new(Arc::clone(file), group.column(column), rows, locations)?;
        Ok(Self { pages, values: 0 })
    }

    /// Checks the number of values that a page claims to have.
    fn checked(&mut self, page: Option<Page>) -> Result<Option<Page>> {
        let is_too_large = match &page {
            Some(Page::DictionaryPage { buf, num_values, .. }) => {
                *num_values as usize > buf.len() / LENGTH_BYTES
            }
            Some(Page::DataPage { num_values, .. } | Page::DataPageV2 { num_values, .. }) => {
                self.values = self.values.saturating_add(u64::from(*num_values));
                self.values > MOST_VALUES
            }
            None => false,
        };
        if is_too_large {
            return Err(ParquetError::General("a page claims to have too many values".to_owned()));
        }
        Ok(page)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        self.checked(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        self.checked(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
