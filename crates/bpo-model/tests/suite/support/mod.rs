//! The golden directory and the device that tests run on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo_distort::diffusion::Coefficients;
use bpo_model::{ImageInput, LlavaConfig, PixelValues, Processor, Vlm, VlmConfig};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::Value;

/// Reference values of one checkpoint; `BPO_GOLDEN` names another of the same layout.
pub struct Golden {
    root: PathBuf,
    bytes: Vec<u8>,
    report: Value,
}

pub fn root() -> PathBuf {
    std::env::var_os("BPO_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Golden {
    pub fn open() -> Self {
        let root = root();
        let bytes = std::fs::read(root.join("transformers/golden.safetensors")).unwrap();
        let report = read_json(&root.join("transformers/golden.json"));
        Self { root, bytes, report }
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("tiny-llava")
    }

    pub fn prompts(&self) -> usize {
        self.report["prompts"].as_array().unwrap().len()
    }

    pub fn result(&self, condition: &str, i: usize, key: &str) -> f64 {
        self.report["results"][condition][i][key].as_f64().unwrap()
    }

    /// What torch mixed image and noise with.
    pub fn coefficients(&self, step: u16) -> Coefficients {
        let recorded = &self.report["noise_coefficients"][step.to_string()];
        Coefficients {
            image: recorded["image"].as_f64().unwrap(),
            noise: recorded["noise"].as_f64().unwrap(),
        }
    }

    pub fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        tensor_floats(&self.bytes, name)
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        tensor_ints(&self.bytes, name).0.into_iter().map(|id| id as u32).collect()
    }
}

pub fn tensor_floats(bytes: &[u8], name: &str) -> (Vec<f32>, Vec<usize>) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (values.collect(), tensor.shape().to_vec())
}

pub fn tensor_ints(bytes: &[u8], name: &str) -> (Vec<i64>, Vec<usize>) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
    (values.collect(), tensor.shape().to_vec())
}

/// flex, or what `BPO_TEST_DEVICE` names.
pub fn device() -> Device {
    match std::env::var("BPO_TEST_DEVICE").as_deref() {
        Err(_) | Ok("flex") => Device::flex(),
        #[cfg(feature = "test-libtorch")]
        #[allow(deprecated)] // burn prefers its own backends; this one is for comparison
        Ok("libtorch") => Device::libtorch(),
        #[cfg(feature = "test-libtorch")]
        #[allow(deprecated)]
        Ok(name) if name.starts_with("libtorch:cuda") => Device::libtorch_cuda(index(name, "libtorch:cuda:")),
        #[cfg(feature = "test-cuda")]
        Ok(name) if name.starts_with("cuda") => Device::cuda(index(name, "cuda:")),
        #[cfg(feature = "test-wgpu")]
        Ok("wgpu") => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        Ok(other) => panic!("the tests are not built for {other}"),
    }
}

/// The number behind a name of devices, 0 without.
#[cfg(any(feature = "test-libtorch", feature = "test-cuda"))]
fn index(name: &str, devices: &str) -> usize {
    name.strip_prefix(devices).map_or(0, |index| index.parse().unwrap())
}

/// The configuration of a LLaVA model.
pub fn llava(model: &Vlm) -> &LlavaConfig {
    let VlmConfig::Llava(config) = model.config() else { panic!("another family") };
    config
}

/// An image whose pixels are normalized.
pub fn input(model: &Vlm, pixels: &PixelValues) -> ImageInput {
    llava(model).input(pixels.clone())
}

/// The processor of a checkpoint.
pub fn processor(dir: &Path) -> Processor {
    Processor::from_dir(dir, &VlmConfig::from_dir(dir).unwrap()).unwrap()
}

pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Gradients of `loss` by path, in the shapes of the parameters.
pub fn gradients<M: Module>(module: &M, loss: Tensor<1>) -> BTreeMap<String, TensorData> {
    struct Gradients {
        path: Vec<String>,
        taken: GradientsParams,
        found: BTreeMap<String, TensorData>,
    }

    impl ModuleVisitor for Gradients {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.taken.get::<D>(param.id) {
                self.found.insert(self.path.join("."), gradient.into_data());
            }
        }
    }

    let taken = GradientsParams::from_grads(loss.backward(), module);
    let mut visitor = Gradients { path: Vec::new(), taken, found: BTreeMap::new() };
    module.visit(&mut visitor);
    visitor.found
}

/// What is trained with a wave added to it, so that fresh adapters add something.
pub fn waved<M: Module>(model: M) -> M {
    struct Wave(f32);
    impl ModuleMapper for Wave {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            self.0 += 1.0;
            param.map(|value| {
                let wave = |i: usize| 0.05 * (i as f32 * 0.61 + self.0).sin();
                let wave = (0..value.shape().num_elements()).map(wave).collect::<Vec<_>>();
                let device = value.device();
                (value.clone() + Tensor::from_data(TensorData::new(wave, value.dims()), &device))
                    .detach()
                    .require_grad()
            })
        }
    }
    model.map(&mut Wave(0.0))
}

/// Equal up to `relative` of the largest expected value.
pub fn close(found: &[f32], expected: &[f32], relative: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let scale = expected.iter().fold(0f32, |max, value| max.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(worst <= relative * scale, "{what}: off by {worst} with values up to {scale}");
    assert!(found.iter().all(|value| value.is_finite()), "{what}: not finite");
}
