//! The names of a model family: in files, in PEFT, and by role.

use std::path::Path;

use super::VlmConfig;
use crate::error::ModelError;
use crate::processor::VideoSettings;
use crate::vlm::{HEAD, PROJECTOR};

/// A model family: its `model_type`, the names of its weights in files, and the modules that
/// settings mean.
///
/// Parameters of every family have the same paths in [`Vlm`](crate::Vlm) up to the first dot:
/// `vision_tower`, `multi_modal_projector`, `language_model` and `lm_head`. The spec translates
/// between these paths and the names of transformers.
#[derive(Debug)]
pub struct FamilySpec {
    /// The `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// The models of the family, with a published checkpoint.
    pub(crate) title: &'static str,
    /// Reads and checks a `config.json` of the family.
    pub(crate) read: fn(&Path) -> Result<VlmConfig, ModelError>,
    /// Keys of `config.json` that name the kind of a part, and the kinds that are supported. A
    /// missing key stands for the first.
    pub(crate) kinds: &'static [(&'static str, &'static [&'static str])],
    /// The class in transformers.
    pub(crate) class: &'static str,
    /// The module of the class in transformers.
    pub(crate) module: &'static str,
    /// The names of each part in files.
    pub(crate) names: &'static [PartNames],
    /// The linears and norms of the projector, by path. They can be trained in full beside
    /// adapters.
    pub(crate) projector: &'static [&'static str],
    /// Modules with layers whose linears can be adapted, by path.
    pub(crate) layers: &'static [&'static str],
    /// Modules that PEFT would adapt and that are not supported here, by path.
    pub(crate) unadaptable: &'static [&'static str],
    /// Default targets of adapters, as regular expressions on names of transformers 5.
    pub(crate) targets: Targets,
    /// The frames of a video, where the files of a checkpoint do not say.
    pub(crate) video: VideoSettings,
}

/// The names of a part of the model. Each is the prefix of the names of all modules in the part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PartNames {
    /// The path in [`Vlm`](crate::Vlm).
    pub(crate) path: &'static str,
    /// The name in transformers 5.
    pub(crate) current: &'static str,
    /// The name in the published checkpoints.
    pub(crate) published: &'static str,
    /// Names in other versions of transformers.
    pub(crate) others: &'static [&'static str],
}

impl PartNames {
    /// The path, and all names in files.
    fn all(&self) -> impl Iterator<Item = &'static str> + use<> {
        [self.path, self.current, self.published].into_iter().chain(self.others.iter().copied())
    }
}

/// Regular expressions of the presets of [`TargetModules`](crate::TargetModules).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Targets {
    /// Every linear of the language model except the head.
    pub(crate) all_linear: &'static str,
    /// The projections of the language model's attention.
    pub(crate) attention: &'static str,
    /// The targets of `all-linear` in PEFT.
    pub(crate) peft_all_linear: &'static str,
}

/// Ends of parameter paths, and the ends of names in files: norms and embeddings have other names
/// in burn.
const LEAVES: [(&str, &str); 4] = [
    (".gamma", ".weight"),
    (".beta", ".bias"),
    (".embed_tokens", ".embed_tokens.weight"),
    (".position_embedding", ".position_embedding.weight"),
];

