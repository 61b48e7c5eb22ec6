//! The norm of a gradient, and its limit.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

use crate::error::DpoError;
use crate::loss::{off_tape, widen};
use crate::tensors::{flat, joined, runs};

/// Limits the norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` does.
///
/// ```text
/// g <- g * min(1, max_norm / (norm + 1e-6)),  norm = sqrt(sum over all parameters of |g|^2)
/// ```
///
/// burn clips each tensor on its own, which changes the direction of the step. Gradients that are
/// not finite stay as they are, and so do all if `max_norm` is 0.
///
/// Returns the gradients and their norm before clipping.
///
/// # Errors
/// [`DpoError::Device`] if the norm cannot be read.
pub fn clip_global_norm<M: Module>(
    module: &M,
    gradients: GradientsParams,
    max_norm: f64,
) -> Result<(GradientsParams, f64), DpoError> {
    let norm = global_norm(module, &gradients)?;
    let factor = max_norm / (norm + 1e-6);
    if max_norm == 0.0 || !norm.is_finite() || factor >= 1.0 {
        return Ok((gradients, norm));
    }
    Ok((scale(module, gradients, factor), norm))
}

/// Multiplies all gradients by a number.
pub(crate) fn scale<M: Module>(module: &M, gradients: GradientsParams, factor: f64) -> GradientsParams {
    let mut scaler = Scaler { gradients, factor };
    module.visit(&mut scaler);
    scaler.gradients
}

/// Euclidean norm of all gradients together.
///
/// # Errors
/// [`DpoError::Device`] if it cannot be read.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Result<f64, DpoError> {
    let mut flat = Flat { gradients, all: Vec::new() };
    module.visit(&mut flat);
    let Some(device) = flat.all.first().map(Tensor::device) else { return Ok(0.0) };
    // gradients may be on several devices: one read from one of them, not one for each parameter
    let runs = runs(flat.all, |gradient| ((gradient.device(), gradient.dtype()), gradient.dims()[0]));
    let sums = runs.into_iter().map(|run| widen(joined(run)).square().sum().to_device(&device)).collect();
    let sums = read(Tensor::cat(sums, 0), "the norm of the gradient")?;
    Ok(sums.into_iter().sum::<f64>().sqrt())
}

/// The values of a tensor, in f64. Takes it off the tape.
pub(crate) fn read(tensor: Tensor<1>, what: &'static str) -> Result<Vec<f64>, DpoError> {
    let data = off_tape(tensor).try_into_data_dtype(DType::F64).map_err(DpoError::device(what))?;
    data.try_into_vec::<f64>().map_err(DpoError::device(what))
}

struct Flat<'a> {
    gradients: &'a GradientsParams,
    all: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flat<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.all.extend(self.gradients.get::<D>(param.id).map(flat));
    }
}

struct Scaler {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scaler {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}
