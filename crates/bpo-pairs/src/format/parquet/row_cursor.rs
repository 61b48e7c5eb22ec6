//! The rows of a column in a row group, read from the page of the wanted row on.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use super::pages::Pages;

/// Bytes of values that are kept behind the first page.
const KEPT_BYTES: usize = 64 << 20;
/// Number of rows that are kept.
const KEPT_ROWS: usize = 1 << 16;
/// Number of rows that are read to reach a later one, where its page is not known.
const AHEAD: u64 = 64;

/// The values of a row: one, or those of a list. An image that is null is `None`.
pub(super) type Values = Vec<Option<ByteArray>>;

/// Reads rows in their order and keeps the recent ones. The values of a page share its memory, so
/// rows of the page that is decoded last cost nothing more.
pub(super) struct RowCursor {
    group: usize,
    column: usize,
    reader: ColumnReaderImpl<ByteArrayType>,
    /// Definition level of a value that is not null.
    there: i16,
    /// The row group's row of the first kept values.
    first: u64,
    kept: VecDeque<Values>,
    kept_bytes: usize,
    /// The row behind the page that was read first, or an earlier one if that is not known.
    page_end: u64,
}

impl RowCursor {
    /// Opens the page that has a row. Pages before it are not decoded, except in a column of lists
    /// whose pages do not say how many rows they have.
    pub(super) fn open(
        file: &Arc<File>,
        metadata: &ParquetMetaData,
        group: usize,
        column: usize,
        row: u64,
    ) -> Result<Self> {
        let descriptor = metadata.file_metadata().schema_descr().column(column);
        let mut pages = Pages::open(file, metadata, group, column)?;
        let (mut first, mut page_end) = (0_u64, 0);
        while let Some(page) = pages.peek_next_page()? {
            if page.is_dict {
                // decoded when a page needs it
                pages.skip_next_page()?;
                continue;
            }
            // a value is a row where no list is
            let rows = page.num_rows.or(page.num_levels.filter(|_| descriptor.max_rep_level() == 0));
            let Some(rows) = rows else { break };
            let end = first.checked_add(rows as u64);
            page_end = end.ok_or_else(|| wrong(format!("a page claims to have {rows} rows")))?;
            if row < page_end {
                break;
            }
            pages.skip_next_page()?;
            first = page_end;
        }
        let there = descriptor.max_def_level();
        let reader = ColumnReaderImpl::new(descriptor, Box::new(pages));
        let kept = VecDeque::new();
        Ok(Self { group, column, reader, there, first, kept, kept_bytes: 0, page_end })
    }

    /// Returns whether the cursor is for a column of a row group.
    pub(super) fn is_of(&self, group: usize, column: usize) -> bool {
        (self.group, self.column) == (group, column)
    }

    /// Returns whether a row is kept or is reached soon.
    pub(super) fn is_near(&self, row: u64) -> bool {
        let soon = self.next().saturating_add(AHEAD).max(self.page_end);
        (self.first..soon).contains(&row)
    }

    /// Returns the values of a row that [is near](Self::is_near), or of that for which the cursor was
    /// opened.
    pub(super) fn values(&mut self, row: u64) -> Result<&Values> {
        while self.next() <= row {
            self.read_row()?;
        }
        let at = row.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.kept.get(at)).ok_or_else(|| wrong(format!("the row {row} was passed")))
    }

    /// The row that is read next.
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn read_row(&mut self) -> Result<()> {
        let (mut definition, mut repetition, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let read = self.reader.read_records(1, Some(&mut definition), Some(&mut repetition), &mut found)?;
        if read.0 != 1 {
            return Err(wrong(format!("the column ends before the row {} of its row group", self.next())));
        }
        let mut found = found.into_iter();
        let values: Values = if self.there == 0 {
            found.map(Some).collect()
        } else {
            definition
                .into_iter()
                .map(|level| if level == self.there { found.next() } else { None })
                .collect()
        };
        self.kept_bytes += bytes(&values);
        self.kept.push_back(values);
        let is_over = |cursor: &Self| {
            let behind_page = cursor.next() > cursor.page_end;
            cursor.kept.len() > KEPT_ROWS || (behind_page && cursor.kept_bytes > KEPT_BYTES)
        };
        while is_over(self) && self.kept.len() > 1 {
            let passed = self.kept.pop_front().unwrap_or_default();
            self.kept_bytes -= bytes(&passed);
            self.first += 1;
        }
        Ok(())
    }
}

fn bytes(values: &Values) -> usize {
    values.iter().flatten().map(ByteArray::len).sum()
}

fn wrong(problem: String) -> ParquetError {
    ParquetError::General(problem)
}
