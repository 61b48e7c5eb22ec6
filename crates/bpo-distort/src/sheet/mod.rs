//! Contact sheets: one image, weakened by families of distortions at each severity, with labels.
//!
//! ```
//! use bpo_distort::sheet::Sheet;
//! use image::{Rgb, RgbImage};
//!
//! let image = RgbImage::from_fn(96, 64, |x, y| Rgb([x as u8 * 2, y as u8 * 3, 80]));
//! let sheet = Sheet::new().with_thumbnail(48).with_seed(7).draw(&image)?;
//! assert!(sheet.width() > 6 * 48);
//! assert_eq!(sheet, Sheet::new().with_thumbnail(48).with_seed(7).draw(&image)?);
//! # Ok::<(), bpo_distort::DistortError>(())
//! ```

mod label;
mod layout;
mod row;

use std::io;
use std::path::Path;

use image::RgbImage;
use png::Compression;

use self::layout::Layout;
use self::row::Row;
use crate::distortion::has_pixels;
use crate::files::FilesError;
use crate::files::png::{self as text_png, Found};
use crate::files::{atomic_write, origin};
use crate::resize::{Filter, resize};
use crate::{DistortError, Family, Input};

/// The longest side that thumbnails may have, in pixels.
pub const MAX_THUMBNAIL: u32 = 1024;

/// A labelled picture of what families do to an image: a row a family, a column a severity.
///
/// The image is distorted as it is and then made small, so a cell shows what a model that shrinks it as much gets to see: the
/// smaller, the weaker fine noise and blur look. Each cell is what [`Distortion::apply`](crate::Distortion::apply) gives
/// with the sheet's seed. In the first column is the image itself.
#[derive(Debug, Clone)]
pub struct Sheet {
    families: Option<Vec<&'static Family>>,
    thumbnail: u32,
    seed: u64,
}

impl Default for Sheet {
    fn default() -> Self {
        Self { families: None, thumbnail: 112, seed: 0 }
    }
}

impl Sheet {
    /// Thumbnails of 112 pixels, seed 0; all families with levels that work on an image and, if there is another image, those
    /// that bring it in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the families, a row each. One without levels has a single cell, with its defaults.
    pub fn with_families(mut self, families: impl IntoIterator<Item = &'static Family>) -> Self {
        self.families = Some(families.into_iter().collect());
        self
    }

    /// Sets the longest side of thumbnails in pixels, from 1 to [`MAX_THUMBNAIL`] (what is beyond becomes the nearest of
    /// these). Images are not made larger.
    pub fn with_thumbnail(mut self, side: u32) -> Self {
        self.thumbnail = side.clamp(1, MAX_THUMBNAIL);
        self
    }

    /// Sets the seed of everything random.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Draws it.
    ///
    /// # Errors
    ///
    /// Those of [`Distortion::apply`](crate::Distortion::apply), and [`DistortError::MissingParameter`] for a family that has
    /// neither levels nor defaults. An image without pixels gives a sheet without thumbnails.
    pub fn draw<'a>(&self, input: impl Into<Input<'a>>) -> Result<RgbImage, DistortError> {
        let input = input.into();
        let rows: Vec<Row> = match &self.families {
            Some(families) => families.iter().map(|family| Row::of(family)).collect::<Result<_, _>>()?,
            None => {
                let shown = Family::all().filter(|family| is_shown(family, input.other.is_some()));
                shown.map(Row::of).collect::<Result<_, _>>()?
            }
        };
        let original = self.shrink(input.image);
        let layout = Layout::new(&rows, original.dimensions());
        let mut sheet = layout.blank();
        layout.head(&mut sheet);
        for (index, row) in rows.iter().enumerate() {
            layout.name(&mut sheet, index, row);
            layout.cell(&mut sheet, index, 0, &original, "");
            for (column, cell) in row.cells.iter().enumerate() {
                let distorted = cell.distortion.apply(input, self.seed)?;
                layout.cell(&mut sheet, index, column + 1, &self.shrink(&distorted), &cell.label);
            }
        }
        Ok(sheet)
    }

    /// Draws it to a PNG file, in place of a sheet that may be there.
    ///
    /// # Errors
    ///
    /// [`FilesError::Distort`] with those of [`draw`](Self::draw), [`NotPng`](FilesError::NotPng) if `out` does not end in
    /// `.png`, [`Exists`](FilesError::Exists) or [`Damaged`](FilesError::Damaged) if something else than a sheet is there,
    /// [`Io`](FilesError::Io).
    pub fn save<'a>(&self, input: impl Into<Input<'a>>, out: impl AsRef<Path>) -> Result<(), FilesError> {
        let out = out.as_ref();
        atomic_write::check_name(out)?;
        match text_png::look(out) {
            Ok(Found::Made(text)) if origin::is_sheet(&text) => {}
            Ok(Found::Damaged) => return Err(FilesError::Damaged { path: out.to_owned() }),
            Ok(_) => return Err(FilesError::Exists { path: out.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FilesError::io("read", out)(error)),
        }
        let bytes = text_png::encode(&self.draw(input)?, &origin::of_sheet(self.seed), Compression::High);
        atomic_write::write(out, &bytes.map_err(FilesError::io("encode", out))?)
    }

    fn shrink(&self, image: &RgbImage) -> RgbImage {
        let longest = image.width().max(image.height());
        if longest <= self.thumbnail || !has_pixels(image) {
            return image.clone();
        }
        // half a pixel more is rounded up
        let side = |side: u32| {
            let (side, longest) = (u64::from(side), u64::from(longest));
            ((2 * side * u64::from(self.thumbnail) + longest) / (2 * longest)).max(1) as u32
        };
        resize(image, side(image.width()), side(image.height()), Filter::Bilinear)
    }
}

fn is_shown(family: &Family, has_other: bool) -> bool {
    match family.needs_other() {
        true => has_other,
        false => family.levels.is_some() && !family.needs_model(),
    }
}
