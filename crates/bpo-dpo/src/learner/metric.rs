//! Our figures as metrics of burn-train.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use crate::metrics::StepMetrics;

/// A figure of [`StepMetrics`] that burn-train can show and log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Figure {
    /// Mean implicit reward of the chosen completions.
    ChosenRewards,
    /// Mean implicit reward of the rejected completions.
    RejectedRewards,
    /// Part of the pairs whose chosen completion has the higher reward.
    Accuracies,
    /// Mean difference of the rewards.
    Margins,
    /// Mean log-probability of the chosen completions, in nats.
    ChosenLogps,
    /// Mean log-probability of the rejected completions, in nats.
    RejectedLogps,
}

impl Figure {
    /// TRL's name with a hyphen for the slash, since burn makes a file of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChosenRewards => "rewards-chosen",
            Self::RejectedRewards => "rewards-rejected",
            Self::Accuracies => "rewards-accuracies",
            Self::Margins => "rewards-margins",
            Self::ChosenLogps => "logps-chosen",
            Self::RejectedLogps => "logps-rejected",
        }
    }

    /// Its value among others.
    pub fn of(self, metrics: &StepMetrics) -> f64 {
        match self {
            Self::ChosenRewards => metrics.rewards_chosen,
            Self::RejectedRewards => metrics.rewards_rejected,
            Self::Accuracies => metrics.rewards_accuracies,
            Self::Margins => metrics.rewards_margins,
            Self::ChosenLogps => metrics.logps_chosen,
            Self::RejectedLogps => metrics.logps_rejected,
        }
    }

    fn higher_is_better(self) -> bool {
        !matches!(self, Self::RejectedRewards | Self::RejectedLogps)
    }
}

/// A [`Figure`] of each batch, and its mean over the pairs of an epoch.
#[derive(Clone)]
pub struct FigureMetric {
    figure: Figure,
    name: MetricName,
    state: NumericMetricState,
}

impl FigureMetric {
    /// A metric with the name of the figure.
    pub fn new(figure: Figure) -> Self {
        Self { figure, name: Arc::new(figure.name().to_owned()), state: NumericMetricState::new() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(4)
    }
}

impl Metric for FigureMetric {
    type Input = StepMetrics;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.figure.higher_is_better() }.into()
    }

    fn update(
        &mut self,
        metrics: &StepMetrics,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update(self.figure.of(metrics), metrics.pairs);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for FigureMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}
