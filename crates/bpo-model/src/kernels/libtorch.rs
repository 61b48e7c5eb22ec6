//! The operations on LibTorch, with its own functions where it has them.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::DType;
use tch::{Kind, Tensor};

use super::PrefixLayout;
use super::ops::{AttentionInputs, FusedGradients, FusedOps, adapted};
use super::shared::{self, SharedInputs};

/// LibTorch's name of the approximation of GELU.
const TANH: &str = "tanh";

impl FusedOps for LibTorch {
    fn fused_softmax(scores: TchTensor, mask: TchTensor) -> TchTensor {
        TchTensor::new((scores.tensor + mask.tensor).softmax(-1, Kind::Float))
    }

    fn fused_log_softmax(x: TchTensor) -> TchTensor {
        TchTensor::new(x.tensor.log_softmax(-1, Kind::Float))
    }

    fn fused_swish(x: TchTensor, beta: f64) -> TchTensor {
        TchTensor::new(match beta {
            1.0 => x.tensor.silu(),
            _ => (&x.tensor * beta).sigmoid_() * x.tensor,
        })
    }

    fn fused_gelu_tanh(x: TchTensor) -> TchTensor {
        TchTensor::new(x.tensor.gelu(TANH))
    }

    fn fused_swiglu(gate: TchTensor, up: TchTensor) -> TchTensor {
        TchTensor::new(gate.tensor.silu() * up.tensor)
    }

    fn fused_rms_norm(x: TchTensor, gamma: TchTensor, epsilon: f64) -> TchTensor {
        let (x, gamma) = (x.tensor, gamma.tensor);
        TchTensor::new(if x.device().is_cuda() {
            x.internal_fused_rms_norm(gamma.size(), Some(&gamma), epsilon).0
        } else {
            (wide(&x) * scale(&x, epsilon)).to_kind(x.kind()) * gamma
        })
    }

    fn fused_rotate(x: TchTensor, cos: TchTensor, sin: TchTensor, _: TchTensor) -> TchTensor {
        let x = x.tensor;
        let swapped = x.roll(x.size()[2] / 2, 2);
        TchTensor::new((x * cos.tensor).addcmul_(&swapped, &sin.tensor))
    }

    fn fused_product(x: TchTensor, w: TchTensor, _: bool) -> TchTensor {
        TchTensor::new(x.tensor.matmul(&w.tensor))
    }

    fn fused_adapted(x: TchTensor, w: TchTensor, a: TchTensor, b: TchTensor, scale: f64) -> TchTensor {
        adapted::<LibTorch>(x, w, a, b, scale).0
    }

    fn fused_attention(q: TchTensor, k: TchTensor, v: TchTensor, mask: TchTensor, scale: f64) -> TchTensor {
        Self::attention_with_saved(AttentionInputs { q, k, v, mask, causal: false, scale }).0
    }

    fn fused_shared_attention(
        q: TchTensor,
        k: TchTensor,
        v: TchTensor,
        prefix_mask: TchTensor,
        row_mask: TchTensor,
        prefix_of_row: TchTensor,
        layout: PrefixLayout,
    ) -> TchTensor {
        shared::attention::<LibTorch>(&SharedInputs { q, k, v, prefix_mask, row_mask, prefix_of_row, layout })
            .0
    }

    fn fused_mask(mask: TchTensor, dtype: DType) -> TchTensor {
        match (mask.tensor.device().is_cuda(), dtype) {
            (true, DType::F16) => TchTensor::new(aligned(&mask.tensor, Kind::Half)),
            (true, DType::BF16) => TchTensor::new(aligned(&mask.tensor, Kind::BFloat16)),
            _ => mask,
        }
    }
}

impl FusedGradients for LibTorch {
    fn fused_softmax_gradient(output: TchTensor, grad: TchTensor) -> TchTensor {
        let (output, grad) = (&output.tensor, &grad.tensor);
        TchTensor::new(Tensor::internal_softmax_backward_data(grad, output, -1, Kind::Float))
    }

    fn fused_log_softmax_gradient(output: TchTensor, grad: TchTensor) -> TchTensor {
        let (output, grad) = (&output.tensor, &grad.tensor);
        TchTensor::new(Tensor::internal_log_softmax_backward_data(grad, output, -1, Kind::Float))
    }

