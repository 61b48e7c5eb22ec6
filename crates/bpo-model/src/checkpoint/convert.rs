//! Conversion of stored bytes to values of the wanted type, on all cores.

use burn::tensor::{Bytes, DType, TensorData, bf16, f16};
use rayon::prelude::*;

/// Values that a core converts at a time.
const CHUNK: usize = 1 << 16;

/// Converts the little-endian `bytes` of a weight (f32, f16 or bf16, as `stored` says) to `wanted`.
///
/// The result equals that of [`TensorData::convert_dtype`] to the bit, without a copy in the stored
/// type.
///
/// # Panics
/// If the number of bytes does not fit `shape` and `stored`.
pub(super) fn converted(bytes: &[u8], shape: &[usize], stored: DType, wanted: DType) -> TensorData {
    let half = |value| f16::from_le_bytes(value).to_f32();
    let brain = |value| bf16::from_le_bytes(value).to_f32();
    // bits in a typed vector, which stays aligned: a vector of bytes would be copied to be aligned
    let values = match (stored, wanted) {
        (DType::F16, DType::F32) => Bytes::from_elems(map(bytes, |value| half(value).to_bits())),
        (DType::BF16, DType::F32) => Bytes::from_elems(map(bytes, |value| brain(value).to_bits())),
        (DType::F16, DType::BF16) => {
            Bytes::from_elems(map(bytes, |value| bf16::from_f32(half(value)).to_bits()))
        }
        (DType::BF16, DType::F16) => {
            Bytes::from_elems(map(bytes, |value| f16::from_f32(brain(value)).to_bits()))
        }
        (DType::F32, DType::F16) => {
            Bytes::from_elems(map(bytes, |value| f16::from_f32(f32::from_le_bytes(value)).to_bits()))
        }
        (DType::F32, DType::BF16) => {
            Bytes::from_elems(map(bytes, |value| bf16::from_f32(f32::from_le_bytes(value)).to_bits()))
        }
        (DType::F32, DType::F32) => Bytes::from_elems(map(bytes, u32::from_le_bytes)),
        (DType::F16, DType::F16) | (DType::BF16, DType::BF16) => {
            Bytes::from_elems(map(bytes, u16::from_le_bytes))
        }
        // a type that no checkpoint has
        _ => return converted(bytes, shape, stored, stored).convert_dtype(wanted),
    };
    TensorData::from_bytes(values, shape.to_vec(), wanted)
}

/// Maps each value of `N` bytes to bits.
fn map<const N: usize, B: Copy + Default + Send + Sync>(
    bytes: &[u8],
    bits: impl Fn([u8; N]) -> B + Sync,
) -> Vec<B> {
    let (values, _) = bytes.as_chunks::<N>();
    // zeroed pages of the system cost nothing before they are written
    let mut mapped = vec![B::default(); values.len()];
    let parts = mapped.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
    parts.for_each(|(places, values)| {
        places.iter_mut().zip(values).for_each(|(place, value)| *place = bits(*value));
    });
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    /// All values of half precision, including NaN payloads; for f32 a sample of its values.
    fn all(stored: DType) -> Vec<u8> {
        match stored {
            DType::F32 => (0..=u32::MAX).step_by(10_007).flat_map(u32::to_le_bytes).collect(),
            _ => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        }
    }

    #[test]
    fn to_the_bit_what_burn_converts() {
        for (stored, wanted) in TYPES.into_iter().flat_map(|stored| TYPES.map(|wanted| (stored, wanted))) {
            // more than one chunk, the last one incomplete
            let bytes = [all(stored), all(stored)[..10 * stored.size()].to_vec()].concat();
            let shape = [2, bytes.len() / stored.size() / 2];
            let bytes = &bytes[..shape[0] * shape[1] * stored.size()];
            let plain =
                TensorData::from_bytes_vec(bytes.to_vec(), shape.to_vec(), stored).convert_dtype(wanted);
            let ours = converted(bytes, &shape, stored, wanted);
            assert_eq!((ours.dtype(), ours.shape()), (wanted, plain.shape()), "{stored:?}");
            assert!(ours.as_bytes() == plain.as_bytes(), "{stored:?} to {wanted:?}");
            // a file may have a weight at any offset
            let shifted = [&[7], bytes].concat();
            let ours = converted(&shifted[1..], &shape, stored, wanted);
            assert!(ours.as_bytes() == plain.as_bytes(), "{stored:?} to {wanted:?}, shifted");
        }
    }

    #[test]
    fn an_empty_weight_stays_empty() {
        for (stored, wanted) in TYPES.into_iter().zip([DType::BF16, DType::F64, DType::BF16]) {
            let data = converted(&[], &[0, 3], stored, wanted);
            assert_eq!((data.dtype(), data.num_elements()), (wanted, 0));
        }
    }
}
