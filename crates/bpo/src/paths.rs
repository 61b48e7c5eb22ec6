//! Check that no output of a command overwrites one of its inputs or another output.

use std::path::{Component, Path, PathBuf};

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::run_dir::RunDir;

/// The paths that a command reads, and those that it writes, replaces or removes.
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

/// A path with the name of its setting or flag.
#[derive(Clone, Debug)]
struct Used {
    name: String,
    path: PathBuf,
    /// Path of the setting or flag; `path` is the same, or below or beside it.
    given: PathBuf,
    /// Whether the input is a directory in which other files can be written.
    is_shared: bool,
}

impl Used {
    fn new(name: impl Into<String>, path: &Path) -> Self {
        Self { name: name.into(), path: path.to_owned(), given: path.to_owned(), is_shared: false }
    }
}

impl Paths {
    /// Adds a file or directory that is read. Nothing can be written in such a directory.
    pub fn input(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        self.inputs.push(Used::new(name, path));
        self
    }

    /// Adds a directory of which only some files are read, such as an image root. Other files can
    /// be written in it.
    pub fn shared_input(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        self.inputs.push(Used { is_shared: true, ..Used::new(name, path) });
        self
    }

    /// Adds a file or directory that is written, replaced or removed, with everything in it.
    pub fn output(&mut self, name: impl Into<String>, path: &Path) -> &mut Self {
        self.outputs.push(Used::new(name, path));
        self
    }

    /// Adds a file or directory that is written below or beside the output `given`.
    pub fn output_for(&mut self, name: impl Into<String>, given: &Path, path: &Path) -> &mut Self {
        self.outputs.push(Used { given: given.to_owned(), ..Used::new(name, path) });
        self
    }

    /// Adds all inputs in the settings, for any stage: checkpoints, adapters, data and images.
    pub fn inputs_of(&mut self, config: &RunConfig) -> &mut Self {
        let paths = [
            ("model.path", &config.model.path),
            ("model.adapter", &config.model.adapter),
            ("data.path", &config.data.path),
            ("data.eval_pairs", &config.data.eval_pairs),
            ("reference.path", &config.reference.path),
            ("reference.adapter", &config.reference.adapter),
            ("inject.model", &config.inject.model),
            ("inject.llm.templates.path", &config.inject.llm.templates.path),
            ("judge.prompts", &config.judge.prompts),
        ];
        for (key, path) in paths {
            if let Some(path) = path {
                self.input(key, path);
            }
        }
        for (key, path) in config.truth.files() {
            self.input(key, path);
        }
        if let Some(images) = &config.data.images {
            self.shared_input("data.images", images);
        }
        self
    }

    /// Adds the outputs of training in the directory `out`, and the reference cache of the
    /// settings, which is also an input.
    pub fn outputs_of_training(&mut self, config: &RunConfig, out: &Path) -> &mut Self {
        for path in RunDir::outputs_of_training(out) {
            self.output_for("--out", out, &path);
        }
        if let Some(cache) = &config.reference.cache {
            // an input too, so that no other output overwrites it
            self.input("reference.cache", cache);
            self.outputs.extend([Used::new("reference.cache", cache)]);
        }
        self
    }

    /// Adds the outputs of all stages in the directory `out`.
    pub fn outputs_of_run(&mut self, config: &RunConfig, out: &Path) -> &mut Self {
        for path in RunDir::outputs_of_stages(out) {
            self.output_for("--out", out, &path);
        }
        self.outputs_of_training(config, out)
    }

    /// Compares each output with each input and with the other outputs, after resolving links. Nothing
    /// is written.
    ///
    /// # Errors
    /// Returns [`BpoError::InputIsOutput`] for the first input and output that are the same or
    /// contain one another, or [`BpoError::SameOutput`] for the first two outputs of different
    /// settings that are the same.
    pub fn check(&self) -> Result<(), BpoError> {
        let resolved = |used: &Used| {
            let path = resolve(&used.path).map_err(BpoError::io("find", &used.path))?;
            Ok::<_, BpoError>((used.clone(), path))
        };
        let inputs = self.inputs.iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
        let outputs = self.outputs.iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
        for (number, (output, written)) in outputs.iter().enumerate() {
            let is_same = |(other, path): &&(Used, PathBuf)| {
                other.name != output.name && (path == written || is_same_file(path, written))
            };
            if let Some((other, _)) = outputs[..number].iter().find(is_same) {
                let (first, second) = (other.name.clone(), output.name.clone());
                return Err(BpoError::SameOutput { first, second, path: output.path.clone() });
            }
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
                        given: output.given.clone().into(),
                        written: output.path.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Returns whether two paths lead to the same existing file, which includes hard links.
fn is_same_file(one: &Path, other: &Path) -> bool {
    one.is_file() && other.is_file() && same_file::is_same_file(one, other).unwrap_or(false)
}

/// Resolves links in a path. Components that do not exist are kept.
pub(crate) fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut resolved = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            other => resolved.push(other),
        }
        // a component that does not exist is not a link
        resolved = resolved.canonicalize().unwrap_or(resolved);
    }
    Ok(resolved)
}

/// Appends a suffix to the last component of a path.
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
    fn overlapping_paths_are_found_in_any_spelling() {
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

    #[test]
    fn two_outputs_are_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        let check = |name: &str| {
            let mut paths = Paths::default();
            paths.output("--out", &at("a")).output("--eval-out", &at(name)).check()
        };
        for same in [
            "a",
            "./a",
            "hard",
            #[cfg(unix)]
            "link",
        ] {
            assert!(matches!(check(same), Err(BpoError::SameOutput { .. })), "{same}");
        }
        check("b").unwrap();
        // parts of one output may be named twice
        Paths::default().output("--out", &at("a")).output("--out", &at("a")).check().unwrap();
    }
}
