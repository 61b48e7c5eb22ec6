//! Text in images.

use ab_glyph::{Font, FontRef, Glyph, PxScaleFont, ScaleFont, point};
use image::{Rgb, RgbImage};

/// Height of a line in pixels.
pub(super) const LINE: u32 = 16;

/// Font size in pixels.
const SIZE: f32 = 14.0;

/// Draws lines of black text.
pub(super) struct Pen {
    font: PxScaleFont<FontRef<'static>>,
}

impl Pen {
    pub(super) fn new() -> Self {
        let font = FontRef::try_from_slice(dejavu::sans::regular()).expect("the embedded font is valid");
        Self { font: font.into_scaled(SIZE) }
    }

    /// The width of a line in pixels.
    pub(super) fn width(&self, text: &str) -> u32 {
        self.glyphs(text).last().map_or(0, |(_, end)| end.ceil() as u32)
    }

    /// Draws a line with its upper left corner at this position. Text beyond the image is cut off.
    pub(super) fn write(&self, picture: &mut RgbImage, text: &str, left: u32, top: u32) {
        for (glyph, _) in self.glyphs(text) {
            let Some(outline) = self.font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            let (left, top) = (i64::from(left) + corner.x as i64, i64::from(top) + corner.y as i64);
            outline.draw(|x, y, share| {
                let place = (u32::try_from(left + i64::from(x)), u32::try_from(top + i64::from(y)));
                let (Ok(x), Ok(y)) = place else { return };
                if let Some(Rgb(levels)) = picture.get_pixel_mut_checked(x, y) {
                    let share = share.clamp(0.0, 1.0);
                    levels
                        .iter_mut()
                        .for_each(|level| *level = (f32::from(*level) * (1.0 - share)).round() as u8);
                }
            });
        }
    }

    /// The glyphs of a line, each with its right end in pixels.
    fn glyphs(&self, text: &str) -> impl Iterator<Item = (Glyph, f32)> {
        let (mut before, mut end) = (None, 0.0);
        text.chars().map(move |letter| {
            let id = self.font.glyph_id(letter);
            let start = end + before.replace(id).map_or(0.0, |before| self.font.kern(before, id));
            end = start + self.font.h_advance(id);
            let place = point(start, self.font.ascent().round());
            (id.with_scale_and_position(self.font.scale(), place), end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_within_its_line() {
        let pen = Pen::new();
        let text = "diffusion-noise:step=900, gjpqy";
        let width = pen.width(text);
        let mut picture = RgbImage::from_pixel(width + 20, LINE + 20, Rgb([255; 3]));
        pen.write(&mut picture, text, 10, 10);
        let dark: Vec<_> = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel[0] < 128).collect();
        assert!(dark.len() > 300, "{}", dark.len());
        for (x, y, _) in dark {
            assert!((9..width + 11).contains(&x) && (10..10 + LINE).contains(&y), "{x} {y}");
        }
        assert_eq!(pen.width(""), 0);
        assert!(pen.width("iii") < pen.width("mmm"));
    }

    #[test]
    fn text_beyond_the_image_is_cut_off() {
        let mut picture = RgbImage::new(3, 3);
        Pen::new().write(&mut picture, "cut", 0, 0);
        Pen::new().write(&mut picture, "off", 900, 900);
    }
}
