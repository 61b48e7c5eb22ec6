//! The orientation of an image from EXIF or XMP metadata, read like by Pillow's `exif_transpose`.
//!
//! The decoders read the orientation as a SHORT only. Pillow accepts every numeric type, takes the
//! first of several values, and falls back to XMP if EXIF has no orientation.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;

const ORIENTATION: u64 = 0x0112;
const XMP_PACKET: u64 = 700;

/// The orientation tag of EXIF metadata.
#[derive(Debug, PartialEq)]
enum Tag {
    Absent,
    /// The number, or `None` for text and raw bytes: then the image is not rotated, and XMP is not
    /// read.
    Present(Option<f64>),
}

/// The orientation from EXIF and XMP metadata.
pub(crate) fn of(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let value = match exif.map_or(Tag::Absent, from_exif) {
        Tag::Present(value) => value,
        Tag::Absent => xmp.and_then(from_xmp).map(f64::from),
    };
    let code = value.filter(|value| (1.0..=8.0).contains(value) && value.fract() == 0.0);
    code.and_then(|code| Orientation::from_exif(code as u8)).unwrap_or(Orientation::NoTransforms)
}

/// The orientation of a TIFF file. The file itself is an EXIF block.
pub(crate) fn of_tiff(bytes: &[u8]) -> Orientation {
    let xmp = Directory::open(bytes).and_then(|mut directory| directory.find(XMP_PACKET));
    of(Some(bytes), xmp.map(|(_, data)| data))
}

/// The orientation of a JPEG file. Its EXIF segments form one block; the last XMP segment counts.
pub(crate) fn of_jpeg(bytes: &[u8]) -> Orientation {
    const EXIF: &[u8] = b"Exif\0\0";
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let (mut exif, mut xmp) = (Vec::new(), None);
    for (marker, content) in jpeg_segments(bytes) {
        match marker {
            0xe1 if content.starts_with(EXIF) => exif.extend_from_slice(&content[EXIF.len()..]),
            0xe1 => xmp = content.strip_prefix(XMP).or(xmp),
            _ => {}
        }
    }
    of(Some(&exif), xmp)
}

/// Markers and contents of the segments before the image data.
fn jpeg_segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let start = rest.iter().position(|byte| *byte == 0xff)?;
            let marker = rest[start..].iter().position(|byte| *byte != 0xff)? + start;
            let code = rest[marker];
            rest = &rest[marker + 1..];
            match code {
                // Start of scan, end of image.
                0xda | 0xd9 => return None,
                // Stuffing, and markers without content.
                0x00 | 0x01 | 0xd0..=0xd8 => {}
                _ => {
                    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                    let content = rest.get(2..length)?;
                    rest = &rest[length..];
                    return Some((code, content));
                }
            }
        }
    })
}

/// The orientation of a PNG file. Its metadata may follow the image data, and EXIF may be in a text
/// chunk (ImageMagick).
pub(crate) fn of_png(bytes: &[u8]) -> Orientation {
    const XMP: &[u8] = b"XML:com.adobe.xmp";
    const PROFILE: &[u8] = b"Raw profile type exif";
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    for (kind, content) in png_chunks(bytes) {
        let text = match kind {
            b"eXIf" => {
                exif = Some(content.to_vec());
                continue;
            }
            b"tEXt" => split(content).map(|(name, text)| (name, Some(Cow::Borrowed(text)))),
            b"zTXt" => split(content).map(|(name, text)| (name, text.get(1..).and_then(unpack))),
            b"iTXt" => international(content),
            _ => None,
        };
        match text {
            Some((PROFILE, Some(text))) => profile = from_profile(&text),
            Some((XMP, Some(text))) => xmp = Some(text),
            _ => {}
        }
    }
    of(exif.or(profile).as_deref(), xmp.as_deref())
}

fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    const SIGNATURE: usize = 8;
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk()?;
        let (kind, behind) = behind.split_first_chunk()?;
        let length = u32::from_be_bytes(*length) as usize;
        let content = behind.get(..length)?;
        // The decoder checks the checksum.
        rest = behind.get(length + 4..)?;
        (kind != b"IEND").then_some((kind, content))
    })
}

/// Splits a name from the content after its NUL.
fn split(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = content.iter().position(|byte| *byte == 0)?;
    Some((&content[..end], &content[end + 1..]))
}

/// Name and text of a chunk. The text is `None` if it cannot be decompressed.
type Named<'a> = (&'a [u8], Option<Cow<'a, [u8]>>);

/// Name and text of an iTXt chunk. Two bytes for the compression, the language and the translated
/// name are in between.
fn international(content: &[u8]) -> Option<Named<'_>> {
    let (name, rest) = split(content)?;
    let [packed, _, rest @ ..] = rest else { return None };
    let (_, text) = split(split(rest)?.1)?;
    Some((name, if *packed == 0 { Some(Cow::Borrowed(text)) } else { unpack(text) }))
}

