//! AdamW that knows parameters by their path in the module.
//!
//! burn's [`ModuleOptimizer`](burn::optim::ModuleOptimizer) keys its state by parameter id, which
//! is another one in each process, so its state cannot be given to a module that was built anew.
//! Here the arithmetic is burn's, the keys are paths, and the state is a safetensors file.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::decay::decays;
use crate::error::{DpoError, Mismatch};
use crate::tensors::{ModulePath, Tensors, decode, describe, dims, encode, flat, joined, replace_leaf, runs};
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
/// AdamW works element by element, so parameters and their state are flat, whatever their rank, and
/// small ones are updated together.
///
/// Weight decay leaves out biases and the parameters of norms, as the Trainer of transformers does
/// (and so TRL).
#[derive(Clone)]
pub struct PathOptimizer {
    adamw: AdamW,
    /// The same without weight decay.
    undecayed: AdamW,
    learning_rate: f64,
    groups: Vec<LrGroup>,
    states: Vec<JointState>,
}

impl PathOptimizer {
    /// An optimizer without state. Of several groups that match a parameter the first counts.
    pub fn new(config: &AdamWConfig, learning_rate: f64, groups: Vec<LrGroup>) -> Self {
        let undecayed = config.clone().with_weight_decay(0.0).build();
        Self { adamw: config.build(), undecayed, learning_rate, groups, states: Vec::new() }
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
        let mut found =
            Found { gradients, path: ModulePath::default(), containers: Vec::new(), parts: Vec::new() };
        module.visit(&mut found);
        // those of a kind side by side, to be updated together
        found.parts.sort_by_key(|part| !part.decays);
        let times: HashMap<_, _> = self.states.iter().flat_map(JointState::times).collect();
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
            let adamw = if first.decays { &self.adamw } else { &self.undecayed };
            let (mut ids, mut parts) = (Vec::new(), Vec::new());
            let (mut values, mut gradients) = (Vec::new(), Vec::new());
            for Part { id, path, value, gradient, .. } in run {
                ids.push(id);
                parts.push((path, value.dims()[0]));
                values.push(value);
                gradients.push(gradient);
            }
            let (values, state) = adamw.step(rate, joined(values), joined(gradients), state);
            let spans = spans(&parts).map(|(_, at, len)| values.clone().narrow(0, at, len));
            updated.extend(ids.into_iter().zip(spans));
            self.states.extend(state.map(|AdamWState { momentum }| JointState { parts, momentum }));
        }
        module.map(&mut Replacer { updated })
    }

    /// The state as safetensors bytes: `<path>.moment_1`, `<path>.moment_2` (flat) and
    /// `<path>.time`.
    ///
    /// # Errors
    /// [`DpoError::Device`] if the device fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DpoError> {
        let mut tensors = Tensors::new();
        for JointState { parts, momentum } in &self.states {
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
    /// that it has no state of start as before their first gradient.
    ///
    /// # Errors
    /// [`DpoError::Safetensors`] for other bytes; [`DpoError::Mismatch`] with all that does not fit
    /// the module.
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
                states.push(JointState { parts: vec![(path, parameter.num_elements())], momentum });
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

/// Moments of some parameters, one behind the other.
#[derive(Clone)]
struct JointState {
    /// Paths and numbers of elements.
    parts: Vec<(String, usize)>,
    momentum: AdaptiveMomentumState<1>,
}

impl JointState {
    /// Steps of each parameter so far.
    fn times(&self) -> impl Iterator<Item = (&str, usize)> {
        self.parts.iter().map(|(path, _)| (path.as_str(), self.momentum.time))
    }

    fn is_of(&self, run: &[Part]) -> bool {
        self.parts.iter().map(|(path, _)| path).eq(run.iter().map(|part| &part.path))
    }

    /// Those of each parameter alone.
    fn apart(self) -> impl Iterator<Item = (String, AdaptiveMomentumState<1>)> {
        let Self { parts, momentum } = self;
        let spans: Vec<_> = spans(&parts).map(|(path, at, len)| (path.to_owned(), at, len)).collect();
        spans.into_iter().map(move |(path, at, len)| {
            let of = |moment: &Tensor<1>| moment.clone().narrow(0, at, len);
            let [first, second] = [&momentum.moment_1, &momentum.moment_2].map(of);
            let mut alone = AdaptiveMomentumState::new(momentum.time, first, second);
            alone.max_moment_2 = momentum.max_moment_2.as_ref().map(of);
            (path, alone)
        })
    }
}

/// Path, first element and number of elements of each part.
fn spans(parts: &[(String, usize)]) -> impl Iterator<Item = (&str, usize, usize)> {
    parts.iter().scan(0, |at, (path, len)| {
        *at += len;
        Some((path.as_str(), *at - len, *len))
    })
}

/// Takes the state of each run out of `states`, if there is one. Parameters of a run are of one
/// time, or have none.
fn take_states(states: &mut Vec<JointState>, runs: &[Vec<Part>]) -> Vec<Option<AdamWState<1>>> {
    // mostly they are joined as they were in the step before
    let known = |run: &Vec<Part>| states.iter().position(|state| state.is_of(run));
    if let Some(places) = runs.iter().map(known).collect::<Option<Vec<_>>>() {
        let mut all: Vec<_> = states.drain(..).map(Some).collect();
        let taken = places.into_iter().map(|place| Some(AdamWState::new(all[place].take()?.momentum)));
        let taken = taken.collect();
        states.extend(all.into_iter().flatten());
        return taken;
    }
    let mut alone: BTreeMap<_, _> = states.drain(..).flat_map(JointState::apart).collect();
    let taken = runs.iter().map(|run| {
        let states: Vec<_> = run.iter().filter_map(|part| alone.remove(&part.path)).collect();
        let time = states.first()?.time;
        let of = |moment: fn(&AdaptiveMomentumState<1>) -> Option<&Tensor<1>>| {
            let moments = states.iter().map(|state| moment(state).cloned());
            moments.collect::<Option<Vec<_>>>().map(joined)
        };
        let (first, second) = (of(|state| Some(&state.moment_1))?, of(|state| Some(&state.moment_2))?);
        let mut momentum = AdaptiveMomentumState::new(time, first, second);
        momentum.max_moment_2 = of(|state| state.max_moment_2.as_ref());
        Some(AdamWState::new(momentum))
    });
    let taken = taken.collect();
    states.extend(alone.into_iter().map(|(path, momentum)| {
        let len = momentum.moment_1.dims()[0];
        JointState { parts: vec![(path, len)], momentum }
    }));
    taken
}

/// A parameter that is updated.
struct Part {
    id: ParamId,
    path: String,
    value: Tensor<1>,
    gradient: Tensor<1>,
    decays: bool,
}

/// Finds all that have a gradient.
struct Found {
    gradients: GradientsParams,
    path: ModulePath,
    /// Kinds of the modules that the walk is in.
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

/// Puts new values in place of the old ones.
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
