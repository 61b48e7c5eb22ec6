//! The operations on flex, the pure-Rust CPU backend.

mod attention;
mod kernels;
mod product;
mod rows;

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

use super::PrefixLayout;
use super::ops::{AttentionInputs, FusedGradients, FusedOps, adapted};
use super::shared::{self, SharedInputs};
use product::{FEW, Matrix, MatrixMut, Threads, narrow};
use rows::Changed;

impl FusedOps for Flex {
    fn fused_softmax(scores: FlexTensor, mask: FlexTensor) -> FlexTensor {
        let shape = scores.shape();
        let (heads, tokens, keys) = (shape[1], shape[2], shape[3]);
        let mask = contiguous(mask);
        let [of_row, of_token] = [0, 2].map(|dim| usize::from(mask.shape()[dim] > 1));
        let tokens_of_mask = mask.shape()[2];
        changed(scores, |scores| {
            let mask_of = |row: usize| {
                let place = row / (heads * tokens) * of_row * tokens_of_mask + row % tokens * of_token;
                &values(&mask)[place * keys..][..keys]
            };
            kernels::masked_softmax(scores, keys, mask_of);
        })
    }

    fn fused_log_softmax(x: FlexTensor) -> FlexTensor {
        let width = width(&x);
        changed(x, |x| kernels::log_softmax(x, width))
    }

    fn fused_swish(x: FlexTensor, beta: f64) -> FlexTensor {
        changed(x, |x| kernels::swish_all(x, beta as f32))
    }

    fn fused_gelu_tanh(x: FlexTensor) -> FlexTensor {
        changed(x, |x| kernels::gelu_tanh_all(x))
    }

    fn fused_swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let (width, up) = (width(&gate), contiguous(up));
        changed(gate, |gate| kernels::swiglu(gate, values(&up), width))
    }

    fn fused_rms_norm(x: FlexTensor, gamma: FlexTensor, epsilon: f64) -> FlexTensor {
        let gamma = contiguous(gamma);
        changed(x, |x| kernels::rms_norm(x, values(&gamma), epsilon as f32))
    }

    fn fused_rotate(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, _: FlexTensor) -> FlexTensor {
        let heads = x.shape()[1];
        let [x, cos, sin] = [x, cos, sin].map(contiguous);
        let mut out = zeros(x.shape());
        kernels::rotate(out.storage_mut(), values(&x), [values(&cos), values(&sin)], [heads, width(&x)]);
        out
    }

    fn fused_product(x: FlexTensor, w: FlexTensor, single: bool) -> FlexTensor {
        let (x, w) = (ascending(x), ascending(w));
        let ([rows, d_in], [_, d_out]) = (dims(&x), dims(&w));
        let mut out = zeros([rows, d_out].into());
        // transposed weights, as a checkpoint stores them
        match matrix(&w).transposed().contiguous().filter(|_| single && FEW.contains(&rows) && d_in > 0) {
            Some(w) => {
                assert_eq!(w.len(), d_in * d_out, "{d_out} rows of weights for {d_in} values");
                narrow(values_mut(&mut out), values(&contiguous(x)), w, d_in, Threads::All);
            }
            None => {
                let out = MatrixMut::new(values_mut(&mut out), [rows, d_out], d_out);
                product::product(out, matrix(&x), matrix(&w), 1.0, false, Threads::All);
            }
        }
        out
    }

    fn fused_adapted(x: FlexTensor, w: FlexTensor, a: FlexTensor, b: FlexTensor, scale: f64) -> FlexTensor {
        adapted::<Flex>(x, w, a, b, scale).0
    }

    fn fused_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        mask: FlexTensor,
        scale: f64,
    ) -> FlexTensor {
        attention::attention(AttentionInputs { q, k, v, mask, causal: false, scale })
    }

    fn fused_shared_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        prefix_mask: FlexTensor,
        row_mask: FlexTensor,
        prefix_of_row: FlexTensor,
        layout: PrefixLayout,
    ) -> FlexTensor {
        shared::attention::<Flex>(&SharedInputs { q, k, v, prefix_mask, row_mask, prefix_of_row, layout }).0
    }

    fn fused_mask(mask: FlexTensor, _: DType) -> FlexTensor {
        mask
    }
}

impl FusedGradients for Flex {
    fn fused_softmax_gradient(output: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let (width, output) = (width(&output), contiguous(output));
        changed(grad, |grad| kernels::softmax_backward(grad, values(&output), width))
    }

    fn fused_log_softmax_gradient(output: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let (width, output) = (width(&output), contiguous(output));
        changed(grad, |grad| kernels::log_softmax_backward(grad, values(&output), width))
    }

