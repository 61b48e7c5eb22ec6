//! Copies of the policy on further devices, which take batches of each step.
//!
//! ```text
//! batch       0         1         2         3         4    ...
//! device   further 0  further 1  main    further 0  further 1
//! ```
//!
//! Each device sums the gradients of its batches. The sums are added on the main device, which is
//! that of the policy, in the order of the devices. The optimizer and its state are only there, and
//! the others receive the new values of the trained parameters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use bpo_pairs::{PreferencePair, item_seed};
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};

use crate::batches::PreparedBatch;
use crate::error::DpoError;
use crate::forward::{Forward, check_tracked};
use crate::policy::Policy;
use crate::reference::{ReferenceLogps, follow};
use crate::stats::BatchStats;
use crate::trainable::{load_as_trainable, replace_values, save_as_trainable, trainable_values};

/// Number of batches that wait for a further device, in addition to the one that it computes.
const WAITING: usize = 1;

/// A policy with its reference, on one device.
pub(crate) struct Replica<P> {
    policy: P,
    reference: ReferenceLogps<P>,
}

impl<P: Policy> Replica<P> {
    /// Copies a policy before training and its reference to a device.
    pub(crate) fn new(policy: &P, reference: &ReferenceLogps<P>, device: &Device) -> Self {
        let policy = policy.clone().fork(device);
        Self { reference: reference.fork(&policy, device), policy }
    }

    /// Copies the present values of the trained parameters, and those of a reference that follows
    /// them.
    pub(crate) fn restore(&mut self, policy: &P, reference: &ReferenceLogps<P>) -> Result<(), DpoError> {
        self.policy = updated(&self.policy, &trainable_values(policy));
        if let (Some(own), Some(model)) = (self.reference.model_mut(), reference.model()) {
            *own = load_as_trainable(own.clone(), policy, &save_as_trainable(model, policy)?)?;
        }
        Ok(())
    }
}

/// Returns the device of a policy, without autodiff.
fn main_device<P: Module>(policy: &P) -> Device {
    policy.devices().into_iter().next().unwrap_or_default().inner()
}

/// Replaces the trained parameters of a policy. The values are flattened, on any device.
fn updated<P: Module>(policy: &P, values: &BTreeMap<String, Tensor<1>>) -> P {
    let new = |path: &str, old: Tensor<1>| values.get(path).map(|new| new.clone().to_device(&old.device()));
    replace_values(policy.clone(), new)
}

/// The purpose of the batches of a pass.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The gradient of the mean loss over `count` pairs.
    Train { step: usize, count: usize, must_equal_reference: bool },
    /// Metrics.
    Evaluate,
}

/// A prepared batch of a pass.
pub(crate) struct PassBatch<'a, B> {
    /// Index of the batch in the pass.
    pub(crate) index: usize,
    pub(crate) pairs: Vec<&'a PreferencePair>,
    pub(crate) inputs: PreparedBatch<B>,
}

/// The statistics of a batch.
pub(crate) struct BatchResult<'a> {
    pub(crate) index: usize,
    pub(crate) pairs: Vec<&'a PreferencePair>,
    pub(crate) stats: BatchStats,
}

/// What one device has computed in a pass.
pub(crate) struct Share<'a, P> {
    gradients: GradientsAccumulator<P>,
    results: Vec<BatchResult<'a>>,
}

impl<P> Default for Share<'_, P> {
    fn default() -> Self {
        Self { gradients: GradientsAccumulator::new(), results: Vec::new() }
    }
}

impl<'a, P: Policy> Share<'a, P> {
    /// Computes a batch, and adds its gradient and its statistics.
    ///
    /// The loss of a batch is its sum divided by the number of pairs of the step, so the sum of the
    /// gradients is the gradient of the mean for any batches.
    pub(crate) fn compute(
        &mut self,
        forward: Forward<'_>,
        policy: &P,
        reference: &ReferenceLogps<P>,
        purpose: Purpose,
        batch: PassBatch<'a, P::Batch>,
    ) -> Result<(), DpoError> {
        let PassBatch { index, pairs, inputs } = batch;
        let stats = match purpose {
            Purpose::Train { step, count, must_equal_reference } => {
                // by step and batch, so that a resumed run draws the same masks and noise on any device
                let seed = Some(item_seed(forward.config.seed, format!("step/{step}/{index}")));
                let (losses, stats) =
                    forward.losses(policy, reference, &inputs, &pairs, must_equal_reference, seed)?;
                check_tracked(&losses, &pairs)?;
                let loss = losses.sum().div_scalar(count as f64);
                self.gradients.accumulate(policy, GradientsParams::from_grads(loss.backward(), policy));
                stats
            }
            Purpose::Evaluate => forward.losses(&policy.valid(), reference, &inputs, &pairs, false, None)?.1,
        };
        self.results.push(BatchResult { index, pairs, stats });
        Ok(())
    }

