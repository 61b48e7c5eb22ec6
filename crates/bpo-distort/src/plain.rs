//! Readable error messages of decoders. Some decoders print Rust values in debug format.

use std::error::Error;

use image::error::{DecodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::{ExtendedColorType, ImageError, ImageFormat};

/// Replaces debug output in an error by plain words.
pub(crate) fn plain(error: ImageError, format: ImageFormat) -> ImageError {
    let hint = || ImageFormatHint::Exact(format);
    match error {
        ImageError::Decoding(error) => match error.source().map(|source| plain_text(&source.to_string())) {
            Some(reason) => ImageError::Decoding(DecodingError::new(hint(), reason)),
            None => ImageError::Decoding(error),
        },
        ImageError::Unsupported(error) => {
            let feature = match error.kind() {
                UnsupportedErrorKind::Color(ExtendedColorType::Unknown(bits)) => {
                    format!("{bits} bits per pixel in this layout")
                }
                UnsupportedErrorKind::Color(_) => "its color type".to_owned(),
                UnsupportedErrorKind::GenericFeature(feature) => plain_text(&feature),
                _ => return ImageError::Unsupported(error),
            };
            let kind = UnsupportedErrorKind::GenericFeature(feature);
            ImageError::Unsupported(UnsupportedError::from_format_and_kind(hint(), kind))
        }
        error => error,
    }
}

/// Replaces `ChunkType { type: IDAT, .. }` by `IDAT`, `Unknown(7)` by `unknown 7`, and
/// `BadCodeLengthTree` by `bad code length tree`.
fn plain_text(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        rest = behind;
        if !name.starts_with(|c: char| c.is_ascii_uppercase())
            || !name.contains(|c: char| c.is_ascii_lowercase())
        {
            plain.push_str(name);
        } else if let Some((fields, behind)) = enclosed(rest, " { ", " }") {
            let first = fields.split(", ").next().unwrap_or(fields);
            plain.push_str(first.split_once(": ").map_or(first, |(_, value)| value));
            rest = behind;
        } else if let Some((inner, behind)) = enclosed(rest, "(", ")") {
            let name = if name == "Some" { String::new() } else { words(name) + " " };
            plain.push_str(&(name + &plain_text(inner)));
            rest = behind;
        } else {
            let is_compound = name.chars().skip(1).any(|c| c.is_ascii_uppercase());
            plain.push_str(&if is_compound { words(name) } else { name.to_owned() });
        }
    }
    plain.push_str(rest);
    plain
}

/// The text between two delimiters at the start, and the rest after them.
fn enclosed<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(open)?.split_once(close)
}

/// Splits a name into words: `BadCodeLengthTree` becomes "bad code length tree".
fn words(name: &str) -> String {
    let mut words = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_lower {
            words.push(' ');
        }
        after_lower = c.is_ascii_lowercase();
        words.push(c.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::plain_text;

    #[test]
    fn debug_output_becomes_words() {
        let cases = [
            (
                "CRC error: expected 0x1 have 0x2 while decoding ChunkType { type: IDAT, critical: true, private: false, \
                 reserved: false, safecopy: false } chunk.",
                "CRC error: expected 0x1 have 0x2 while decoding IDAT chunk.",
            ),
            ("Corrupt deflate stream. BadCodeLengthTree", "Corrupt deflate stream. bad code length tree"),
            (
                "compression method Unknown(34676) is unsupported",
                "compression method unknown 34676 is unsupported",
            ),
            (
                "Unhandled TIFF color type Lab(8) for Some(3) bits",
                "Unhandled TIFF color type lab 8 for 3 bits",
            ),
            ("Not enough palette entries, expect 3 got 1.", "Not enough palette entries, expect 3 got 1."),
            ("Chunk (a)", "Chunk (a)"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain_text(text), expected);
        }
    }
}
