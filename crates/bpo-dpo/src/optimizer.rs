//! AdamW whose state is stored by the paths of the parameters in the module.
//!
//! burn's [`ModuleOptimizer`](burn::optim::ModuleOptimizer) stores its state by parameter id.
//! Parameter ids differ between processes, so its state cannot be loaded for a new module. This
//! optimizer uses the arithmetic of burn and saves its state as a safetensors file with paths as
//! keys.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::decay::decays;
use crate::error::{DpoError, Mismatch};
use crate::tensors::{ModulePath, Tensors, concat, decode, describe, dims, encode, flat, replace_leaf, runs};
use crate::trainable::{read_trainable, trainable_paths};

/// A group of parameters with another learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrGroup {
    /// Text that the paths of the parameters contain, such as `projector`.
    pub path: String,
    /// Peak learning rate of the group.
    pub learning_rate: f64,
}

/// AdamW over the trainable parameters of a module.
///
/// AdamW computes each element independently, so parameters and their state are flattened, and
/// small parameters are concatenated to be updated together.
///
/// Weight decay does not apply to biases and the parameters of norms, as in the Trainer of
/// transformers, which TRL uses.
#[derive(Clone)]
pub struct PathOptimizer {
    adamw: AdamW,
    /// AdamW with the same settings, but without weight decay.
    adamw_without_decay: AdamW,
    learning_rate: f64,
    groups: Vec<LrGroup>,
    states: Vec<StateBlock>,
}

impl PathOptimizer {
    /// Creates an optimizer without state. If several groups match a parameter, the first one is
    /// used.
    pub fn new(config: &AdamWConfig, learning_rate: f64, groups: Vec<LrGroup>) -> Self {
        let adamw_without_decay = config.clone().with_weight_decay(0.0).build();
        Self { adamw: config.build(), adamw_without_decay, learning_rate, groups, states: Vec::new() }
    }

    /// Checks that each group has at least one trainable parameter.
    ///
    /// # Errors
    /// Returns [`DpoError::EmptyGroup`] for the first group without parameters.
    pub fn check_groups<M: Module>(&self, module: &M) -> Result<(), DpoError> {
        let parameters = trainable_paths(module);
        match self.groups.iter().find(|group| !parameters.iter().any(|path| path.contains(&group.path))) {
            Some(group) => Err(DpoError::EmptyGroup { group: group.path.clone(), parameters }),
            None => Ok(()),
        }
    }

    /// Updates every parameter that has a gradient, at `factor` times its peak learning rate.
    pub fn step<M: Module>(&mut self, module: M, gradients: GradientsParams, factor: f64) -> M {
        let mut found =
            Found { gradients, path: ModulePath::default(), containers: Vec::new(), parts: Vec::new() };
        module.visit(&mut found);
        // parameters with the same decay are adjacent, so that they are updated together
        found.parts.sort_by_key(|part| !part.decays);
        let times: HashMap<_, _> = self.states.iter().flat_map(StateBlock::times).collect();
        let runs = runs(found.parts, |part| {
            let time = times.get(part.path.as_str()).copied();
            let kind = (self.peak(&part.path).to_bits(), time, part.decays);
            ((kind, part.value.device(), part.value.dtype()), part.value.dims()[0])
        });
        let states = take_states(&mut self.states, &runs);
        let mut updated = HashMap::new();
        for (run, state) in runs.into_iter().zip(states) {
            let Some(first) = run.first() else { continue };
            let rate = self.peak(&first.path) * factor;
            let adamw = if first.decays { &self.adamw } else { &self.adamw_without_decay };
            let (mut ids, mut parts) = (Vec::new(), Vec::new());
            let (mut values, mut gradients) = (Vec::new(), Vec::new());
            for Part { id, path, value, gradient, .. } in run {
                ids.push(id);
                parts.push((path, value.dims()[0]));
                values.push(value);
                gradients.push(gradient);
            }
            let (values, state) = adamw.step(rate, concat(values), concat(gradients), state);
            let spans = spans(&parts).map(|(_, at, len)| values.clone().narrow(0, at, len));
            updated.extend(ids.into_iter().zip(spans));
            self.states.extend(state.map(|AdamWState { momentum }| StateBlock { parts, momentum }));
        }
        module.map(&mut Replacer { updated })
    }

