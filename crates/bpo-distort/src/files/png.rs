//! PNG files that say what they were made of.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::Path;

use image::RgbImage;
use png::{BitDepth, ColorType, Compression, DecodeOptions, Decoder, DecodingError, Encoder, Filter};

/// Of the text that says what a file was made of.
const KEYWORD: &str = "bpo-distort";

/// What a PNG file begins with.
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// The bytes of a file; the text is ASCII.
pub(crate) fn encode(image: &RgbImage, text: &str, compression: Compression) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(compression);
    encoder.set_filter(Filter::Adaptive);
    encoder.add_text_chunk(KEYWORD.to_owned(), text.to_owned())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(bytes)
}

/// What is at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file that says what it was made of.
    Made(String),
    /// A PNG file that ends or is damaged before it could say so, or an empty one.
    Damaged,
    /// Something else.
    Other,
}

/// What a file says it was made of, from its beginning alone.
///
/// # Errors
/// If there is no file, or it cannot be read.
pub(crate) fn look(path: &Path) -> io::Result<Found> {
    let mut file = BufReader::new(File::open(path)?);
    let head = file.fill_buf()?;
    let is_png = head.starts_with(&SIGNATURE) || SIGNATURE.starts_with(head);
    Ok(match strict(file).read_info() {
        Err(DecodingError::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(error);
        }
        Err(_) if is_png => Found::Damaged,
        Err(_) => Found::Other,
        Ok(reader) => {
            let texts = &reader.info().uncompressed_latin1_text;
            let text = texts.iter().find(|text| text.keyword == KEYWORD);
            text.map_or(Found::Other, |text| Found::Made(text.text.clone()))
        }
    })
}

/// Whether all of a file can be read, with the checksums of its chunks and of its pixels.
///
/// # Errors
/// If there is no file, or it cannot be opened.
pub(crate) fn is_whole(path: &Path) -> io::Result<bool> {
    let decoder = strict(BufReader::new(File::open(path)?));
    let read = || {
        let mut reader = decoder.read_info().ok()?;
        let mut pixels = vec![0; reader.output_buffer_size()?];
        reader.next_frame(&mut pixels).ok()?;
        reader.finish().ok()
    };
    Ok(read().is_some())
}

/// Leaves out no checksum, as a decoder else does for texts and for pixels.
fn strict<R: BufRead + Seek>(file: R) -> Decoder<R> {
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(false);
    options.set_skip_ancillary_crc_failures(false);
    Decoder::new_with_options(file, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Vec<u8> {
        let image =
            RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8]));
        encode(&image, "v1 test", Compression::Fast).unwrap()
    }

    /// What is found of these bytes, and whether they are a whole file.
    fn judged(bytes: &[u8]) -> (Found, bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        std::fs::write(&path, bytes).unwrap();
        (look(&path).unwrap(), is_whole(&path).unwrap())
    }

    #[test]
    fn no_beginning_passes_for_a_whole_file_or_for_something_else() {
        let bytes = made();
        assert_eq!(judged(&bytes), (Found::Made("v1 test".to_owned()), true));
        for kept in 0..bytes.len() {
            let (found, is_whole) = judged(&bytes[..kept]);
            assert!(found != Found::Other && !is_whole, "cut to {kept} of {}: {found:?}", bytes.len());
        }
    }

    #[test]
    fn no_bit_can_change_unseen() {
        let bytes = made();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let (found, is_whole) = judged(&flipped);
            // without its signature it is no PNG file
            let expected = if at < SIGNATURE.len() { found == Found::Other } else { found != Found::Other };
            assert!(expected && !is_whole, "byte {at}: {found:?}");
        }
    }

    #[test]
    fn the_checksum_of_the_pixels_is_looked_at() {
        let mut bytes = made();
        // of the last IDAT, before IEND: the pixels' sum, and the chunk's, which is made to fit
        let chunk = bytes.windows(4).rposition(|kind| kind == b"IDAT").unwrap();
        let end = bytes.len() - 12 - 4;
        bytes[end - 1] ^= 1;
        let sum = crc32(&bytes[chunk..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&sum);
        assert_eq!(judged(&bytes), (Found::Made("v1 test".to_owned()), false));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    #[test]
    fn files_of_others_are_told_apart() {
        assert_eq!(judged(b"thesis").0, Found::Other);
        let mut bytes = Vec::new();
        RgbImage::new(3, 2).write_to(&mut io::Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        assert_eq!(judged(&bytes).0, Found::Other);
    }
}
