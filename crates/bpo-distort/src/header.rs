//! The header of an image file, without its pixels.

use std::io::{self, BufReader, Cursor, ErrorKind, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageError, ImageFormat, ImageReader};
use libjpeg_turbo_rs::JpegError;

use crate::load::{allocation, decode_error, format_of, open_file, orientation_of_webp, read_error};
use crate::plain::plain;
use crate::{DistortError, ImageLimits, jpeg, orientation};

/// Number of bytes at the start of a file that identify its format.
const MAGIC: u64 = 64;

/// Reads the header of an image file and returns the width and height that
/// [`load_rgb`](crate::load_rgb) gives: those of the upright image. No pixel is decoded.
///
/// The size of the file, its format and its dimensions are checked as by
/// [`load_rgb`](crate::load_rgb), with the same errors. Damaged pixels are not detected.
///
/// # Errors
///
/// Returns the errors of [`load_rgb`](crate::load_rgb) except
/// [`TooManyScans`](DistortError::TooManyScans) and [`TooSlow`](DistortError::TooSlow).
pub fn check_header(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<(u32, u32), DistortError> {
    let path = path.as_ref();
    let (file, bytes) = open_file(path)?;
    header(BufReader::new(file), bytes, path, limits)
}

/// Reads the header of an image file in memory like [`check_header`]. `name` is the path in errors.
///
/// # Errors
///
/// Returns the errors of [`decode_rgb`](crate::decode_rgb) except
/// [`TooManyScans`](DistortError::TooManyScans) and [`TooSlow`](DistortError::TooSlow).
pub fn decode_header(
    bytes: &[u8],
    name: impl AsRef<Path>,
    limits: &ImageLimits,
) -> Result<(u32, u32), DistortError> {
    header(BufReader::new(Cursor::new(bytes)), bytes.len() as u64, name.as_ref(), limits)
}

/// Reads the header of an image file of a number of bytes.
fn header(
    mut file: BufReader<impl Read + Seek>,
    bytes: u64,
    path: &Path,
    limits: &ImageLimits,
) -> Result<(u32, u32), DistortError> {
    limits.check_file(path, bytes)?;
    let mut magic = Vec::new();
    file.by_ref().take(MAGIC).read_to_end(&mut magic).map_err(read_error(path))?;
    file.rewind().map_err(read_error(path))?;
    let format = format_of(&magic).ok_or_else(|| DistortError::NotAnImage { path: path.into() })?;
    let (size, orientation) = match format {
        ImageFormat::Jpeg => {
            let fail = |error: io::Error| match error.kind() {
                ErrorKind::UnexpectedEof => {
                    jpeg::decode_error(JpegError::UnexpectedEof, path, bytes as usize)
                }
                _ => read_error(path)(error),
            };
            let size = jpeg_size(&mut file).map_err(fail)?.ok_or_else(|| {
                let error = JpegError::CorruptData("no frame before the first scan".into());
                jpeg::decode_error(error, path, bytes as usize)
            })?;
            (size, orientation::of_jpeg(&jpeg_segments(file).map_err(fail)?))
        }
        format => {
            let fail = |source: ImageError| decode_error(path, bytes as usize, plain(source, format));
            let mut reader = ImageReader::with_format(&mut file, format);
            reader.limits(allocation(0));
            let mut decoder = reader.into_decoder().map_err(fail)?;
            let (size, webp) = (decoder.dimensions(), orientation_of_webp(&mut decoder, format));
            drop(decoder);
            let orientation = match format {
                ImageFormat::Png => orientation::of_png(&png_metadata(file).map_err(read_error(path))?),
                ImageFormat::Tiff => orientation::of_tiff(&whole(file).map_err(read_error(path))?),
                _ => webp,
            };
            (size, orientation)
        }
    };
    limits.check_size(path, size)?;
    let (width, height) = size;
    Ok(if is_turned(orientation) { (height, width) } else { size })
}

/// Whether an orientation exchanges width and height.
fn is_turned(orientation: Orientation) -> bool {
    use Orientation as O;
    matches!(orientation, O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH)
}

fn whole(mut file: BufReader<impl Read + Seek>) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a JPEG file up to its first scan. A file that ends before is read up to its end.
fn jpeg_segments(mut file: BufReader<impl Read + Seek>) -> io::Result<Vec<u8>> {
    file.rewind()?;
    file.seek_relative(2)?;
    let end = loop {
        match next_segment(&mut file) {
            Ok(Some(_)) => {}
            Ok(None) => break file.stream_position()?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break u64::MAX,
            Err(error) => return Err(error),
        }
    };
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(end).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Skips a JPEG segment and returns its marker. `None` at the first scan and at the end.
fn next_segment(file: &mut BufReader<impl Read + Seek>) -> io::Result<Option<u8>> {
    let marker = next_marker(file)?;
    match marker {
        0x01 | 0xd0..=0xd8 => {}
        0xd9 | 0xda => return Ok(None),
        _ => {
            let length = u16::from_be_bytes(read(file)?);
            file.seek_relative(i64::from(length.saturating_sub(2)))?;
        }
    }
    Ok(Some(marker))
}

/// Reads a PNG file without its image data. The metadata may follow the data.
fn png_metadata(mut file: BufReader<impl Read + Seek>) -> io::Result<Vec<u8>> {
    const SIGNATURE: u64 = 8;
    const CHECKSUM: u64 = 4;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.by_ref().take(SIGNATURE).read_to_end(&mut bytes)?;
    loop {
        let mut head = Vec::new();
        file.by_ref().take(8).read_to_end(&mut head)?;
        let Some((length, kind)) = head.split_first_chunk::<4>().filter(|_| head.len() == 8) else {
            return Ok(bytes);
        };
        let rest = u64::from(u32::from_be_bytes(*length)) + CHECKSUM;
        if [b"eXIf", b"tEXt", b"zTXt", b"iTXt"].iter().any(|wanted| *wanted == kind) {
            bytes.extend(&head);
            file.by_ref().take(rest).read_to_end(&mut bytes)?;
        } else {
            file.seek_relative(rest as i64)?;
        }
    }
}

/// Width and height of the first frame of a JPEG file; `None` if a scan or the end comes before any
/// frame.
fn jpeg_size(file: &mut BufReader<impl Read + Seek>) -> io::Result<Option<(u32, u32)>> {
    file.seek_relative(2)?;
    loop {
        let marker = next_marker(file)?;
        match marker {
            // standalone markers: TEM, RST0 to RST7, SOI
            0x01 | 0xd0..=0xd8 => continue,
            // EOI, SOS
            0xd9 | 0xda => return Ok(None),
            _ => {}
        }
        let [high, low] = read(file)?;
        let length = u16::from_be_bytes([high, low]);
        // SOF0 to SOF15, without DHT, JPG and DAC, which lie between them
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [_precision, a, b, c, d] = read(file)?;
            let side = |bytes| u32::from(u16::from_be_bytes(bytes));
            return Ok(Some((side([c, d]), side([a, b]))));
        }
        file.seek_relative(i64::from(length.saturating_sub(2)))?;
    }
}

/// Reads the code of the next marker. Bytes before it are skipped, as by decoders.
fn next_marker(file: &mut impl Read) -> io::Result<u8> {
    let mut after_fill = false;
    loop {
        match read::<1>(file)? {
            [0xff] => after_fill = true,
            [marker] if after_fill && marker != 0 => return Ok(marker),
            _ => after_fill = false,
        }
    }
}

fn read<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::RgbImage;
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

    use super::*;
    use crate::load_rgb;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
        Encoder::new(&pixels, width as usize, height as usize, PixelFormat::Rgb)
            .subsampling(Subsampling::S420)
            .encode()
            .expect("encoded")
    }

    #[test]
    fn headers_give_the_size_that_decoding_gives() {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = ImageLimits::default();
        fs::write(dir.path().join("a.jpg"), jpeg(37, 19)).expect("written");
        for name in ["a.png", "a.gif", "a.bmp", "a.tiff", "a.webp"] {
            RgbImage::new(37, 19).save(dir.path().join(name)).expect("saved");
        }
        for name in ["a.jpg", "a.png", "a.gif", "a.bmp", "a.tiff", "a.webp"] {
            let path = dir.path().join(name);
            assert_eq!(check_header(&path, &limits).expect(name), (37, 19));
            assert_eq!(load_rgb(&path, &limits).expect(name).dimensions(), (37, 19));
            let bytes = fs::read(&path).expect("bytes");
            assert_eq!(decode_header(&bytes, &path, &limits).expect(name), (37, 19));
            let small = limits.with_max_side(36);
            let (header, whole) = (check_header(&path, &small), load_rgb(&path, &small));
            let (header, whole) = (header.unwrap_err().to_string(), whole.unwrap_err().to_string());
            assert_eq!(header, whole, "{name}");
            assert_eq!(decode_header(&bytes, &path, &small).unwrap_err().to_string(), whole, "{name}");
            // its first half has the header, and not all pixels
            fs::write(&path, &bytes[..bytes.len() - bytes.len() / 3]).expect("written");
            if ["a.jpg", "a.png", "a.bmp"].contains(&name) {
                assert_eq!(check_header(&path, &limits).expect(name), (37, 19));
                load_rgb(&path, &limits).expect_err(name);
            }
        }
    }

    #[test]
    fn files_without_a_header_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, limits) = (dir.path().join("a"), ImageLimits::default());
        assert!(matches!(check_header(&path, &limits), Err(DistortError::Missing { .. })));
        assert!(matches!(check_header(dir.path(), &limits), Err(DistortError::NotAFile { .. })));
        let mut cases: Vec<Vec<u8>> = vec![Vec::new(), b"text".to_vec(), vec![0xff, 0xd8, 0xff]];
        cases.push(jpeg(8, 8)[..30].to_vec());
        cases.push(vec![0xff, 0xd8, 0xff, 0xda, 0, 2, 0, 0]);
        cases.push(b"\x89PNG\r\n\x1a\n".to_vec());
        for bytes in cases {
            fs::write(&path, &bytes).expect("written");
            let error = check_header(&path, &limits).expect_err("no header");
            let of_bytes = decode_header(&bytes, &path, &limits).expect_err("no header");
            assert_eq!(of_bytes.to_string(), error.to_string());
            load_rgb(&path, &limits).expect_err("no image");
        }
    }
}
