//! Options for loading.

use burn::tensor::FloatDType;

/// Options for loading a checkpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Type of weights and activations. Norms, softmax and log-probabilities are always computed in
    /// f32.
    pub dtype: FloatDType,
}

impl Default for LoadOptions {
    /// The default type is f32.
    fn default() -> Self {
        Self { dtype: FloatDType::F32 }
    }
}

impl LoadOptions {
    /// Sets the type of weights and activations.
    pub fn with_dtype(mut self, dtype: FloatDType) -> Self {
        self.dtype = dtype;
        self
    }
}