    /// Returns the state in the safetensors format: `<path>.moment_1` and `<path>.moment_2`, both
    /// `[elements]`, and `<path>.time`, `[1]`.
    ///
    /// # Errors
    /// Returns [`DpoError::Device`] if the state cannot be read from the device.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DpoError> {
        let mut tensors = Tensors::new();
        for StateBlock { parts, momentum } in &self.states {
            for (name, moment) in [(MOMENT_1, &momentum.moment_1), (MOMENT_2, &momentum.moment_2)] {
                let all = moment.try_to_data().map_err(DpoError::device("the optimizer's state"))?;
                let size = all.dtype().size();
                for (path, at, len) in spans(parts) {
                    let bytes = all.as_bytes()[at * size..(at + len) * size].to_vec();
                    tensors.insert(key(path, name), TensorData::from_bytes_vec(bytes, [len], all.dtype()));
                }
            }
            for (path, _) in parts {
                tensors.insert(key(path, TIME), TensorData::from([momentum.time as i64]));
            }
        }
        encode(&tensors)
    }

    /// Loads a state from [`to_bytes`](Self::to_bytes) for the parameters of `module`. Parameters
    /// without a stored state start with an empty state.
    ///
    /// # Errors
    /// Returns [`DpoError::Safetensors`] if the bytes are not in the safetensors format, or
    /// [`DpoError::Mismatch`] with all differences from the module.
    pub fn load_bytes<M: Module>(&mut self, module: &M, bytes: &[u8]) -> Result<(), DpoError> {
        let mut tensors = decode(bytes)?;
        let mut mismatch = Mismatch::default();
        let mut states = Vec::new();
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
                    mismatch.misshapen.push(format!(
                        "{} is {found}, not {} {}",
                        key(&path, part),
                        dims(&flat),
                        dtype.name()
                    ));
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
                states.push(StateBlock { parts: vec![(path, parameter.num_elements())], momentum });
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

/// The concatenated AdamW moments of parameters that are updated together.
#[derive(Clone)]
struct StateBlock {
    /// Paths and numbers of elements, in the order of the moments.
    parts: Vec<(String, usize)>,
    momentum: AdaptiveMomentumState<1>,
}

impl StateBlock {
    /// Returns the path and the number of past steps of each parameter.
    fn times(&self) -> impl Iterator<Item = (&str, usize)> {
        self.parts.iter().map(|(path, _)| (path.as_str(), self.momentum.time))
    }

    fn has_parameters_of(&self, run: &[Part]) -> bool {
        self.parts.iter().map(|(path, _)| path).eq(run.iter().map(|part| &part.path))
    }

    /// Splits the block into the moments of each parameter.
    fn split(self) -> impl Iterator<Item = (String, AdaptiveMomentumState<1>)> {
        let Self { parts, momentum } = self;
        let spans: Vec<_> = spans(&parts).map(|(path, at, len)| (path.to_owned(), at, len)).collect();
        spans.into_iter().map(move |(path, at, len)| {
            let of = |moment: &Tensor<1>| moment.clone().narrow(0, at, len);
            let [first, second] = [&momentum.moment_1, &momentum.moment_2].map(of);
            let mut separate = AdaptiveMomentumState::new(momentum.time, first, second);
            separate.max_moment_2 = momentum.max_moment_2.as_ref().map(of);
            (path, separate)
        })
    }
}

/// Returns the path, the index of the first element and the number of elements of each part.
fn spans(parts: &[(String, usize)]) -> impl Iterator<Item = (&str, usize, usize)> {
    parts.iter().scan(0, |at, (path, len)| {
        *at += len;
        Some((path.as_str(), *at - len, *len))
    })
}

/// Removes the state of each run from `states`, and returns it if there is one. All parameters of a
/// run have the same number of past steps, or none has a state.
fn take_states(states: &mut Vec<StateBlock>, runs: &[Vec<Part>]) -> Vec<Option<AdamWState<1>>> {
    // in most steps the blocks are those of the previous step
    let known = |run: &Vec<Part>| states.iter().position(|state| state.has_parameters_of(run));
    if let Some(places) = runs.iter().map(known).collect::<Option<Vec<_>>>() {
        let mut all: Vec<_> = states.drain(..).map(Some).collect();
        let taken = places.into_iter().map(|place| Some(AdamWState::new(all[place].take()?.momentum)));
        let taken = taken.collect();
        states.extend(all.into_iter().flatten());
        return taken;
    }
    let mut separate: BTreeMap<_, _> = states.drain(..).flat_map(StateBlock::split).collect();
    let taken = runs.iter().map(|run| {
        let states: Vec<_> = run.iter().filter_map(|part| separate.remove(&part.path)).collect();
        let time = states.first()?.time;
        let of = |moment: fn(&AdaptiveMomentumState<1>) -> Option<&Tensor<1>>| {
            let moments = states.iter().map(|state| moment(state).cloned());
            moments.collect::<Option<Vec<_>>>().map(concat)
        };
        let (first, second) = (of(|state| Some(&state.moment_1))?, of(|state| Some(&state.moment_2))?);
        let mut momentum = AdaptiveMomentumState::new(time, first, second);
        momentum.max_moment_2 = of(|state| state.max_moment_2.as_ref());
        Some(AdamWState::new(momentum))
    });
    let taken = taken.collect();
    states.extend(separate.into_iter().map(|(path, momentum)| {
        let len = momentum.moment_1.dims()[0];
        StateBlock { parts: vec![(path, len)], momentum }
    }));
    taken
}

/// A parameter with its gradient.
struct Part {
    id: ParamId,
    path: String,
    value: Tensor<1>,
    gradient: Tensor<1>,
    decays: bool,
}

/// Collects the parameters that have a gradient.
struct Found {
    gradients: GradientsParams,
    path: ModulePath,
    /// Types of the modules around the current parameter.
    containers: Vec<String>,
    parts: Vec<Part>,
}

impl ModuleVisitor for Found {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name);
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return };
        let value = flat(param.base().inner());
        if value.dims()[0] == 0 {
            return;
        }
        let path = self.path.join();
        let decays = decays(&path, self.containers.last().map_or("", String::as_str));
        self.parts.push(Part { id: param.id, path, value, gradient: flat(gradient), decays });
    }
}

/// Replaces the values of the updated parameters.
struct Replacer {
    updated: HashMap<ParamId, Tensor<1>>,
}

impl ModuleMapper for Replacer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.updated.remove(&param.id) else { return param };
        param.map(|old| {
            let shape = old.shape();
            replace_leaf(&old, values.reshape(shape))
        })
    }
}
