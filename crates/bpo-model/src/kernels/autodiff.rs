//! Backward passes of the operations.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata};
use burn::tensor::DType;

use super::PrefixLayout;
use super::ops::{AttentionInputs, FusedGradients, FusedOps, adapted};
use super::shared::{self, SavedForBackward, SharedInputs};

/// Saves its output.
#[derive(Debug)]
struct Softmax;

impl<B: FusedGradients> Backward<B, 1> for Softmax {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_softmax_gradient(ops.state, grad));
    }
}

/// Saves its output.
#[derive(Debug)]
struct LogSoftmax;

impl<B: FusedGradients> Backward<B, 1> for LogSoftmax {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_log_softmax_gradient(ops.state, grad));
    }
}

/// Saves its input.
#[derive(Debug)]
struct Swish;

impl<B: FusedGradients> Backward<B, 1> for Swish {
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, beta) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_swish_gradient(x, grad, beta));
    }
}

/// Saves its input.
#[derive(Debug)]
struct GeluTanh;

impl<B: FusedGradients> Backward<B, 1> for GeluTanh {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_gelu_tanh_gradient(x, grad));
    }
}

/// Saves its inputs.
#[derive(Debug)]
struct SwiGlu;

impl<B: FusedGradients> Backward<B, 2> for SwiGlu {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        each::<B, _, 2>(ops, grads, |[gate, up], grad| B::fused_swiglu_gradients(gate, up, grad));
    }
}

/// Saves its inputs.
#[derive(Debug)]
struct RmsNorm;

impl<B: FusedOps + FusedGradients> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, gamma, epsilon) = ops.state;
        let [of_x, of_gamma] = ops.parents;
        if let Some(parent) = of_gamma {
            grads.register::<B>(parent.id, gamma_gradient::<B>(x.clone(), &gamma, grad.clone(), epsilon));
        }
        if let Some(parent) = of_x {
            grads.register::<B>(parent.id, B::fused_rms_norm_gradient(x, gamma, grad, epsilon));
        }
    }
}

/// Sums the gradient times the norm without its weight over all rows: `[width]`.
fn gamma_gradient<B: FusedOps>(
    x: FloatTensor<B>,
    gamma: &FloatTensor<B>,
    grad: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (shape, dtype) = (gamma.shape(), gamma.dtype());
    let (width, elements) = (shape.num_elements(), x.shape().num_elements());
    let ones = B::float_ones(shape.clone(), &gamma.device(), dtype.into());
    let product = B::float_mul(B::fused_rms_norm(x, ones, epsilon), grad);
    let rows = B::float_reshape(product, [elements / width.max(1), width].into());
    B::float_reshape(B::float_sum_dim(rows, 0), shape)
}

/// Saves the tables.
#[derive(Debug)]
struct Rotate;

impl<B: FusedOps> Backward<B, 1> for Rotate {
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [cos, sin, back] = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_rotate(grad, cos, back, sin));
    }
}

/// Saves its input, the result of the first factor, and the weights.
#[derive(Debug)]
struct Adapted;

/// `x`, `s x a`, `w`, `a`, `b` and `s`.
type AdaptedState<B> = ([FloatTensor<B>; 5], f64);

impl<B: FusedOps + FusedGradients> Backward<B, 3> for Adapted {
    type State = AdaptedState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([x, narrow, w, a, b], scale) = ops.state;
        let [of_x, of_a, of_b] = ops.parents;
        if let Some(parent) = of_b {
            grads.register::<B>(parent.id, B::fused_product(B::float_transpose(narrow), grad.clone(), false));
        }
        // the gradient of `x a`
        let back =
            B::float_mul_scalar(B::fused_product(grad.clone(), B::float_transpose(b), false), scale.into());
        if let Some(parent) = of_a {
            grads.register::<B>(parent.id, B::fused_product(B::float_transpose(x), back.clone(), false));
        }
        if let Some(parent) = of_x {
            let plain = B::fused_product(grad, B::float_transpose(w), false);
            grads.register::<B>(parent.id, B::add_product(plain, back, B::float_transpose(a)));
        }
    }
}

/// Saves its inputs, its output, and what else the backend needs; no scores.
#[derive(Debug)]
struct Attention;

impl<B: FusedGradients> Backward<B, 3> for Attention {
    type State = (AttentionInputs<B>, FloatTensor<B>, Vec<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        each::<B, _, 3>(ops, grads, |(inputs, output, saved), grad| {
            B::attention_gradients(inputs, output, saved, grad)
        });
    }
}

/// Saves its inputs, its output, and what else the backend needs. Keys and values of prefixes are
/// saved once.
#[derive(Debug)]
struct SharedAttention;

