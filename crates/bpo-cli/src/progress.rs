//! Progress on standard error: bars on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "model")]
use bpo::dpo::{Control, EvalMetrics, StepMetrics, TrainOutput};
use bpo::pairs::{RequestUsage, TerminalText};
use bpo::{Progress, Stage, StageSummary};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::terminal::print_line;

/// Minimum time between two progress lines of a stage.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Minimum time between two lines about the requests of a stage.
const USAGE_EVERY: Duration = Duration::from_secs(30);

/// A progress bar if standard error is a terminal, otherwise progress lines.
pub fn new() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) }
}

/// A number of things: `1 pair`, `2 pairs`, `150,000 pairs`.
pub fn count(number: usize, singular: &str, plural: &str) -> String {
    let noun = if number == 1 { singular } else { plural };
    format!("{} {noun}", HumanCount(number as u64))
}

/// The line about a finished stage: `weaken: 7 answers, 1 skipped (image missing: 1)`.
pub fn describe(stage: Stage, summary: &StageSummary) -> String {
    let done = match stage {
        Stage::Data => count(summary.done, "sample", "samples"),
        Stage::Weaken | Stage::Judge | Stage::Inject => count(summary.done, "answer", "answers"),
        Stage::Pair | Stage::Reference => count(summary.done, "pair", "pairs"),
        Stage::Train => count(summary.done, "pair trained on", "pairs trained on"),
    };
    let skipped = match summary.skipped.total() {
        0 => String::new(),
        total => format!(", {} skipped ({})", HumanCount(total as u64), summary.skipped),
    };
    let cuts = if summary.cuts.is_empty() {
        String::new()
    } else {
        format!(", text cut from replies ({})", summary.cuts)
    };
    let own = match summary.own_chosen {
        0 => String::new(),
        own => format!(" ({} with an answer of the model chosen)", HumanCount(own as u64)),
    };
    format!("{stage}: {done}{own}{skipped}{cuts}")
}

/// Prints how many items of a stage an earlier process has done.
fn print_done_before(stage: Stage, done: usize, total: usize) {
    if done > 0 && stage != Stage::Data {
        print_line(&format!("{stage}: {done} of {total} already done"));
    }
}

/// Numbers of tokens, cost and failures: `1,200 prompt and 300 answer tokens, cost 0.12 (about 0.88
/// more for the rest), failed attempts: 3 (status 429: 3)`.
fn describe_usage(usage: &RequestUsage, done: usize, left: usize) -> String {
    let tokens = [usage.prompt_tokens, usage.completion_tokens].map(HumanCount);
    // not every server counts tokens
    let mut text = if usage.prompt_tokens + usage.completion_tokens == 0 {
        "tokens not reported".to_owned()
    } else {
        format!("{} prompt and {} answer tokens", tokens[0], tokens[1])
    };
    if let Some(cost) = usage.cost() {
        text += &format!(", cost {cost:.2}");
        if let Some(rest) = usage.cost_of(left, done).filter(|_| left > 0) {
            text += &format!(" (about {rest:.2} more for the rest)");
        }
    }
    let failed: usize = usage.failures.values().sum();
    if failed > 0 {
        text += &format!(", failed attempts: {} ({})", HumanCount(failed as u64), usage.failures_text());
    }
    text
}

/// The line about the requests of a finished stage.
fn describe_requests(stage: Stage, usage: &RequestUsage) -> String {
    let answers = count(usage.answers, "response", "responses");
    format!("{stage}: {answers} of the server, {}", describe_usage(usage, 0, 0))
}

#[cfg(feature = "model")]
fn describe_step(metrics: &StepMetrics) -> String {
    describe_metrics(metrics.loss, metrics.rewards_margins, metrics.rewards_accuracies)
}

#[cfg(feature = "model")]
fn describe_evaluation(metrics: &EvalMetrics) -> String {
    let values = describe_metrics(metrics.loss, metrics.rewards_margins, metrics.rewards_accuracies);
    let pairs = count(metrics.pairs, "pair", "pairs");
    format!("evaluation after step {}: {values} on {pairs}", metrics.step)
}

