//! Backgrounds: sky or wall, horizon, floor, and some features of each place.

use image::{Rgb, RgbImage};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::shapes::{ellipse, rectangle};
use crate::kind::Place;

const SIDE: i32 = 256;

pub(super) fn draw(canvas: &mut RgbImage, place: Place, rng: &mut ChaCha8Rng) {
    let horizon = rng.random_range(48..=88);
    let (above, below) = match place {
        Place::Kitchen => ([236, 220, 196], [196, 160, 118]),
        Place::Street => ([188, 206, 222], [150, 150, 154]),
        Place::Meadow => ([176, 216, 240], [140, 190, 100]),
        Place::Beach => ([168, 220, 242], [236, 214, 160]),
    };
    let mut jitter = |levels: [i32; 3]| {
        let shift = rng.random_range(-10..=10);
        levels.map(|level| level + shift)
    };
    let (above, below) = (jitter(above), jitter(below));
    fade(canvas, 0..horizon, above, 14);
    fade(canvas, horizon..SIDE, below, -18);
    match place {
        Place::Kitchen => kitchen(canvas, horizon, above, below),
        Place::Street => street(canvas, horizon, above, below, rng),
        Place::Meadow => meadow(canvas, horizon, below, rng),
        Place::Beach => beach(canvas, horizon, below, rng),
    }
}

/// Fills rows with a vertical gradient that changes by `change` levels.
fn fade(canvas: &mut RgbImage, rows: std::ops::Range<i32>, levels: [i32; 3], change: i32) {
    let height = rows.len().max(1) as i32;
    for (i, row) in rows.enumerate() {
        rectangle(canvas, (0, row), (SIDE, 1), shade(levels, change * i as i32 / height));
    }
}

/// A tiled wall and a table.
fn kitchen(canvas: &mut RgbImage, horizon: i32, wall: [i32; 3], table: [i32; 3]) {
    for x in (0..SIDE).step_by(32) {
        rectangle(canvas, (x, 0), (2, horizon), shade(wall, -12));
    }
    for y in (8..horizon).step_by(24) {
        rectangle(canvas, (0, y), (SIDE, 2), shade(wall, -12));
    }
    rectangle(canvas, (0, horizon), (SIDE, 6), shade(table, -40));
    for y in (horizon + 44..SIDE).step_by(46) {
        rectangle(canvas, (0, y), (SIDE, 2), shade(table, -22));
    }
}

/// Houses behind a road with a dashed line.
fn street(canvas: &mut RgbImage, horizon: i32, sky: [i32; 3], road: [i32; 3], rng: &mut ChaCha8Rng) {
    let mut x = -rng.random_range(0..30);
    while x < SIDE {
        let (width, height) = (rng.random_range(40..70), rng.random_range(24..horizon));
        let wall = shade(sky, -rng.random_range(24..48));
        rectangle(canvas, (x, horizon - height), (width, height), wall);
        for window in (x + 8..x + width - 8).step_by(16) {
            for y in (horizon - height + 8..horizon - 8).step_by(18) {
                rectangle(canvas, (window, y), (7, 9), shade(sky, -8));
            }
        }
        x += width;
    }
    rectangle(canvas, (0, horizon), (SIDE, 8), shade(road, 34));
    let line = (horizon + SIDE) / 2;
    for x in (rng.random_range(-40..0)..SIDE).step_by(64) {
        rectangle(canvas, (x, line), (34, 5), shade(road, 44));
    }
}

/// A hill, and grass with tufts.
fn meadow(canvas: &mut RgbImage, horizon: i32, grass: [i32; 3], rng: &mut ChaCha8Rng) {
    let hill = (rng.random_range(40..SIDE - 40), horizon + 30);
    for y in 0..horizon {
        for x in 0..SIDE {
            // An ellipse of 130 x 60 pixels.
            let (dx, dy) = ((x - hill.0) * 6, (y - hill.1) * 13);
            if dx * dx + dy * dy < 780 * 780 {
                canvas.put_pixel(x as u32, y as u32, shade(grass, -14));
            }
        }
    }
    for _ in 0..40 {
        let at = (rng.random_range(0..SIDE), rng.random_range(horizon + 8..SIDE));
        rectangle(canvas, at, (3, 7), shade(grass, if rng.random_bool(0.5) { -26 } else { 14 }));
    }
}

/// The sun, the sea with waves, and sand with spots.
fn beach(canvas: &mut RgbImage, horizon: i32, sand: [i32; 3], rng: &mut ChaCha8Rng) {
    let sun = (rng.random_range(24..SIDE - 24), rng.random_range(14..26));
    ellipse(canvas, sun, 14, 14, Rgb([255, 240, 170]));
    let sea = [90, 168, 208];
    rectangle(canvas, (0, horizon - 22), (SIDE, 22), shade(sea, 0));
    for x in (rng.random_range(-30..0)..SIDE).step_by(44) {
        let at = (x, horizon - rng.random_range(6..18));
        ellipse(canvas, at, 14, 2, shade(sea, 44));
    }
    rectangle(canvas, (0, horizon), (SIDE, 4), shade(sand, 14));
    for _ in 0..50 {
        let at = (rng.random_range(0..SIDE), rng.random_range(horizon + 8..SIDE));
        rectangle(canvas, at, (4, 3), shade(sand, -16));
    }
}

fn shade(levels: [i32; 3], change: i32) -> Rgb<u8> {
    Rgb(levels.map(|level| (level + change).clamp(0, 255) as u8))
}
