//! Named tensors as safetensors bytes, and walks over a module's parameters by path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use crate::error::{DpoError, Mismatch};

/// Tensors by name. Sorted, so that equal tensors give equal bytes.
pub(crate) type Tensors = BTreeMap<String, TensorData>;

/// Tensors as the bytes of a safetensors file. All that training writes goes through here, and only
/// finite values do.
///
/// # Errors
/// [`DpoError::NotFiniteTensors`] with the names of all that are not; [`DpoError::ElementType`].
pub(crate) fn encode(tensors: &Tensors) -> Result<Vec<u8>, DpoError> {
    check_finite(tensors)?;
    let views = tensors
        .iter()
        .map(|(name, data)| Ok((name, Stored { dtype: stored_dtype(name, data.dtype())?, data })))
        .collect::<Result<Vec<_>, DpoError>>()?;
    safetensors::serialize(views, None).map_err(|source| DpoError::Safetensors { path: None, source })
}

/// Tensors from the bytes of a safetensors file.
///
/// # Errors
/// [`DpoError::Safetensors`], [`DpoError::Mismatch`] or [`DpoError::NotFiniteTensors`].
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

/// Whether every element is finite. Integers are.
fn is_finite(data: &TensorData) -> bool {
    let bytes = data.as_bytes();
    match data.dtype() {
        DType::F64 => all_finite(bytes, |value| f64::from_le_bytes(value).is_finite()),
        DType::F32 | DType::Flex32 => all_finite(bytes, |value| f32::from_le_bytes(value).is_finite()),
        // infinity and NaN have all bits of the exponent set
        DType::F16 => all_finite(bytes, |value| u16::from_le_bytes(value) & 0x7c00 != 0x7c00),
        DType::BF16 => all_finite(bytes, |value| u16::from_le_bytes(value) & 0x7f80 != 0x7f80),
        _ => true,
    }
}

/// Checks values without a branch for each, so that it costs little next to writing them.
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

/// A shape, as messages show it.
pub(crate) fn dims(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

/// Shape and element type, as messages show them.
pub(crate) fn describe(data: &TensorData) -> String {
    format!("{} {}", dims(data.shape().as_slice()), data.dtype().name())
}

/// The path of the present parameter in a walk over a module.
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

/// The elements with one axis.
pub(crate) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

/// Elements of small tensors that one operation takes together: starting an operation costs the
/// same for one as for many.
const TOGETHER: usize = 1 << 20;

/// Runs of neighbours of the same kind, up to [`TOGETHER`] elements each; a larger tensor is a run
/// of its own.
pub(crate) fn runs<T, K: PartialEq>(items: Vec<T>, kind_and_size: impl Fn(&T) -> (K, usize)) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut last = None;
    for item in items {
        let (kind, size) = kind_and_size(&item);
        match (&mut last, runs.last_mut()) {
            (Some((of, sum)), Some(run)) if *of == kind && *sum + size <= TOGETHER => {
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

/// The tensors concatenated. A single one is not copied.
pub(crate) fn joined(mut tensors: Vec<Tensor<1>>) -> Tensor<1> {
    match (tensors.len(), tensors.pop()) {
        (1, Some(single)) => single,
        (_, last) => Tensor::cat(tensors.into_iter().chain(last).collect(), 0),
    }
}

/// Makes a plain tensor a leaf that requires a gradient, in place of `old`.
///
/// [`Tensor::from_inner`] gives the default checkpointing strategy, and autodiff refuses to mix two
/// of them, so the old one is put back (as burn's own optimizer does).
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
    fn what_is_not_finite_is_not_encoded() {
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
    fn small_neighbours_of_a_kind_are_worked_on_together() {
        let half = TOGETHER / 2;
        let items =
            vec![('a', half), ('a', half), ('a', 1), ('b', 2), ('a', TOGETHER + 1), ('a', 0), ('a', half)];
        let sizes: Vec<Vec<_>> = runs(items, |item| *item)
            .into_iter()
            .map(|run| run.into_iter().map(|(kind, size)| format!("{kind}{size}")).collect())
            .collect();
        let (half, large) = (format!("a{half}"), format!("a{}", TOGETHER + 1));
        let expected = [vec![&*half, &half], vec!["a1"], vec!["b2"], vec![&large], vec!["a0", &half]];
        assert_eq!(sizes, expected);
    }
}
