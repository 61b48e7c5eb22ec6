//! Metrics as plain lines.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricEntry, MetricId, MetricName, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};

/// A renderer for where there is no terminal: a line of figures for each batch, and one with their means for each pass.
///
/// burn's own for this case shows progress only. A writer that fails ends nothing: its lines are lost.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    names: HashMap<MetricId, MetricName>,
    figures: Vec<(MetricName, NumericEntry)>,
    /// `epoch 1, train`
    pass: String,
    epoch: usize,
    items: usize,
}

impl<W: Write> Lines<W> {
    /// Lines on a writer.
    pub fn new(out: W) -> Self {
        Self { out, names: HashMap::new(), figures: Vec::new(), pass: String::new(), epoch: 1, items: 0 }
    }

    fn keep(&mut self, state: MetricState) {
        // of others there is nothing that fits in a line
        let MetricState::Numeric(MetricEntry { metric_id, .. }, Some(value)) = state else { return };
        if let Some(name) = self.names.get(&metric_id) {
            self.figures.push((name.clone(), value));
        }
    }

    fn begin(&mut self, pass: String, items: usize) {
        (self.pass, self.items) = (pass, items);
        self.figures.clear();
    }

    fn write(&mut self, what: &str) {
        let mut line = format!("{}, {what}:", self.pass);
        for (name, value) in self.figures.drain(..) {
            // writing to a string cannot fail
            let _ = write!(line, "  {name} {:.4}", value.current());
        }
        let _ = writeln!(self.out, "{line}");
    }

    fn write_batch(&mut self, done: usize) {
        self.write(&format!("{done} of {}", self.items));
    }
}

impl<W: Write + Send + Sync> MetricsRendererTraining for Lines<W> {
    fn update_train(&mut self, state: MetricState) {
        self.keep(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.keep(state);
    }
}

impl<W: Write + Send> TrainingProgressLogger for Lines<W> {
    fn start(&mut self, _: usize, starting_epoch: usize, _: Option<usize>, _: Option<&str>) {
        self.epoch = starting_epoch;
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, items: usize) {
        self.begin(format!("epoch {}, {split}", self.epoch), items);
    }

    fn update_split(&mut self, done: usize) {
        self.write_batch(done);
    }

    fn end_split(&mut self) {
        self.write("mean");
    }

    fn end(&mut self) {
        let _ = self.out.flush();
    }

    fn log_event_training(&mut self, _: String) {}
}

impl<W: Write + Send + Sync> MetricsRendererEvaluation for Lines<W> {
    fn update_test(&mut self, _: EvaluationName, state: MetricState) {
        self.keep(state);
    }
}

impl<W: Write + Send> EvaluationProgressLogger for Lines<W> {
    fn start_global_progress(&mut self, _: usize) {}

    fn start_test(&mut self, name: &str, items: usize) {
        self.begin(name.to_owned(), items);
    }

    fn update_test_progress(&mut self, done: usize) {
        self.write_batch(done);
    }

    fn end_test(&mut self) {
        self.write("mean");
    }

    fn end_global_progress(&mut self) {
        let _ = self.out.flush();
    }

    fn log_event_evaluation(&mut self, _: String) {}
}

impl<W: Write + Send + Sync> MetricsRenderer for Lines<W> {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name);
    }
}
