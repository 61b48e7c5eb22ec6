//! Conversion of named tensors to and from the safetensors format, and helpers for parameters by
//! path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use crate::error::{DpoError, Mismatch};

/// Tensors sorted by name, so that equal tensors have equal bytes.
pub(crate) type Tensors = BTreeMap<String, TensorData>;

/// Encodes tensors in the safetensors format. Everything that training saves is encoded here, and
/// values that are not finite are an error.
///
/// # Errors
/// Returns [`DpoError::NotFiniteTensors`] with the names of all tensors that are not finite, or
/// [`DpoError::ElementType`] for an element type that is not supported.
pub(crate) fn encode(tensors: &Tensors) -> Result<Vec<u8>, DpoError> {
    check_finite(tensors)?;
    let views = tensors
        .iter()
        .map(|(name, data)| Ok((name, Stored { dtype: stored_dtype(name, data.dtype())?, data })))
        .collect::<Result<Vec<_>, DpoError>>()?;
    safetensors::serialize(views, None).map_err(|source| DpoError::Safetensors { path: None, source })
}

/// Decodes tensors in the safetensors format.
///
/// # Errors
/// Returns [`DpoError::Safetensors`] if the bytes are not in the safetensors format,
/// [`DpoError::Mismatch`] if an element type is not supported, or [`DpoError::NotFiniteTensors`] if
/// values are not finite.
pub(crate) fn decode(bytes: &[u8]) -> Result<Tensors, DpoError> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|source| DpoError::Safetensors { path: None, source })?;
    let mut tensors = Tensors::new();
    let mut mismatch = Mismatch::default();
    for (name, view) in file.iter() {
        match loaded_dtype(view.dtype()) {
            Some(dtype) => {
                let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
                tensors.insert(name.to_owned(), data);
            }
            None => mismatch.misshapen.push(format!("{name} has elements of type {}", view.dtype())),
        }
    }
    if !mismatch.is_empty() {
        return Err(DpoError::Mismatch { what: "tensors", path: None, mismatch });
    }
    check_finite(&tensors)?;
    Ok(tensors)
}

fn check_finite(tensors: &Tensors) -> Result<(), DpoError> {
    let names: Vec<String> =
        tensors.iter().filter(|(_, data)| !is_finite(data)).map(|(name, _)| name.clone()).collect();
    if names.is_empty() { Ok(()) } else { Err(DpoError::NotFiniteTensors { step: None, names }) }
}

/// Returns whether every element is finite. Integers are always finite.
fn is_finite(data: &TensorData) -> bool {
    let bytes = data.as_bytes();
    match data.dtype() {
        DType::F64 => all_finite(bytes, |value| f64::from_le_bytes(value).is_finite()),
        DType::F32 | DType::Flex32 => all_finite(bytes, |value| f32::from_le_bytes(value).is_finite()),
        // all exponent bits of infinity and NaN are set
        DType::F16 => all_finite(bytes, |value| u16::from_le_bytes(value) & 0x7c00 != 0x7c00),
        DType::BF16 => all_finite(bytes, |value| u16::from_le_bytes(value) & 0x7f80 != 0x7f80),
        _ => true,
    }
}

/// Returns whether all values are finite. There is no branch per value, so that the check is fast
/// compared with writing the file.
fn all_finite<const N: usize>(bytes: &[u8], is_finite: impl Fn([u8; N]) -> bool) -> bool {
    let (values, _) = bytes.as_chunks::<N>();
    values.chunks(1024).all(|part| part.iter().fold(true, |all, value| all & is_finite(*value)))
}

struct Stored<'a> {
    dtype: Dtype,
    data: &'a TensorData,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.data.shape().as_slice()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.data.as_bytes().into()
    }

    fn data_len(&self) -> usize {
        self.data.as_bytes().len()
    }
}

fn stored_dtype(name: &str, dtype: DType) -> Result<Dtype, DpoError> {
    match dtype {
        DType::F64 => Ok(Dtype::F64),
        DType::F32 | DType::Flex32 => Ok(Dtype::F32),
        DType::F16 => Ok(Dtype::F16),
        DType::BF16 => Ok(Dtype::BF16),
        DType::I64 => Ok(Dtype::I64),
        other => Err(DpoError::ElementType { name: name.to_owned(), found: other.name().to_owned() }),
    }
}

