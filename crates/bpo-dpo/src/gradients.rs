//! The norm of gradients, and clipping by it.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

use crate::error::DpoError;
use crate::loss::{widen, without_tape};
use crate::tensors::{concat, flat, runs};

/// Clips the gradients by their global norm, as `torch.nn.utils.clip_grad_norm_` does.
///
/// ```text
/// g <- g * min(1, max_norm / (norm + 1e-6)),  norm = sqrt(sum over all parameters of |g|^2)
/// ```
///
/// burn clips each tensor separately, which changes the direction of the step. Gradients whose norm
/// is not finite are not changed. If `max_norm` is 0, no gradient is changed.
///
/// Returns the gradients and their norm before clipping.
///
/// # Errors
/// Returns [`DpoError::Device`] if the norm cannot be read from the device.
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

/// Returns the Euclidean norm of all gradients together.
///
/// # Errors
/// Returns [`DpoError::Device`] if the norm cannot be read from the device.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> Result<f64, DpoError> {
    let mut flat = Flat { gradients, all: Vec::new() };
    module.visit(&mut flat);
    let Some(device) = flat.all.first().map(Tensor::device) else { return Ok(0.0) };
    // the sums are moved to one device and read at once, because a read for each parameter is slow
    let runs = runs(flat.all, |gradient| ((gradient.device(), gradient.dtype()), gradient.dims()[0]));
    let sums = runs.into_iter().map(|run| widen(concat(run)).square().sum().to_device(&device)).collect();
    let sums = read(Tensor::cat(sums, 0), "the norm of the gradient")?;
    Ok(sums.into_iter().sum::<f64>().sqrt())
}

/// Returns the values of a tensor in f64, read from its device.
pub(crate) fn read(tensor: Tensor<1>, what: &'static str) -> Result<Vec<f64>, DpoError> {
    let data = without_tape(tensor).try_into_data_dtype(DType::F64).map_err(DpoError::device(what))?;
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
