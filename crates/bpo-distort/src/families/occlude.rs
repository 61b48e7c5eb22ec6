use image::RgbImage;

use crate::family::{Family, Parameter, Part, Stage, Value};
use crate::{Amount, DistortError, Distortion, Fill, Input, StageSeed};

/// `occlude:share=0.5,grid=8,fill=black`: covers random cells of a grid.
///
/// The image is divided into `grid` x `grid` cells of almost equal size, and `share` of them,
/// rounded, are covered. Cells of a grid finer than the image may have no pixels. The severity
/// levels are this project's.
///
/// ```
/// use bpo_distort::Distortion;
/// use image::{Rgb, RgbImage};
///
/// let white = RgbImage::from_pixel(64, 64, Rgb([255; 3]));
/// let covered = "occlude:share=0.25,grid=4".parse::<Distortion>()?.apply(&white, 7)?;
/// assert_eq!(covered.pixels().filter(|pixel| pixel[0] == 0).count(), 64 * 64 / 4);
/// // Cells have 16 x 16 pixels.
/// let corner = |x: u32, y: u32| covered.get_pixel(x / 16 * 16, y / 16 * 16);
/// assert!(covered.enumerate_pixels().all(|(x, y, pixel)| pixel == corner(x, y)));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Occlude {
    /// Share of the cells to cover, from 0 (the same image) to 1.
    pub share: Amount<f32>,
    /// Number of cells along each side, from 1 to 256; 8 by default.
    pub grid: Amount<u32>,
    /// The fill; black by default.
    pub fill: Fill,
}

const fn at(share: f32) -> Distortion {
    let (share, grid) = (Amount::Exactly(share), Amount::Exactly(8));
    Distortion::Occlude(Occlude { share, grid, fill: Fill::Black })
}

pub(super) static FAMILY: Family = Family {
    name: "occlude",
    about: "random cells of a grid covered",
    parameters: &[
        Parameter::number("share", 0.0, 1.0),
        Parameter::whole("grid", 1, 256).or("8"),
        Parameter::word("fill", Fill::WORDS).or("black"),
    ],
    part: Part::Image,
    needs_other: false,
    levels: Some([at(0.1), at(0.25), at(0.5), at(0.75), at(0.9)]),
    weakest: at(0.0),
    has_identity: true,
};

impl Stage for Occlude {
    fn values(&mut self) -> Vec<&mut dyn Value> {
        vec![&mut self.share, &mut self.grid, &mut self.fill]
    }

    fn run(&self, Input { image, .. }: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError> {
        let grid = self.grid.exact() as usize;
        let cells = grid * grid;
        let count = (f64::from(self.share.exact()) * cells as f64).round() as usize;
        let mut stream = seed.stream();
        let chosen = stream.choose(count, cells);

        let mut covered = image.clone();
        let mut colour = self.fill.colours(image, &mut stream);
        let edges = |cell: usize, side: u32| {
            let edge = |cell: usize| (u64::from(side) * cell as u64 / grid as u64) as u32;
            edge(cell)..edge(cell + 1)
        };
        for cell in chosen {
            for y in edges(cell / grid, image.height()) {
                for x in edges(cell % grid, image.width()) {
                    covered.put_pixel(x, y, colour());
                }
            }
        }
        Ok(covered)
    }
}
