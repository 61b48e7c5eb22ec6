//! Parquet files of records.
//!
//! Images are structs of `bytes` and `path`, as the `datasets` library has them.

mod cells;
mod columns;
mod image_file;
mod leaf;
mod open_files;
mod pages;
mod read;
mod row_cursor;
mod schema;
mod write;

pub(super) use columns::columns;
pub(crate) use open_files::OpenFiles;
pub(super) use read::for_each_row;
pub(super) use write::RowWriter;
