//! The linears that get an adapter.

use serde::{Deserialize, Serialize};

use super::patterns::{compile, matches_any};
use crate::error::ModelError;
use crate::families::FamilySpec;

/// The linears that get an adapter, selected as in PEFT: by a regular expression that has to match
/// the whole name of a module, such as `model.language_model.layers.0.self_attn.q_proj` or
/// `model.vision_tower.encoder.layers.0.mlp.fc1`.
///
/// In settings this is `"all-linear"`, `"attention"`, `"peft-all-linear"`, or `{ regex =
/// '.*language_model.*\.(q_proj|v_proj)' }`. A module that is trained in full
/// ([`modules_to_save`](super::LoraConfig::modules_to_save)) gets no adapter, whatever matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TargetModules {
    /// Every linear of the language model except the head (the authors' recipe).
    #[default]
    AllLinear,
    /// The four projections of the language model's attention.
    Attention,
    /// The targets of `all-linear` in PEFT: also the linears of the vision tower and of the
    /// projector.
    PeftAllLinear,
    /// A regular expression, matched as Python's `re.fullmatch` does, on the names of transformers
    /// 5. Look-around is supported.
    Regex(String),
}

impl TargetModules {
    /// The regular expression for a family, as `adapter_config.json` has it in `target_modules`.
    pub fn expression<'a>(&'a self, spec: &FamilySpec) -> &'a str {
        match self {
            Self::AllLinear => spec.targets.all_linear,
            Self::Attention => spec.targets.attention,
            Self::PeftAllLinear => spec.targets.peft_all_linear,
            Self::Regex(expression) => expression,
        }
    }

    /// The preset of an expression, if there is one.
    pub(super) fn of_expression(expression: String, spec: &FamilySpec) -> Self {
        let named = [Self::AllLinear, Self::Attention, Self::PeftAllLinear].into_iter();
        named
            .into_iter()
            .find(|known| known.expression(spec) == expression)
            .unwrap_or(Self::Regex(expression))
    }

    /// Selects the linears that match. Names are paths in [`Vlm`](crate::Vlm).
    ///
    /// # Errors
    /// [`ModelError::TargetPattern`] for an invalid regular expression;
    /// [`ModelError::NotAdaptable`] if it matches an embedding; [`ModelError::NoTarget`] if it
    /// matches no linear.
    pub(super) fn select<'a>(
        &self,
        linears: impl Iterator<Item = &'a str> + Clone,
        spec: &FamilySpec,
    ) -> Result<Vec<String>, ModelError> {
        const KEY: &str = "target_modules";
        let pattern = || self.expression(spec).to_owned();
        let regex = compile(KEY, self.expression(spec), "", "")?;
        let matches = |name: &str| matches_any(KEY, self.expression(spec), &regex, &[name.to_owned()]);
        for module in spec.unadaptable {
            let module = spec.current(module);
            if matches(&module)? {
                return Err(ModelError::NotAdaptable { pattern: pattern(), module });
            }
        }
        let mut found = Vec::new();
        for linear in linears.clone() {
            if matches(&spec.current(linear))? {
                found.push(linear.to_owned());
            }
        }
        if found.is_empty() {
            return Err(ModelError::NoTarget { pattern: pattern(), known: examples(linears, spec) });
        }
        Ok(found)
    }

    /// The targets of an adapter that was loaded: a preset that selects exactly its modules, else
    /// the expression of its file (`stated`) if that does, else a list of its modules.
    pub(super) fn describing<'a>(
        modules: &[String],
        stated: Option<String>,
        linears: impl Iterator<Item = &'a str> + Clone,
        spec: &FamilySpec,
    ) -> Self {
        let presets = [Self::AllLinear, Self::Attention, Self::PeftAllLinear];
        let candidates = presets.into_iter().chain(stated.map(Self::Regex));
        let selects = |candidate: &Self| {
            candidate.select(linears.clone(), spec).is_ok_and(|mut found| {
                let mut expected = modules.to_vec();
                found.sort();
                expected.sort();
                found == expected
            })
        };
        candidates
            .into_iter()
            .find(selects)
            .unwrap_or_else(|| Self::Regex(alternatives(modules.iter().map(|module| spec.current(module)))))
    }
}

/// The expression for a list of names in PEFT, where a name matches the end of a module's name.
pub(super) fn of_suffixes(names: &[String]) -> String {
    format!(r"(.*\.)?{}", alternatives(names.iter().cloned()))
}

/// The dot is the only special character in module names.
fn alternatives(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.map(|name| name.replace('.', r"\.")).collect();
    format!("({})", names.join("|"))
}

