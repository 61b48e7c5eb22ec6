//! Devices and data types of burn.

use bpo_pairs::catch_panic;
use burn::tensor::{Device, FloatDType, Tensor};

use super::{DeviceSpec, Devices, Dtype};
use crate::error::BpoError;

impl DeviceSpec {
    /// Starts the device and computes a small tensor on it, so that a missing driver is an error
    /// now and not during a run.
    ///
    /// Backends panic if they cannot start. Such a panic is returned as an error; the panic hook of
    /// the process still prints it.
    ///
    /// # Errors
    /// Returns [`BpoError::DeviceNotBuilt`] or [`BpoError::DeviceUnavailable`].
    pub fn open(self) -> Result<Device, BpoError> {
        let unavailable = |reason| BpoError::DeviceUnavailable { device: self, reason };
        let started = catch_panic(|| {
            let Some(device) = self.device() else { return Ok(None) };
            let two = Tensor::<1>::from_floats([1.0], &device).add_scalar(1.0);
            two.try_into_data().map(|_| Some(device)).map_err(|error| unavailable(error.to_string()))
        });
        match started {
            Ok(device) => {
                device?.ok_or_else(|| BpoError::DeviceNotBuilt { device: self, feature: self.feature() })
            }
            Err(panic) => Err(unavailable(panic)),
        }
    }

    /// Returns the device without starting it, or `None` if its backend is not built in.
    // burn 0.22 deprecates its LibTorch backend, although no other CPU backend is as fast yet.
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

impl Devices {
    /// Opens all devices, and returns the first and the others.
    ///
    /// # Errors
    /// Returns the first error of [`DeviceSpec::open`].
    pub fn open(&self) -> Result<(Device, Vec<Device>), BpoError> {
        let first = self.first.open()?;
        Ok((first, self.further.iter().map(|device| device.open()).collect::<Result<_, _>>()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "cuda-nvrtc")))]
    fn unavailable_device_error_names_its_feature() {
        let error = DeviceSpec::Cuda(0).open().unwrap_err();
        assert_eq!(error.to_string(), "device cuda:0 needs a program built with `--features cuda`");
    }

    #[test]
    #[cfg(feature = "flex")]
    fn flex_opens() {
        assert_eq!(DeviceSpec::Flex.open().unwrap(), Device::flex());
    }
}
