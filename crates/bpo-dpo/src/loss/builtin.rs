//! The built-in losses by name.

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize};

use super::numbers::{ABOVE_0, AT_LEAST_0, NUMBER, fits_f32};
use super::{
    LossError, LossInputs, LossProperties, PreferenceLoss, WeightedLoss, anchor_loss, aot_loss,
    aot_unpaired_loss, apo_down_loss, apo_zero_loss, bco_loss, chip_loss, conditional_loss, discopop_loss,
    exo_loss, hinge_loss, ipo_loss, nca_loss, robust_loss, sft_loss, sigmoid_loss, simpo_loss, sppo_loss,
    sum, symmpo_loss,
};

/// The built-in losses, with their settings. In settings files a loss has its name in TRL, and is a
/// table with the key `type`, or the name alone for the default settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Loss {
    /// The loss of the DPO paper, see [`sigmoid_loss`].
    Sigmoid {
        /// Probability that a preference is labelled the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// The sigmoid loss of the rewards per token, see [`sigmoid_loss`].
    SigmoidNorm {
        /// Probability that a preference is labelled the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`hinge_loss`].
    #[serde(deserialize_with = "without_settings")]
    Hinge,
    /// See [`ipo_loss`].
    #[serde(deserialize_with = "without_settings")]
    Ipo,
    /// See [`exo_loss`].
    ExoPair {
        /// Probability that a preference is labelled the wrong way round, above 0.
        #[serde(default = "exo_smoothing")]
        label_smoothing: f64,
    },
    /// See [`nca_loss`].
    #[serde(deserialize_with = "without_settings")]
    NcaPair,
    /// See [`robust_loss`].
    Robust {
        /// Probability that a preference is labelled the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`bco_loss`].
    #[serde(deserialize_with = "without_settings")]
    BcoPair,
    /// See [`sppo_loss`].
    #[serde(deserialize_with = "without_settings")]
    SppoHard,
    /// See [`aot_loss`].
    Aot {
        /// Probability that a preference is labelled the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`aot_unpaired_loss`].
    AotUnpaired {
        /// Probability that a preference is labelled the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`apo_zero_loss`].
    #[serde(deserialize_with = "without_settings")]
    ApoZero,
    /// See [`apo_down_loss`].
    #[serde(deserialize_with = "without_settings")]
    ApoDown,
    /// See [`discopop_loss`].
    Discopop {
        /// Temperature of the transition from logistic to exponential.
        #[serde(default = "discopop_tau")]
        tau: f64,
    },
    /// See [`simpo_loss`].
    Simpo {
        /// The target margin. Default: 0.5, as in TRL.
        #[serde(default = "simpo_gamma")]
        gamma: f64,
        /// Probability that a preference is labelled the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`conditional_loss`]. It needs [weakened images](LossProperties::weakened).
    #[serde(deserialize_with = "without_settings")]
    Conditional,
    /// See [`anchor_loss`].
    Anchor {
        /// The value that the reward should exceed.
        #[serde(default)]
        delta: f64,
    },
    /// See [`chip_loss`]. It needs [weakened images](LossProperties::weakened) and, unless `tok_beta`
    /// is 0, the [divergences](LossProperties::token_divergences) from the reference.
    Chip {
        /// Weight of the token term. Default: 0.1, as in the authors' scripts.
        #[serde(default = "chip_tok_beta")]
        tok_beta: f64,
    },
    /// See [`symmpo_loss`]. It needs the [contrast](LossProperties::contrast) of each pair.
    Symmpo {
        /// Weight of the preferences for the answer of an image over that of the other image. Default:
        /// 0.5, as in the authors' script.
        #[serde(default = "symmpo_lambda")]
        lambda: f64,
        /// Weight of the square of the difference between these preferences. Default: 1e-4, as in the
        /// authors' code.
        #[serde(default = "symmpo_consistency")]
        consistency: f64,
    },
    /// The negative log-likelihood of the chosen completions alone, see [`sft_loss`].
    #[serde(deserialize_with = "without_settings")]
    Sft,
    /// A weighted sum of losses, `L = sum_i w_i L_i`, as in MPO (Wang et al., arXiv 2411.10442,
    /// equation 1) and in TRL's lists of `loss_type` and `loss_weights`.
    Sum {
        /// The terms, at least one.
        terms: Vec<WeightedLoss>,
    },
}

/// Deserializes a variant without settings. Any key is an error, which serde alone would ignore.
pub(super) fn without_settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(deserializer).map(|Nothing {}| ())
}

/// Returns the value of the paper.
fn exo_smoothing() -> f64 {
    1e-3
}

/// Returns the value of TRL.
fn simpo_gamma() -> f64 {
    0.5
}

/// Returns the value of the authors' scripts.
fn chip_tok_beta() -> f64 {
    0.1
}

/// Returns the value of the authors' script.
fn symmpo_lambda() -> f64 {
    0.5
}

/// Returns the value of the authors' code.
fn symmpo_consistency() -> f64 {
    1e-4
}

/// Returns the value of the paper.
fn discopop_tau() -> f64 {
    0.05
}

impl Default for Loss {
    /// Returns the sigmoid loss without smoothing, as BPO trains with it (arXiv 2403.08730).
    fn default() -> Self {
        Self::Sigmoid { label_smoothing: 0.0 }
    }
}

impl Loss {
    /// Returns the sigmoid loss with a term of weight `weight` that keeps the chosen answers
    /// likely.
    pub fn sigmoid_with_sft(weight: f64) -> Self {
        Self::Sum {
            terms: vec![WeightedLoss::new(1.0, Self::default()), WeightedLoss::new(weight, Self::Sft)],
        }
    }

    /// Returns the loss of MPO: 0.8 of sigmoid, 0.2 of BCO and 1.0 of the chosen completions'
    /// likelihood (Wang et al., arXiv 2411.10442, section 3.2), with [BCO](bco_loss) as TRL has it,
    /// without a running mean of rewards.
    pub fn mpo() -> Self {
        let terms = vec![
            WeightedLoss::new(0.8, Self::default()),
            WeightedLoss::new(0.2, Self::BcoPair),
            WeightedLoss::new(1.0, Self::Sft),
        ];
        Self::Sum { terms }
    }

    /// Returns the loss of SymMPO with the settings of its authors.
    pub fn symmpo() -> Self {
        Self::Symmpo { lambda: symmpo_lambda(), consistency: symmpo_consistency() }
    }

    /// Returns the loss of mDPO: sigmoid, conditional preference and anchor, each with weight 1
    /// (Wang et al., arXiv 2406.11839).
    pub fn mdpo() -> Self {
        let losses = [Self::default(), Self::Conditional, Self::Anchor { delta: 0.0 }];
        Self::Sum { terms: losses.into_iter().map(|loss| WeightedLoss::new(1.0, loss)).collect() }
    }

    /// Returns the name of the loss in settings files, without its settings.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Sigmoid { .. } => "sigmoid",
            Self::SigmoidNorm { .. } => "sigmoid_norm",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::ExoPair { .. } => "exo_pair",
            Self::NcaPair => "nca_pair",
            Self::Robust { .. } => "robust",
            Self::BcoPair => "bco_pair",
            Self::SppoHard => "sppo_hard",
            Self::Aot { .. } => "aot",
            Self::AotUnpaired { .. } => "aot_unpaired",
            Self::ApoZero => "apo_zero",
            Self::ApoDown => "apo_down",
            Self::Discopop { .. } => "discopop",
            Self::Simpo { .. } => "simpo",
            Self::Conditional => "conditional",
            Self::Anchor { .. } => "anchor",
            Self::Chip { .. } => "chip",
            Self::Symmpo { .. } => "symmpo",
            Self::Sft => "sft",
            Self::Sum { .. } => "sum",
        }
    }
}

impl PreferenceLoss for Loss {
    fn properties(&self) -> LossProperties {
        const PAIRWISE: LossProperties = LossProperties::PAIRWISE;
        // the losses that take margins or another divergence are the same as in TRL
        match self {
            Self::Sigmoid { .. } | Self::Hinge | Self::ExoPair { .. } => {
                LossProperties { takes_margins: true, takes_divergence: true, ..PAIRWISE }
            }
            Self::Robust { .. } | Self::Discopop { .. } => {
                LossProperties { takes_margins: true, takes_divergence: true, ..PAIRWISE }
            }
            Self::SigmoidNorm { .. } | Self::Ipo => {
                LossProperties { lengths: true, takes_divergence: true, ..PAIRWISE }
            }
            Self::NcaPair | Self::BcoPair | Self::SppoHard | Self::ApoZero | Self::ApoDown => PAIRWISE,
            Self::Aot { .. } | Self::AotUnpaired { .. } => LossProperties { batch_wide: true, ..PAIRWISE },
            Self::Simpo { .. } => {
                LossProperties { reference: false, lengths: true, per_token: true, ..PAIRWISE }
            }
            Self::Conditional => {
                LossProperties { rejected: false, weakened: true, takes_divergence: true, ..PAIRWISE }
            }
            Self::Anchor { .. } => LossProperties { rejected: false, takes_divergence: true, ..PAIRWISE },
            Self::Chip { tok_beta } => {
                LossProperties { weakened: true, token_divergences: *tok_beta != 0.0, ..PAIRWISE }
            }
            Self::Symmpo { .. } => LossProperties { contrast: true, ..PAIRWISE },
            Self::Sft => LossProperties {
                reference: false,
                rejected: false,
                lengths: true,
                takes_divergence: true,
                ..PAIRWISE
            },
            Self::Sum { terms } => sum::properties(terms),
        }
    }

    fn forward(&self, inputs: &LossInputs<'_>) -> Tensor<1> {
        let LossInputs { whole, policy, reference, rewards, beta } = *inputs;
        match self {
            Self::Sigmoid { label_smoothing } => sigmoid_loss(rewards, *label_smoothing),
            Self::SigmoidNorm { label_smoothing } => {
                sigmoid_loss(&rewards.per_token(inputs.lengths()), *label_smoothing)
            }
            Self::Hinge => hinge_loss(rewards),
            Self::Ipo => ipo_loss(&rewards.per_token(inputs.lengths()), beta),
            Self::ExoPair { label_smoothing } => exo_loss(rewards, *label_smoothing),
            Self::NcaPair => nca_loss(rewards),
            Self::Robust { label_smoothing } => robust_loss(rewards, *label_smoothing),
            Self::BcoPair => bco_loss(rewards),
            Self::SppoHard => sppo_loss(rewards, beta),
            Self::Aot { label_smoothing } => aot_loss(policy, reference, beta, *label_smoothing),
            Self::AotUnpaired { label_smoothing } => aot_unpaired_loss(rewards, *label_smoothing),
            Self::ApoZero => apo_zero_loss(rewards),
            Self::ApoDown => apo_down_loss(rewards),
            Self::Discopop { tau } => discopop_loss(rewards, *tau),
            Self::Simpo { gamma, label_smoothing } => {
                simpo_loss(policy, inputs.lengths(), beta, *gamma, *label_smoothing)
            }
            Self::Conditional => conditional_loss(rewards),
            Self::Anchor { delta } => anchor_loss(rewards, *delta),
            Self::Chip { tok_beta } => {
                let divergences = (*tok_beta != 0.0).then(|| inputs.divergences());
                chip_loss(rewards, divergences, beta, *tok_beta)
            }
            Self::Symmpo { lambda, consistency } => symmpo_loss(rewards, beta, *lambda, *consistency),
            Self::Sft => sft_loss(whole, inputs.lengths()),
            Self::Sum { terms } => sum::forward(terms, inputs),
        }
    }

    fn validate(&self) -> Result<(), LossError> {
        let check = LossError::check;
        match self {
            Self::ExoPair { label_smoothing: eps } => check(
                "loss.label_smoothing",
                *eps > 0.0 && *eps < 0.5,
                "above 0 and less than 0.5, as 0.001",
                *eps,
            ),
            Self::Sigmoid { label_smoothing: eps }
            | Self::SigmoidNorm { label_smoothing: eps }
            | Self::Robust { label_smoothing: eps }
            | Self::Aot { label_smoothing: eps }
            | Self::AotUnpaired { label_smoothing: eps } => check_smoothing(*eps),
            Self::Simpo { gamma, label_smoothing } => {
                check_smoothing(*label_smoothing)?;
                check("loss.gamma", fits_f32(*gamma), NUMBER, *gamma)
            }
            Self::Anchor { delta } => check("loss.delta", fits_f32(*delta), NUMBER, *delta),
            Self::Chip { tok_beta } => {
                check("loss.tok_beta", *tok_beta >= 0.0 && fits_f32(*tok_beta), AT_LEAST_0, *tok_beta)
            }
            Self::Symmpo { lambda, consistency } => {
                check("loss.lambda", *lambda >= 0.0 && fits_f32(*lambda), AT_LEAST_0, *lambda)?;
                let usable = *consistency >= 0.0 && fits_f32(*consistency);
                check("loss.consistency", usable, AT_LEAST_0, *consistency)
            }
            Self::Discopop { tau } => check("loss.tau", *tau > 0.0 && fits_f32(*tau), ABOVE_0, *tau),
            Self::Sum { terms } => sum::validate(terms),
            Self::Hinge | Self::Ipo | Self::NcaPair | Self::BcoPair | Self::SppoHard => Ok(()),
            Self::ApoZero | Self::ApoDown | Self::Conditional | Self::Sft => Ok(()),
        }
    }

    fn name(&self) -> String {
        self.to_string()
    }
}

fn check_smoothing(label_smoothing: f64) -> Result<(), LossError> {
    LossError::check(
        "loss.label_smoothing",
        (0.0..0.5).contains(&label_smoothing),
        "at least 0 and less than 0.5",
        label_smoothing,
    )
}
