//! Preference losses: pure functions, one value for each pair.
//!
//! Each loss has a file with its equation. Most are functions of the [`Rewards`] of a pair's completions; [`Loss`] selects
//! one by the name that TRL has for it, and an [`Objective`] is a loss with the coefficient, divergence and reference that
//! the rewards are made with. To add a loss: a file with a function, a variant here, and its rows of the golden table in
//! `tests/suite/loss.rs`.

mod aot;
mod apo;
mod bco;
mod beta;
mod discopop;
mod divergence;
mod exo;
mod hinge;
mod ipo;
mod mdpo;
mod named;
mod nca;
mod objective;
mod rewards;
mod robust;
mod sft;
mod sigmoid;
mod simpo;
mod sppo;
mod wpo;

pub use aot::{aot_loss, aot_unpaired_loss};
pub use apo::{apo_down_loss, apo_zero_loss};
pub use bco::bco_loss;
pub use beta::Beta;
pub use discopop::discopop_loss;
pub use divergence::Divergence;
pub use exo::exo_loss;
pub use hinge::hinge_loss;
pub use ipo::ipo_loss;
pub use mdpo::{anchor_loss, conditional_loss};
pub use nca::nca_loss;
pub use objective::{LossOutput, Objective, PerPair};
pub use rewards::Rewards;
pub use robust::robust_loss;
pub use sft::sft_loss;
pub use sigmoid::sigmoid_loss;
pub use simpo::simpo_loss;
pub use sppo::sppo_loss;
pub use wpo::wpo_weights;

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::DpoError;
use crate::logps::PairLogps;
use crate::numbers::{ABOVE_0, NUMBER, fits_f32};
use objective::lengths;

/// Which loss to minimize, with the settings that only it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Loss {
    /// The loss of the DPO paper, see [`sigmoid_loss`].
    Sigmoid {
        /// Probability that a preference is the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// The sigmoid loss of rewards a token, see [`sigmoid_loss`].
    SigmoidNorm {
        /// Probability that a preference is the wrong way round.
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
        /// Probability that a preference is the wrong way round, above 0.
        #[serde(default = "exo_smoothing")]
        label_smoothing: f64,
    },
    /// See [`nca_loss`].
    #[serde(deserialize_with = "without_settings")]
    NcaPair,
    /// See [`robust_loss`].
    Robust {
        /// Probability that a preference is the wrong way round.
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
        /// Probability that a preference is the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`aot_unpaired_loss`].
    AotUnpaired {
        /// Probability that a preference is the wrong way round.
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
        /// Temperature of the change from logistic to exponential.
        #[serde(default = "discopop_tau")]
        tau: f64,
    },
    /// See [`simpo_loss`].
    Simpo {
        /// The margin to reach. TRL's default, 0.5.
        #[serde(default = "simpo_gamma")]
        gamma: f64,
        /// Probability that a preference is the wrong way round.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// See [`conditional_loss`]. The [collator](crate::policy::Collate::weakens) must weaken images.
    #[serde(deserialize_with = "without_settings")]
    Conditional,
    /// See [`anchor_loss`].
    Anchor {
        /// What the reward shall be above.
        #[serde(default)]
        delta: f64,
    },
    /// The likelihood of the chosen completions alone, see [`sft_loss`].
    #[serde(deserialize_with = "without_settings")]
    Sft,
    /// Several losses at once, `L = sum_i w_i L_i`, as in MPO (Wang et al., arXiv 2411.10442, equation 1) and in TRL's
    /// lists of `loss_type` and `loss_weights`.
    Sum {
        /// At least one.
        terms: Vec<WeightedLoss>,
    },
}

/// A loss in a sum, and how much it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedLoss {
    /// Its factor.
    pub weight: f64,
    /// What is weighted.
    pub loss: Loss,
}

/// serde passes over any key of a variant that has none.
fn without_settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(deserializer).map(|Nothing {}| ())
}

/// The paper's.
fn exo_smoothing() -> f64 {
    1e-3
}

/// TRL's.
fn simpo_gamma() -> f64 {
    0.5
}

/// The paper's.
fn discopop_tau() -> f64 {
    0.05
}

