//! A Parquet file whose images are read by their rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::columns::Column;
use super::read::guarded;
use super::row_cursor::RowCursor;
use crate::error::PairsError;
use crate::files::open_input;
use crate::row_images::{RowImage, RowImageError};

/// Number of columns or row groups of a file that can be read by turns.
const CURSORS: usize = 2;

/// An open file.
pub(super) struct ImageFile {
    path: PathBuf,
    file: Arc<File>,
    metadata: ParquetMetaData,
    /// The first row of each row group, and the number of rows.
    starts: Vec<u64>,
    /// The last one was used last.
    cursors: Vec<RowCursor>,
}

impl ImageFile {
    /// Opens a file and reads its metadata.
    pub(super) fn open(path: &Path) -> Result<Self, RowImageError> {
        let file = Arc::new(open_input(path)?);
        let (metadata, starts) = guard(path, || {
            // tells where pages of lists begin
            let reader = ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Optional);
            let metadata = reader.parse_and_finish(&*file)?;
            let starts = starts(&metadata)?;
            Ok((metadata, starts))
        })?;
        Ok(Self { path: path.to_owned(), file, metadata, starts, cursors: Vec::new() })
    }

    /// Returns the bytes of an image.
    pub(super) fn read(&mut self, image: &RowImage<'_>, limit: u64) -> Result<Vec<u8>, RowImageError> {
        let path = || self.path.clone();
        let &RowImage { row, index, .. } = image;
        let column = self.column(image)?;
        let rows = self.starts.last().copied().unwrap_or(0);
        if row >= rows {
            return Err(RowImageError::NoRow { path: path(), row, rows });
        }
        // the last row group that begins at the row or before; empty ones begin where the next does
        let group = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        let in_group = row - self.starts[group];
        let known = self.cursors.iter().position(|cursor| cursor.is_of(group, column));
        let cursor = known.map(|known| self.cursors.remove(known)).filter(|cursor| cursor.is_near(in_group));
        let Self { file, metadata, .. } = self;
        // a cursor that fails is not used again
        let (cursor, bytes) = guard(&self.path, || {
            let mut cursor = match cursor {
                Some(cursor) => cursor,
                None => RowCursor::open(file, metadata, group, column, in_group)?,
            };
            let place = usize::try_from(index.unwrap_or(0)).unwrap_or(usize::MAX);
            let value = cursor.values(in_group)?.get(place).cloned().flatten();
            Ok((cursor, value))
        })?;
        if self.cursors.len() >= CURSORS {
            self.cursors.remove(0);
        }
        self.cursors.push(cursor);
        let bytes = bytes.ok_or_else(|| RowImageError::NoImage { path: path(), row })?;
        let found = bytes.len() as u64;
        if found > limit {
            return Err(RowImageError::TooLarge { path: path(), row, found, limit });
        }
        Ok(bytes.data().to_vec())
    }

    /// Finds the column of bytes in a column of images: itself, or a part of its structs.
    fn column(&self, image: &RowImage<'_>) -> Result<usize, RowImageError> {
        let lists = i16::from(image.index.is_some());
        let columns = self.metadata.file_metadata().schema_descr().columns().iter().enumerate();
        let of_name = columns.filter(|(_, column)| {
            column.path().parts().first().is_some_and(|name| name == image.column)
                && column.physical_type() == Type::BYTE_ARRAY
                && column.max_rep_level() == lists
        });
        let named: Vec<_> = of_name.map(|(number, column)| (number, column.path().parts())).collect();
        let of_struct = named.iter().filter(|(_, parts)| {
            parts.len() > 1 && parts.last().is_some_and(|part| part == Column::IMAGE_PARTS[0])
        });
        let of_struct = of_struct.min_by_key(|(_, parts)| parts.len()).map(|(number, _)| *number);
        let found = of_struct.or(match named.as_slice() {
            [(number, _)] => Some(*number),
            _ => None,
        });
        found.ok_or_else(|| RowImageError::NoColumn {
            path: self.path.clone(),
            column: image.column.to_owned(),
            expected: if image.index.is_some() { "lists of images" } else { "images" },
        })
    }
}

/// Returns the first row of each row group, and the number of rows.
fn starts(metadata: &ParquetMetaData) -> ParquetResult<Vec<u64>> {
    let mut starts = vec![0];
    let mut rows = 0_u64;
    for group in metadata.row_groups() {
        rows = rows.saturating_add(u64::try_from(group.num_rows())?);
        starts.push(rows);
    }
    Ok(starts)
}

/// Runs code of the crate `parquet`, which panics on some damaged files.
fn guard<T>(path: &Path, work: impl FnOnce() -> ParquetResult<T>) -> Result<T, RowImageError> {
    guarded(path, work).map_err(|error| RowImageError::Unreadable {
        path: path.to_owned(),
        problem: match error {
            PairsError::Parquet { problem, .. } => problem,
            other => other.to_string(),
        },
    })
}
