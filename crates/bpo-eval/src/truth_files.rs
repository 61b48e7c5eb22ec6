//! The files that a ground truth is read from.

use std::path::PathBuf;

use crate::error::EvalError;
use crate::objects::ObjectTable;
use crate::truth::Truth;

/// The files that a ground truth and its object table are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TruthFiles {
    /// Objects of each image; see [`Truth::from_file`].
    pub truth: Option<PathBuf>,
    /// COCO annotations; see [`Truth::from_coco`].
    pub coco: Vec<PathBuf>,
    /// Objects and their synonyms; see [`ObjectTable::from_file`]. Without it the table has the names in
    /// the ground truth, and captions cannot be read.
    pub objects: Option<PathBuf>,
    /// Whether texts are read by the rules of CHAIR's published scorer; see
    /// [`ObjectTable::as_published`]. It needs `objects`.
    pub as_published: bool,
}

impl TruthFiles {
    /// Reads the files and merges them.
    ///
    /// # Errors
    /// Returns the errors of [`Truth::from_file`], [`Truth::from_coco`] and
    /// [`ObjectTable::from_file`].
    pub fn read(&self) -> Result<(ObjectTable, Truth), EvalError> {
        let table = match &self.objects {
            None => ObjectTable::default(),
            Some(path) if self.as_published => ObjectTable::as_published_from_file(path)?,
            Some(path) => ObjectTable::from_file(path)?,
        };
        let mut truth = self.truth.as_deref().map(Truth::from_file).transpose()?.unwrap_or_default();
        for path in &self.coco {
            truth.merge(Truth::from_coco(path, &table)?);
        }
        let table = if self.objects.is_some() { table } else { ObjectTable::of_names(truth.objects())? };
        Ok((table, truth))
    }
}
