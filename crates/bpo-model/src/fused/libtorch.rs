//! On LibTorch, by its own functions where it has them.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use super::ops::{FusedGradients, FusedOps};

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
