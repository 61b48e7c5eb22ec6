//! Devices by name.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::BpoError;

/// Where tensors are computed, as users name it: `flex`, `libtorch`, `libtorch:cuda:1`, `cuda`, `cuda:1`, `wgpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum DeviceSpec {
    /// burn's pure-Rust CPU backend.
    #[default]
    Flex,
    /// LibTorch on the CPU.
    LibTorch,
    /// LibTorch on a CUDA device.
    LibTorchCuda(usize),
    /// burn's own CUDA backend.
    Cuda(usize),
    /// The GPU that wgpu prefers.
    Wgpu,
}

impl DeviceSpec {
    /// The feature of this crate that has the device.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::LibTorch | Self::LibTorchCuda(_) => "tch",
            Self::Cuda(_) => "cuda",
            Self::Wgpu => "wgpu",
        }
    }

    /// Starts the device and computes something on it, so that a missing driver shows now and not in the middle of a run.
    ///
    /// Backends panic when they cannot start; such a panic becomes an error here. What the process's panic hook prints is
    /// not touched.
    ///
    /// # Errors
    /// [`BpoError::DeviceNotBuilt`] or [`BpoError::DeviceUnavailable`].
    pub fn open(self) -> Result<Device, BpoError> {
        let unavailable = |reason| BpoError::DeviceUnavailable { device: self, reason };
        let started = catch_unwind(AssertUnwindSafe(|| {
            let Some(device) = self.device() else { return Ok(None) };
            let two = Tensor::<1>::from_floats([1.0], &device).add_scalar(1.0);
            two.try_into_data().map(|_| Some(device)).map_err(|error| unavailable(error.to_string()))
        }));
        match started {
            Ok(device) => {
                device?.ok_or_else(|| BpoError::DeviceNotBuilt { device: self, feature: self.feature() })
            }
            Err(panic) => Err(unavailable(message(panic.as_ref()))),
        }
    }

    /// The device, or `None` where its backend is not built in. Nothing is started.
    // burn 0.22 deprecates its LibTorch backend before another of its CPU backends is as fast; it is offered while it is there.
    #[allow(deprecated)]
    fn device(self) -> Option<Device> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Some(Device::flex()),
            #[cfg(feature = "tch")]
            Self::LibTorch => Some(Device::libtorch()),
            #[cfg(feature = "tch")]
            Self::LibTorchCuda(index) => Some(Device::libtorch_cuda(index)),
            #[cfg(any(feature = "cuda", feature = "cuda-nvrtc"))]
            Self::Cuda(index) => Some(Device::cuda(index)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

/// What a panic says.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("its backend panicked").trim().to_owned()
}

impl FromStr for DeviceSpec {
    type Err = BpoError;

    fn from_str(text: &str) -> Result<Self, BpoError> {
        let unknown = || BpoError::UnknownDevice { found: text.to_owned() };
        let index = |digits: &str| digits.parse().map_err(|_| unknown());
        match text.split_once(':') {
            None => match text {
                "flex" => Ok(Self::Flex),
                "libtorch" => Ok(Self::LibTorch),
                "cuda" => Ok(Self::Cuda(0)),
                "wgpu" => Ok(Self::Wgpu),
                _ => Err(unknown()),
            },
            Some(("cuda", digits)) => Ok(Self::Cuda(index(digits)?)),
            Some(("libtorch", "cuda")) => Ok(Self::LibTorchCuda(0)),
            Some(("libtorch", cuda)) => {
                Ok(Self::LibTorchCuda(index(cuda.strip_prefix("cuda:").ok_or_else(unknown)?)?))
            }
            Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::LibTorch => f.write_str("libtorch"),
            Self::LibTorchCuda(index) => write!(f, "libtorch:cuda:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = BpoError;

    fn try_from(text: String) -> Result<Self, BpoError> {
        text.parse()
    }
}

impl From<DeviceSpec> for String {
    fn from(device: DeviceSpec) -> Self {
        device.to_string()
    }
}

/// Type of weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 8 of them exponent.
    Bf16,
    /// 16 bits, 5 of them exponent.
    F16,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl From<Dtype> for FloatDType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::BF16,
            Dtype::F16 => Self::F16,
        }
    }
}

impl FromStr for Dtype {
    type Err = BpoError;

    fn from_str(text: &str) -> Result<Self, BpoError> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(BpoError::UnknownDtype { found: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for name in ["flex", "libtorch", "libtorch:cuda:1", "cuda:0", "cuda:3", "wgpu"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceSpec>().unwrap(), DeviceSpec::Cuda(0));
        assert_eq!("libtorch:cuda".parse::<DeviceSpec>().unwrap(), DeviceSpec::LibTorchCuda(0));
        for name in ["", "cpu", "cuda:", "cuda:x", "libtorch:1", "libtorch:cuda:", "flex:0"] {
            let error = name.parse::<DeviceSpec>().unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    #[cfg(not(feature = "wgpu"))]
    fn a_device_that_is_not_built_in_names_its_feature() {
        let error = DeviceSpec::Wgpu.open().unwrap_err();
        assert_eq!(error.to_string(), "device wgpu needs a program built with `--features wgpu`");
    }

    #[test]
    #[cfg(feature = "flex")]
    fn flex_opens() {
        assert_eq!(DeviceSpec::Flex.open().unwrap(), Device::flex());
    }
}
