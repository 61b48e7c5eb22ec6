use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Input, StageSeed};

/// `shuffle:grid=4`: puts the cells of a grid in a random order.
///
/// There are `grid` equal cells along each side, or one per pixel for smaller images. Remaining
/// pixels at the right and bottom stay in place. All orders are equally likely, including the
/// original one. The severity levels are this project's.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let image = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 0]));
/// let shuffled = "shuffle:grid=4".parse::<Distortion>()?.apply(&image, 7)?;
/// assert_ne!(shuffled, image);
/// let sorted = |image: &RgbImage| {
///     let mut pixels: Vec<_> = image.pixels().map(|pixel| pixel.0).collect();
///     pixels.sort();
///     pixels
/// };
/// assert_eq!(sorted(&shuffled), sorted(&image));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shuffle {
    /// Number of cells along each side, from 1 (the same image) to 256.
    pub grid: Amount<u32>,
}

const fn at(grid: u32) -> Distortion {
    Distortion::Shuffle(Shuffle { grid: Amount::Exactly(grid) })
}

pub(super) static FAMILY: Family = Family {
    name: "shuffle",
    about: "the cells of a grid in a random order",
    parameters: &[Parameter::whole("grid", 1, 256)],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(2), at(4), at(8), at(12), at(16)]),
    weakest: at(1),
    has_identity: true,
};

impl Stage for Shuffle {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.grid]
    }

    fn run(&self, Input { image, .. }: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        let grid = self.grid.exact();
        let (columns, rows) = (grid.min(image.width()), grid.min(image.height()));
        let (width, height) = (image.width() / columns, image.height() / rows);
        let cells = (columns * rows) as usize;
        let corner = |cell: usize| (cell as u32 % columns * width, cell as u32 / columns * height);

        let mut shuffled = image.clone();
        for (to, from) in seed.stream().choose(cells, cells).into_iter().enumerate() {
            let ((to_x, to_y), (from_x, from_y)) = (corner(to), corner(from));
            for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                shuffled.put_pixel(to_x + x, to_y + y, *image.get_pixel(from_x + x, from_y + y));
            }
        }
        Ok(shuffled)
    }
}
