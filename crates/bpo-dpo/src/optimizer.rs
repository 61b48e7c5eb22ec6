//! AdamW that knows parameters by their path in the module.
//!
//! burn's [`ModuleOptimizer`](burn::optim::ModuleOptimizer) keys its state by parameter id, which is another one in each
//! process, so its state cannot be given to a module that was built anew. Here the arithmetic is burn's, the keys are
//! paths, and the state is a safetensors file.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::{DpoError, Mismatch};
use crate::tensors::{ModulePath, Tensors, decode, describe, encode, flat, replace_leaf};
use crate::trainable::{read_trainable, trainable_paths};

/// Parameters with a learning rate of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrGroup {
    /// Text in the paths of its parameters, as `projector`.
    pub path: String,
    /// Their peak learning rate.
    pub learning_rate: f64,
}

/// AdamW over the trainable parameters of a module.
///
/// AdamW works element by element, so the state of each parameter is kept flat, whatever its rank.
#[derive(Clone)]
pub struct PathOptimizer {
    adamw: AdamW,
    learning_rate: f64,
    groups: Vec<LrGroup>,
    states: BTreeMap<String, AdamWState<1>>,
}

impl PathOptimizer {
    /// An optimizer without state. Of several groups that match a parameter the first counts.
    pub fn new(config: &AdamWConfig, learning_rate: f64, groups: Vec<LrGroup>) -> Self {
        Self { adamw: config.build(), learning_rate, groups, states: BTreeMap::new() }
    }

    /// Checks that each group has parameters.
    ///
    /// # Errors
    /// [`DpoError::EmptyGroup`] for the first that has none.
    pub fn check_groups<M: Module>(&self, module: &M) -> Result<(), DpoError> {
        let parameters = trainable_paths(module);
        match self.groups.iter().find(|group| !parameters.iter().any(|path| path.contains(&group.path))) {
            Some(group) => Err(DpoError::EmptyGroup { group: group.path.clone(), parameters }),
            None => Ok(()),
        }
    }

    /// Updates every parameter that has a gradient, at `factor` times its peak learning rate.
    pub fn step<M: Module>(&mut self, module: M, gradients: GradientsParams, factor: f64) -> M {
        module.map(&mut Stepper { optimizer: self, path: ModulePath::default(), gradients, factor })
    }

    /// The state as safetensors bytes: `<path>.moment_1`, `<path>.moment_2` (flat) and `<path>.time`.
    ///
    /// # Errors
    /// [`DpoError::Device`] if the device fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DpoError> {
        let read =
            |tensor: &Tensor<1>| tensor.try_to_data().map_err(DpoError::device("the optimizer's state"));
        let mut tensors = Tensors::new();
        for (path, AdamWState { momentum }) in &self.states {
            tensors.insert(key(path, MOMENT_1), read(&momentum.moment_1)?);
            tensors.insert(key(path, MOMENT_2), read(&momentum.moment_2)?);
            tensors.insert(key(path, TIME), TensorData::from([momentum.time as i64]));
        }
        encode(&tensors)
    }

    /// Takes up a state from [`to_bytes`](Self::to_bytes) for the parameters of `module`.
    ///
    /// Parameters without state are as before their first gradient.
    ///
    /// # Errors
    /// [`DpoError::Safetensors`] for other bytes; [`DpoError::Mismatch`] with all that does not fit the module.
    pub fn load_bytes<M: Module>(&mut self, module: &M, bytes: &[u8]) -> Result<(), DpoError> {
        let mut tensors = decode(bytes)?;
        let mut mismatch = Mismatch::default();
        let mut states = BTreeMap::new();
        let device = module.devices().into_iter().next().unwrap_or_default().inner();
        for (path, parameter) in read_trainable(module)? {
            let parts = [MOMENT_1, MOMENT_2, TIME].map(|part| tensors.remove(&key(&path, part)));
            let [Some(moment_1), Some(moment_2), Some(time)] = parts else {
                if parts.iter().any(Option::is_some) {
                    mismatch.missing.push(path);
                }
                continue;
            };
            let (flat, dtype) = ([parameter.num_elements()], parameter.dtype());
            for (part, moment) in [(MOMENT_1, &moment_1), (MOMENT_2, &moment_2)] {
                if moment.shape().as_slice() != flat || moment.dtype() != dtype {
                    let found = describe(moment);
                    mismatch
                        .misshapen
                        .push(format!("{} is {found}, not {flat:?} {dtype:?}", key(&path, part)));
                }
            }
            let Some(time) = scalar(&time) else {
                mismatch.misshapen.push(format!(
                    "{} is {}, not one count",
                    key(&path, TIME),
                    describe(&time)
                ));
                continue;
            };
            if mismatch.is_empty() {
                let load = |data: TensorData| Tensor::from_data(data, (&device, dtype));
                let momentum = AdaptiveMomentumState::new(time, load(moment_1), load(moment_2));
                states.insert(path, AdamWState::new(momentum));
            }
        }
        mismatch.extra = tensors.into_keys().collect();
        if !mismatch.is_empty() {
            return Err(DpoError::Mismatch { what: "optimizer state", path: None, mismatch });
        }
        self.states = states;
        Ok(())
    }

    fn peak(&self, path: &str) -> f64 {
        let group = self.groups.iter().find(|group| path.contains(&group.path));
        group.map_or(self.learning_rate, |group| group.learning_rate)
    }
}

const MOMENT_1: &str = "moment_1";
const MOMENT_2: &str = "moment_2";
const TIME: &str = "time";

fn key(path: &str, part: &str) -> String {
    format!("{path}.{part}")
}

fn scalar(data: &TensorData) -> Option<usize> {
    match (data.dtype(), data.as_slice::<i64>().ok()?) {
        (DType::I64, [value]) => usize::try_from(*value).ok(),
        _ => None,
    }
}

struct Stepper<'a> {
    optimizer: &'a mut PathOptimizer,
    path: ModulePath,
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleMapper for Stepper<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let path = self.path.join();
        let rate = self.optimizer.peak(&path) * self.factor;
        let state = self.optimizer.states.remove(&path);
        param.map(|old| {
            let values = old.clone().inner();
            let shape = values.shape();
            let (values, state) = self.optimizer.adamw.step(rate, flat(values), flat(gradient), state);
            if let Some(state) = state {
                self.optimizer.states.insert(path, state);
            }
            replace_leaf(&old, values.reshape(shape))
        })
    }
}
