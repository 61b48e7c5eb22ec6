//! PNG files that say what they were made of.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use image::RgbImage;
use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter};

/// Of the text that says what a file was made of.
const KEYWORD: &str = "bpo-distort";

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

/// Whether all of a file's image can be read, with its checksums.
///
/// # Errors
/// If there is no file, or it cannot be opened.
pub(crate) fn is_whole(path: &Path) -> io::Result<bool> {
    let decoder = Decoder::new(BufReader::new(File::open(path)?));
    let read = || {
        let mut reader = decoder.read_info().ok()?;
        let mut pixels = vec![0; reader.output_buffer_size()?];
        reader.next_frame(&mut pixels).ok()?;
        reader.finish().ok()
    };
    Ok(read().is_some())
}

/// What a file says it was made of; `None` if it does not, being no such file.
///
/// # Errors
/// If there is no file, or it cannot be read.
pub(crate) fn text(path: &Path) -> io::Result<Option<String>> {
    let decoder = Decoder::new(BufReader::new(File::open(path)?));
    let reader = match decoder.read_info() {
        Ok(reader) => reader,
        Err(png::DecodingError::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(error);
        }
        Err(_) => return Ok(None),
    };
    let texts = &reader.info().uncompressed_latin1_text;
    Ok(texts.iter().find(|text| text.keyword == KEYWORD).map(|text| text.text.clone()))
}
