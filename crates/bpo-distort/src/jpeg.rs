//! Whether a JPEG is all there: the decoder fills what is missing with grey and says nothing.

const END_OF_IMAGE: u8 = 0xd9;

/// Whether the marker segments of a JPEG lead to an end-of-image marker within `bytes`.
///
/// Segments are skipped by their length, so the markers of an embedded thumbnail do not count. Like Pillow, a
/// file that lacks nothing but the end marker is taken as truncated.
pub(crate) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some((marker, after)) = next_marker(bytes, at) {
        at = match marker {
            END_OF_IMAGE => return true,
            // Start of image, restarts and the temporary marker stand alone.
            0x01 | 0xd0..=0xd8 => after,
            _ => {
                let Some(&[high, low]) = bytes.get(after..after + 2) else { return false };
                after + usize::from(u16::from_be_bytes([high, low])).max(2)
            }
        };
    }
    false
}

/// The next marker at or after `at`, and where it ends. Entropy-coded data holds `ff` only as `ff 00`.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let tail = bytes.get(at..)?;
    let offset = tail.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff))?;
    Some((tail[offset + 1], at + offset + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, a segment that contains a thumbnail's end marker, a scan header, data with a stuffed byte.
    const JPEG: [u8; 23] = [
        0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0, 3, 1, 0x12, 0xff, 0, 0x34, 0xff,
        0xd0, 0xff, 0xd9,
    ];

    #[test]
    fn every_proper_prefix_is_incomplete() {
        assert!(is_complete(&JPEG));
        for length in 0..JPEG.len() {
            assert!(!is_complete(&JPEG[..length]), "{length} bytes");
        }
    }

    #[test]
    fn bytes_after_the_end_do_not_matter() {
        let mut longer = JPEG.to_vec();
        longer.extend([0xff, 0xd8, 0xff]);
        assert!(is_complete(&longer));
    }
}
