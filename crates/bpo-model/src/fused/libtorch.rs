//! On LibTorch, by its own functions where it has them.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use super::ops::{Attended, FusedGradients, FusedOps, adapted};

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

    fn fused_swiglu(gate: TchTensor, up: TchTensor) -> TchTensor {
        TchTensor::new(gate.tensor.silu() * up.tensor)
    }

    fn fused_rms_norm(x: TchTensor, gamma: TchTensor, epsilon: f64) -> TchTensor {
        let scale = scale(&x.tensor, epsilon);
        TchTensor::new(x.tensor * scale * gamma.tensor)
    }

    fn fused_rotate(x: TchTensor, cos: TchTensor, sin: TchTensor, back: bool) -> TchTensor {
        let [first, second] = halves(&x.tensor);
        let ([cos, _], [sin, _]) = (halves(&cos.tensor), halves(&sin.tensor));
        let sin = if back { -sin } else { sin };
        let low = (&first * &cos).addcmul_(&second, &-&sin);
        let high = (second * cos).addcmul_(&first, &sin);
        TchTensor::new(Tensor::cat(&[low, high], -1))
    }

    fn fused_product(x: TchTensor, w: TchTensor) -> TchTensor {
        TchTensor::new(x.tensor.matmul(&w.tensor))
    }

    fn fused_adapted(x: TchTensor, w: TchTensor, a: TchTensor, b: TchTensor, scale: f64) -> TchTensor {
        adapted::<LibTorch>(x, w, a, b, scale).0
    }

    fn fused_attention(q: TchTensor, k: TchTensor, v: TchTensor, mask: TchTensor, scale: f64) -> TchTensor {
        Self::attention_and_kept(Attended { q, k, v, mask, scale }).0
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

    fn fused_swiglu_gradients(gate: TchTensor, up: TchTensor, grad: TchTensor) -> [TchTensor; 2] {
        let of_gate = gate.tensor.silu_backward(&(up.tensor * &grad.tensor));
        let of_up = gate.tensor.silu() * grad.tensor;
        [of_gate, of_up].map(TchTensor::new)
    }

    fn fused_rms_norm_gradient(x: TchTensor, gamma: TchTensor, grad: TchTensor, epsilon: f64) -> TchTensor {
        let scale = scale(&x.tensor, epsilon);
        let h = grad.tensor * gamma.tensor;
        let along = mean(&(&h * &x.tensor)) * &scale * &scale;
        TchTensor::new((h - x.tensor * along) * scale)
    }

    fn add_product(y: TchTensor, x: TchTensor, w: TchTensor) -> TchTensor {
        let mut y = y;
        match y.mut_ops(|y| y.addmm_(&x.tensor, &w.tensor)) {
            Some(sum) => sum,
            None => TchTensor::new(y.tensor.addmm(&x.tensor, &w.tensor)),
        }
    }

    fn attention_and_kept(inputs: Attended<LibTorch>) -> (TchTensor, Vec<TchTensor>) {
        let Attended { q, k, v, mask, scale } = inputs;
        let groups = Groups::of(&q.tensor, &k.tensor);
        let (q, mask) = (groups.fold(&q.tensor), groups.fold_mask(&mask.tensor));
        let (k, v) = (&k.tensor, &v.tensor);
        if q.device() != tch::Device::Cpu {
            let weights = weights(&q, k, &mask, scale);
            return (TchTensor::new(groups.unfold(&weights.matmul(v))), Vec::new());
        }
        let (output, sums) = Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            &q,
            k,
            v,
            0.0,
            false,
            Some(&mask),
            scale,
        );
        let kept = [output, sums].map(TchTensor::new);
        // may be the same memory
        let output = TchTensor::from_existing(groups.unfold(&kept[0].tensor), kept[0].storage.clone());
        (output, kept.into())
    }

    fn attention_gradients(
        inputs: Attended<LibTorch>,
        kept: Vec<TchTensor>,
        grad: TchTensor,
    ) -> [TchTensor; 3] {
        let Attended { q, k, v, mask, scale } = inputs;
        let groups = Groups::of(&q.tensor, &k.tensor);
        let (folded, mask) = (groups.fold(&q.tensor), groups.fold_mask(&mask.tensor));
        let (k, v, grad) = (&k.tensor, &v.tensor, groups.fold(&grad.tensor.transpose(1, 2)));
        let (of_q, of_k, of_v) = match &kept[..] {
            [output, sums] => Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
                &grad,
                &folded,
                k,
                v,
                &output.tensor,
                &sums.tensor,
                0.0,
                false,
                Some(&mask),
                scale,
            ),
            _ => {
                let weights = weights(&folded, k, &mask, scale);
                let slopes = grad.matmul(&v.transpose(-2, -1));
                let slopes =
                    Tensor::internal_softmax_backward_data(&slopes, &weights, -1, Kind::Float) * scale;
                let of_k = slopes.transpose(-2, -1).matmul(&folded);
                (slopes.matmul(k), of_k, weights.transpose(-2, -1).matmul(&grad))
            }
        };
        [of_q.reshape(q.tensor.size()), of_k, of_v].map(TchTensor::new)
    }
}

/// `softmax(scale q k^T + mask)`
fn weights(q: &Tensor, k: &Tensor, mask: &Tensor, scale: f64) -> Tensor {
    (q.matmul(&k.transpose(-2, -1)) * scale + mask).softmax(-1, Kind::Float)
}

/// Heads of queries that share a head of keys and values: they are folded into tokens of one head.
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

    /// `[rows, heads, tokens, width]` to `[rows, kv heads, shared * tokens, width]`
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

    /// Back, to `[rows, tokens, heads, width]`.
    fn unfold(&self, x: &Tensor) -> Tensor {
        let width = x.size()[3];
        x.reshape([-1, self.heads, self.tokens, width]).transpose(1, 2)
    }
}

/// `1 / sqrt(mean(x^2) + epsilon)`, `[.., 1]`
fn scale(x: &Tensor, epsilon: f64) -> Tensor {
    (mean(&x.square()) + epsilon).rsqrt()
}

/// Over the last dimension, which stays.
fn mean(x: &Tensor) -> Tensor {
    x.mean_dim(-1, true, Kind::Float)
}

/// Of the last dimension.
fn halves(x: &Tensor) -> [Tensor; 2] {
    let half = x.size().last().copied().unwrap_or(0) / 2;
    [x.narrow(-1, 0, half), x.narrow(-1, half, half)]
}