    fn fused_swish_gradient(x: TchTensor, grad: TchTensor, beta: f64) -> TchTensor {
        // with z = beta x, x sigmoid(z) is silu(z) / beta
        TchTensor::new((x.tensor * beta).silu_backward(&grad.tensor))
    }

    fn fused_gelu_tanh_gradient(x: TchTensor, grad: TchTensor) -> TchTensor {
        // the gradient is 0 or 1 beyond the bound; LibTorch multiplies 0 by the square of `x`, which is
        // infinite from 2e19
        const BOUND: f64 = 100.0;
        TchTensor::new(x.tensor.clamp(-BOUND, BOUND).gelu_backward(&grad.tensor, TANH))
    }

    fn fused_swiglu_gradients(gate: TchTensor, up: TchTensor, grad: TchTensor) -> [TchTensor; 2] {
        let of_gate = gate.tensor.silu_backward(&(up.tensor * &grad.tensor));
        let of_up = gate.tensor.silu() * grad.tensor;
        [of_gate, of_up].map(TchTensor::new)
    }

    fn fused_rms_norm_gradient(x: TchTensor, gamma: TchTensor, grad: TchTensor, epsilon: f64) -> TchTensor {
        // as many elements as a dot product takes
        if x.tensor.device().is_cuda() && grad.tensor.numel() < i32::MAX as usize {
            return TchTensor::new(norm_gradient(&x.tensor, &gamma.tensor, &grad.tensor, epsilon));
        }
        let (kind, scale) = (x.tensor.kind(), scale(&x.tensor, epsilon));
        let h = wide(&grad.tensor) * gamma.tensor;
        let along = mean(&(&h * &x.tensor)) * &scale * &scale;
        TchTensor::new(((h - x.tensor * along) * scale).to_kind(kind))
    }

    fn add_product(y: TchTensor, x: TchTensor, w: TchTensor) -> TchTensor {
        let mut y = y;
        match y.mut_ops(|y| y.addmm_(&x.tensor, &w.tensor)) {
            Some(sum) => sum,
            None => TchTensor::new(y.tensor.addmm(&x.tensor, &w.tensor)),
        }
    }

    fn attention_with_saved(inputs: AttentionInputs<LibTorch>) -> (TchTensor, Vec<TchTensor>) {
        let AttentionInputs { q, k, v, mask, causal, scale } = inputs;
        let groups = Groups::of(&q.tensor, &k.tensor);
        let causal = causal && groups.shared() == 1;
        let (q, mask) = (groups.fold(&q.tensor), groups.fold_mask(&mask.tensor));
        let (k, v) = (&k.tensor, &v.tensor);
        let (output, sums) = match Kernel::of(&q, &groups) {
            Kernel::Chain => {
                let output = weights(&q, k, &mask, scale).to_kind(v.kind()).matmul(v);
                return (TchTensor::new(groups.unfold(&output)), Vec::new());
            }
            Kernel::Cpu => {
                let mask = Some(&mask);
                Tensor::internal_scaled_dot_product_flash_attention_for_cpu(&q, k, v, 0.0, false, mask, scale)
            }
            Kernel::Cuda => {
                // its causal form takes the first keys, not the last
                let causal = causal && q.size()[2] == k.size()[2];
                let bias = (!causal).then(|| bias(&mask, &q));
                let (output, sums, ..) = Tensor::internal_scaled_dot_product_efficient_attention(
                    &q, k, v, bias, true, 0.0, causal, scale,
                );
                (output, sums)
            }
        };
        (TchTensor::new(groups.unfold(&output)), vec![TchTensor::new(sums)])
    }

