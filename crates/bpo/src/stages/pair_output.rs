//! The files of the pair stage, which are written or compared pair by pair.

use std::io::Write;
use std::path::{Path, PathBuf};

use bpo_pairs::files::{FileError, create_parents, write_atomic};
use bpo_pairs::format::jsonl::read_pairs;
use bpo_pairs::{PairSet, PreferencePair};

use super::pair::ExistingPairs;
use crate::error::BpoError;
use crate::ledger::has_content;

/// A file of pairs: a new one, or one that is compared with the pairs.
pub(super) enum Output<'a> {
    New { path: &'a Path, writer: &'a mut dyn Write },
    Existing { path: PathBuf, set: PairSet, count: usize, differs: bool },
}

impl Output<'_> {
    /// Opens `path` for `use_it`. A new file is there when `use_it` has returned without an error.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written, and the errors of `use_it`.
    pub(super) fn with<R>(
        path: &Path,
        use_it: impl FnOnce(&mut Output<'_>) -> Result<R, BpoError>,
    ) -> Result<R, BpoError> {
        if has_content(path) {
            let set = read_pairs(path)?;
            return use_it(&mut Output::Existing { path: path.to_owned(), set, count: 0, differs: false });
        }
        create_parents(path)?;
        write_atomic(path, |writer| use_it(&mut Output::New { path, writer }))
    }

    /// Writes or compares a pair.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn add(&mut self, pair: &PreferencePair) -> Result<(), BpoError> {
        match self {
            Self::New { path, writer } => {
                let mut line = serde_json::to_vec(pair)
                    .map_err(|source| BpoError::Json { path: path.to_path_buf(), source })?;
                line.push(b'\n');
                Ok(writer.write_all(&line).map_err(FileError::io("write", path))?)
            }
            Self::Existing { set, count, differs, .. } => {
                *differs |= set.pairs.get(*count) != Some(pair);
                *count += 1;
                Ok(())
            }
        }
    }

    /// Returns the pairs and the skipped records of an existing file, or `None` for a new one.
    ///
    /// # Errors
    /// Returns [`BpoError::Differs`] if the pairs of the file are others and `existing` refuses that.
    pub(super) fn finish(&mut self, existing: ExistingPairs) -> Result<Option<PairSet>, BpoError> {
        let Self::Existing { path, set, count, differs } = self else { return Ok(None) };
        let set = std::mem::take(set);
        if *differs || set.pairs.len() != *count {
            if existing == ExistingPairs::Refuse {
                return Err(BpoError::Differs {
                    path: path.clone(),
                    in_file: set.pairs.len(),
                    from_answers: *count,
                });
            }
            tracing::warn!(file = %path.display(), "the pairs in the file differ from those of the answers; those in the file are used");
        }
        Ok(Some(set))
    }
}