/// Loss, margin and accuracy. Losses that do not compare two answers have no margin (NaN) and no
/// accuracy.
#[cfg(feature = "model")]
fn describe_metrics(loss: f64, margin: f64, accuracy: f64) -> String {
    if margin.is_nan() {
        format!("loss {loss:.4}")
    } else {
        format!("loss {loss:.4}, margin {margin:+.4}, accuracy {accuracy:.2}")
    }
}

/// The lines about the end of training: early stop, interruption, best evaluation.
#[cfg(feature = "model")]
fn describe_end(summary: &TrainOutput) -> Vec<String> {
    let TrainOutput { steps, total_steps, .. } = summary;
    let mut lines = Vec::new();
    if summary.stopped_early {
        lines.push(format!(
            "train: stopped early, after step {steps} of {total_steps}: evaluations did not improve"
        ));
    } else if !summary.is_finished() {
        lines.push(format!("train: stopped after step {steps} of {total_steps}"));
    }
    if let Some(best) = summary.best.filter(|_| summary.is_finished()) {
        lines.push(format!("train: the best evaluation was after step {} ({:.4})", best.step, best.value));
    }
    lines
}

/// Progress of work outside the stages of a run: a bar on a terminal, otherwise lines; and a line
/// at the end.
pub struct Bar {
    name: String,
    total: usize,
    bar: Option<ProgressBar>,
    lines: Mutex<Counted>,
}

/// State of progress lines.
struct Counted {
    done: usize,
    last_line: Instant,
}

impl Bar {
    /// Starts a bar for `total` items.
    pub fn new(name: &str, total: usize) -> Self {
        Self::resuming(name, 0, total)
    }

    /// Starts a bar for `total` items of which `done` are done.
    pub fn resuming(name: &str, done: usize, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| draw(name, done, total));
        Self {
            name: name.to_owned(),
            total,
            bar,
            lines: Mutex::new(Counted { done, last_line: Instant::now() }),
        }
    }

    /// Counts one more item as done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.done += 1;
        if lines.done < self.total && lines.last_line.elapsed() >= LINE_EVERY {
            lines.last_line = Instant::now();
            print_line(&format!("{}: {}/{}", self.name, lines.done, self.total));
        }
    }

    /// Prints a line above the bar.
    pub fn print_line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(TerminalText(line).to_string()),
            None => print_line(line),
        }
    }

    /// Removes the bar and prints a line with the result.
    pub fn finish(self, what: &str) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
        print_line(&format!("{}: {what}", self.name));
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

fn draw_download(file: &str, done: u64, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_position(done).with_prefix(file.to_owned());
    // what an earlier process has downloaded does not count for the speed
    bar.reset_eta();
    let style = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} (left: {eta})";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// The line about a download: `download: config.json 1.2 KiB`.
fn describe_download(file: &str, done: u64, total: u64) -> String {
    if done == total {
        format!("download: {file}, {}", HumanBytes(total))
    } else {
        format!("download: {file}, {} of {}", HumanBytes(done), HumanBytes(total))
    }
}

#[derive(Default)]
struct Bars {
    bar: Option<ProgressBar>,
    usage: Option<RequestUsage>,
}

impl Progress for Bars {
    fn downloading(&mut self, file: &str, done: u64, total: u64) {
        let bar = self.bar.get_or_insert_with(|| draw_download(file, done, total));
        bar.set_position(done);
        if done == total {
            bar.finish_and_clear();
            self.bar = None;
            print_line(&describe_download(file, done, total));
        }
    }

    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        print_done_before(stage, done, total);
        self.bar = Some(draw(stage.as_str(), done, total));
    }

    fn advanced(&mut self, _: Stage, done: usize) {
        self.bar.iter().for_each(|bar| bar.set_position(done as u64));
    }

    fn requested(&mut self, _: Stage, usage: &RequestUsage, done: usize, left: usize) {
        let text = format!("{} at a time, {}", usage.concurrency, describe_usage(usage, done, left));
        self.bar.iter().for_each(|bar| bar.set_message(text.clone()));
        self.usage = Some(usage.clone());
    }

    #[cfg(feature = "model")]
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        self.bar.iter().for_each(|bar| bar.set_message(describe_step(metrics)));
        Control::Continue
    }

    #[cfg(feature = "model")]
    fn evaluated(&mut self, metrics: &EvalMetrics) {
        match &self.bar {
            Some(bar) => bar.println(describe_evaluation(metrics)),
            None => print_line(&describe_evaluation(metrics)),
        }
    }

    #[cfg(feature = "model")]
    fn trained(&mut self, summary: &TrainOutput) {
        for line in describe_end(summary) {
            match &self.bar {
                Some(bar) => bar.println(line),
                None => print_line(&line),
            }
        }
    }

    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        print_line(&describe(stage, summary));
        if let Some(usage) = self.usage.take() {
            print_line(&describe_requests(stage, &usage));
        }
    }
}