    /// Adds what another device has computed, on the device of `policy`.
    pub(crate) fn add(&mut self, policy: &P, mut other: Self) {
        let gradients = other.gradients.grads().to_device(&main_device(policy), policy);
        self.gradients.accumulate(policy, gradients);
        self.results.append(&mut other.results);
    }

    /// Returns the sum of the gradients, and the results of all batches in order.
    pub(crate) fn finish(mut self) -> (GradientsParams, Vec<BatchResult<'a>>) {
        self.results.sort_by_key(|result| result.index);
        (self.gradients.grads(), self.results)
    }
}

/// A message to a further device.
pub(crate) enum Order<'a, P: Policy> {
    /// Compute a batch.
    Compute(Purpose, Box<PassBatch<'a, P::Batch>>),
    /// Return the share of the pass.
    Finish,
    /// Replace the trained parameters, by path. The values are on the device of the replica.
    Update(Arc<BTreeMap<String, Tensor<1>>>),
    /// Move the reference towards the policy.
    Follow(f64),
}

/// A replica with its share of the present pass.
struct Worker<'s, 'a, P> {
    forward: Forward<'s>,
    replica: Replica<P>,
    share: Share<'a, P>,
    /// The first error of the pass.
    error: Option<DpoError>,
}

impl<'s, 'a, P: Policy> Worker<'s, 'a, P> {
    /// Carries out orders until no more can come.
    fn run(mut self, orders: &Receiver<Order<'a, P>>, shares: &SyncSender<Result<Share<'a, P>, DpoError>>) {
        while let Ok(order) = orders.recv() {
            if let Some(share) = self.carry_out(order)
                && shares.send(share).is_err()
            {
                break;
            }
        }
    }

    /// Returns the share of the pass after [`Order::Finish`].
    fn carry_out(&mut self, order: Order<'a, P>) -> Option<Result<Share<'a, P>, DpoError>> {
        let Self { forward, replica: Replica { policy, reference }, share, error, .. } = self;
        match order {
            Order::Compute(purpose, batch) => {
                if error.is_none() {
                    *error = share.compute(*forward, policy, reference, purpose, *batch).err();
                }
                None
            }
            Order::Finish => {
                let share = std::mem::take(share);
                Some(error.take().map_or(Ok(share), Err))
            }
            Order::Update(values) => {
                *policy = updated(policy, &values);
                None
            }
            Order::Follow(mixup_alpha) => {
                if let Some(model) = reference.model_mut() {
                    *model = follow(model.clone(), policy, mixup_alpha);
                }
                None
            }
        }
    }
}

/// A further device of a run, with the thread that computes on it.
pub(crate) struct Helper<'a, P: Policy> {
    orders: SyncSender<Order<'a, P>>,
    shares: Receiver<Result<Share<'a, P>, DpoError>>,
    device: Device,
}

impl<'a, P: Policy> Helper<'a, P> {
    /// Starts the thread of a replica.
    pub(crate) fn start<'scope, 's: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        forward: Forward<'s>,
        replica: Replica<P>,
    ) -> (Self, ScopedJoinHandle<'scope, ()>)
    where
        'a: 'scope,
        P: 'scope,
        P::Batch: Send + 'scope,
    {
        let device = main_device(&replica.policy);
        let (orders, received) = sync_channel(WAITING);
        let (sender, shares) = sync_channel(1);
        let worker = Worker { forward, replica, share: Share::default(), error: None };
        let thread = scope.spawn(move || worker.run(&received, &sender));
        (Self { orders, shares, device }, thread)
    }

    /// Returns the device of the replica.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Sends an order. Waits if the device is [behind](WAITING).
    pub(crate) fn send(&self, order: Order<'a, P>) -> Result<(), DpoError> {
        self.orders.send(order).map_err(|_| DpoError::NoReplica)
    }

    /// Ends a pass, and returns the share of the device.
    pub(crate) fn share(&self) -> Result<Share<'a, P>, DpoError> {
        self.send(Order::Finish)?;
        self.shares.recv().unwrap_or(Err(DpoError::NoReplica))
    }
}
