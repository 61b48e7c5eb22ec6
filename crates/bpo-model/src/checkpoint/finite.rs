//! Writing of safetensors files. No file with non-finite values is written.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use safetensors::{Dtype, SafeTensorError, View};

use crate::error::ModelError;

/// Serializes tensors. `path` is the future path of the file, for errors.
///
/// # Errors
/// [`ModelError::NotFiniteWeights`] with each tensor that is not finite.
pub(crate) fn to_bytes<V: View>(
    tensors: impl IntoIterator<Item = (String, V)>,
    path: &Path,
) -> Result<Vec<u8>, ModelError> {
    checked(tensors, path, |tensors| safetensors::serialize(tensors, metadata()))
}

/// Writes a file with one tensor in memory at a time. After an error the file must not be used.
///
/// # Errors
/// [`ModelError::NotFiniteWeights`] with each tensor that is not finite.
pub(crate) fn to_file<V: View>(
    tensors: impl IntoIterator<Item = (String, V)>,
    path: &Path,
) -> Result<(), ModelError> {
    checked(tensors, path, |tensors| safetensors::serialize_to_file(tensors, metadata(), path))
}

fn metadata() -> Option<HashMap<String, String>> {
    Some([("format".to_owned(), "pt".to_owned())].into())
}

fn checked<V: View, T>(
    tensors: impl IntoIterator<Item = (String, V)>,
    path: &Path,
    write: impl FnOnce(Vec<(String, Checked<'_, V>)>) -> Result<T, SafeTensorError>,
) -> Result<T, ModelError> {
    let unusable = RefCell::new(Vec::new());
    let tensors = tensors.into_iter();
    let tensors =
        tensors.map(|(name, view)| (name.clone(), Checked { name, view, unusable: &unusable })).collect();
    let written = write(tensors)
        .map_err(|error| ModelError::Safetensors { path: path.into(), reason: error.to_string() })?;
    let mut names = unusable.into_inner();
    names.sort();
    names.dedup();
    if names.is_empty() {
        Ok(written)
    } else {
        Err(ModelError::NotFiniteWeights { path: path.into(), names })
    }
}

/// A tensor that is checked when it is written. A view cannot return an error, so it records its
/// name.
struct Checked<'a, V> {
    name: String,
    view: V,
    unusable: &'a RefCell<Vec<String>>,
}

impl<V: View> View for Checked<'_, V> {
    fn dtype(&self) -> Dtype {
        self.view.dtype()
    }

    fn shape(&self) -> &[usize] {
        self.view.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let data = self.view.data();
        if !is_finite(&data, self.view.dtype()) {
            self.unusable.borrow_mut().push(self.name.clone());
        }
        data
    }

    fn data_len(&self) -> usize {
        self.view.data_len()
    }
}

/// Whether all values are finite. Types without infinities always are.
fn is_finite(bytes: &[u8], dtype: Dtype) -> bool {
    match dtype {
        Dtype::F64 => all(bytes, |value| f64::from_le_bytes(value).is_finite()),
        Dtype::F32 => all(bytes, |value| f32::from_le_bytes(value).is_finite()),
        // infinities and NaN have all bits of the exponent set
        Dtype::F16 => all(bytes, |value| u16::from_le_bytes(value) & 0x7c00 != 0x7c00),
        Dtype::BF16 => all(bytes, |value| u16::from_le_bytes(value) & 0x7f80 != 0x7f80),
        _ => true,
    }
}

/// Checks on all cores, without a branch for each value.
fn all<const N: usize>(bytes: &[u8], is_finite: impl Fn([u8; N]) -> bool + Sync) -> bool {
    const CHUNK: usize = 1 << 16;
    let (values, _) = bytes.as_chunks::<N>();
    let part = |values: &[[u8; N]]| values.iter().fold(true, |all, value| all & is_finite(*value));
    values.par_chunks(CHUNK).all(part)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{FloatDType, TensorData};

    use super::*;
    use crate::checkpoint::Stored;

    #[test]
    fn each_type_is_checked_and_each_tensor_is_named() {
        for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
            let tensor = |name: &str, value: f32| {
                (name.to_owned(), Stored::of_data(TensorData::from([0.5, value, -1.0]), dtype))
            };
            let path = Path::new("adapter_model.safetensors");
            to_bytes([tensor("a", -0.0), tensor("b", 3e4)], path).unwrap();
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let tensors = [tensor("b", value), tensor("good", 1.0), tensor("a", value)];
                match to_bytes(tensors, path).unwrap_err() {
                    ModelError::NotFiniteWeights { names, .. } => assert_eq!(names, ["a", "b"]),
                    other => panic!("{other}"),
                }
            }
        }
        // 1e30 overflows to infinity in f16
        let large = Stored::of_data(TensorData::from([1e30f32]), FloatDType::F16);
        to_bytes([("a".to_owned(), large)], Path::new("x")).unwrap_err();
    }
}
