//! A tensor in the form of a safetensors file.

use std::borrow::Cow;

use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use safetensors::Dtype;

/// Bytes, shape and type of a tensor, read from its device.
pub(crate) struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    /// Converts values to another type. Types other than f16 and bf16 become f32.
    pub(crate) fn new<const D: usize>(value: Tensor<D>, dtype: FloatDType) -> Self {
        Self::of_data(value.into_data(), dtype)
    }

    /// Converts values that are on the host.
    pub(crate) fn of_data(data: TensorData, dtype: FloatDType) -> Self {
        let dtype = match dtype {
            FloatDType::F16 => (Dtype::F16, DType::F16),
            FloatDType::BF16 => (Dtype::BF16, DType::BF16),
            _ => (Dtype::F32, DType::F32),
        };
        let shape = data.shape().to_vec();
        Self { dtype: dtype.0, shape, bytes: data.convert_dtype(dtype.1).into_bytes().to_vec() }
    }

    /// Converts the weight of a linear, which files store as `[d_out, d_in]`.
    pub(crate) fn transposed<const D: usize>(value: Tensor<D>, dtype: FloatDType) -> Self {
        Self::new(value.swap_dims(D - 2, D - 1), dtype)
    }
}

impl safetensors::View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
