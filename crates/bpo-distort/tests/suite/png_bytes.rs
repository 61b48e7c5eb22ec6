//! PNG files byte by byte.

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

pub const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

pub fn png_chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [kind, content].concat();
    let length = (content.len() as u32).to_be_bytes();
    [&length, &named[..], &crc32(&named).to_be_bytes()].concat()
}

/// The header chunk of an RGB image with this size.
pub fn png_size(width: u32, height: u32) -> Vec<u8> {
    png_chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat())
}

/// The start of a PNG file: a valid header with this size.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    [PNG_SIGNATURE, &png_size(width, height), b"\0\0\0\x10IDAT"].concat()
}

/// The compressed rows of a PNG.
pub fn png_data(png: &[u8]) -> Vec<u8> {
    let (mut rest, mut data) = (&png[PNG_SIGNATURE.len()..], Vec::new());
    while let Some((length, chunk)) = rest.split_first_chunk() {
        let end = 4 + u32::from_be_bytes(*length) as usize;
        if chunk.starts_with(b"IDAT") {
            data.extend(&chunk[4..end]);
        }
        rest = &chunk[end + 4..];
    }
    data
}