impl<B: FusedOps + FusedGradients> Backward<B, 3> for SharedAttention {
    type State = (SharedInputs<B>, FloatTensor<B>, SavedForBackward<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        each::<B, _, 3>(ops, grads, |(inputs, output, saved), grad| {
            shared::gradients(&inputs, &output, saved, &grad)
        });
    }
}

/// As [`unary`], for several parents: `of` computes the gradients of all, and those that are
/// tracked get theirs.
fn each<B: Backend, S, const N: usize>(
    ops: Ops<S, N>,
    grads: &mut Gradients,
    of: impl FnOnce(S, FloatTensor<B>) -> [FloatTensor<B>; N],
) {
    let grad = grads.consume::<B>(&ops.node);
    for (parent, gradient) in ops.parents.into_iter().zip(of(ops.state, grad)) {
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, gradient);
        }
    }
}

impl<B: FusedOps + FusedGradients, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        let output = B::fused_softmax(scores, mask.into_primitive());
        match Softmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(output.clone(), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn fused_log_softmax(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let output = B::fused_log_softmax(x);
        match LogSoftmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(output.clone(), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn fused_swish(x: FloatTensor<Self>, beta: f64) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Swish.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x.clone(), beta), B::fused_swish(x, beta)),
            OpsKind::UnTracked(prep) => prep.finish(B::fused_swish(x, beta)),
        }
    }

    fn fused_gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match GeluTanh.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x.clone(), B::fused_gelu_tanh(x)),
            OpsKind::UnTracked(prep) => prep.finish(B::fused_gelu_tanh(x)),
        }
    }

    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, of_gate), (up, of_up)) = (gate.into_parts(), up.into_parts());
        match SwiGlu.prepare::<C>([of_gate, of_up]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([gate.clone(), up.clone()], B::fused_swiglu(gate, up)),
            OpsKind::UnTracked(prep) => prep.finish(B::fused_swiglu(gate, up)),
        }
    }

    fn fused_rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let ((x, of_x), (gamma, of_gamma)) = (x.into_parts(), gamma.into_parts());
        match RmsNorm.prepare::<C>([of_x, of_gamma]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((x.clone(), gamma.clone(), epsilon), B::fused_rms_norm(x, gamma, epsilon))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_rms_norm(x, gamma, epsilon)),
        }
    }

    fn fused_rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let [cos, sin, back] = [cos, sin, back].map(|table| table.into_primitive());
        match Rotate.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let tables = [cos.clone(), sin.clone(), back.clone()];
                prep.finish(tables, B::fused_rotate(x, cos, sin, back))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_rotate(x, cos, sin, back)),
        }
    }

    fn fused_product(x: FloatTensor<Self>, w: FloatTensor<Self>, _: bool) -> FloatTensor<Self> {
        // burn's own operation saves what its gradients need
        Self::float_matmul(x, w)
    }

    fn fused_adapted(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (a, of_a), (b, of_b)) = (x.into_parts(), a.into_parts(), b.into_parts());
        let w = w.into_primitive();
        let (output, narrow) = adapted::<B>(x.clone(), w.clone(), a.clone(), b.clone(), scale);
        match Adapted.prepare::<C>([of_x, of_a, of_b]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, narrow, w, a, b], scale), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let ((q, of_q), (k, of_k), (v, of_v)) = (q.into_parts(), k.into_parts(), v.into_parts());
        let mask = mask.into_primitive();
        match Attention.prepare::<C>([of_q, of_k, of_v]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let inputs = AttentionInputs::<B> { q, k, v, mask, causal: false, scale };
                let (output, saved) = B::attention_with_saved(inputs.clone());
                prep.finish((inputs, output.clone(), saved), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_attention(q, k, v, mask, scale)),
        }
    }

    fn fused_shared_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        prefix_mask: FloatTensor<Self>,
        row_mask: FloatTensor<Self>,
        prefix_of_row: IntTensor<Self>,
        layout: PrefixLayout,
    ) -> FloatTensor<Self> {
        let ((q, of_q), (k, of_k), (v, of_v)) = (q.into_parts(), k.into_parts(), v.into_parts());
        let (prefix_mask, row_mask) = (prefix_mask.into_primitive(), row_mask.into_primitive());
        let inputs = SharedInputs::<B> { q, k, v, prefix_mask, row_mask, prefix_of_row, layout };
        let (output, saved) = shared::attention(&inputs);
        match SharedAttention.prepare::<C>([of_q, of_k, of_v]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, output.clone(), saved), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn fused_mask(mask: FloatTensor<Self>, dtype: DType) -> FloatTensor<Self> {
        Self::from_inner(B::fused_mask(mask.into_primitive(), dtype))
    }
}
