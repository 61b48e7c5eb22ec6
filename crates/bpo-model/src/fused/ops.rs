//! The operations as backends have them, and how gradients flow back through them.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

/// What the functions of the same names in the [module](super) compute.
#[backend_extension(Flex: cfg(feature = "flex"), LibTorch: cfg(feature = "tch"), Autodiff)]
pub(super) trait FusedOps: Backend {
    /// `[rows, heads, tokens, keys]` and `[rows, 1, tokens, keys]`, or one row and token for all
    fn fused_softmax(scores: FloatTensor<Self>, mask: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[rows, width]`
    fn fused_log_softmax(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[..]`
    fn fused_swish(x: FloatTensor<Self>, beta: f64) -> FloatTensor<Self>;
    /// `[.., width]` both
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[.., width]` and `[width]`
    fn fused_rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    /// `[rows, heads, tokens, width]`, and twice `[rows, 1, tokens, width]`; `back` turns by the opposite angle.
    fn fused_rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self>;
}

/// Gradients of inputs, from what the forward pass kept and the gradient of its output.
pub(super) trait FusedGradients: Backend {
    fn fused_softmax_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
    fn fused_log_softmax_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
    fn fused_swish_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>, beta: f64) -> FloatTensor<Self>;
    /// Those of the gate and of the other input.
    fn fused_swiglu_gradients(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];
    /// That of `x`; see [`gamma_gradient`] for the other.
    fn fused_rms_norm_gradient(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

/// Keeps its output, which the product behind it keeps as well.
#[derive(Debug)]
struct Softmax;

impl<B: FusedGradients> Backward<B, 1> for Softmax {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_softmax_gradient(ops.state, grad));
    }
}

/// Keeps its output.
#[derive(Debug)]
struct LogSoftmax;

impl<B: FusedGradients> Backward<B, 1> for LogSoftmax {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_log_softmax_gradient(ops.state, grad));
    }
}

/// Keeps its input.
#[derive(Debug)]
struct Swish;

impl<B: FusedGradients> Backward<B, 1> for Swish {
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, beta) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_swish_gradient(x, grad, beta));
    }
}

/// Keeps its inputs.
#[derive(Debug)]
struct SwiGlu;

impl<B: FusedGradients> Backward<B, 2> for SwiGlu {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [gate, up] = ops.state;
        let gradients = B::fused_swiglu_gradients(gate, up, grad);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Keeps its inputs.
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

/// The sum over all rows of the gradient times the norm without its weight. `[width]`
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

/// Keeps the tables.
#[derive(Debug)]
struct Rotate;

impl<B: FusedOps> Backward<B, 1> for Rotate {
    type State = ([FloatTensor<B>; 2], bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([cos, sin], back) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::fused_rotate(grad, cos, sin, !back));
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
        back: bool,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        match Rotate.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(([cos.clone(), sin.clone()], back), B::fused_rotate(x, cos, sin, back))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_rotate(x, cos, sin, back)),
        }
    }
}
