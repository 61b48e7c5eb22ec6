//! Scenes as pictures: drawn four times as large, then every 4 by 4 pixels averaged, all in whole numbers.

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

/// Width and height of a picture, in pixels.
pub const SIDE: u32 = 64;
/// Width and height of a cell, in pixels.
pub const CELL: u32 = 16;
/// How much larger it is drawn.
const SCALE: u32 = 4;
/// Largest change of a level by the noise that every picture has.
const NOISE: i32 = 8;

impl Scene {
    /// The picture, 64 by 64 pixels. The same scene gives the same pixels everywhere.
    pub fn draw(&self) -> RgbImage {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut canvas = RgbImage::new(SIDE * SCALE, SIDE * SCALE);
        ground::draw(&mut canvas, self.place, &mut rng);
        for thing in &self.things {
            draw_thing(&mut canvas, thing);
        }
        let mut picture = reduce(&canvas);
        add_noise(&mut picture, &mut rng);
        picture
    }

    /// The picture with each side `times` as long, for people to look at.
    pub fn draw_enlarged(&self, times: u32) -> RgbImage {
        imageops::resize(&self.draw(), SIDE * times, SIDE * times, imageops::FilterType::Nearest)
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
    let cell = (CELL * SCALE) as i64;
    let at = |cell_index: u8, shift: i8| i64::from(cell_index) * cell + i64::from(shift) * i64::from(SCALE);
    brush.stamp(canvas, at(thing.cell.0, thing.shift.0), at(thing.cell.1, thing.shift.1));
}

fn reduce(canvas: &RgbImage) -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
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

/// The sum of two even draws, which is small mostly.
fn add_noise(picture: &mut RgbImage, rng: &mut ChaCha8Rng) {
    for level in picture.iter_mut() {
        let change = rng.random_range(0..=NOISE) + rng.random_range(0..=NOISE) - NOISE;
        *level = (i32::from(*level) + change).clamp(0, 255) as u8;
    }
}