/// The linears of the first layer of each tower, and those outside of layers.
fn examples<'a>(linears: impl Iterator<Item = &'a str>, spec: &FamilySpec) -> Vec<String> {
    linears
        .filter(|name| !name.contains(".layers.") || name.contains(".layers.0."))
        .map(|name| spec.current(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::llava::LLAVA as SPEC;

    const LINEARS: [&str; 7] = [
        "language_model.layers.0.self_attn.q_proj",
        "language_model.layers.0.mlp.up_proj",
        "language_model.layers.1.self_attn.q_proj",
        "multi_modal_projector.linear_1",
        "vision_tower.encoder.layers.0.self_attn.q_proj",
        "vision_tower.encoder.layers.0.mlp.fc1",
        "lm_head",
    ];

    fn select(targets: &TargetModules) -> Result<Vec<usize>, ModelError> {
        let found = targets.select(LINEARS.into_iter(), &SPEC)?;
        Ok(found.iter().map(|name| LINEARS.iter().position(|known| known == name).unwrap()).collect())
    }

    fn regex(text: &str) -> TargetModules {
        TargetModules::Regex(text.to_owned())
    }

    #[test]
    fn the_whole_name_has_to_match() {
        assert_eq!(select(&TargetModules::AllLinear).unwrap(), [0, 1, 2]);
        assert_eq!(select(&TargetModules::Attention).unwrap(), [0, 2]);
        assert_eq!(select(&TargetModules::PeftAllLinear).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(select(&regex(r".*language_model.*\.(q_proj|v_proj)")).unwrap(), [0, 2]);
        assert_eq!(select(&regex(r".*\.layers\.0\.self_attn\.q_proj")).unwrap(), [0, 4]);
        assert_eq!(select(&regex(r"lm_head|.*linear_1")).unwrap(), [3, 6]);
        // anchored at both ends, for every alternative
        assert_eq!(select(&regex(r"model\.vision_tower.*fc1|.*linear_1")).unwrap(), [3, 5]);
        assert!(matches!(select(&regex("q_proj")), Err(ModelError::NoTarget { .. })));
        assert!(matches!(select(&regex("language_model.*q_proj")), Err(ModelError::NoTarget { .. })));
        // an expression as ms-swift writes it
        assert_eq!(
            select(&regex(r"^(?!.*vision_tower)(?!.*projector).*(q_proj|up_proj)$")).unwrap(),
            [0, 1, 2]
        );
    }

    #[test]
    fn what_selects_nothing_names_what_there_is() {
        let error = select(&regex("query")).unwrap_err().to_string();
        assert!(error.contains("model.language_model.layers.0.self_attn.q_proj"), "{error}");
        assert!(!error.contains("layers.1."), "{error}");
    }

    #[test]
    fn embeddings_and_broken_expressions_are_refused() {
        for (pattern, part) in
            [(".*", "embed_tokens"), (".*embed.*|.*q_proj", "embed_tokens"), (".*patch.*", "patch_embedding")]
        {
            let error = select(&regex(pattern)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for pattern in ["(", "a)|(b", "*"] {
            assert!(matches!(select(&regex(pattern)), Err(ModelError::TargetPattern { .. })), "{pattern}");
        }
    }

    #[test]
    fn targets_of_a_file_become_a_preset_or_its_own_expression() {
        let of = |modules: &[usize], stated: Option<&str>| {
            let modules: Vec<_> = modules.iter().map(|i| LINEARS[*i].to_owned()).collect();
            TargetModules::describing(&modules, stated.map(str::to_owned), LINEARS.into_iter(), &SPEC)
        };
        assert_eq!(of(&[0, 1, 2], None), TargetModules::AllLinear);
        assert_eq!(of(&[2, 0], Some("whatever")), TargetModules::Attention);
        let listed = of_suffixes(&["up_proj".to_owned(), "fc1".to_owned()]);
        assert_eq!(of(&[1, 5], Some(&listed)), regex(&listed));
        // fewer modules than the expression selects, as with PEFT's layers_to_transform
        let one = of(&[0], Some(".*q_proj"));
        assert_eq!(select(&one).unwrap(), [0]);
    }

    #[test]
    fn settings_write_it_in_two_forms() {
        for (targets, json) in [
            (TargetModules::AllLinear, r#""all-linear""#),
            (TargetModules::PeftAllLinear, r#""peft-all-linear""#),
            (regex("x"), r#"{"regex":"x"}"#),
        ] {
            assert_eq!(serde_json::to_string(&targets).unwrap(), json);
            assert_eq!(serde_json::from_str::<TargetModules>(json).unwrap(), targets);
        }
    }
}
