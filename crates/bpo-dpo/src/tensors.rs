//! Named tensors as safetensors bytes, and walks over a module's parameters by path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::kind::Autodiff;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use crate::error::{DpoError, Mismatch};

/// Tensors by name. Sorted, so that equal tensors give equal bytes.
pub(crate) type Tensors = BTreeMap<String, TensorData>;

pub(crate) fn encode(tensors: &Tensors) -> Result<Vec<u8>, DpoError> {
    let views = tensors
        .iter()
        .map(|(name, data)| Ok((name, Stored { dtype: stored_dtype(name, data.dtype())?, data })))
        .collect::<Result<Vec<_>, DpoError>>()?;
    safetensors::serialize(views, None).map_err(|source| DpoError::Safetensors { path: None, source })
}

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
    match mismatch.is_empty() {
        true => Ok(tensors),
        false => Err(DpoError::Mismatch { what: "tensors", path: None, mismatch }),
    }
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
        other => Err(DpoError::ElementType { name: name.to_owned(), found: format!("{other:?}") }),
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

/// Shape and element type, as messages show them.
pub(crate) fn describe(data: &TensorData) -> String {
    format!("{:?} {:?}", data.shape().as_slice(), data.dtype())
}

/// Where a walk over a module is.
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

/// The same elements with one axis.
pub(crate) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

/// Small tensors that are worked on together: a device takes as long to begin with one as with many. In elements.
const TOGETHER: usize = 1 << 20;

/// Neighbours of the same kind, up to [`TOGETHER`] elements of them; what is larger is alone.
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

/// One behind the other; a single one is not copied.
pub(crate) fn joined(mut tensors: Vec<Tensor<1>>) -> Tensor<1> {
    match (tensors.len(), tensors.pop()) {
        (1, Some(single)) => single,
        (_, last) => Tensor::cat(tensors.into_iter().chain(last).collect(), 0),
    }
}

/// The same tensor on no tape.
pub(crate) fn off_tape<const D: usize, K: Autodiff>(tensor: Tensor<D, K>) -> Tensor<D, K> {
    if tensor.is_autodiff() { tensor.inner() } else { tensor }
}

/// Makes a plain tensor a leaf that requires a gradient, in place of `old`.
///
/// [`Tensor::from_inner`] gives the default checkpointing strategy, and autodiff refuses to mix two of them, so the
/// old one is put back (as burn's own optimizer does).
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
