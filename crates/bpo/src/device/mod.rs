//! Names of devices and data types.

#[cfg(feature = "model")]
mod open;

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::BpoError;

/// Device on which tensors are computed. Its names are `flex`, `libtorch`, `libtorch:cuda:1`,
/// `cuda`, `cuda:1` and `wgpu`.
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
    /// burn's CUDA backend.
    Cuda(usize),
    /// The default GPU of wgpu.
    Wgpu,
}

impl DeviceSpec {
    /// Returns the feature of this crate that provides the device.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::LibTorch | Self::LibTorchCuda(_) => "tch",
            Self::Cuda(_) => "cuda",
            Self::Wgpu => "wgpu",
        }
    }
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

/// One or several devices: `cuda:0,cuda:1`, or a list of names in a settings file. The same device may
/// occur several times.
///
/// The model is loaded to the first device and copied to the others. Generation and scoring spread
/// samples over all of them. Training spreads the pairs of each step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct Devices {
    /// The device that the model is loaded to.
    pub first: DeviceSpec,
    /// The other devices.
    pub further: Vec<DeviceSpec>,
}

impl Devices {
    /// Returns the device if it is the only one.
    ///
    /// # Errors
    /// Returns [`BpoError::SeveralDevices`] if there are several.
    pub fn single(&self) -> Result<DeviceSpec, BpoError> {
        if self.further.is_empty() {
            Ok(self.first)
        } else {
            Err(BpoError::SeveralDevices { devices: self.clone() })
        }
    }
}

impl From<DeviceSpec> for Devices {
    fn from(first: DeviceSpec) -> Self {
        Self { first, further: Vec::new() }
    }
}

impl FromStr for Devices {
    type Err = BpoError;

    fn from_str(text: &str) -> Result<Self, BpoError> {
        let mut devices = text.split(',').map(|device| device.trim().parse());
        let first = devices.next().unwrap_or_else(|| text.parse())?;
        Ok(Self { first, further: devices.collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.further.iter().try_for_each(|device| write!(f, ",{device}"))
    }
}

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DevicesVisitor)
    }
}

struct DevicesVisitor;

impl<'de> Visitor<'de> for DevicesVisitor {
    type Value = Devices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a device, or a list of names")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Devices, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Devices, A::Error> {
        let first = names.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let mut further = Vec::new();
        while let Some(device) = names.next_element()? {
            further.push(device);
        }
        Ok(Devices { first, further })
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> Self {
        devices.to_string()
    }
}

/// Data type of weights and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit floating point with 8 exponent bits.
    Bf16,
    /// 16-bit floating point with 5 exponent bits.
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
    fn device_names_round_trip() {
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
    fn lists_of_devices_round_trip() {
        for (text, expected) in
            [("flex", "flex"), ("cuda,cuda:1", "cuda:0,cuda:1"), ("flex, libtorch", "flex,libtorch")]
        {
            let devices: Devices = text.parse().unwrap();
            assert_eq!(devices.to_string(), expected);
            assert_eq!(devices.single().is_ok(), text == "flex");
        }
        let read =
            |toml: &str| toml::from_str::<toml::Table>(toml).unwrap()["device"].clone().try_into::<Devices>();
        for text in ["device = \"flex,cuda:1\"", "device = [\"flex\", \"cuda:1\"]"] {
            let devices = read(text).unwrap();
            assert_eq!(devices.to_string(), "flex,cuda:1");
            assert_eq!(serde_json::to_value(devices).unwrap(), "flex,cuda:1");
        }
        for (text, part) in [
            ("device = []", "a list of names"),
            ("device = 1", "a list of names"),
            ("device = [\"cpu\"]", "\"cpu\""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for text in ["", "flex,", ",flex", "flex;flex", "cuda:0,1"] {
            assert!(matches!(text.parse::<Devices>(), Err(BpoError::UnknownDevice { .. })), "{text}");
        }
    }
}
