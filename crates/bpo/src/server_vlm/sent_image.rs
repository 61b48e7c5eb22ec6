//! The images of a request as they are sent: reduced, distorted and encoded.

use std::borrow::Cow;

use bpo_distort::resize::{Filter, resize};
use bpo_distort::{Input, PngCompression, encode_jpeg, encode_png};
use bpo_pairs::image_seed;
use bpo_server::ChatPart;
use image::RgbImage;

use super::ServerVlmError;
use crate::config::{SentFormat, SentImages};
use crate::vision::Weakening;

/// Prepares image `number` of a request, counted from 0.
pub(super) fn part(
    image: &RgbImage,
    number: usize,
    weakening: Option<&Weakening>,
    settings: &SentImages,
) -> Result<ChatPart, ServerVlmError> {
    let mut image = reduced(image, settings.max_side);
    if let Some(weakening) = weakening {
        let other = weakening.other.as_ref().map(|other| other.load()).transpose()?;
        let mut input = Input::new(&image);
        input.other = other.as_deref();
        image = Cow::Owned(weakening.distortion.apply(input, image_seed(weakening.seed, number))?);
    }
    Ok(match settings.format {
        SentFormat::Png => {
            let bytes = encode_png(&image, None, PngCompression::Fast)?;
            ChatPart::Image { media_type: "image/png", bytes }
        }
        SentFormat::Jpeg => {
            let bytes = encode_jpeg(&image, settings.jpeg_quality)?;
            ChatPart::Image { media_type: "image/jpeg", bytes }
        }
    })
}

/// Reduces an image whose longer side is above a limit, and keeps the ratio of its sides.
fn reduced(image: &RgbImage, max_side: Option<u32>) -> Cow<'_, RgbImage> {
    let (width, height) = image.dimensions();
    let longer = width.max(height);
    match max_side.filter(|side| *side < longer) {
        None => Cow::Borrowed(image),
        Some(side) => {
            let scaled = |length: u32| {
                let rounded =
                    (u64::from(length) * u64::from(side) + u64::from(longer) / 2) / u64::from(longer);
                u32::try_from(rounded).unwrap_or(side).max(1)
            };
            Cow::Owned(resize(image, scaled(width), scaled(height), Filter::Bicubic))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bpo_distort::{Distortion, ImageLimits, decode_rgb};

    use super::*;

    fn pattern(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]))
    }

    fn decode(part: ChatPart) -> (&'static str, RgbImage) {
        let ChatPart::Image { media_type, bytes } = part else { panic!("not an image") };
        (media_type, decode_rgb(&bytes, Path::new("sent"), &ImageLimits::default()).unwrap())
    }

    #[test]
    fn a_png_file_has_all_levels_of_the_distorted_image() {
        let image = pattern(40, 30);
        let distortion: Distortion = "blur:sigma=1+diffusion-noise:step=500".parse().unwrap();
        let weakening = Weakening::new(distortion.clone(), 7);
        for number in [0, 1] {
            let sent = part(&image, number, Some(&weakening), &SentImages::default()).unwrap();
            let expected = distortion.apply(&image, image_seed(7, number)).unwrap();
            assert_eq!(decode(sent), ("image/png", expected));
        }
        let clean = part(&image, 0, None, &SentImages::default()).unwrap();
        assert_eq!(decode(clean).1, image);
    }

    #[test]
    fn large_images_are_reduced_before_they_are_encoded() {
        let settings = SentImages { format: SentFormat::Jpeg, max_side: Some(20), ..SentImages::default() };
        for (size, expected) in
            [((40, 30), (20, 15)), ((3, 400), (1, 20)), ((20, 20), (20, 20)), ((5, 4), (5, 4))]
        {
            let sent = part(&pattern(size.0, size.1), 0, None, &settings).unwrap();
            let (media_type, image) = decode(sent);
            assert_eq!((media_type, image.dimensions()), ("image/jpeg", expected));
        }
    }
}
