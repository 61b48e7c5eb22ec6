//! Contact sheets of distortions.

mod label;
mod layout;
mod row;

use image::RgbImage;

use self::layout::Layout;
use self::row::Row;
use crate::distortion::has_pixels;
use crate::resize::{Filter, resize};
use crate::{DistortError, Family, Input};

/// The largest width and height of thumbnails in pixels.
pub const MAX_THUMBNAIL: u32 = 1024;

/// A contact sheet: one image, distorted by each family (rows) at each severity level (columns),
/// with labels.
///
/// The image is distorted at its full size and then shrunk, so fine noise and blur look weaker in
/// small thumbnails. Each cell is the result of [`Distortion::apply`](crate::Distortion::apply)
/// with the seed of the sheet. The first column is the original image.
///
/// ```
/// use bpo_distort::Sheet;
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_fn(96, 64, |x, y| Rgb([x as u8 * 2, y as u8 * 3, 80]));
/// let sheet = Sheet::new().with_thumbnail(48).with_seed(7).draw(&image)?;
/// assert!(sheet.width() > 6 * 48);
/// assert_eq!(sheet, Sheet::new().with_thumbnail(48).with_seed(7).draw(&image)?);
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
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
    /// A sheet of all families with severity levels that can be applied to an image, including
    /// those that need a second image if the input has one. Thumbnails have 112 pixels, the seed is
    /// 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the families. A family without severity levels has a single cell with its defaults.
    pub fn with_families(mut self, families: impl IntoIterator<Item = &'static Family>) -> Self {
        self.families = Some(families.into_iter().collect());
        self
    }

    /// Sets the largest width and height of thumbnails in pixels, clamped to 1..=[`MAX_THUMBNAIL`].
    /// Images are not enlarged.
    pub fn with_thumbnail(mut self, side: u32) -> Self {
        self.thumbnail = side.clamp(1, MAX_THUMBNAIL);
        self
    }

    /// Sets the seed of the distortions.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The seed of the distortions.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Draws the sheet. The sheet of an image without pixels has no thumbnails.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Distortion::apply`](crate::Distortion::apply), and
    /// [`DistortError::MissingParameter`] for a family with neither severity levels nor defaults.
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

    fn shrink(&self, image: &RgbImage) -> RgbImage {
        let longest = image.width().max(image.height());
        if longest <= self.thumbnail || !has_pixels(image) {
            return image.clone();
        }
        // Rounded, with halves rounded up.
        let side = |side: u32| {
            let (side, longest) = (u64::from(side), u64::from(longest));
            ((2 * side * u64::from(self.thumbnail) + longest) / (2 * longest)).max(1) as u32
        };
        resize(image, side(image.width()), side(image.height()), Filter::Bilinear)
    }
}

fn is_shown(family: &Family, has_other: bool) -> bool {
    if family.needs_other() { has_other } else { family.levels.is_some() && !family.needs_model() }
}
