//! Fill colours of covered areas.

use std::fmt;
use std::str::FromStr;

use image::{Rgb, RgbImage};

use crate::family::{AllowedValues, Value};
use crate::seed::Stream;

/// The fill of a covered area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fill {
    /// Black.
    Black,
    /// The mean colour of the whole image.
    Mean,
    /// Uniform noise: each level is drawn from 0 to 255.
    Noise,
}

impl Fill {
    /// The words of the text form.
    pub(crate) const WORDS: &'static [&'static str] = &["black", "mean", "noise"];

    const ALL: [Self; 3] = [Self::Black, Self::Mean, Self::Noise];

    fn word(self) -> &'static str {
        match self {
            Self::Black => "black",
            Self::Mean => "mean",
            Self::Noise => "noise",
        }
    }

    /// The colours for this image: one per call, for each pixel in order.
    pub(crate) fn colours<'a>(
        self,
        image: &RgbImage,
        stream: &'a mut Stream,
    ) -> impl FnMut() -> Rgb<u8> + 'a {
        let flat = match self {
            Self::Black => Some(Rgb([0; 3])),
            Self::Mean => Some(mean(image)),
            Self::Noise => None,
        };
        move || {
            flat.unwrap_or_else(|| {
                let mut levels = [0; 3];
                stream.fill(&mut levels);
                Rgb(levels)
            })
        }
    }
}

/// The mean of each channel, rounded.
fn mean(image: &RgbImage) -> Rgb<u8> {
    let mut sums = [0u64; 3];
    for pixel in image.pixels() {
        sums.iter_mut().zip(pixel.0).for_each(|(sum, level)| *sum += u64::from(level));
    }
    let count = (u64::from(image.width()) * u64::from(image.height())).max(1);
    Rgb(sums.map(|sum| ((sum + count / 2) / count) as u8))
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Fill {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|fill| fill.word() == text).ok_or(())
    }
}

impl Value for Fill {
    fn read(&mut self, text: &str) -> bool {
        text.parse().map(|fill| *self = fill).is_ok()
    }

    fn fits(&self, _: &AllowedValues) -> bool {
        true
    }

    fn draw(&mut self, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        assert_eq!(Fill::ALL.map(Fill::word), *Fill::WORDS);
        for fill in Fill::ALL {
            assert_eq!(fill.to_string().parse(), Ok(fill));
        }
    }

    #[test]
    fn the_mean_is_rounded_per_channel() {
        let image = RgbImage::from_fn(2, 1, |x, _| Rgb([x as u8 * 255, 7, x as u8]));
        assert_eq!(mean(&image), Rgb([128, 7, 1]));
    }
}
