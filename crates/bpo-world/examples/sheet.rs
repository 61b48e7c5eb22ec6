//! Draws a sheet of all kinds in all colours, and of scenes.
//!
//! ```sh
//! cargo run -p bpo-world --example sheet -- sheet.png
//! ```

use bpo_world::{CELL_SIDE, Colour, Kind, PICTURE_SIDE, Place, Scene, Statistics, Thing};
use image::{RgbImage, imageops};

const TIMES: u32 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: sheet FILE.png")?;
    let tile = PICTURE_SIDE * TIMES;
    let mut sheet = RgbImage::new(8 * tile, 7 * tile);
    // Two rows of pictures, one column per colour. A picture shows eight kinds.
    for (i, colour) in Colour::ALL.iter().enumerate() {
        for half in 0..2u32 {
            let kinds = &Kind::ALL[8 * half as usize..][..8];
            let things = kinds.iter().enumerate().map(|(k, kind)| Thing {
                kind: *kind,
                colour: *colour,
                cell: (k as u8 % 4, 1 + 2 * (k as u8 / 4)),
                shift: (0, 0),
                mirrored: false,
            });
            let place = Place::ALL[(i + half as usize) % 4];
            let scene = Scene { place, things: things.collect(), seed: i as u64 };
            imageops::replace(
                &mut sheet,
                &scene.draw_enlarged(TIMES),
                i64::from(i as u32 * tile),
                i64::from(half * tile),
            );
        }
    }
    for row in 2..7u32 {
        let statistics = if row < 5 { Statistics::usual() } else { Statistics::counter() };
        for column in 0..8u32 {
            let scene = Scene::sample(&statistics, u64::from(row * 8 + column));
            imageops::replace(
                &mut sheet,
                &scene.draw_enlarged(TIMES),
                i64::from(column * tile),
                i64::from(row * tile),
            );
        }
    }
    sheet.save(&path)?;
    println!("{path}: {} kinds of {CELL_SIDE} pixels in {} colours", Kind::ALL.len(), Colour::ALL.len());
    Ok(())
}
