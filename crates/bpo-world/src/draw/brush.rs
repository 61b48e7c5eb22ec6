//! Drawing of one object: shapes in three tones of its colour, with an outline and a shadow.

use image::{Rgb, RgbImage, Rgba, RgbaImage};

use super::shapes;
use crate::kind::Colour;

/// Side of the square in which shapes are placed, without the margin.
const SIDE: i32 = 64;
/// Margin around the square.
const MARGIN: i32 = 12;
const CANVAS: u32 = (SIDE + 2 * MARGIN) as u32;
/// Width of the outline.
const OUTLINE: i32 = 3;
/// Horizontal and vertical offset of the shadow.
const SHADOW: i32 = 5;

/// The fill of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    /// The colour of the object.
    Base,
    /// The colour, lighter.
    Light,
    /// The colour, darker.
    Dark,
    /// Dark grey, independent of the colour: tyres, poles, hooves.
    Ink,
    /// Light grey, independent of the colour: windows, hubs.
    Pale,
}

/// A transparent square of 64 x 64 pixels on which one object is drawn. The y axis points down.
pub(super) struct Brush {
    layer: RgbaImage,
    colour: [u8; 3],
    mirrored: bool,
}

impl Brush {
    pub(super) fn new(colour: Colour, mirrored: bool) -> Self {
        Self { layer: RgbaImage::new(CANVAS, CANVAS), colour: levels(colour), mirrored }
    }

    pub(super) fn ellipse(&mut self, tone: Tone, (x, y): (i32, i32), radius_x: i32, radius_y: i32) {
        let (centre, fill) = ((self.x(x), y + MARGIN), self.fill(tone));
        shapes::ellipse(&mut self.layer, centre, radius_x, radius_y, fill);
    }

    pub(super) fn circle(&mut self, tone: Tone, centre: (i32, i32), radius: i32) {
        self.ellipse(tone, centre, radius, radius);
    }

    /// A rectangle, given by its upper left corner and its size, at least 1 x 1.
    pub(super) fn rectangle(&mut self, tone: Tone, (x, y): (i32, i32), (width, height): (i32, i32)) {
        let left = if self.mirrored { SIDE - x - width } else { x };
        let fill = self.fill(tone);
        shapes::rectangle(&mut self.layer, (left + MARGIN, y + MARGIN), (width, height), fill);
    }

    /// A polygon of at least three corners. The last corner differs from the first.
    pub(super) fn polygon(&mut self, tone: Tone, corners: &[(i32, i32)]) {
        let corners: Vec<_> = corners.iter().map(|&(x, y)| (self.x(x), y + MARGIN)).collect();
        let fill = self.fill(tone);
        shapes::polygon(&mut self.layer, &corners, fill);
    }

    /// A straight bar between two points. `width` is its extent across its main axis.
    pub(super) fn bar(&mut self, tone: Tone, (x0, y0): (i32, i32), (x1, y1): (i32, i32), width: i32) {
        let half = width / 2;
        let corners = if (x1 - x0).abs() > (y1 - y0).abs() {
            [(x0, y0 - half), (x1, y1 - half), (x1, y1 + half), (x0, y0 + half)]
        } else {
            [(x0 - half, y0), (x1 - half, y1), (x1 + half, y1), (x0 + half, y0)]
        };
        self.polygon(tone, &corners);
    }

    /// Draws the object on a canvas with the square's upper left corner at `x`, `y`.
    pub(super) fn stamp(&self, canvas: &mut RgbImage, x: i64, y: i64) {
        let outline = self.colour.map(|level| level / 5);
        for row in 0..CANVAS as i32 {
            for column in 0..CANVAS as i32 {
                let (to_x, to_y) = (x + i64::from(column - MARGIN), y + i64::from(row - MARGIN));
                let inside = |at: i64, side: u32| (0..i64::from(side)).contains(&at);
                if !inside(to_x, canvas.width()) || !inside(to_y, canvas.height()) {
                    continue;
                }
                let Rgb(under) = canvas.get_pixel_mut(to_x as u32, to_y as u32);
                if let Some(levels) = self.at(column, row) {
                    *under = levels;
                } else if self.is_near(column, row) {
                    *under = outline;
                } else if self.at(column - SHADOW, row - SHADOW).is_some() {
                    *under = under.map(|level| (u16::from(level) * 3 / 4) as u8);
                }
            }
        }
    }

    fn x(&self, x: i32) -> i32 {
        MARGIN + if self.mirrored { SIDE - 1 - x } else { x }
    }

    fn fill(&self, tone: Tone) -> Rgba<u8> {
        let mix = |toward: u16, parts: u16| {
            self.colour.map(|level| ((u16::from(level) * (8 - parts) + toward * parts) / 8) as u8)
        };
        let [r, g, b] = match tone {
            Tone::Base => self.colour,
            Tone::Light => mix(255, 3),
            Tone::Dark => mix(0, 3),
            Tone::Ink => [52, 50, 56],
            Tone::Pale => [214, 222, 228],
        };
        Rgba([r, g, b, 255])
    }

    fn at(&self, column: i32, row: i32) -> Option<[u8; 3]> {
        let inside = |at: i32| (0..CANVAS as i32).contains(&at);
        if !inside(column) || !inside(row) {
            return None;
        }
        let Rgba([r, g, b, alpha]) = *self.layer.get_pixel(column as u32, row as u32);
        (alpha > 0).then_some([r, g, b])
    }

    fn is_near(&self, column: i32, row: i32) -> bool {
        (-OUTLINE..=OUTLINE).any(|dy| {
            (-OUTLINE..=OUTLINE)
                .any(|dx| dx * dx + dy * dy <= OUTLINE * OUTLINE && self.at(column + dx, row + dy).is_some())
        })
    }
}

fn levels(colour: Colour) -> [u8; 3] {
    match colour {
        Colour::Red => [214, 44, 52],
        Colour::Orange => [245, 138, 28],
        Colour::Yellow => [250, 214, 50],
        Colour::Green => [58, 160, 70],
        Colour::Blue => [44, 98, 206],
        Colour::Purple => [146, 66, 186],
        Colour::Brown => [134, 84, 46],
        Colour::White => [240, 240, 236],
    }
}
