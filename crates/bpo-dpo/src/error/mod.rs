//! Errors of the trainer.

mod details;

use std::error::Error;
use std::path::{Path, PathBuf};

use bpo_pairs::{CompletionKind, Skipped, Untrusted, UntrustedPath};

pub use details::{ConfigChange, Mismatch, Stale};
use details::{file_name, first, list, list_with_verb};

/// An error of any type, as the source of a [`DpoError`].
pub type Source = Box<dyn Error + Send + Sync + 'static>;

/// An error of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DpoError {
    /// A setting is outside its range.
    #[error("`{key}` must be {expected}, not {}", Untrusted(found))]
    Setting {
        /// Name of the setting, as in [`DpoConfig`](crate::DpoConfig).
        key: &'static str,
        /// The values that are allowed.
        expected: &'static str,
        /// The value that was found.
        found: String,
    },
    /// Two settings cannot be combined.
    #[error("`{key}` cannot be combined with {}: {reason}", Untrusted(with))]
    Conflict {
        /// Name of the setting, as in [`DpoConfig`](crate::DpoConfig).
        key: &'static str,
        /// The other setting, with its value.
        with: String,
        /// The reason why they cannot be combined.
        reason: &'static str,
    },
    /// `kind_weights` has a kind that no pair has.
    #[error("`kind_weights` has `{}`, and no pair is of that kind; there are: {}", Untrusted(kind.as_str()), list(.kinds))]
    UnknownKind {
        /// The kind that no pair has.
        kind: CompletionKind,
        /// The kinds that the pairs have.
        kinds: Vec<CompletionKind>,
    },
    /// A learning-rate group has no trainable parameter.
    #[error("learning-rate group `{}` matches no trainable parameter; there are: {}", Untrusted(group), list(.parameters))]
    EmptyGroup {
        /// The `path` of the group.
        group: String,
        /// Paths of the trainable parameters.
        parameters: Vec<String>,
    },
    /// The policy has no parameter that requires a gradient.
    #[error("the policy has no trainable parameter: attach an adapter, or unfreeze some of it")]
    NothingToTrain,
    /// There is no pair to train on.
    #[error("no pair to train on ({} skipped{})", skipped.len(), first(.skipped))]
    NoPairs {
        /// Pairs that cannot be used.
        skipped: Vec<Skipped>,
    },
    /// The collator cannot prepare pairs.
    #[error("cannot prepare {}", list(.pairs))]
    Collate {
        /// Ids of the pairs in the batch.
        pairs: Vec<String>,
        /// The error of the collator.
        source: Source,
    },
    /// The policy returned log-probabilities, or the collator lengths, for a wrong number of
    /// completions.
    #[error("policy or collator gave {found} rows for {expected} completions, in the batch of {}", list(.pairs))]
    Rows {
        /// Number of completions in the batch.
        expected: usize,
        /// Number of returned rows.
        found: usize,
        /// Ids of the pairs in the batch.
        pairs: Vec<String>,
    },
    /// The loss does not depend on any trainable parameter.
    #[error("the policy's log-probabilities do not depend on its trainable parameters, in the batch of {}", list(.pairs))]
    Untracked {
        /// Ids of the pairs in the batch.
        pairs: Vec<String>,
    },
    /// The loss needs weakened images, which the collator does not make.
    #[error("the loss needs weakened images, and the collator makes none (`Collate::weakenings`)")]
    NothingWeakened,
    /// `reference_sync` is set for a reference that cannot follow the policy.
    #[error(
        "`reference_sync` needs a reference that is a model of its own (`Reference::Start` or `Reference::Frozen`)"
    )]
    ReferenceStands,
    /// `reference_sync` is set for a reference that lacks the trained parameters.
    #[error(
        "the reference cannot follow the policy (`reference_sync`), whose trained parameters it should have: {mismatch}"
    )]
    ReferenceUnlike {
        /// The differences.
        mismatch: Mismatch,
    },
    /// A cache of the reference's log-probabilities is stale.
    #[error("{} is stale: {}; delete it to rebuild it", UntrustedPath(path), list(.changes))]
    ReferenceChanged {
        /// The file.
        path: PathBuf,
        /// The differences.
        changes: Vec<ConfigChange>,
    },
    /// A pair has changed since the log-probabilities of the reference were computed.
    #[error("{}: {what} of pair {} changed since the file was written; delete it to rebuild it", file_name(.path), Untrusted(pair))]
    StaleReference {
        /// The file of the cache, if it was read from one.
        path: Option<PathBuf>,
        /// Id of the pair.
        pair: String,
        /// The part that has changed.
        what: Stale,
    },
    /// The cache does not have the log-probabilities of a pair.
    #[error("{} has no log-probabilities for pair {}", file_name(.path), Untrusted(pair))]
    NotInReference {
        /// The file of the cache, if it was read from one.
        path: Option<PathBuf>,
        /// Id of the pair.
        pair: String,
    },
    /// A file is not a cache of reference log-probabilities.
    #[error("{} is no cache of a reference's log-probabilities: {}", UntrustedPath(path), Untrusted(reason))]
    ReferenceFile {
        /// The file.
        path: PathBuf,
        /// The defect.
        reason: String,
    },
    /// A setting needs evaluations, but there are no pairs to evaluate on.
    #[error(
        "`keep_best` and `patience` need pairs to evaluate on: set `eval_fraction`, or give some (`with_eval_pairs`)"
    )]
    NothingToEvaluate,
    /// The loss or the weighting needs token statistics, which the policy does not return.
    #[error(
        "the loss or the weighting needs statistics of each token's distribution, and the policy gives none \
         (`Policy::token_statistics`)"
    )]
    NoStatistics,
    /// The tokens of completions are compared, which the collator does not give.
    #[error(
        "`changed_token_weight` needs the tokens of the answers, and the collator gives none (`Collate::completions`)"
    )]
    NoCompletionTokens,
    /// The loss needs the divergences from the reference, which the policy does not compute.
    #[error(
        "the loss needs the divergence from the reference at each token, and the policy computes none \
         (`Policy::token_divergences`)"
    )]
    NoDivergences,
    /// The loss needs the distributions of the reference, which a cache does not have.
    #[error(
        "the loss compares the whole distributions of policy and reference at each token, and a cached reference \
         (`reference.cache`) has the log-probabilities of the answers alone: use no cache, or set `tok_beta` of the loss \
         to 0"
    )]
    CacheWithoutDistributions,
    /// The loss compares the distributions of policy and reference, which are over different
    /// numbers of tokens.
    #[error(
        "the loss compares the distributions of policy and reference at each token, and the reference has {found} tokens \
         in its output, not {expected} as the policy"
    )]
    Vocabulary {
        /// Number of tokens in the output of the policy.
        expected: usize,
        /// Number of tokens in the output of the reference.
        found: usize,
    },
    /// Policy and reference differ before the first step.
    #[error(
        "before the first step the policy must equal its reference: loss {loss:.6} (expected {expected_loss:.6}), largest \
         margin {margin:.2e} (pair {pair}), both within {tolerance:e}. Possible causes: the reference is another model, or the \
         adapter not fresh (if this is intended, set `reference_differs`); the adapter is not switched off for the reference, \
         dropout is on, adapters have noise, or the two passes compute in low precision by different kernels (then widen `initial_tolerance`)",
        pair = Untrusted(pair)
    )]
    InitialMismatch {
        /// Mean loss of the first step.
        loss: f64,
        /// Mean loss of a policy that equals its reference.
        expected_loss: f64,
        /// The largest absolute difference between a chosen and a rejected reward.
        margin: f64,
        /// Id of the pair with this margin.
        pair: String,
        /// The tolerance for the loss and the margin.
        tolerance: f64,
    },
    /// The loss or gradient of too many consecutive steps was not finite.
    #[error("{count} steps in a row up to step {step} had a loss or gradient that is not finite; last pairs: {}", list(.pairs))]
    NotFinite {
        /// Number of consecutive steps.
        count: usize,
        /// The last of these steps.
        step: usize,
        /// Ids of the pairs of the last step.
        pairs: Vec<String>,
    },
    /// No pair of too many consecutive steps could be prepared.
    #[error(
        "no pair of {count} steps in a row up to step {step} could be prepared ({} skipped{}): check that the images are still there",
        skipped.len(), first(.skipped)
    )]
    NothingPrepared {
        /// Number of consecutive steps.
        count: usize,
        /// The last of these steps.
        step: usize,
        /// Pairs that passed the check and could not be prepared.
        skipped: Vec<Skipped>,
    },
    /// The preparation of batches ended before the training did.
    #[error("the thread that prepares batches has ended")]
    NoBatch,
    /// The thread of a further device ended before the training did.
    #[error("the thread of a further device has ended")]
    NoReplica,
    /// Each further device needs a thread of its own.
    #[error("{devices} devices cannot train on one thread: call `Training::run`")]
    DevicesOnOneThread {
        /// Number of devices.
        devices: usize,
    },
    /// Every checkpoint of a run directory is damaged.
    #[error(
        "none of the {count} checkpoints in {} is intact; the newest: {newest}. Restore one of them, or remove the directory to \
         train from the start",
        UntrustedPath(path), newest = Untrusted(newest)
    )]
    NoIntactCheckpoint {
        /// The directory of checkpoints.
        path: PathBuf,
        /// Number of checkpoints.
        count: usize,
        /// The defect of the newest checkpoint.
        newest: String,
    },
    /// A checkpoint has changed since it was written.
    #[error("{} is damaged: {}", UntrustedPath(path), Untrusted(reason))]
    Damaged {
        /// The checkpoint, or a file in it.
        path: PathBuf,
        /// The defect.
        reason: String,
    },
    /// Parameters or optimizer state that would be saved are not finite.
    #[error(
        "{} not finite{}, so nothing is saved: lower the learning rate, and check the other settings of the optimizer and the \
         base model's weights",
        list_with_verb(.names), step.map_or_else(String::new, |step| format!(" after step {step}"))
    )]
    NotFiniteTensors {
        /// Number of optimizer steps before, if known.
        step: Option<usize>,
        /// Paths of the parameters.
        names: Vec<String>,
    },
    /// Stored parameters or optimizer state do not match the policy.
    #[error("the {what} in {} does not fit the policy: {mismatch}", file_name(.path))]
    Mismatch {
        /// The kind of data that was loaded.
        what: &'static str,
        /// The file, if the data was read from one.
        path: Option<PathBuf>,
        /// The differences.
        mismatch: Mismatch,
    },
    /// Bytes are not in the safetensors format.
    #[error("{} is not readable as safetensors", file_name(.path))]
    Safetensors {
        /// The file, if the data was read from one.
        path: Option<PathBuf>,
        /// The defect.
        source: safetensors::SafeTensorError,
    },
    /// A parameter has an element type that checkpoints do not support.
    #[error(
        "`{}` has elements of type {}; checkpoints hold f64, f32, f16 and bf16",
        Untrusted(name),
        Untrusted(found)
    )]
    ElementType {
        /// Path of the parameter.
        name: String,
        /// Its element type.
        found: String,
    },
    /// The checkpoint was written with other settings.
    #[error("{} was made with other settings: {}", UntrustedPath(path), list(.changes))]
    ConfigChanged {
        /// The checkpoint.
        path: PathBuf,
        /// The settings that differ.
        changes: Vec<ConfigChange>,
    },
    /// The checkpoint was written with other pairs.
    #[error(
        "{} was made with other pairs (fingerprint {expected}, these have {found}): train into another directory, or \
         restore the pairs and the images that it was made with",
        UntrustedPath(path), expected = Untrusted(expected), found = Untrusted(found)
    )]
    DataChanged {
        /// The checkpoint.
        path: PathBuf,
        /// Fingerprint in the checkpoint.
        expected: String,
        /// Fingerprint of the current pairs.
        found: String,
    },
    /// The sampler failed.
    #[error("cannot sample after step {step}")]
    Sample {
        /// Number of steps before the sample.
        step: usize,
        /// The error of the sampler.
        source: Source,
    },
    /// A JSON file cannot be parsed.
    #[error("{}", UntrustedPath(path))]
    Json {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", UntrustedPath(path))]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file or directory cannot be opened, written, replaced or removed.
    #[error(transparent)]
    File(#[from] bpo_pairs::files::FileError),
    /// An error of `bpo-pairs`.
    #[error(transparent)]
    Pairs(Box<bpo_pairs::PairsError>),
    /// The device failed while results were read from it.
    #[error("cannot read {what} from the device")]
    Device {
        /// The results that were read.
        what: &'static str,
        /// The error of the device.
        source: Source,
    },
}

impl DpoError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn device<S: Into<Source>>(what: &'static str) -> impl FnOnce(S) -> Self {
        move |source| Self::Device { what, source: source.into() }
    }

    /// Adds the step to an error.
    pub(crate) fn at_step(mut self, at: usize) -> Self {
        if let Self::NotFiniteTensors { step, .. } = &mut self {
            *step = Some(at);
        }
        self
    }

    /// Adds the file to an error.
    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        if let Self::Mismatch { path, .. } | Self::Safetensors { path, .. } = &mut self {
            *path = Some(file.to_owned());
        }
        self
    }
}
