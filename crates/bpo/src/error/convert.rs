//! Conversions into [`BpoError`], which name the table of a setting, and helpers that make errors.

use std::collections::HashSet;
use std::path::Path;

#[cfg(feature = "model")]
use bpo_dpo::DpoError;
use bpo_pairs::Skipped;

use super::BpoError;

#[cfg(feature = "model")]
impl From<DpoError> for BpoError {
    /// Prefixes the keys of settings with `train.`.
    fn from(error: DpoError) -> Self {
        match error {
            DpoError::Setting { key, expected, found } => {
                Self::Setting { key: format!("train.{key}").into(), expected, found }
            }
            DpoError::Conflict { key, with, reason } => {
                Self::Conflict { key: format!("train.{key}").into(), with, reason }
            }
            DpoError::NothingToEvaluate => Self::NothingToEvaluate,
            source @ DpoError::InitialMismatch { .. } => Self::InitialMismatch { source },
            error @ (DpoError::UnknownKind { .. } | DpoError::EmptyGroup { .. }) => {
                Self::InTable { table: "train", source: error.into() }
            }
            error => Self::Dpo(error),
        }
    }
}

#[cfg(feature = "model")]
impl From<bpo_model::ModelError> for BpoError {
    /// Prefixes the keys of settings with the name of their table.
    fn from(error: bpo_model::ModelError) -> Self {
        match error {
            error @ (bpo_model::ModelError::TargetPattern { .. }
            | bpo_model::ModelError::ModulesToSave { .. }) => {
                Self::InTable { table: "lora", source: error.into() }
            }
            error @ bpo_model::ModelError::Setting { key: "gradient_checkpointing", .. } => {
                Self::in_table("model", error)
            }
            error => Self::in_table("lora", error),
        }
    }
}

impl From<bpo_inject::InjectError> for BpoError {
    /// Prefixes the keys of settings with `inject.llm.`.
    fn from(error: bpo_inject::InjectError) -> Self {
        match error {
            bpo_inject::InjectError::Setting { key, expected, found } => {
                Self::Setting { key: format!("inject.llm.{key}").into(), expected, found }
            }
            error => Self::Inject(error),
        }
    }
}

impl BpoError {
    /// Prefixes the key of a setting with `table`.
    #[cfg(feature = "model")]
    pub(crate) fn in_table(table: &str, error: bpo_model::ModelError) -> Self {
        match error {
            bpo_model::ModelError::Setting { key, expected, found } => {
                Self::Setting { key: format!("{table}.{key}").into(), expected, found }
            }
            error => Self::Model(error),
        }
    }

    /// Returns a function for `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl BpoError {
    /// Returns the [combination](Self::combine) of `problems`, if there are any.
    ///
    /// # Errors
    /// Returns an error if there is a problem.
    pub(crate) fn all(problems: Vec<Self>) -> Result<(), Self> {
        let mut problems = problems.into_iter();
        problems.next().map_or(Ok(()), |first| Err(Self::combine(first, problems)))
    }

    /// Combines problems into one error: the only problem, or [`BpoError::Preflight`]. A problem
    /// that several checks found is named once.
    pub(crate) fn combine(first: Self, more: impl IntoIterator<Item = Self>) -> Self {
        let flat = std::iter::once(first).chain(more).flat_map(|problem| match problem {
            Self::Preflight { problems } => problems,
            problem => vec![problem],
        });
        let mut known = HashSet::new();
        let mut problems: Vec<Self> = flat.filter(|problem| known.insert(super::chain(problem))).collect();
        if problems.len() == 1 { problems.swap_remove(0) } else { Self::Preflight { problems } }
    }

    /// Creates the error for a file without usable records, of which `items` were skipped.
    pub fn nothing(path: &Path, what: &'static str, items: &[Skipped]) -> Self {
        let (path, skipped) = (path.to_owned(), items.iter().collect());
        match items.first() {
            None => Self::Nothing { path, what, skipped },
            Some(first) => Self::NothingUsable { path, what, skipped, first: Box::new(first.clone()) },
        }
    }
}