    fn fused_swish_gradient(x: FlexTensor, grad: FlexTensor, beta: f64) -> FlexTensor {
        let x = contiguous(x);
        changed(grad, |grad| kernels::swish_backward(grad, values(&x), beta as f32))
    }

    fn fused_gelu_tanh_gradient(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        changed(grad, |grad| kernels::gelu_tanh_backward(grad, values(&x)))
    }

    fn fused_swiglu_gradients(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 2] {
        let (width, grad) = (width(&gate), contiguous(grad));
        let (mut gate, mut up) = (owned(gate), owned(up));
        kernels::swiglu_backward(values_mut(&mut gate), values_mut(&mut up), values(&grad), width);
        [gate, up]
    }

    fn fused_rms_norm_gradient(
        x: FlexTensor,
        gamma: FlexTensor,
        grad: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let (x, gamma) = (contiguous(x), contiguous(gamma));
        changed(grad, |grad| kernels::rms_norm_backward(grad, values(&x), values(&gamma), epsilon as f32))
    }

    fn add_product(y: FlexTensor, x: FlexTensor, w: FlexTensor) -> FlexTensor {
        let (mut y, x, w) = (owned(y), ascending(x), ascending(w));
        let shape = dims(&y);
        let out = MatrixMut::new(values_mut(&mut y), shape, shape[1]);
        product::product(out, matrix(&x), matrix(&w), 1.0, true, Threads::All);
        y
    }

    fn attention_with_saved(inputs: AttentionInputs<Flex>) -> (FlexTensor, Vec<FlexTensor>) {
        (attention::attention(inputs), Vec::new())
    }

    fn attention_gradients(
        inputs: AttentionInputs<Flex>,
        _: FlexTensor,
        _: Vec<FlexTensor>,
        grad: FlexTensor,
    ) -> [FlexTensor; 3] {
        attention::gradients(inputs, grad)
    }
}

/// `[rows, vocab]` each to `[rows, 4]`: see [`kernels::statistics`].
#[cfg(feature = "dpo")]
pub(super) fn statistics(logits: FlexTensor, logps: FlexTensor) -> FlexTensor {
    let [logits, logps] = [logits, logps].map(contiguous);
    let [rows, vocab] = dims(&logits);
    let mut out = zeros([rows, 4].into());
    kernels::statistics(values_mut(&mut out), values(&logits), values(&logps), vocab);
    out
}

fn dims(x: &FlexTensor) -> [usize; 2] {
    [x.shape()[0], x.shape()[1]]
}

/// The matrix of a tensor whose strides are not negative.
fn matrix(x: &FlexTensor) -> Matrix<'_> {
    let strides = x.layout().strides();
    let strides = [0, 1].map(|dim| strides[dim].unsigned_abs());
    Matrix::new(&x.storage()[x.layout().start_offset()..], dims(x), strides)
}

fn width(x: &FlexTensor) -> usize {
    x.shape().last().copied().unwrap_or(1)
}

/// All values of a contiguous tensor.
fn values(x: &FlexTensor) -> &[f32] {
    let start = x.layout().start_offset();
    &x.storage()[start..start + x.shape().num_elements()]
}

/// All values of a contiguous tensor, for writing. Other owners keep their values.
fn values_mut(x: &mut FlexTensor) -> &mut [f32] {
    let (start, elements) = (x.layout().start_offset(), x.shape().num_elements());
    &mut x.storage_mut()[start..start + elements]
}

/// Makes a tensor contiguous. The function of flex adds an owner, or copies parts of tensors.
fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.layout().is_contiguous() { x } else { x.to_contiguous() }
}

/// Makes the strides of a tensor non-negative.
fn ascending(x: FlexTensor) -> FlexTensor {
    if x.layout().strides().iter().all(|stride| *stride >= 0) { x } else { x.to_contiguous() }
}

/// Makes a tensor contiguous and its only owner.
fn owned(x: FlexTensor) -> FlexTensor {
    changed(x, rows::copied)
}

/// Creates zeros. The function of flex clears the memory twice.
fn zeros(shape: Shape) -> FlexTensor {
    let bytes = Bytes::from_elems(vec![0f32; shape.num_elements()]);
    FlexTensor::new(bytes, Layout::contiguous(shape), DType::F32)
}

/// Changes a tensor in place if it has no other owner, else a copy of it.
fn changed(x: FlexTensor, change: impl FnOnce(Changed<'_>)) -> FlexTensor {
    let mut x = contiguous(x);
    if x.is_unique() {
        change(values_mut(&mut x).into());
        return x;
    }
    let mut out = zeros(x.shape());
    change(Changed::copies(values_mut(&mut out), values(&x)));
    out
}
