//! PNG files with a text chunk.

use std::io::{self, BufRead, Seek};

use image::RgbImage;
use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Encoder, Filter};

use crate::DistortError;

pub use png::Compression as PngCompression;

/// The first bytes of a PNG file.
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Encodes an RGB image as PNG, on request with a text chunk, for example to record how the image
/// was made.
///
/// [`read_png_text`] reads the text back. `text` is a keyword of 1 to 79 Latin-1 characters and a
/// text in Latin-1.
///
/// ```
/// use std::io::Cursor;
///
/// use bpo_distort::{PngCompression, PngText, encode_png, read_png_text};
/// use image::RgbImage;
///
/// let png = encode_png(&RgbImage::new(3, 2), Some(("made-by", "blur:sigma=2")), PngCompression::Fast)?;
/// let text = read_png_text(Cursor::new(&png), "made-by")?;
/// assert_eq!(text, PngText::Found("blur:sigma=2".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Returns [`DistortError::Encode`] if the image has no pixels, or keyword or text is invalid.
pub fn encode_png(
    image: &RgbImage,
    text: Option<(&str, &str)>,
    compression: PngCompression,
) -> Result<Vec<u8>, DistortError> {
    let (width, height) = image.dimensions();
    let mut bytes = Vec::new();
    let mut encode = || -> Result<(), png::EncodingError> {
        let mut encoder = Encoder::new(&mut bytes, width, height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(compression);
        encoder.set_filter(Filter::Adaptive);
        if let Some((keyword, text)) = text {
            encoder.add_text_chunk(keyword.to_owned(), text.to_owned())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(image.as_raw())?;
        writer.finish()
    };
    encode().map_err(|source| DistortError::Encode { width, height, source: source.into() })?;
    Ok(bytes)
}

/// The result of [`read_png_text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PngText {
    /// The file is an intact PNG file with this text.
    Found(String),
    /// The file starts like a PNG file, but is truncated or corrupt.
    Damaged,
    /// The file is not a PNG file, or has no text chunk with the keyword.
    Absent,
}

/// Reads the text chunk with a keyword from a PNG file, and verifies all checksums of a file that
/// has one.
///
/// An empty file counts as a truncated PNG file.
///
/// # Errors
///
/// Returns the error of the operating system if the file cannot be read.
pub fn read_png_text<R: BufRead + Seek>(mut file: R, keyword: &str) -> io::Result<PngText> {
    let head = file.fill_buf()?;
    let is_png = head.starts_with(&SIGNATURE) || SIGNATURE.starts_with(head);
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(false);
    options.set_skip_ancillary_crc_failures(false);
    let read = || {
        let mut reader = Decoder::new_with_options(file, options).read_info()?;
        let texts = &reader.info().uncompressed_latin1_text;
        let Some(chunk) = texts.iter().find(|chunk| chunk.keyword == keyword) else {
            return Ok(PngText::Absent);
        };
        let text = chunk.text.clone();
        let Some(size) = reader.output_buffer_size() else { return Ok(PngText::Damaged) };
        reader.next_frame(&mut vec![0; size])?;
        reader.finish()?;
        Ok(PngText::Found(text))
    };
    match read() {
        Ok(text) => Ok(text),
        Err(DecodingError::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        Err(_) if is_png => Ok(PngText::Damaged),
        Err(_) => Ok(PngText::Absent),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn encoded() -> Vec<u8> {
        let image =
            RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8]));
        encode_png(&image, Some(("key", "v1 test")), PngCompression::Fast).unwrap()
    }

    fn read(bytes: &[u8]) -> PngText {
        read_png_text(Cursor::new(bytes), "key").unwrap()
    }

    #[test]
    fn truncated_files_are_damaged() {
        let bytes = encoded();
        assert_eq!(read(&bytes), PngText::Found("v1 test".to_owned()));
        for kept in 0..bytes.len() {
            assert_eq!(read(&bytes[..kept]), PngText::Damaged, "cut to {kept} of {}", bytes.len());
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = encoded();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            // Without its signature the file is no PNG file.
            let expected = if at < SIGNATURE.len() { PngText::Absent } else { PngText::Damaged };
            assert_eq!(read(&flipped), expected, "byte {at}");
        }
    }

    #[test]
    fn the_checksum_of_the_pixels_is_verified() {
        let mut bytes = encoded();
        // The last IDAT chunk ends with the checksum of the pixels and the checksum of the chunk,
        // which is corrected.
        let chunk = bytes.windows(4).rposition(|kind| kind == b"IDAT").unwrap();
        let end = bytes.len() - 12 - 4;
        bytes[end - 1] ^= 1;
        let sum = crc32(&bytes[chunk..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&sum);
        assert_eq!(read(&bytes), PngText::Damaged);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    #[test]
    fn other_files_have_no_text() {
        assert_eq!(read(b"thesis"), PngText::Absent);
        let mut bytes = Vec::new();
        RgbImage::new(3, 2).write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        assert_eq!(read(&bytes), PngText::Absent);
        assert_eq!(read_png_text(Cursor::new(encoded()), "other").unwrap(), PngText::Absent);
    }

    #[test]
    fn images_without_pixels_are_an_error() {
        let error = encode_png(&RgbImage::new(0, 2), None, PngCompression::Fast).unwrap_err();
        assert!(matches!(error, DistortError::Encode { width: 0, height: 2, .. }), "{error}");
    }
}
