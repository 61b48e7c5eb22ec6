//! Drawing of scenes. A scene is drawn at four times its size, then blocks of 4 x 4 pixels are
//! averaged, in integers only.

mod beach;
mod brush;
mod ground;
mod kitchen;
mod meadow;
mod shapes;
mod street;

use image::{Rgb, RgbImage, imageops};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kind::Kind;
use crate::scene::{Scene, Thing};
use brush::Brush;

/// Width and height of a picture in pixels.
pub const PICTURE_SIDE: u32 = 64;
/// Width and height of a cell in pixels.
pub const CELL_SIDE: u32 = 16;
/// Factor of the size at which scenes are drawn.
const SCALE: u32 = 4;
/// Largest change of a level by noise.
const NOISE: i32 = 8;

impl Scene {
    /// Draws the picture, 64 x 64 pixels. The same scene gives the same pixels on every platform.
    pub fn draw(&self) -> RgbImage {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut canvas = RgbImage::new(PICTURE_SIDE * SCALE, PICTURE_SIDE * SCALE);
        ground::draw(&mut canvas, self.place, &mut rng);
        for thing in &self.things {
            draw_thing(&mut canvas, thing);
        }
        let mut picture = reduce(&canvas);
        add_noise(&mut picture, &mut rng);
        picture
    }

    /// Draws the picture enlarged `times` times without interpolation, for display.
    pub fn draw_enlarged(&self, times: u32) -> RgbImage {
        imageops::resize(
            &self.draw(),
            PICTURE_SIDE * times,
            PICTURE_SIDE * times,
            imageops::FilterType::Nearest,
        )
    }
}

fn draw_thing(canvas: &mut RgbImage, thing: &Thing) {
    let mut brush = Brush::new(thing.colour, thing.mirrored);
    let draw = match thing.kind {
        Kind::Fork => kitchen::fork,
        Kind::Plate => kitchen::plate,
        Kind::Banana => kitchen::banana,
        Kind::Cup => kitchen::cup,
        Kind::Car => street::car,
        Kind::Sign => street::sign,
        Kind::Bike => street::bike,
        Kind::Lamp => street::lamp,
        Kind::Cow => meadow::cow,
        Kind::Fence => meadow::fence,
        Kind::Flower => meadow::flower,
        Kind::Tree => meadow::tree,
        Kind::Umbrella => beach::umbrella,
        Kind::Ball => beach::ball,
        Kind::Shell => beach::shell,
        Kind::Boat => beach::boat,
    };
    draw(&mut brush);
    let cell = (CELL_SIDE * SCALE) as i64;
    let at = |cell_index: u8, shift: i8| i64::from(cell_index) * cell + i64::from(shift) * i64::from(SCALE);
    brush.stamp(canvas, at(thing.cell.0, thing.shift.0), at(thing.cell.1, thing.shift.1));
}

fn reduce(canvas: &RgbImage) -> RgbImage {
    RgbImage::from_fn(PICTURE_SIDE, PICTURE_SIDE, |x, y| {
        let mut sums = [0u32; 3];
        for dy in 0..SCALE {
            for dx in 0..SCALE {
                let Rgb(levels) = *canvas.get_pixel(x * SCALE + dx, y * SCALE + dy);
                sums.iter_mut().zip(levels).for_each(|(sum, level)| *sum += u32::from(level));
            }
        }
        Rgb(sums.map(|sum| ((sum + SCALE * SCALE / 2) / (SCALE * SCALE)) as u8))
    })
}

/// Adds noise with a triangular distribution: the sum of two uniform draws.
fn add_noise(picture: &mut RgbImage, rng: &mut ChaCha8Rng) {
    for level in picture.iter_mut() {
        let change = rng.random_range(0..=NOISE) + rng.random_range(0..=NOISE) - NOISE;
        *level = (i32::from(*level) + change).clamp(0, 255) as u8;
    }
}