fn loaded_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I64 => Some(DType::I64),
        _ => None,
    }
}

/// Formats a shape for messages.
pub(crate) fn dims(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

/// Formats the shape and element type of a tensor for messages.
pub(crate) fn describe(data: &TensorData) -> String {
    format!("{} {}", dims(data.shape().as_slice()), data.dtype().name())
}

/// The path of the current parameter in a traversal of a module.
#[derive(Debug, Default)]
pub(crate) struct ModulePath(Vec<String>);

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    pub(crate) fn join(&self) -> String {
        self.0.join(".")
    }
}

/// Flattens a tensor.
pub(crate) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

/// Maximum number of elements of tensors that are concatenated for one operation. Each operation
/// has a constant cost.
const MAX_RUN_ELEMENTS: usize = 1 << 20;

/// Groups neighbours of the same kind into runs of up to [`MAX_RUN_ELEMENTS`] elements. A larger
/// tensor is a separate run.
pub(crate) fn runs<T, K: PartialEq>(items: Vec<T>, kind_and_size: impl Fn(&T) -> (K, usize)) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut last = None;
    for item in items {
        let (kind, size) = kind_and_size(&item);
        match (&mut last, runs.last_mut()) {
            (Some((of, sum)), Some(run)) if *of == kind && *sum + size <= MAX_RUN_ELEMENTS => {
                *sum += size;
                run.push(item);
            }
            _ => {
                last = Some((kind, size));
                runs.push(vec![item]);
            }
        }
    }
    runs
}

/// Concatenates tensors. A single tensor is not copied.
pub(crate) fn concat(mut tensors: Vec<Tensor<1>>) -> Tensor<1> {
    match (tensors.len(), tensors.pop()) {
        (1, Some(single)) => single,
        (_, last) => Tensor::cat(tensors.into_iter().chain(last).collect(), 0),
    }
}

/// Converts `new`, which has no autodiff tape, into a leaf that requires a gradient, as `old` does.
///
/// [`Tensor::from_inner`] sets the default checkpointing strategy, but autodiff requires the same
/// strategy everywhere, so the strategy of `old` is set again, as in burn's own optimizer.
pub(crate) fn replace_leaf<const D: usize>(old: &Tensor<D>, new: Tensor<D>) -> Tensor<D> {
    let leaf = Tensor::from_inner(new);
    match old.gradient_checkpointing_strategy() {
        Some(strategy) => leaf.with_gradient_checkpointing_strategy(strategy).require_grad(),
        None => leaf.require_grad(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_tensors_are_not_encoded() {
        let data = |value: f32, dtype| TensorData::from([1.0, value, -3.0]).convert_dtype(dtype);
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let tensors =
                |value| Tensors::from([("a".into(), data(0.5, dtype)), ("b".into(), data(value, dtype))]);
            encode(&tensors(-0.0)).unwrap();
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                match encode(&tensors(value)).unwrap_err() {
                    DpoError::NotFiniteTensors { names, .. } => assert_eq!(names, ["b"]),
                    other => panic!("{dtype:?}: {other}"),
                }
            }
        }
        encode(&Tensors::from([("time".into(), TensorData::from([i64::MAX]))])).unwrap();
    }

    #[test]
    fn small_neighbours_of_a_kind_form_runs() {
        let half = MAX_RUN_ELEMENTS / 2;
        let items = vec![
            ('a', half),
            ('a', half),
            ('a', 1),
            ('b', 2),
            ('a', MAX_RUN_ELEMENTS + 1),
            ('a', 0),
            ('a', half),
        ];
        let sizes: Vec<Vec<_>> = runs(items, |item| *item)
            .into_iter()
            .map(|run| run.into_iter().map(|(kind, size)| format!("{kind}{size}")).collect())
            .collect();
        let (half, large) = (format!("a{half}"), format!("a{}", MAX_RUN_ELEMENTS + 1));
        let expected = [vec![&*half, &half], vec!["a1"], vec!["b2"], vec![&large], vec!["a0", &half]];
        assert_eq!(sizes, expected);
    }
}