#[derive(Default)]
struct Lines {
    total: usize,
    last_line: Option<Instant>,
    last_usage: Option<Instant>,
    usage: Option<RequestUsage>,
    #[cfg(feature = "model")]
    first_step: bool,
}

impl Lines {
    /// Whether enough time has passed for another line.
    fn is_due(&mut self) -> bool {
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due {
            self.last_line = Some(Instant::now());
        }
        due
    }
}

impl Progress for Lines {
    fn downloading(&mut self, file: &str, done: u64, total: u64) {
        if done == total || self.is_due() {
            print_line(&describe_download(file, done, total));
        }
    }

    fn started(&mut self, stage: Stage, done: usize, total: usize) {
        print_done_before(stage, done, total);
        *self = Self {
            total,
            last_line: Some(Instant::now()),
            last_usage: Some(Instant::now()),
            usage: None,
            #[cfg(feature = "model")]
            first_step: true,
        };
    }

    fn advanced(&mut self, stage: Stage, done: usize) {
        if stage != Stage::Train && done < self.total && self.is_due() {
            print_line(&format!("{stage}: {done}/{}", self.total));
        }
    }

    fn requested(&mut self, stage: Stage, usage: &RequestUsage, done: usize, left: usize) {
        if left > 0 && self.last_usage.is_none_or(|last| last.elapsed() >= USAGE_EVERY) {
            self.last_usage = Some(Instant::now());
            let usage_text = describe_usage(usage, done, left);
            print_line(&format!("{stage}: {left} left, {} at a time, {usage_text}", usage.concurrency));
        }
        self.usage = Some(usage.clone());
    }

    #[cfg(feature = "model")]
    fn stepped(&mut self, metrics: &StepMetrics) -> Control {
        let ends = std::mem::take(&mut self.first_step) || metrics.step == self.total;
        if self.is_due() || ends {
            print_line(&format!(
                "{}: step {}/{}, {}",
                Stage::Train,
                metrics.step,
                self.total,
                describe_step(metrics)
            ));
        }
        Control::Continue
    }

    #[cfg(feature = "model")]
    fn evaluated(&mut self, metrics: &EvalMetrics) {
        print_line(&describe_evaluation(metrics));
    }

    #[cfg(feature = "model")]
    fn trained(&mut self, summary: &TrainOutput) {
        describe_end(summary).iter().for_each(|line| print_line(line));
    }

    fn finished(&mut self, stage: Stage, summary: &StageSummary) {
        print_line(&describe(stage, summary));
        if let Some(usage) = self.usage.take() {
            print_line(&describe_requests(stage, &usage));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_has_tokens_cost_and_failures() {
        let mut usage = RequestUsage::default();
        assert_eq!(describe_usage(&usage, 1, 9), "tokens not reported");
        (usage.answers, usage.prompt_tokens, usage.completion_tokens) = (1, 1_200, 300);
        assert_eq!(describe_usage(&usage, 1, 9), "1,200 prompt and 300 answer tokens");
        usage.prices = Some(bpo::pairs::TokenPrices { prompt: 100.0, completion: 1000.0 });
        usage.failures.insert(bpo::pairs::AttemptFailure::Status(429), 3);
        let text = "1,200 prompt and 300 answer tokens, cost 0.42 (about 3.78 more for the rest), \
            failed attempts: 3 (status 429: 3)";
        assert_eq!(describe_usage(&usage, 1, 9), text);
        let line = describe_requests(Stage::Weaken, &usage);
        assert!(line.starts_with("weaken: 1 response of the server, 1,200 prompt"), "{line}");
    }

    #[test]
    fn counts_have_the_right_plural() {
        let pairs = [0, 1, 2, 150_000].map(|number| count(number, "pair", "pairs"));
        assert_eq!(pairs, ["0 pairs", "1 pair", "2 pairs", "150,000 pairs"]);
    }
}
