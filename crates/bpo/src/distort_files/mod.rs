//! Distorted copies of image files and folders, for `bpo distort`.
//!
//! | file | |
//! |---|---|
//! | `batch.rs` | [`DistortFiles`]: a file, or a folder on several threads |
//! | `job.rs` | one image: check an existing copy, or write a new one |
//! | `names.rs`, `listing.rs` | the images of a folder, and the names of their copies |
//! | `origin.rs` | the PNG text that records how a copy was made |
//! | `budget.rs` | the bound on memory |

mod batch;
mod budget;
mod error;
mod image_set;
mod job;
mod listing;
mod names;
mod origin;
#[cfg(feature = "sheet")]
mod sheet;

pub use batch::{DistortEvent, DistortFiles, DistortOutcome};
pub use error::DistortFilesError;
pub use job::CopyState;
#[cfg(feature = "sheet")]
pub use sheet::save_sheet;