    fn attention_gradients(
        inputs: AttentionInputs<LibTorch>,
        output: TchTensor,
        saved: Vec<TchTensor>,
        grad: TchTensor,
    ) -> [TchTensor; 3] {
        let AttentionInputs { q, k, v, mask, causal, scale } = inputs;
        let groups = Groups::of(&q.tensor, &k.tensor);
        let causal = causal && groups.shared() == 1;
        let (folded, mask) = (groups.fold(&q.tensor), groups.fold_mask(&mask.tensor));
        let [grad, output] = [grad, output].map(|x| groups.fold(&x.tensor.transpose(1, 2)));
        let (k, v) = (&k.tensor, &v.tensor);
        let (of_q, of_k, of_v) = match (&saved[..], Kernel::of(&folded, &groups)) {
            ([sums], Kernel::Cpu) => Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
                &grad,
                &folded,
                k,
                v,
                &output,
                &sums.tensor,
                0.0,
                false,
                Some(&mask),
                scale,
            ),
            ([sums], _) => {
                let inputs = [&folded, k, v, &output, &grad];
                let flash = causal.then(|| flash_gradients(inputs, &sums.tensor, scale)).flatten();
                flash.unwrap_or_else(|| cuda_gradients(inputs, &sums.tensor, &mask, scale))
            }
            _ => {
                let weights = weights(&folded, k, &mask, scale);
                let slopes = wide(&grad.matmul(&v.transpose(-2, -1)));
                let slopes =
                    Tensor::internal_softmax_backward_data(&slopes, &weights, -1, Kind::Float) * scale;
                let (slopes, weights) = (slopes.to_kind(k.kind()), weights.to_kind(k.kind()));
                let of_k = slopes.transpose(-2, -1).matmul(&folded);
                (slopes.matmul(k), of_k, weights.transpose(-2, -1).matmul(&grad))
            }
        };
        [of_q.reshape(q.tensor.size()), of_k, of_v].map(TchTensor::new)
    }
}

/// Whether a tensor is on a GPU of LibTorch, with or without autodiff.
pub(super) fn is_on_gpu<const D: usize>(x: &burn::tensor::Tensor<D>) -> bool {
    x.clone().inner().try_into_primitive::<LibTorch>().is_ok_and(|x| x.tensor.device().is_cuda())
}

/// The form in which attention is computed.
enum Kernel {
    /// Operations on all scores.
    Chain,
    /// LibTorch's flash attention for the CPU.
    Cpu,
    /// Memory-efficient attention for half precision on a GPU; its backward pass is flash attention
    /// where the mask allows. In f32 it rounds more than the chain does.
    Cuda,
}

impl Kernel {
    /// The form for folded queries `[rows, kv heads, tokens, width]`.
    fn of(q: &Tensor, groups: &Groups) -> Self {
        let aligned = q.size().last().is_some_and(|width| width % 8 == 0);
        match q.device() {
            tch::Device::Cpu => Self::Cpu,
            // for a single token two products are faster
            tch::Device::Cuda(_) if q.kind() != Kind::Float && aligned && groups.tokens > 1 => Self::Cuda,
            _ => Self::Chain,
        }
    }
}

/// The alignment of mask rows for the kernel on GPUs.
const ALIGNED: i64 = 16;

/// Converts a mask to the form of the kernel on GPUs, in the type of the queries.
fn aligned(mask: &Tensor, kind: Kind) -> Tensor {
    // the lowest of f16 is -65504
    const LOWEST: f64 = -6e4;
    let keys = mask.size()[3];
    let padding = (ALIGNED - keys % ALIGNED) % ALIGNED;
    mask.clamp_min(LOWEST).to_kind(kind).constant_pad_nd([0, padding]).narrow(3, 0, keys)
}

/// Expands a mask to each head and token of the queries.
fn bias(mask: &Tensor, q: &Tensor) -> Tensor {
    let shape = q.size();
    let ready = mask.kind() == q.kind() && mask.stride()[2] % ALIGNED == 0;
    let mask = if ready { mask.shallow_clone() } else { aligned(mask, q.kind()) };
    mask.expand([shape[0], shape[1], shape[2], mask.size()[3]], false)
}

/// Computes the gradients of queries, keys and values with flash attention, which does not read the
/// keys that a causal mask hides. Returns `None` where that fails, as on GPUs without flash
/// attention in LibTorch.
fn flash_gradients(inputs: [&Tensor; 5], sums: &Tensor, scale: f64) -> Option<(Tensor, Tensor, Tensor)> {
    let [q, k, v, output, grad] = inputs.map(|x| x.transpose(1, 2));
    let (tokens, keys) = (q.size()[1], k.size()[1]);
    let (unused, none) = (Tensor::from(0_i64), Tensor::new());
    let sums = sums.narrow(2, 0, tokens).contiguous();
    let gradients = Tensor::f_internal_flash_attention_backward(
        &grad, &q, &k, &v, &output, &sums, &none, &none, tokens, keys, 0.0, true, &unused, &unused, scale,
        None, None,
    );
    let (of_q, of_k, of_v) = gradients.ok()?;
    Some((of_q.transpose(1, 2), of_k.transpose(1, 2), of_v.transpose(1, 2)))
}

