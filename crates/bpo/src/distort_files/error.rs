//! Errors of distorting files.

use std::path::PathBuf;

use bpo_distort::DistortError;
use bpo_pairs::files::FileError;
use bpo_pairs::{Untrusted, UntrustedPath};

/// Errors of [`DistortFiles`](crate::DistortFiles) that stop it. An image that cannot be used is
/// [skipped](bpo_pairs::Skipped) instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistortFilesError {
    /// The distortion cannot be applied to files, or an image that was given by name cannot be
    /// used.
    #[error(transparent)]
    Distort(#[from] DistortError),

    /// A file or folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),

    /// The folder has no image.
    #[error("{} has no image", UntrustedPath(path))]
    NoImages {
        /// The folder.
        path: PathBuf,
    },

    /// A distortion needs a second image, but there is only one.
    #[error("{family} needs a second image, and {} is the only one", UntrustedPath(path))]
    OnlyImage {
        /// The family of the distortion.
        family: &'static str,
        /// The image.
        path: PathBuf,
    },

    /// The output folder is in the folder of images.
    #[error("{} is in {}: give an output folder outside", UntrustedPath(out), UntrustedPath(images))]
    Inside {
        /// The output folder.
        out: PathBuf,
        /// The folder of images.
        images: PathBuf,
    },

    /// The output name does not end in `.png`.
    #[error("{} must end in .png: the output is a PNG file", UntrustedPath(path))]
    NotPng {
        /// The output.
        path: PathBuf,
    },

    /// The output exists and was not written by bpo.
    #[error("{} exists and was not written by bpo: move it, or give another output", UntrustedPath(path))]
    NotOurs {
        /// The output.
        path: PathBuf,
    },

    /// An existing copy was made from another image or with other settings.
    #[error(
        "{} was made from another image, distortion or seed: delete it, or give another output ({}; now {})",
        UntrustedPath(path),
        Untrusted(found),
        Untrusted(now)
    )]
    OtherOrigin {
        /// The copy.
        path: PathBuf,
        /// How it was made.
        found: String,
        /// How it would be made now.
        now: String,
    },

    /// An existing copy is truncated or corrupt.
    #[error("{} is truncated or corrupt: delete it to make it again", UntrustedPath(path))]
    Damaged {
        /// The copy.
        path: PathBuf,
    },

    /// An existing PNG file in the output folder is the copy of no image.
    #[error(
        "{} is the copy of no image in {}: delete it, or give another output folder",
        UntrustedPath(path),
        UntrustedPath(images)
    )]
    Orphan {
        /// The PNG file.
        path: PathBuf,
        /// The folder of images.
        images: PathBuf,
    },
}