impl Default for Loss {
    /// The sigmoid loss without smoothing, as BPO trains with it (arXiv 2403.08730).
    fn default() -> Self {
        Self::Sigmoid { label_smoothing: 0.0 }
    }
}

/// All that a loss can depend on.
pub(crate) struct Inputs<'a> {
    /// Log-probabilities of whole completions.
    whole: &'a PairLogps,
    /// The same, with less of what is behind the shorter completion's length.
    policy: &'a PairLogps,
    reference: Option<&'a PairLogps>,
    rewards: &'a Rewards,
    beta: &'a Beta,
}

impl Loss {
    /// The sigmoid loss with a term of weight `weight` that keeps the chosen answers likely.
    pub fn sigmoid_with_sft(weight: f64) -> Self {
        Self::Sum {
            terms: vec![WeightedLoss::new(1.0, Self::default()), WeightedLoss::new(weight, Self::Sft)],
        }
    }

    /// The loss of MPO: 0.8 of sigmoid, 0.2 of BCO and 1.0 of the chosen completions' likelihood (Wang et al.,
    /// arXiv 2411.10442, section 3.2), with [BCO](bco_loss) as TRL has it, without a running mean of rewards.
    pub fn mpo() -> Self {
        let terms = vec![
            WeightedLoss::new(0.8, Self::default()),
            WeightedLoss::new(0.2, Self::BcoPair),
            WeightedLoss::new(1.0, Self::Sft),
        ];
        Self::Sum { terms }
    }

    /// The loss of mDPO: sigmoid, conditional preference and anchor, each with weight 1 (Wang et al., arXiv 2406.11839).
    pub fn mdpo() -> Self {
        let losses = [Self::default(), Self::Conditional, Self::Anchor { delta: 0.0 }];
        Self::Sum { terms: losses.into_iter().map(|loss| WeightedLoss::new(1.0, loss)).collect() }
    }