impl FamilySpec {
    /// The `model_type` in `config.json`.
    pub fn model_type(&self) -> &'static str {
        self.model_type
    }

    /// Returns the name of a weight in this crate: its path in [`Vlm`](crate::Vlm), whichever
    /// version of transformers wrote the file. For LLaVA:
    ///
    /// | published (llava-hf) | transformers 5 | here |
    /// |---|---|---|
    /// | `vision_tower.vision_model.encoder...` | `model.vision_tower.encoder...` | `vision_tower.encoder...` |
    /// | `multi_modal_projector...` | `model.multi_modal_projector...` | `multi_modal_projector...` |
    /// | `language_model.model.layers...` | `model.language_model.layers...` | `language_model.layers...` |
    /// | `language_model.lm_head.weight` | `lm_head.weight` | `lm_head.weight` |
    ///
    /// ```
    /// let llava = bpo_model::FamilySpec::named("llava").unwrap();
    /// let name = "language_model.norm.weight";
    /// assert_eq!(llava.canonical("language_model.model.norm.weight"), name);
    /// assert_eq!(llava.canonical("model.language_model.norm.weight"), name);
    /// ```
    pub fn canonical(&self, name: &str) -> String {
        let prefixes = self.names.iter().flat_map(|part| part.all().map(|file| (file, part.path)));
        replaced(name, prefixes)
    }

    /// Whether a name in a file is of a part of the model.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.iter().flat_map(PartNames::all).any(|file| behind(name, file).is_some())
    }

    /// Returns the name of a module or weight in transformers 5, by its path.
    pub(crate) fn current(&self, path: &str) -> String {
        replaced(path, self.names.iter().map(|part| (part.path, part.current)))
    }

    /// Returns the name in the published checkpoints of a weight, by its path.
    pub(crate) fn published(&self, path: &str) -> String {
        replaced(path, self.names.iter().map(|part| (part.path, part.published)))
    }

    /// Returns the names of a module in transformers 5 and, with `legacy`, in other versions.
    pub(crate) fn names_of(&self, path: &str, legacy: bool) -> Vec<String> {
        let mut names = vec![self.current(path)];
        let part = self.names.iter().filter(|part| behind(path, part.path).is_some());
        if let Some(part) = part.max_by_key(|part| part.path.len()).filter(|_| legacy) {
            let older = [part.published].into_iter().chain(part.others.iter().copied());
            names.extend(older.map(|name| replaced(path, [(part.path, name)].into_iter())));
        }
        names
    }

    /// The modules that can be trained in full beside adapters, by path: those of the projector,
    /// and the head.
    pub(crate) fn trainable_whole(&self) -> impl Iterator<Item = &'static str> {
        self.projector.iter().copied().chain([HEAD])
    }

    /// The name of the projector in PEFT's `modules_to_save`.
    pub(crate) fn projector_name(&self) -> String {
        let name = self.current(PROJECTOR);
        name.strip_prefix("model.").map_or(name.clone(), str::to_owned)
    }
}

/// Returns the end of a parameter's path as files have it.
pub(crate) fn file_leaf(path: &str) -> String {
    let leaf = LEAVES.iter().find_map(|(here, file)| Some((path.strip_suffix(here)?, file)));
    leaf.map_or_else(|| path.to_owned(), |(stem, file)| format!("{stem}{file}"))
}

/// The rest of a name behind a prefix that ends at a dot or at the end of the name.
fn behind<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Replaces the longest of the prefixes that a name has.
fn replaced<'a>(name: &str, prefixes: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let found = prefixes.filter_map(|(from, to)| Some((from.len(), to, behind(name, from)?)));
    match found.max_by_key(|(len, ..)| *len) {
        Some((_, to, rest)) => format!("{to}{rest}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::families::FAMILIES;
    use crate::families::llava::LLAVA;

    #[test]
    fn both_spellings_give_one_name() {
        for (published, v5) in [
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
            ("vision_tower.vision_model.pre_layrnorm.bias", "model.vision_tower.pre_layrnorm.bias"),
            ("vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
            ("model.vision_tower.vision_model.pre_layrnorm.bias", "model.vision_tower.pre_layrnorm.bias"),
            ("multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"),
        ] {
            assert_eq!(LLAVA.canonical(published), LLAVA.canonical(v5));
            assert_eq!(LLAVA.canonical(&LLAVA.canonical(published)), LLAVA.canonical(published));
        }
        // a prefix ends at a dot
        assert_eq!(LLAVA.canonical("lm_header.weight"), "lm_header.weight");
    }

    /// Every path of every family comes back from each of its names.
    #[test]
    fn names_lead_back_to_paths() {
        for spec in FAMILIES {
            for part in spec.names {
                for path in [part.path.to_owned(), format!("{}.a.weight", part.path)] {
                    for name in spec.names_of(&path, true).iter().chain([&spec.published(&path)]) {
                        assert_eq!(spec.canonical(name), path, "{}: {name}", spec.model_type);
                    }
                }
            }
        }
    }
}
