//! Copies the files of a checkpoint besides its weights.

use std::path::Path;

use bpo_pairs::files::{copy_files, create_parents, write_bytes};

use crate::error::ModelError;
use crate::json::{optional, read_plain};
use crate::processor::{ADDITIONAL_TEMPLATE, READ};

/// Copies files of a checkpoint, and warns of links that lead out of it. Those with the names of
/// files that a model is read from are followed.
///
/// # Errors
/// If the directory cannot be listed or a file cannot be copied.
pub(crate) fn copy_small_files(
    dir: &Path,
    out: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<(), ModelError> {
    let is_read = |name: &Path| READ.iter().any(|read| name == Path::new(read));
    let left_out = copy_files(dir, out, &wanted, is_read)?;
    if !left_out.is_empty() {
        tracing::warn!(files = ?left_out, "links that lead out of the checkpoint are not copied");
    }
    if let Some(template) = optional(read_plain(&dir.join(ADDITIONAL_TEMPLATE)))?
        && wanted(Path::new(ADDITIONAL_TEMPLATE))
    {
        let to = out.join(ADDITIONAL_TEMPLATE);
        create_parents(&to)?;
        write_bytes(&to, template.as_bytes())?;
    }
    Ok(())
}