    /// The name that it has in settings.
    pub fn name(&self) -> &'static str {
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
            Self::Sft => "sft",
            Self::Sum { .. } => "sum",
        }
    }

    /// Whether it depends on the rejected completions.
    pub fn needs_rejected(&self) -> bool {
        self.any(&|loss| !matches!(loss, Self::Sft | Self::Conditional | Self::Anchor { .. }))
    }

    /// Whether it depends on what the chosen completions are worth for a weakened image.
    pub fn needs_weakened(&self) -> bool {
        self.any(&|loss| matches!(loss, Self::Conditional))
    }

    /// Whether it depends on the reference.
    pub fn needs_reference(&self) -> bool {
        self.any(&|loss| !matches!(loss, Self::Sft | Self::Simpo { .. }))
    }

    /// Whether it is a mean over tokens, so that it needs [`lengths`](PairLogps::lengths).
    pub fn needs_lengths(&self) -> bool {
        use Loss::{Ipo, Sft, SigmoidNorm, Simpo};
        self.any(&|loss| matches!(loss, Sft | Ipo | SigmoidNorm { .. } | Simpo { .. }))
    }

    /// Whether a pair's loss depends on the other pairs of its forward pass.
    pub fn sorts(&self) -> bool {
        self.any(&|loss| matches!(loss, Self::Aot { .. } | Self::AotUnpaired { .. }))
    }

    /// Whether it is a function of the difference of the rewards, which can be held to a
    /// [margin](PerPair::margin). So are all terms of a sum that depend on rewards at all.
    pub fn takes_margins(&self) -> bool {
        use Loss::{Discopop, ExoPair, Hinge, Robust, Sigmoid, Sum};
        match self {
            Sum { terms } => {
                self.needs_rejected()
                    && terms
                        .iter()
                        .all(|WeightedLoss { loss, .. }| !loss.needs_rejected() || loss.takes_margins())
            }
            Sigmoid { .. } | Hinge | ExoPair { .. } | Robust { .. } | Discopop { .. } => true,
            _ => false,
        }
    }

    /// Whether it makes sense of another divergence than the reverse KL one (the same losses as in TRL).
    pub fn takes_divergence(&self) -> bool {
        use Loss::{
            Anchor, Conditional, Discopop, ExoPair, Hinge, Ipo, Robust, Sft, Sigmoid, SigmoidNorm, Sum,
        };
        match self {
            Sum { terms } => terms.iter().all(|term| term.loss.takes_divergence()),
            Sigmoid { .. } | SigmoidNorm { .. } | Hinge | Ipo | ExoPair { .. } => true,
            Robust { .. } | Discopop { .. } | Conditional | Anchor { .. } | Sft => true,
            _ => false,
        }
    }

    /// Whether what it compares is a completion's likelihood a token, with no reference.
    pub fn compares_likelihoods(&self) -> bool {
        match self {
            Self::Sum { terms } => {
                let mut terms = terms.iter().filter(|term| term.loss != Self::Sft).peekable();
                terms.peek().is_some() && terms.all(|term| term.loss.compares_likelihoods())
            }
            loss => matches!(loss, Self::Simpo { .. }),
        }
    }

    pub(crate) fn forward(&self, inputs: &Inputs<'_>) -> Tensor<1> {
        let Inputs { whole, policy, reference, rewards, beta } = *inputs;
        match self {
            Self::Sigmoid { label_smoothing } => sigmoid_loss(rewards, *label_smoothing),
            Self::SigmoidNorm { label_smoothing } => {
                sigmoid_loss(&rewards.per_token(lengths(whole)), *label_smoothing)
            }
            Self::Hinge => hinge_loss(rewards),
            Self::Ipo => ipo_loss(&rewards.per_token(lengths(whole)), beta),
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
                simpo_loss(policy, lengths(whole), beta, *gamma, *label_smoothing)
            }
            Self::Conditional => conditional_loss(rewards),
            Self::Anchor { delta } => anchor_loss(rewards, *delta),
            Self::Sft => sft_loss(whole, lengths(whole)),
            Self::Sum { terms } => {
                let weighted = terms.iter().map(|term| term.loss.forward(inputs).mul_scalar(term.weight));
                // without a term the loss is zero; `validate` refuses that
                weighted.reduce(|sum, term| sum + term).unwrap_or_else(|| policy.chosen.zeros_like())
            }
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`DpoError::Setting`] for a setting outside its range.
    pub fn validate(&self) -> Result<(), DpoError> {
        let check = |key, holds: bool, expected, found: f64| match holds {
            true => Ok(()),
            false => Err(DpoError::Setting { key, expected, found: found.to_string() }),
        };
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
            | Self::AotUnpaired { label_smoothing: eps } => smoothing(*eps),
            Self::Simpo { gamma, label_smoothing } => {
                smoothing(*label_smoothing)?;
                check("loss.gamma", fits_f32(*gamma), NUMBER, *gamma)
            }
            Self::Anchor { delta } => check("loss.delta", fits_f32(*delta), NUMBER, *delta),
            Self::Discopop { tau } => check("loss.tau", *tau > 0.0 && fits_f32(*tau), ABOVE_0, *tau),
            Self::Sum { terms } if terms.is_empty() => Err(DpoError::Setting {
                key: "loss.terms",
                expected: "at least one loss",
                found: "none".into(),
            }),
            Self::Sum { terms } => terms.iter().try_for_each(|WeightedLoss { weight, loss }| {
                check("loss.terms.weight", fits_f32(*weight), NUMBER, *weight)?;
                loss.validate()
            }),
            Self::Hinge | Self::Ipo | Self::NcaPair | Self::BcoPair | Self::SppoHard => Ok(()),
            Self::ApoZero | Self::ApoDown | Self::Conditional | Self::Sft => Ok(()),
        }
    }

    /// Whether something holds of it or of one of its terms.
    fn any(&self, holds: &impl Fn(&Self) -> bool) -> bool {
        match self {
            Self::Sum { terms } => terms.iter().any(|term| term.loss.any(holds)),
            loss => holds(loss),
        }
    }
}

impl WeightedLoss {
    /// A loss and its factor.
    pub fn new(weight: f64, loss: Loss) -> Self {
        Self { weight, loss }
    }
}

fn smoothing(label_smoothing: f64) -> Result<(), DpoError> {
    match (0.0..0.5).contains(&label_smoothing) {
        true => Ok(()),
        false => Err(DpoError::Setting {
            key: "loss.label_smoothing",
            expected: "at least 0 and less than 0.5",
            found: label_smoothing.to_string(),
        }),
    }
}
