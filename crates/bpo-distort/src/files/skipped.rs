//! Images that nothing was made of.

use std::io;
use std::path::PathBuf;

use crate::DistortError;

/// An image that nothing was made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path in the folder.
    pub image: PathBuf,
    /// Why nothing was.
    pub reason: SkipReason,
}

/// Why nothing was made of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// It cannot be read, is above a limit, or cannot be distorted.
    #[error(transparent)]
    Image(#[from] DistortError),

    /// A link that leads out of the folder.
    #[error("a link that leads out of the folder")]
    LinkOut,

    /// A link to a folder, which is not followed wherever it leads.
    #[error("a link to a folder")]
    LinkToFolder,

    /// What would be made of it has the name of what is made of another image.
    #[error("{} is made of {} already", out.display(), by.display())]
    SameName {
        /// The name that both would have, in the folder of what is made.
        out: PathBuf,
        /// The other image.
        by: PathBuf,
    },

    /// What would be made of it has no place: a folder of images has its name, or the record has that of its folder.
    #[error("{} would be where a folder or the record is", out.display())]
    NoPlace {
        /// The name that it would have, in the folder of what is made.
        out: PathBuf,
    },

    /// The system does not take the name of what would be made of it: it is too long, or has something in it.
    #[error("{} is no name that can be given", out.display())]
    BadName {
        /// The name, with its folder.
        out: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// No other image of the folder can be used.
    #[error("{family} needs another image, and none of the others can be used")]
    NoOther {
        /// The family that needs one.
        family: &'static str,
        /// Why the last one cannot.
        source: DistortError,
    },
}
