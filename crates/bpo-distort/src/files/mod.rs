//! Image files, and folders of them, to weakened files.
//!
//! ```no_run
//! use bpo_distort::files::Batch;
//!
//! let batch = Batch::new("blur:sigma=2..8".parse()?).with_seed(42).with_threads(4.try_into()?);
//! let outcome = batch.folder("photos", "weak", |_| {})?;
//! println!("{} made, {} were there", outcome.made, outcome.there);
//! for skipped in &outcome.skipped {
//!     println!("{}: {}", skipped.image.display(), skipped.reason);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is made of a folder
//!
//! Every image below the folder, as [`load_rgb`](crate::load_rgb) reads it, at the same place below the other, as PNG:
//! `a/cat.jpg` becomes `a/cat.png`. Where two
//! would have one name, or a folder with images has it, those that are no PNG keep their own ending, too: `cat.jpg.png`. Names that
//! differ in case alone are one name, as on many file systems. What is an image is told by its
//! name's ending or, without a known one, by its content; names that begin with a dot are passed over. Links are followed to
//! files in the folder only. An image that cannot be used is skipped, with the reason, and the others are made; so is one whose
//! file could not have its name.
//!
//! # Seeds
//!
//! The seed of an image is [`item_seed`](crate::item_seed) of the batch's seed and its path in the folder, with `/` between
//! the names. So what is made of an image depends neither on the other images nor on the number of threads, and a file on
//! its own gives the same as right in a folder. With [`Mix`](crate::Mix) and [`Swap`](crate::Swap) the other image is another
//! one of the folder, chosen by that seed; then it does depend on which there are.
//!
//! # What was made before
//!
//! A file is there only when it is whole, and tells in a PNG text of the keyword `bpo-distort` what it was made of: the
//! distortion with its ranges drawn, the seed, and SHA-256 of the image's bytes. A batch that ended early is given again
//! and makes what is missing. What is there is read, to see that it is whole and says what would be made now; then it stays, whatever the
//! [`Limits`](crate::Limits), which are for what is made. A folder made with other settings (they are in its `distort.json`) or of
//! other images is refused, and so is one that was not begun here and has anything in it but names that begin with a dot. In one
//! that was, other files are left alone unless they end in `.png` or are where one would be made: then it is refused, too.

pub(crate) mod atomic_write;
mod batch;
mod error;
mod item;
mod listing;
mod names;
pub(crate) mod origin;
pub(crate) mod png;
mod record;
mod skipped;
mod workers;

pub use batch::{Batch, Event, Outcome};
pub use error::FilesError;
pub use item::Made;
pub use skipped::{SkipReason, Skipped};