/// Computes the gradients for any mask.
fn cuda_gradients(
    inputs: [&Tensor; 5],
    sums: &Tensor,
    mask: &Tensor,
    scale: f64,
) -> (Tensor, Tensor, Tensor) {
    let (bias, unused) = (bias(mask, inputs[0]), Tensor::from(0_i64));
    let [q, k, v, output, grad] = inputs.map(|x| x.transpose(1, 2));
    let (tokens, keys) = (q.size()[1], k.size()[1]);
    // the kernel ignores its strides
    let output = output.contiguous();
    let (of_q, of_k, of_v, _) = Tensor::internal_efficient_attention_backward(
        &grad,
        &q,
        &k,
        &v,
        Some(&bias),
        &output,
        None,
        None,
        tokens,
        keys,
        sums,
        0.0,
        &unused,
        &unused,
        0,
        false,
        scale,
        None,
        None,
        false,
    );
    let [of_q, of_k, of_v] = [of_q, of_k, of_v].map(|of| of.transpose(1, 2));
    (of_q, of_k, of_v)
}

/// Computes `softmax(scale q k^T + mask)` in f32.
fn weights(q: &Tensor, k: &Tensor, mask: &Tensor, scale: f64) -> Tensor {
    (wide(&q.matmul(&k.transpose(-2, -1))) * scale + mask).softmax(-1, Kind::Float)
}

/// The query heads of each key-value head, which are folded into the tokens of one head.
struct Groups {
    kv_heads: i64,
    heads: i64,
    tokens: i64,
}

impl Groups {
    fn of(q: &Tensor, k: &Tensor) -> Self {
        Self { kv_heads: k.size()[1], heads: q.size()[1], tokens: q.size()[2] }
    }

    fn shared(&self) -> i64 {
        self.heads / self.kv_heads
    }

    /// Folds `[rows, heads, tokens, width]` to `[rows, kv heads, shared * tokens, width]`.
    fn fold(&self, x: &Tensor) -> Tensor {
        match self.shared() {
            1 => x.shallow_clone(),
            shared => x.reshape([-1, self.kv_heads, shared * self.tokens, x.size()[3]]),
        }
    }

    fn fold_mask(&self, mask: &Tensor) -> Tensor {
        match self.shared() {
            1 => mask.shallow_clone(),
            _ if mask.size()[2] == 1 => mask.shallow_clone(),
            shared => mask.repeat([1, 1, shared, 1]),
        }
    }

    /// Unfolds to `[rows, tokens, heads, width]`.
    fn unfold(&self, x: &Tensor) -> Tensor {
        let width = x.size()[3];
        x.reshape([-1, self.heads, self.tokens, width]).transpose(1, 2)
    }
}

/// Computes the gradient of `x` with LibTorch's own backward pass, which is reachable through its
/// autograd only: the dot product of output and `grad` has `grad` as the gradient of the output.
fn norm_gradient(x: &Tensor, gamma: &Tensor, grad: &Tensor, epsilon: f64) -> Tensor {
    let x = x.detach().set_requires_grad(true);
    tch::with_grad(|| {
        let (output, _) = x.internal_fused_rms_norm(gamma.size(), Some(gamma), epsilon);
        let product = output.reshape([-1]).dot(&grad.reshape([-1]));
        Tensor::run_backward(&[product], &[&x], false, false).remove(0)
    })
}

/// Computes `1 / sqrt(mean(x^2) + epsilon)`, `[.., 1]`, in f32.
fn scale(x: &Tensor, epsilon: f64) -> Tensor {
    (mean(&wide(x).square()) + epsilon).rsqrt()
}

/// Converts to f32.
fn wide(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float)
}

/// The mean over the last dimension, which is kept.
fn mean(x: &Tensor) -> Tensor {
    x.mean_dim(-1, true, Kind::Float)
}
