//! Ctrl-C and SIGTERM. Training stops after the current step and a checkpoint; other stages stop at
//! once, because their finished items are on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bpo::dpo::{Control, EvalMetrics, StepMetrics, TrainOutput};
use bpo::{Progress, Stage, StageSummary};

use crate::failure::{INTERRUPTED, STOPPED};
use crate::terminal::print_line;

const IDLE: u8 = 0;
const TRAINING: u8 = 1;
const STOP_REQUESTED: u8 = 2;

/// Progress of a command that a signal can stop.
pub struct Interruptible {
    inner: Box<dyn Progress>,
    state: Arc<AtomicU8>,
}

impl Interruptible {
    /// Installs the signal handler. A process can do so once.
    pub fn new(inner: Box<dyn Progress>) -> Self {
        let state = Arc::new(AtomicU8::new(IDLE));
        let shared = state.clone();
        let listen = ctrlc::set_handler(move || {
            match shared.compare_exchange(TRAINING, STOP_REQUESTED, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => print_line("stopping after this step; a second signal stops at once"),
                Err(_) => {
                    print_line(STOPPED);
                    std::process::exit(INTERRUPTED.into())
                }
            }
        });
        if let Err(error) = listen {
            tracing::warn!(%error, "the signal handler cannot be installed: a signal stops training without a checkpoint");
        }
        Self { inner, state }
    }
}

impl Progress for Interruptible {
    fn downloading(&mut self, file: &str, done: u64, total: u64) {
        self.inner.downloading(file, done, total);
    }

    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        self.inner.started(stage, done, total);
        let state = if stage == Stage::Train { TRAINING } else { IDLE };
        // a training that ended after the signal may be followed by the next round
        if self.state.swap(state, Ordering::SeqCst) == STOP_REQUESTED {
            print_line(STOPPED);
            std::process::exit(INTERRUPTED.into());
        }
    }

    fn advanced(&mut self, stage: Stage, done: usize) {
        self.inner.advanced(stage, done);
    }

    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        match (self.inner.stepped(metrics), self.state.load(Ordering::SeqCst)) {
            (_, STOP_REQUESTED) => Control::Stop,
            (control, _) => control,
        }
    }

    fn evaluated(&mut self, metrics: &EvalMetrics) {
        self.inner.evaluated(metrics);
    }

    fn trained(&mut self, summary: &TrainOutput) {
        self.inner.trained(summary);
    }

    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        // a stop that was requested in the last step is kept for the next round
        let _ = self.state.compare_exchange(TRAINING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
        self.inner.finished(stage, summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_in_the_last_step_outlives_the_training() {
        let state = Arc::new(AtomicU8::new(IDLE));
        let mut progress = Interruptible { inner: Box::new(()), state: Arc::clone(&state) };
        progress.started(Stage::Train, 0, 1);
        assert_eq!(state.load(Ordering::SeqCst), TRAINING);
        state.store(STOP_REQUESTED, Ordering::SeqCst);
        progress.finished(Stage::Train, &StageSummary::default());
        assert_eq!(state.load(Ordering::SeqCst), STOP_REQUESTED);
        state.store(TRAINING, Ordering::SeqCst);
        progress.finished(Stage::Train, &StageSummary::default());
        assert_eq!(state.load(Ordering::SeqCst), IDLE);
    }
}
