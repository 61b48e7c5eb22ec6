//! Parquet files of records.
//!
//! Images are structs of `bytes` and `path`, as the `datasets` library has them.

mod cells;
mod columns;
mod leaf;
mod read;
mod schema;
mod write;

pub(super) use columns::columns;
pub(super) use read::for_each_row;
pub(super) use write::RowWriter;
