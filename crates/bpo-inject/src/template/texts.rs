//! The texts of the prompts, from the program, from files and from settings.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::{FileError, read_text};

use crate::InjectError;

/// The built-in prompts by name.
const BUILT_IN: [(&str, &str); 9] = [
    ("description", include_str!("../templates/description.j2")),
    ("question-answer", include_str!("../templates/question-answer.j2")),
    ("object-added", include_str!("../templates/object-added.j2")),
    ("object-removed", include_str!("../templates/object-removed.j2")),
    ("object-swapped", include_str!("../templates/object-swapped.j2")),
    ("attribute", include_str!("../templates/attribute.j2")),
    ("count", include_str!("../templates/count.j2")),
    ("position", include_str!("../templates/position.j2")),
    ("text", include_str!("../templates/text.j2")),
];

/// Ending of prompt files.
const ENDING: &str = "j2";

/// The Jinja texts of prompts by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTexts(BTreeMap<&'static str, String>);

impl PromptTexts {
    /// Returns the built-in prompts of error injection.
    pub fn built_in() -> Self {
        Self::new(&BUILT_IN)
    }

    /// Creates prompts from pairs of a name and a text.
    pub fn new(texts: &[(&'static str, &str)]) -> Self {
        Self(texts.iter().map(|&(name, text)| (name, text.to_owned())).collect())
    }

    /// Iterates over the names and texts in alphabetical order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(&name, text)| (name, text.as_str()))
    }

    pub(super) fn set(&mut self, name: &'static str, text: String) {
        self.0.insert(name, text);
    }

    /// Replaces prompts by those of a directory, or by one file. The file `NAME.j2` replaces the prompt
    /// NAME. Files of a directory with another ending are ignored.
    ///
    /// # Errors
    /// Returns [`InjectError::UnknownTemplate`] for a file with the name of no prompt, or
    /// [`InjectError::TemplateFile`] if a file cannot be read.
    pub fn read(&mut self, path: &Path) -> Result<(), InjectError> {
        let failed = |source| InjectError::TemplateFile { source };
        if !path.is_dir() {
            return self.read_file(path);
        }
        let entries = path.read_dir().map_err(FileError::io("read", path)).map_err(failed)?;
        for entry in entries {
            let file = entry.map_err(FileError::io("read", path)).map_err(failed)?.path();
            if file.extension().is_some_and(|ending| ending == ENDING) {
                self.read_file(&file)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> Result<(), InjectError> {
        let stem = path.file_stem().filter(|_| path.extension().is_some_and(|ending| ending == ENDING));
        let Some(name) = self.0.keys().copied().find(|name| stem.is_some_and(|stem| stem == *name)) else {
            let known: Vec<String> = self.0.keys().map(|name| format!("{name}.{ENDING}")).collect();
            return Err(InjectError::UnknownTemplate { path: path.to_owned(), known: known.join(", ") });
        };
        let text = read_text(path, Limits::DEFAULT.template_bytes as u64)
            .map_err(|source| InjectError::TemplateFile { source })?;
        self.set(name, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{ErrorKind, PromptForm, TemplateConfig, Templates};

    #[test]
    fn every_kind_has_a_prompt_that_ends_with_the_answer() {
        let templates = Templates::new(&TemplateConfig::default()).unwrap();
        for kind in ErrorKind::ALL {
            let prompt = templates.render(kind, "<image>\nWhat is it?", " Two cups. ").unwrap();
            let end = "Question: What is it? Response: Two cups. Modified response:";
            assert!(prompt.ends_with(end) && !prompt.contains("<image>"), "{kind}: {prompt}");
        }
        assert_eq!(PromptTexts::built_in().iter().count(), ErrorKind::ALL.len() + 1);
    }

    #[test]
    fn a_directory_and_a_file_replace_prompts_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("count.j2"), "Count: {{ answer }}").unwrap();
        fs::write(at("description.j2"), "Describe: {{ answer }}").unwrap();
        fs::write(at("README.md"), "no prompt").unwrap();
        let render = |config: &TemplateConfig, kind| {
            Templates::new(config).unwrap().render(kind, "Describe the image.", "Two cups.").unwrap()
        };
        let config = TemplateConfig::default().with_path(dir.path());
        assert_eq!(render(&config, ErrorKind::Count), "Count: Two cups.");
        assert_eq!(render(&config, ErrorKind::Free), "Describe: Two cups.");
        assert!(render(&config, ErrorKind::Text).contains("Question: "));
        // a text in the settings takes precedence
        let config = config.with_text(PromptForm::Description, "{{ answer }}!");
        assert_eq!(render(&config, ErrorKind::Free), "Two cups.!");
        let config = TemplateConfig::default().with_path(at("count.j2"));
        assert_eq!(render(&config, ErrorKind::Count), "Count: Two cups.");
        assert!(!render(&config, ErrorKind::Free).starts_with("Describe: "));
    }

    #[test]
    fn files_that_are_no_prompts_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let error = |path| TemplateConfig::default().with_path(path).texts().unwrap_err();
        assert!(matches!(error(at("count.j2")), InjectError::TemplateFile { .. }));
        assert!(error(at("other.txt")).to_string().contains("count.j2"));
        fs::write(at("counts.j2"), "{{ answer }}").unwrap();
        let found = error(dir.path().to_owned());
        assert!(matches!(&found, InjectError::UnknownTemplate { .. }), "{found}");
        assert!(found.to_string().contains("counts.j2"), "{found}");
        let large = "a".repeat(Limits::DEFAULT.template_bytes + 1);
        fs::write(at("count.j2"), large).unwrap();
        assert!(matches!(error(at("count.j2")), InjectError::TemplateFile { .. }));
    }
}