/// Decompresses a text, up to the size limit of Pillow.
fn unpack(packed: &[u8]) -> Option<Cow<'_, [u8]>> {
    const LONGEST: u64 = 1 << 20;
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(LONGEST + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= LONGEST).then_some(Cow::Owned(text))
}

/// Decodes EXIF from hexadecimal digits after three header lines.
fn from_profile(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.split(|byte| *byte == b'\n').skip(3).flatten().copied().collect();
    let pairs = std::str::from_utf8(&digits).ok()?.as_bytes().as_chunks::<2>().0;
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The digit after the first `tiff:Orientation="` or `tiff:Orientation>`.
fn from_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    xmp.windows(NAME.len()).enumerate().filter(|(_, found)| *found == NAME).find_map(|(at, _)| {
        let rest = &xmp[at + NAME.len()..];
        let rest = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        rest.first().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0')
    })
}

/// The first orientation in the first directory of an EXIF block, which has the format of a TIFF
/// file. A truncated directory is read up to its end.
fn from_exif(exif: &[u8]) -> Tag {
    const PREFIX: &[u8] = b"Exif\0\0";
    let exif = exif.strip_prefix(PREFIX).unwrap_or(exif);
    let exif = exif.strip_prefix(PREFIX).unwrap_or(exif);
    let found = Directory::open(exif).and_then(|mut directory| {
        let (kind, data) = directory.find(ORIENTATION)?;
        Some(directory.value(kind, data))
    });
    found.map_or(Tag::Absent, Tag::Present)
}

/// An image file directory, in a TIFF or BigTIFF file.
struct Directory<'a> {
    file: &'a [u8],
    is_big_endian: bool,
    is_big_tiff: bool,
    at: usize,
}

impl<'a> Directory<'a> {
    /// The first directory of a file.
    fn open(file: &'a [u8]) -> Option<Self> {
        let (is_big_endian, is_big_tiff) = match file.first_chunk()? {
            b"II\x2a\0" | b"II\0\x2a" => (false, false),
            b"MM\0\x2a" | b"MM\x2a\0" => (true, false),
            b"II\x2b\0" => (false, true),
            b"MM\0\x2b" => (true, true),
            _ => return None,
        };
        let mut directory = Self { file, is_big_endian, is_big_tiff, at: 0 };
        let place = if is_big_tiff { file.get(8..16) } else { file.get(4..8) };
        directory.at = usize::try_from(directory.number(place?)).ok()?;
        Some(directory)
    }

    /// Reads an unsigned integer of one to eight bytes.
    fn number(&self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.file.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    /// Type and data of the first entry with this tag.
    fn find(&mut self, wanted: u64) -> Option<(u64, &'a [u8])> {
        let wide = if self.is_big_tiff { 8 } else { 4 };
        let count = self.take(if self.is_big_tiff { 8 } else { 2 })?;
        let mut outside = 0u64;
        for _ in 0..self.number(count) {
            let entry = self.take(4 + 2 * wide)?;
            let (tag, kind) = (self.number(&entry[..2]), self.number(&entry[2..4]));
            let (count, value) = entry[4..].split_at(wide);
            let Some(size) = size_of(kind) else { continue };
            let length = self.number(count).saturating_mul(size);
            let data = if length <= wide as u64 {
                value.get(..length as usize)?
            } else {
                // Entries whose data exceeds the file are skipped. Truncated data ends the
                // directory.
                outside = outside.saturating_add(length);
                if outside > self.file.len() as u64 {
                    continue;
                }
                let start = usize::try_from(self.number(value)).ok()?;
                self.file.get(start..start.checked_add(length as usize)?)?
            };
            if tag == wanted && !data.is_empty() {
                return Some((kind, data));
            }
        }
        None
    }

    /// The first number in the data of an entry.
    fn value(&self, kind: u64, data: &[u8]) -> Option<f64> {
        let bytes = data.get(..size_of(kind)? as usize)?;
        let number = self.number(bytes);
        match kind {
            3 | 4 | 13 | 16 => Some(number as f64),
            6 => Some(f64::from(number as i8)),
            8 => Some(f64::from(number as i16)),
            9 => Some(f64::from(number as i32)),
            11 => Some(f64::from(f32::from_bits(number as u32))),
            12 => Some(f64::from_bits(number)),
            5 | 10 => {
                let [over, under] = [&bytes[..4], &bytes[4..]].map(|half| self.number(half) as u32);
                let [over, under] = [over, under].map(|half| match kind {
                    5 => f64::from(half),
                    _ => f64::from(half as i32),
                });
                Some(over / under)
            }
            _ => None,
        }
    }
}

/// Size of one value of a type in bytes.
fn size_of(kind: u64) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}
