//! An input is never an output: the paths of a command, compared before it starts.

use std::path::{Component, Path, PathBuf};

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::run_dir::RunDir;

/// What a command reads and what it would write, replace or remove.
///
/// ```no_run
/// # use std::path::Path;
/// # use bpo::Paths;
/// let mut paths = Paths::default();
/// paths.input("--adapter", Path::new("run/adapter")).input("model.path", Path::new("llava"));
/// paths.output("--out", Path::new("merged"));
/// paths.check()?;
/// # Ok::<(), bpo::BpoError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Paths {
    inputs: Vec<Used>,
    outputs: Vec<Used>,
}

/// A path, and the setting or flag that names it.
#[derive(Clone, Debug)]
struct Used {
    name: String,
    path: PathBuf,
    /// A directory with files of all kinds, in which others may be made.
    is_shared: bool,
}

impl Used {
    fn new(name: impl Into<String>, path: &Path) -> Self {
        Self { name: name.into(), path: path.to_owned(), is_shared: false }
    }
}

impl Paths {
    /// A file or directory that is read. Nothing is written in such a directory.
    pub fn input(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        self.inputs.push(Used::new(name, path));
        self
    }

    /// A directory of which only named files are read, as an image root is. Other files may be written in it.
    pub fn shared_input(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        self.inputs.push(Used { is_shared: true, ..Used::new(name, path) });
        self
    }

    /// A file or directory that is written, replaced or removed, with what is in it.
    pub fn output(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        self.outputs.push(Used::new(name, path));
        self
    }

    /// A file that is written whole: beside it lies `FILE.part` until then.
    pub fn output_file(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        let name = name.into();
        self.output(name.clone(), path).output(name, &with_suffix(path, ".part"))
    }

    /// What the settings read, whatever the stage: checkpoints, adapters, data, images.
    pub fn inputs_of(&mut self, config: &RunConfig) -> &mut Self {
        let paths = [
            ("model.path", &config.model.path),
            ("model.adapter", &config.model.adapter),
            ("data.path", &config.data.path),
            ("data.eval_pairs", &config.data.eval_pairs),
            ("reference.path", &config.reference.path),
            ("reference.adapter", &config.reference.adapter),
        ];
        for (key, path) in paths {
            if let Some(path) = path {
                self.input(key, path);
            }
        }
        if let Some(images) = &config.data.images {
            self.shared_input("data.images", images);
        }
        self
    }

    /// What training writes in the directory `out`, and the cache of the settings, which is read there too.
    pub fn outputs_of_training(&mut self, config: &RunConfig, out: &Path) -> &mut Self {
        for path in RunDir::outputs_of_training(out) {
            self.output("--out", &path);
        }
        if let Some(cache) = &config.reference.cache {
            // read and written, and so none of the other outputs
            self.input("reference.cache", cache);
            self.outputs.extend([Used::new("reference.cache", cache)]);
            self.output("reference.cache", &with_suffix(cache, ".part"));
        }
        self
    }

    /// What all stages write in the directory `out`.
    pub fn outputs_of_run(&mut self, config: &RunConfig, out: &Path) -> &mut Self {
        for path in RunDir::outputs_of_stages(out) {
            self.output("--out", &path);
        }
        self.outputs_of_training(config, out)
    }

    /// Compares each input with each output, links resolved. Nothing is touched.
    ///
    /// # Errors
    /// [`BpoError::InputIsOutput`] for the first two of which one is, or is in, the other.
    pub fn check(&self) -> Result<(), BpoError> {
        let resolved = |used: &Used| resolve(&used.path).map(|path| (used.clone(), path));
        let inputs = self.inputs.iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
        let outputs = self.outputs.iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
        for (output, written) in &outputs {
            for (input, read) in &inputs {
                let same = input.name == output.name;
                let overlap = read.starts_with(written)
                    || (written.starts_with(read) && !input.is_shared)
                    || is_same_file(read, written);
                if overlap && !same {
                    return Err(BpoError::InputIsOutput {
                        input: input.name.clone(),
                        read: input.path.clone(),
                        output: output.name.clone(),
                        written: output.path.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Whether two paths lead to one file that is there, as hard links do.
fn is_same_file(one: &Path, other: &Path) -> bool {
    one.is_file() && other.is_file() && same_file::is_same_file(one, other).unwrap_or(false)
}

/// The path without links, as far as it is there.
fn resolve(path: &Path) -> Result<PathBuf, BpoError> {
    let absolute = std::path::absolute(path).map_err(BpoError::io("find", path))?;
    let mut resolved = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            other => resolved.push(other),
        }
        // a part that is not there has no links
        resolved = resolved.canonicalize().unwrap_or(resolved);
    }
    Ok(resolved)
}

/// `PATH` with something at its end.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn overlaps_are_found_whatever_the_paths_look_like() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("w/model")).unwrap();
        fs::write(at("w/model/config.json"), "{}").unwrap();
        fs::write(at("eval.jsonl"), "{}").unwrap();
        fs::hard_link(at("eval.jsonl"), at("w/eval.jsonl")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("w"), at("link")).unwrap();
        let check = |input: &str, output: &str| {
            let mut paths = Paths::default();
            paths.input("in", &at(input)).output("out", &at(output));
            paths.check().is_ok()
        };
        assert!(!check("w/model", "w/model"));
        assert!(!check("w/model/config.json", "w/model"));
        assert!(!check("w/model", "w/model/cache.safetensors"));
        assert!(!check("w/../w/./model", "w/model"));
        assert!(!check("eval.jsonl", "w/eval.jsonl"), "a hard link");
        assert!(!check("none/yet", "none"));
        #[cfg(unix)]
        assert!(!check("link/model", "w/model"));
        assert!(check("w/model", "w/model.partial"));
        assert!(check("w/model", "w/adapter"));
        let mut paths = Paths::default();
        paths.shared_input("images", &at("w")).output("out", &at("w/run/adapter"));
        paths.check().unwrap();
        paths.output("out", &at("w")).check().unwrap_err();
    }
}
