//! Loading of stored bytes into tensors of LibTorch. LibTorch copies what it is given, so it is
//! given the mapped file itself.
#![allow(deprecated, reason = "LibTorch is, in burn 0.22")]

use burn::backend::libtorch::{LibTorchDevice, TchTensor};
use burn::backend::{DispatchDevice, LibTorch};
use burn::tensor::{DType, Device, Tensor};
use tch::Kind;

/// As [`converted`](super::convert::converted), for the CPU device of LibTorch. Returns `None` for
/// other devices, and where LibTorch cannot read the bytes where they are.
///
/// # Panics
/// If the number of bytes does not fit `shape` and `stored`.
pub(super) fn tensor<const D: usize>(
    bytes: &[u8],
    shape: [usize; D],
    [stored, wanted]: [DType; 2],
    device: &Device,
) -> Option<Tensor<D>> {
    // an autodiff device equals the device below it
    let is_cpu = matches!(device.as_dispatch(), DispatchDevice::LibTorch(LibTorchDevice::Cpu));
    let aligned = bytes.as_ptr().align_offset(stored.size()) == 0;
    if !is_cpu || !aligned || cfg!(target_endian = "big") {
        return None;
    }
    let kinds = [kind(stored)?, kind(wanted)?];
    assert_eq!(
        bytes.len(),
        shape.iter().product::<usize>() * stored.size(),
        "bytes of {shape:?} in {stored:?}"
    );
    Some(Tensor::from_primitive::<LibTorch>(TchTensor::new(copied(bytes, shape, kinds))))
}

fn kind(dtype: DType) -> Option<Kind> {
    match dtype {
        DType::F32 => Some(Kind::Float),
        DType::F16 => Some(Kind::Half),
        DType::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// Copies and converts on all cores.
fn copied<const D: usize>(bytes: &[u8], shape: [usize; D], [stored, wanted]: [Kind; 2]) -> tch::Tensor {
    let shape = shape.map(|size| size as i64);
    let mut strides = [1; D];
    for dim in (1..D).rev() {
        strides[dim - 1] = strides[dim] * shape[dim];
    }
    #[allow(unsafe_code, reason = "LibTorch takes a pointer")]
    // SAFETY: the caller has checked the number of bytes and their alignment; nothing is written
    // through this tensor, and it is dropped before the bytes may be
    let there = unsafe { tch::Tensor::from_blob(bytes.as_ptr(), &shape, &strides, stored, tch::Device::Cpu) };
    // always a copy
    there.to_dtype(wanted, false, true)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{FloatDType, TensorData};

    use super::super::convert::converted;
    use super::*;

    #[test]
    fn as_what_is_converted_before() {
        let device = Device::libtorch();
        let types = [FloatDType::F32, FloatDType::F16, FloatDType::BF16].map(DType::from);
        // as many as are shared between threads; no NaN, whose bits may differ
        let values: Vec<f32> = (0..3 * 50_000).map(|i| (i as f32 * 0.37).sin() * 70_000.0).collect();
        let shape = [3, 50_000];
        for (stored, wanted) in types.into_iter().flat_map(|stored| types.map(|wanted| (stored, wanted))) {
            let data = TensorData::new(values.clone(), shape).convert_dtype(stored);
            let expected = converted(data.as_bytes(), &shape, stored, wanted);
            // aligned, and gone before the tensor is read
            let mut bytes = vec![0; data.as_bytes().len() + 3];
            let start = bytes.as_ptr().align_offset(4);
            let bytes = &mut bytes[start..][..data.as_bytes().len()];
            bytes.copy_from_slice(data.as_bytes());
            let found = tensor(bytes, shape, [stored, wanted], &device).unwrap();
            bytes.fill(0);
            let found = found.into_data();
            assert_eq!((found.dtype(), found.shape()), (wanted, expected.shape()));
            assert!(found.as_bytes() == expected.as_bytes(), "{stored:?} to {wanted:?}");
        }
        let data = TensorData::new(values, shape);
        let none = tensor(&data.as_bytes()[..0], [0, 3], [DType::F32, DType::BF16], &device).unwrap();
        assert_eq!((none.dims(), none.dtype()), ([0, 3], DType::BF16));
        // a file may have a weight at any byte, and there are other devices
        let bytes = [0; 9];
        let odd = usize::from(bytes.as_ptr().align_offset(2) == 0);
        assert!(tensor(&bytes[odd..][..8], [4], [DType::BF16, DType::F32], &device).is_none());
        assert!(tensor(&bytes[1 - odd..][..8], [4], [DType::BF16, DType::F32], &device.autodiff()).is_none());
    }
}
