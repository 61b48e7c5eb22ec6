//! Progress on standard error: bars on a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "model")]
use bpo::dpo::{Control, EvalMetrics, StepMetrics, TrainOutput};
use bpo::{Progress, Stage, StageSummary};
use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines about one stage.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar or lines, whichever standard error can show.
pub fn new() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) }
}

/// One line to standard error; if nobody reads it, so be it.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What is said of a finished stage: `weaken: 7 done, 1 skipped (image missing: 1)`.
pub fn describe(stage: Stage, summary: &StageSummary) -> String {
    let what = match stage {
        Stage::Data => "samples",
        Stage::Weaken | Stage::Inject => "answers",
        Stage::Pair => "pairs",
        Stage::Reference => "pairs",
        Stage::Train => "pairs trained on",
    };
    let skipped = match summary.skipped.total() {
        0 => String::new(),
        total => format!(", {total} skipped ({})", summary.skipped),
    };
    let cuts = match summary.cuts.is_empty() {
        true => String::new(),
        false => format!(", text cut from replies ({})", summary.cuts),
    };
    format!("{stage}: {} {what}{skipped}{cuts}", summary.done)
}

/// Tells what of a stage is there from earlier runs.
fn tell_there(stage: Stage, done: usize, total: usize) {
    if done > 0 && stage != Stage::Data {
        tell(&format!("{stage}: {done} of {total} were there already"));
    }
}

#[cfg(feature = "model")]
fn figures(metrics: &StepMetrics) -> String {
    described(metrics.loss, metrics.rewards_margins, metrics.rewards_accuracies)
}

#[cfg(feature = "model")]
fn evaluation(metrics: &EvalMetrics) -> String {
    let figures = described(metrics.loss, metrics.rewards_margins, metrics.rewards_accuracies);
    format!("evaluation after step {}: {figures} on {} pairs", metrics.step, metrics.pairs)
}

/// A loss that compares no two answers has no margins.
#[cfg(feature = "model")]
fn described(loss: f64, margin: f64, accuracy: f64) -> String {
    match margin.is_nan() {
        true => format!("loss {loss:.4}"),
        false => format!("loss {loss:.4}, margin {margin:+.4}, accuracy {accuracy:.2}"),
    }
}

/// What is to be said of how training ended, beside what its last step said.
#[cfg(feature = "model")]
fn endings(summary: &TrainOutput) -> Vec<String> {
    let TrainOutput { steps, total_steps, .. } = summary;
    let mut lines = Vec::new();
    match (summary.stopped_early, summary.is_finished()) {
        (true, _) => lines.push(format!(
            "train: ended early, after step {steps} of {total_steps}: evaluations became no better"
        )),
        (false, false) => lines.push(format!("train: stopped after step {steps} of {total_steps}")),
        (false, true) => {}
    }
    if let Some(best) = summary.best.filter(|_| summary.is_finished()) {
        lines.push(format!("train: the best evaluation was after step {} ({:.4})", best.step, best.value));
    }
    lines
}

/// Progress of work that is no stage of a run: a bar on a terminal, lines elsewhere, and a line at the end.
pub struct Bar {
    name: String,
    total: usize,
    bar: Option<ProgressBar>,
    lines: Mutex<Counted>,
}

/// What lines say, and when the last one did.
struct Counted {
    done: usize,
    told: Instant,
}

impl Bar {
    /// For `total` items.
    pub fn new(name: &str, total: usize) -> Self {
        Self::resuming(name, 0, total)
    }

    /// For `total` items, some of which are done.
    pub fn resuming(name: &str, done: usize, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| draw(name, done, total));
        Self { name: name.to_owned(), total, bar, lines: Mutex::new(Counted { done, told: Instant::now() }) }
    }

    /// One more is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.done += 1;
        if lines.done < self.total && lines.told.elapsed() >= LINE_EVERY {
            lines.told = Instant::now();
            tell(&format!("{}: {}/{}", self.name, lines.done, self.total));
        }
    }

    /// A line that stays.
    pub fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => tell(line),
        }
    }

    /// Nothing more is said.
    pub fn clear(self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    /// All are done.
    pub fn finish(self, what: &str) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
        tell(&format!("{}: {what}", self.name));
    }
}

fn draw(name: &str, done: usize, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(done as u64).with_prefix(name.to_owned());
    let style =
        ProgressStyle::with_template("{prefix:>7} {bar:30} {pos}/{len} {elapsed} (left: {eta}) {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

#[derive(Default)]
struct Bars {
    bar: Option<ProgressBar>,
}

impl Progress for Bars {
    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        tell_there(stage, done, total);
        self.bar = Some(draw(stage.as_str(), done, total));
    }

    fn advanced(&mut self, _: Stage, done: usize) {
        self.bar.iter().for_each(|bar| bar.set_position(done as u64));
    }

    #[cfg(feature = "model")]
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        self.bar.iter().for_each(|bar| bar.set_message(figures(metrics)));
        Control::Continue
    }

    #[cfg(feature = "model")]
    fn evaluated(&mut self, metrics: &EvalMetrics) {
        match &self.bar {
            Some(bar) => bar.println(evaluation(metrics)),
            None => tell(&evaluation(metrics)),
        }
    }

    #[cfg(feature = "model")]
    fn trained(&mut self, summary: &TrainOutput) {
        for line in endings(summary) {
            match &self.bar {
                Some(bar) => bar.println(line),
                None => tell(&line),
            }
        }
    }

    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        tell(&describe(stage, summary));
    }
}

#[derive(Default)]
struct Lines {
    total: usize,
    told: Option<Instant>,
    #[cfg(feature = "model")]
    first_step: bool,
}

impl Lines {
    /// Whether enough time has gone by for another line.
    fn is_due(&mut self) -> bool {
        let due = self.told.is_none_or(|told| told.elapsed() >= LINE_EVERY);
        if due {
            self.told = Some(Instant::now());
        }
        due
    }
}

impl Progress for Lines {
    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        tell_there(stage, done, total);
        *self = Self {
            total,
            told: Some(Instant::now()),
            #[cfg(feature = "model")]
            first_step: true,
        };
    }

    fn advanced(&mut self, stage: Stage, done: usize) {
        if stage != Stage::Train && done < self.total && self.is_due() {
            tell(&format!("{stage}: {done}/{}", self.total));
        }
    }

    #[cfg(feature = "model")]
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        let ends = std::mem::take(&mut self.first_step) || metrics.step == self.total;
        if self.is_due() || ends {
            tell(&format!("{}: step {}/{}, {}", Stage::Train, metrics.step, self.total, figures(metrics)));
        }
        Control::Continue
    }

    #[cfg(feature = "model")]
    fn evaluated(&mut self, metrics: &EvalMetrics) {
        tell(&evaluation(metrics));
    }

    #[cfg(feature = "model")]
    fn trained(&mut self, summary: &TrainOutput) {
        endings(summary).iter().for_each(|line| tell(line));
    }

    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        tell(&describe(stage, summary));
    }
}
