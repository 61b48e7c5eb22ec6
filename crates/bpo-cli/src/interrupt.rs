//! Ctrl-C and the signals that ask a program to end: training ends behind a checkpoint, anything else at once, for what is
//! finished is on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bpo::dpo::{Control, EvalMetrics, StepMetrics, TrainOutput};
use bpo::{Progress, Stage, StageSummary};

use crate::failure::INTERRUPTED;
use crate::progress::tell;

const IDLE: u8 = 0;
const TRAINING: u8 = 1;
const ASKED: u8 = 2;

/// Progress of a command that can be asked to end.
pub struct Interruptible {
    inner: Box<dyn Progress>,
    state: Arc<AtomicU8>,
}

impl Interruptible {
    /// Listens from now on. A process does so once.
    pub fn new(inner: Box<dyn Progress>) -> Self {
        let state = Arc::new(AtomicU8::new(IDLE));
        let seen = state.clone();
        let listen = ctrlc::set_handler(move || {
            match seen.compare_exchange(TRAINING, ASKED, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => tell("stopping behind this step; once more stops at once"),
                Err(_) => std::process::exit(INTERRUPTED.into()),
            }
        });
        if let Err(error) = listen {
            tracing::warn!(%error, "cannot listen for signals: one ends training without a checkpoint");
        }
        Self { inner, state }
    }
}

impl Progress for Interruptible {
    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        self.inner.started(stage, done, total);
        self.state.store(if stage == Stage::Train { TRAINING } else { IDLE }, Ordering::SeqCst);
    }

    fn advanced(&mut self, stage: Stage, done: usize) {
        self.inner.advanced(stage, done);
    }

    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        match (self.inner.stepped(metrics), self.state.load(Ordering::SeqCst)) {
            (_, ASKED) => Control::Stop,
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
        self.state.store(IDLE, Ordering::SeqCst);
        self.inner.finished(stage, summary);
    }
}
