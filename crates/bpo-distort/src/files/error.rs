//! What can go wrong with files, other than with a single image of a folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::DistortError;

/// Why files cannot be distorted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The distortion cannot be applied to files, or an image that was asked for by name cannot be used.
    #[error(transparent)]
    Distort(#[from] DistortError),

    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A folder without an image.
    #[error("there is no image in {}", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
    },

    /// A family needs another image, and there is only one.
    #[error("{family} needs another image, and {} is the only one", path.display())]
    Alone {
        /// The family.
        family: &'static str,
        /// The image.
        path: PathBuf,
    },

    /// What is made would be among the images that it is made of.
    #[error("{} is in {}, of which it would be made: name a folder outside of it", out.display(), images.display())]
    Inside {
        /// The folder to write to.
        out: PathBuf,
        /// The folder of images.
        images: PathBuf,
    },

    /// A name for a PNG file that says otherwise.
    #[error("{} must end in .png, as it becomes a PNG file", path.display())]
    NotPng {
        /// The name.
        path: PathBuf,
    },

    /// A file that was not made here would be written over.
    #[error("{} is there and was not made here: move it, or give another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },

    /// A folder to write to that has something in it which was not made here.
    #[error("{} is not empty, and has no {record} that says how it was made: give another folder", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// The file that would say so.
        record: &'static str,
    },

    /// The file that says how a folder was made cannot be understood.
    #[error("{} does not say how the folder was made: give another folder", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },

    /// A folder that was made with another setting.
    #[error(
        "{} was made with the {setting} {there}, not {now}: give the same to go on, or another folder",
        path.display()
    )]
    OtherSettings {
        /// The folder.
        path: PathBuf,
        /// Which setting.
        setting: &'static str,
        /// What it was.
        there: String,
        /// What it is.
        now: String,
    },

    /// A file that was made of something else, or in another way, than it would be now.
    #[error(
        "{} was made of something else, or in another way, than now: delete it, or give another place ({there}; now {now})",
        path.display()
    )]
    OtherOrigin {
        /// The file.
        path: PathBuf,
        /// How it was made.
        there: String,
        /// How it would be made.
        now: String,
    },

    /// A PNG file, of ours as far as it can tell, that cannot be read as a whole.
    #[error("{} is damaged or only begun: delete it, and it is made again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },

    /// A file that no image of the folder would give, as the folder is now.
    #[error(
        "{} would be made of no image that {} has now: delete it, or give another folder",
        path.display(), images.display()
    )]
    Orphan {
        /// The file.
        path: PathBuf,
        /// The folder of images.
        images: PathBuf,
    },

    /// Another process writes to the same folder.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
}

impl FilesError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
