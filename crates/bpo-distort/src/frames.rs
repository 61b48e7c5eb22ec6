//! Frames of animated images.

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageError, ImageFormat, RgbImage};

use crate::load::{allocation, decode_error, decode_rgb, format_of, orientation_of_webp, read_image_file};
use crate::plain::plain;
use crate::timed::{Deadline, Timed};
use crate::{DistortError, ImageLimits, color, orientation};

/// Returns how long each frame of an image file is shown. A GIF, WebP or PNG file can be animated;
/// any other image has one frame.
///
/// # Errors
///
/// Returns [`DistortError::NoFrame`] for an animation without a frame, and the errors of
/// [`load_rgb`](crate::load_rgb). The decoding time of all frames is limited
/// by [`max_millis`](ImageLimits::max_millis).
pub fn frame_durations(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<Vec<Duration>, DistortError> {
    let path = path.as_ref();
    let bytes = read_image_file(path, limits)?;
    let mut durations = Vec::new();
    let still = for_each_frame(&bytes, path, limits, |frame| {
        durations.push(frame.delay().into());
        true
    })?;
    if still {
        decode_rgb(&bytes, path, limits)?;
        durations.push(Duration::ZERO);
    }
    if durations.is_empty() {
        return Err(DistortError::NoFrame { path: path.into(), index: 0, frames: 0 });
    }
    Ok(durations)
}

/// Loads frames of an image file, counted from 0, as RGB; see [`frame_durations`]. Passes each frame
/// with its place in `frames` to `each`, the frames in the order of the file.
///
/// The file is decoded once, up to the last of the frames. Frames between are decoded, too, because
/// a frame of an animation is a change of the one before.
///
/// # Errors
///
/// Returns [`DistortError::NoFrame`] if the file has fewer frames, and the errors of
/// [`load_rgb`](crate::load_rgb). Frames before the error were passed on.
pub fn load_frames(
    path: impl AsRef<Path>,
    frames: &[usize],
    limits: &ImageLimits,
    each: &mut dyn FnMut(usize, RgbImage),
) -> Result<(), DistortError> {
    let path = path.as_ref();
    let mut wanted: Vec<(usize, usize)> = frames.iter().copied().zip(0..).collect();
    wanted.sort_unstable();
    let mut wanted = wanted.as_slice();
    if wanted.is_empty() {
        return Ok(());
    }
    let bytes = read_image_file(path, limits)?;
    let orientation = orientation(&bytes);
    let mut count = 0;
    let mut pass = |image: &RgbImage, number: usize| {
        while let Some(((_, place), rest)) = wanted.split_first().filter(|(first, _)| first.0 == number) {
            each(*place, image.clone());
            wanted = rest;
        }
        wanted.first().map(|(frame, _)| *frame)
    };
    let mut next = frames.iter().min().copied();
    let still = for_each_frame(&bytes, path, limits, |frame| {
        if next == Some(count) {
            let mut frame = DynamicImage::ImageRgba8(frame.into_buffer());
            // as for the whole file
            frame.apply_orientation(orientation);
            next = pass(&color::to_rgb8(frame), count);
        }
        count += 1;
        next.is_some()
    })?;
    if still {
        count = 1;
        if next == Some(0) {
            next = pass(&decode_rgb(&bytes, path, limits)?, 0);
        }
    }
    match next {
        Some(index) => Err(DistortError::NoFrame { path: path.into(), index, frames: count }),
        None => Ok(()),
    }
}

/// Returns the orientation of an animated file, or none if its metadata cannot be read.
fn orientation(bytes: &[u8]) -> Orientation {
    match format_of(bytes) {
        Some(ImageFormat::Png) => orientation::of_png(bytes),
        Some(format @ ImageFormat::WebP) => WebPDecoder::new(Cursor::new(bytes))
            .map_or(Orientation::NoTransforms, |mut decoder| orientation_of_webp(&mut decoder, format)),
        _ => Orientation::NoTransforms,
    }
}

/// Calls `each` with the frames of an animation until it returns false. Returns true, without a call,
/// for an image that is not animated.
fn for_each_frame(
    bytes: &[u8],
    path: &Path,
    limits: &ImageLimits,
    mut each: impl FnMut(image::Frame) -> bool,
) -> Result<bool, DistortError> {
    limits.check_file(path, bytes.len() as u64)?;
    let format = format_of(bytes).ok_or_else(|| DistortError::NotAnImage { path: path.into() })?;
    let deadline = Deadline::in_millis(limits.max_millis);
    let fail = |source: ImageError| match decode_error(path, bytes.len(), plain(source, format)) {
        DistortError::Undecodable { path, .. } if deadline.has_passed() => {
            DistortError::TooSlow { path, limit: limits.max_millis }
        }
        error => error,
    };
    let timed = Timed::new(bytes, deadline);
    let Some(frames) = frames(timed, format, path, limits, &fail)? else { return Ok(true) };
    for frame in frames {
        if deadline.has_passed() {
            return Err(DistortError::TooSlow { path: path.into(), limit: limits.max_millis });
        }
        if !each(frame.map_err(fail)?) {
            break;
        }
    }
    Ok(false)
}

/// Returns the frames of an animation, or `None` for an image that is not animated.
fn frames<'a>(
    bytes: Timed<'a>,
    format: ImageFormat,
    path: &Path,
    limits: &ImageLimits,
    fail: &impl Fn(ImageError) -> DistortError,
) -> Result<Option<Frames<'a>>, DistortError> {
    let bounded = |decoder: &mut dyn ImageDecoder| -> Result<(), DistortError> {
        let (width, height) = decoder.dimensions();
        limits.check_size(path, (width, height))?;
        decoder.set_limits(allocation(u64::from(width) * u64::from(height))).map_err(fail)
    };
    Ok(match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(bytes).map_err(fail)?;
            bounded(&mut decoder)?;
            Some(decoder.into_frames())
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(bytes).map_err(fail)?;
            bounded(&mut decoder)?;
            decoder.has_animation().then(|| decoder.into_frames())
        }
        ImageFormat::Png => {
            let mut decoder = PngDecoder::with_limits(bytes, allocation(0)).map_err(fail)?;
            bounded(&mut decoder)?;
            if decoder.is_apng().map_err(fail)? {
                Some(decoder.apng().map_err(fail)?.into_frames())
            } else {
                None
            }
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use image::codecs::gif::GifEncoder;
    use image::{Delay, Frame, Rgba, RgbaImage};

    use super::*;
    use crate::load_rgb;

    fn load_frame(path: &Path, frame: usize, limits: &ImageLimits) -> Result<RgbImage, DistortError> {
        let mut found = None;
        load_frames(path, &[frame], limits, &mut |_, image| found = Some(image))?;
        Ok(found.expect("a frame"))
    }

    fn gif(path: &Path, frames: u32) {
        let mut encoder = GifEncoder::new(File::create(path).expect("created"));
        let frame = |number: u32| {
            let pixels = RgbaImage::from_pixel(5, 3, Rgba([50 * number as u8, 0, 0, 255]));
            Frame::from_parts(pixels, 0, 0, Delay::from_numer_denom_ms(100 * (number + 1), 1))
        };
        encoder.encode_frames((0..frames).map(frame)).expect("encoded");
    }

    #[test]
    fn frames_of_an_animation_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, limits) = (dir.path().join("a.gif"), ImageLimits::default());
        gif(&path, 4);
        let millis: Vec<_> =
            frame_durations(&path, &limits).expect("read").iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [100, 200, 300, 400]);
        for index in 0..4 {
            let frame = load_frame(&path, index, &limits).expect("a frame");
            assert_eq!(frame.dimensions(), (5, 3));
            assert!(frame.get_pixel(4, 2)[0].abs_diff(50 * index as u8) < 4, "{index}");
        }
        assert_eq!(load_frame(&path, 0, &limits).expect("first"), load_rgb(&path, &limits).expect("image"));
        let error = load_frame(&path, 4, &limits).unwrap_err();
        assert!(matches!(error, DistortError::NoFrame { index: 4, frames: 4, .. }), "{error}");
        // in one pass, whatever their order
        let mut found = Vec::new();
        let mut each = |place: usize, image: RgbImage| found.push((place, image.get_pixel(0, 0)[0]));
        load_frames(&path, &[3, 0, 3, 1], &limits, &mut each).expect("frames");
        assert_eq!(found.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 3, 0, 2]);
        assert!(found[1].1.abs_diff(50) < 4 && found[2].1.abs_diff(150) < 4);
        let mut passed = 0;
        let error = load_frames(&path, &[9, 2], &limits, &mut |_, _| passed += 1).unwrap_err();
        assert!(matches!(error, DistortError::NoFrame { index: 9, frames: 4, .. }), "{error}");
        assert_eq!(passed, 1);
        let small = limits.with_max_side(4);
        assert!(matches!(frame_durations(&path, &small), Err(DistortError::SideTooLong { .. })));
    }

    /// An animated PNG file of two frames of 3 x 2 pixels, turned by its metadata.
    #[test]
    fn frames_are_upright() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_animated(2, 0).expect("animated");
        let mut writer = encoder.write_header().expect("a header");
        let exif = [&b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"[..]].concat();
        writer.write_chunk(png::chunk::eXIf, &exif).expect("metadata");
        for level in [10, 20] {
            writer.write_image_data(&[level; 18]).expect("a frame");
        }
        writer.finish().expect("written");
        let dir = tempfile::tempdir().expect("a directory");
        let (path, limits) = (dir.path().join("a.png"), ImageLimits::default());
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(crate::check_header(&path, &limits).expect("a header"), (2, 3));
        for (index, level) in [(0, 10), (1, 20)] {
            let frame = load_frame(&path, index, &limits).expect("a frame");
            assert_eq!((frame.dimensions(), frame.get_pixel(0, 0)[0]), ((2, 3), level));
        }
    }

    /// A GIF file of a header, a comment and the end.
    #[test]
    fn an_animation_without_a_frame_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, limits) = (dir.path().join("a.gif"), ImageLimits::default());
        std::fs::write(&path, b"GIF89a\x04\0\x04\0\0\0\0\x21\xfe\x02hi\0;").expect("written");
        let error = frame_durations(&path, &limits).unwrap_err();
        assert!(matches!(error, DistortError::NoFrame { frames: 0, .. }), "{error}");
        assert!(error.to_string().ends_with("has no frame"), "{error}");
        assert!(matches!(load_frame(&path, 0, &limits), Err(DistortError::NoFrame { frames: 0, .. })));
    }

    #[test]
    fn other_images_have_one_frame() {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = ImageLimits::default();
        for name in ["a.png", "a.webp", "a.bmp", "a.tiff"] {
            let path = dir.path().join(name);
            RgbImage::from_pixel(4, 3, image::Rgb([7, 8, 9])).save(&path).expect("saved");
            assert_eq!(frame_durations(&path, &limits).expect(name), [Duration::ZERO]);
            assert_eq!(load_frame(&path, 0, &limits).expect(name), load_rgb(&path, &limits).expect(name));
            assert!(matches!(load_frame(&path, 1, &limits), Err(DistortError::NoFrame { frames: 1, .. })));
        }
        let text = dir.path().join("a.mp4");
        std::fs::write(&text, "not an image").expect("written");
        assert!(matches!(frame_durations(&text, &limits), Err(DistortError::NotAnImage { .. })));
    }
}
