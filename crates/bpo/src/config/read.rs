//! Reading and writing of the TOML file.

use std::path::{Path, PathBuf};

use bpo_pairs::MessageTerms;
use toml::de::{DeTable, DeValue};

use super::{ChosenAnswer, Preset, RunConfig, Settings, TruthSection};
use crate::error::{BpoError, UnknownKey};

/// Maximum number of unknown keys in an error. Each needs another pass over the file.
const MOST_UNKNOWN: usize = 20;

impl RunConfig {
    /// Reads a settings file. Keys that it does not set have the values of its
    /// [preset](super::Preset), if it names one, or the defaults.
    ///
    /// # Errors
    /// Returns [`BpoError::File`] if the file cannot be read, [`BpoError::UnknownKeys`] with all
    /// unknown keys, or [`BpoError::ConfigSyntax`] or [`BpoError::Setting`] for an invalid value.
    pub fn read(path: &Path) -> Result<Self, BpoError> {
        Settings::read(path)?.layered()
    }

    /// Parses the text of a settings file. `path` is only used in errors.
    ///
    /// # Errors
    /// Returns the errors of [`read`](Self::read), except those of reading the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, BpoError> {
        Settings::parse(path, text)?.layered()
    }

    /// Writes all settings as TOML, including defaults.
    ///
    /// # Errors
    /// Returns [`BpoError::ConfigEncode`] if TOML cannot hold a value.
    pub fn to_toml(&self) -> Result<String, BpoError> {
        toml::to_string_pretty(self).map_err(|source| BpoError::ConfigEncode { source })
    }
}

/// Parses the settings of a text, without its preset.
pub(super) fn parse(path: &Path, text: &str) -> Result<RunConfig, BpoError> {
    check_arrays("", &parse_table(path, text)?)?;
    let mut table = DeTable::parse(text).map_err(|error| explain(path, text, "", &error))?;
    let mut keys = Vec::new();
    // serde stops at the first unknown key, so the file is read again without it
    let has_more = loop {
        let read = serde_path_to_error::deserialize(toml::Deserializer::from(table.clone()));
        let error = match read {
            Ok(config) if keys.is_empty() => return Ok(config),
            Ok(_) => break false,
            Err(error) => error,
        };
        let place = error.inner().span().map(|span| span.start);
        match UnknownKey::find(text, error.inner()) {
            None if keys.is_empty() => {
                return Err(explain(path, text, &error.path().to_string(), error.inner()));
            }
            None => break false,
            Some(_) if keys.len() == MOST_UNKNOWN => break true,
            Some(key) => keys.push(key),
        }
        if !place.is_some_and(|place| remove_key(table.get_mut(), place)) {
            break false;
        }
    };
    keys.sort_by_key(|key: &UnknownKey| (key.line, key.column));
    Err(BpoError::UnknownKeys { path: path.to_owned(), keys, has_more })
}

/// Removes the key at a byte offset of the text from a table or a table in it. Returns whether it
/// was found.
fn remove_key(table: &mut DeTable<'_>, place: usize) -> bool {
    let found = table.keys().find(|key| key.span().start == place).map(|key| key.get_ref().to_string());
    if let Some(key) = found {
        return table.remove(key.as_str()).is_some();
    }
    table.iter_mut().any(|(_, value)| remove_key_in(value.get_mut(), place))
}

/// Removes the key at a byte offset of the text from the tables of a value.
fn remove_key_in(value: &mut DeValue<'_>, place: usize) -> bool {
    match value {
        DeValue::Table(table) => remove_key(table, place),
        DeValue::Array(items) => items.iter_mut().any(|item| remove_key_in(item.get_mut(), place)),
        _ => false,
    }
}

/// Keys whose values may be arrays.
const ARRAYS: [&str; 8] =
    ["device", "distortion", "coco", "lr_groups", "terms", "modules_to_save", "refusals", "commentary"];

/// Rejects arrays in place of tables and single values, because serde would assign the items of an
/// array to the keys of a table by position.
fn check_arrays(parent: &str, table: &toml::Table) -> Result<(), BpoError> {
    let refuse = |key: String| {
        let (expected, found) = ("a table or a single value", "an array".to_owned());
        Err(BpoError::Setting { key: key.into(), expected, found })
    };
    for (name, value) in table {
        let key = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        match value {
            toml::Value::Table(table) => check_arrays(&key, table)?,
            toml::Value::Array(_) if !ARRAYS.contains(&name.as_str()) => return refuse(key),
            toml::Value::Array(items) => {
                for item in items {
                    match item {
                        toml::Value::Table(table) => check_arrays(&key, table)?,
                        toml::Value::Array(_) => return refuse(key),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Parses a text as a TOML table.
pub(super) fn parse_table(path: &Path, text: &str) -> Result<toml::Table, BpoError> {
    text.parse().map_err(|error| explain(path, text, "", &error))
}

/// Converts an error of toml into an error with line and column. `key` is the path of the key, if
/// it is known.
fn explain(path: &Path, text: &str, key: &str, error: &toml::de::Error) -> BpoError {
    let path = path.to_owned();
    let (line, column) = place(text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim();
    let message = match message.strip_suffix(", there are no fields") {
        Some(field) => format!("{}: no key is known here", field.replace("unknown field", "unknown key")),
        None => plain(message),
    };
    // serde_path_to_error names the root `.` and an unknown part `?`
    let message = match key {
        "" | "." | "?" => message,
        key => format!("`{}`: {message}", key.trim_end_matches(".?")),
    };
    BpoError::ConfigSyntax { path, line, column, message }
}

impl UnknownKey {
    /// Returns the key that an error of toml is about, or `None` if it is another error.
    fn find(text: &str, error: &toml::de::Error) -> Option<Self> {
        let (key, known) = unknown_field(error.message())?;
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        let nearest = elsewhere(&key).unwrap_or_else(|| nearest(&key, &known));
        Some(Self { line, column, key, nearest, known })
    }
}

/// Rewords a message of serde or toml in terms of the settings file, and adds the nearest known
/// value to an unknown one.
fn plain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("missing key {rest}");
    }
    if message == "wanted string or table" {
        return "expected a text or a table".to_owned();
    }
    if let Some((value, known)) = names_after(message, "unknown variant ") {
        if SUMS.contains(&value.as_str()) && known.iter().any(|known| known == "sum") {
            return format!("`{value}` is a sum of losses without a `type`: write `loss = \"{value}\"`");
        }
        let nearest = nearest(&value, &known);
        return format!(
            "unknown value `{value}`: did you mean `{nearest}`? (known here: {})",
            known.join(", ")
        );
    }
    MessageTerms::Toml.message(message)
}

/// Returns line and column of a byte offset, both counted from 1.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Returns the unknown field and the known fields of a serde message. serde reports them in no
/// other way.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    names_after(message, "unknown field ")
}

/// Returns the first name in backticks after `start`, and all following names in backticks.
fn names_after(message: &str, start: &str) -> Option<(String, Vec<String>)> {
    let names = message.strip_prefix(start)?;
    let mut names = names.split('`').skip(1).step_by(2).map(str::to_owned);
    let key = names.next()?;
    let known: Vec<String> = names.collect();
    (!known.is_empty()).then_some((key, known))
}

/// Returns the dotted path of the key with this name in any table.
fn elsewhere(key: &str) -> Option<String> {
    fn find(table: &toml::Table, key: &str, path: &str) -> Option<String> {
        let within = |(name, value): (&String, &toml::Value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                // a table of the file itself
                toml::Value::Table(_) if name == key && path == key => Some(format!("[{path}]")),
                _ if name == key => Some(path),
                value => find(value.as_table()?, key, &path),
            }
        };
        table.iter().find_map(within)
    }
    let mut full = RunConfig::default();
    // keys that are left out by default
    (full.preset, full.rounds, full.chosen) = (Some(Preset::Script), Some(1), ChosenAnswer::Own);
    let path = PathBuf::new;
    full.truth = TruthSection { path: Some(path()), coco: vec![path()], objects: Some(path()) };
    full.weaken.server = example_server();
    full.weaken.own_samples = 2;
    full.judge.server = example_server();
    (full.judge.accept_from, full.judge.prompts) = (Some(0.0), Some(path()));
    full.inject.server = example_server();
    find(&toml::Table::try_from(full).ok()?, key, "")
}

/// Returns a server, so that the names of its keys are found.
#[cfg(feature = "server")]
fn example_server() -> Option<bpo_server::OpenAiConfig> {
    Some(bpo_server::OpenAiConfig::new("", ""))
}

/// Returns no server, because this build does not know its keys.
#[cfg(not(feature = "server"))]
fn example_server() -> Option<toml::Table> {
    None
}

/// Names of losses that are sums of others.
const SUMS: [&str; 2] = ["mpo", "mdpo"];

/// Common names of settings that are spelled more like another setting.
const OTHER_NAMES: [(&str, &str); 2] = [("rank", "r"), ("alpha", "lora_alpha")];

fn nearest(key: &str, known: &[String]) -> String {
    let meant =
        OTHER_NAMES.iter().find(|(name, setting)| *name == key && known.iter().any(|known| known == setting));
    if let Some((_, setting)) = meant {
        return (*setting).to_owned();
    }
    let similarity = |name: &&String| strsim::jaro_winkler(key, name);
    let most = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    most.cloned().unwrap_or_default()
}

#[cfg(all(test, not(feature = "model")))]
mod tests_without_model {
    use super::*;

    #[test]
    fn training_sections_are_kept_without_the_model_feature() {
        let text = "[lora]\nr = 8\n\n[train]\nloss = \"dpo\"\nmax_steps = 3\n";
        let config = RunConfig::parse(Path::new("bpo.toml"), text).unwrap();
        let kept = config.to_toml().unwrap();
        assert!(kept.contains(&text[..13]) && kept.contains("max_steps = 3"), "{kept}");
        assert_eq!(RunConfig::parse(Path::new("bpo.toml"), &kept).unwrap(), config);
        // other sections are read, and misspelled keys in them are errors
        let error = RunConfig::parse(Path::new("bpo.toml"), "[filter]\nmax_wrods = 1").unwrap_err();
        assert!(matches!(error, BpoError::UnknownKeys { .. }), "{error}");
    }
}

#[cfg(all(test, feature = "model", feature = "server"))]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RunConfig, BpoError> {
        RunConfig::parse(Path::new("bpo.toml"), text)
    }

    #[test]
    fn written_settings_round_trip() {
        let mut config = RunConfig::default();
        config.model.path = Some("tiny llava".into());
        config.inject.server = Some(bpo_server::OpenAiConfig::new("http://h:1", "m"));
        config.train.max_steps = Some(3);
        let targets = r".*language_model.*\.(q_proj|v_proj)";
        config.lora.target_modules = bpo_model::TargetModules::Regex(targets.into());
        assert_eq!(
            parse(&format!("[lora]\ntarget_modules = {{ regex = '{targets}' }}")).unwrap().lora,
            config.lora
        );
        config.lora.rank_pattern = [("q_proj", 8)].into_iter().collect();
        config.lora.alpha_pattern = [(r"layers\.0\..*", 1.5)].into_iter().collect();
        config.lora.modules_to_save = vec!["lm_head".to_owned()];
        config.chosen = ChosenAnswer::Revised;
        config.truth.coco = vec!["instances.json".into(), "captions.json".into()];
        config.truth.objects = Some("synonyms.txt".into());
        assert_eq!(parse(&config.to_toml().unwrap()).unwrap(), config);
        assert_eq!(parse("").unwrap(), RunConfig::default());
    }

    #[test]
    fn unknown_key_error_has_the_nearest_key_and_position() {
        let cases = [
            ("[train]\n  learning_rte = 1\n", (2, 3), "learning_rte", "learning_rate"),
            ("[trian]\nbeta = 1\n", (1, 2), "trian", "train"),
            ("seeds = 1", (1, 1), "seeds", "seed"),
            ("[filter]\nmax_wrods = 1", (2, 1), "max_wrods", "max_words"),
            ("[data.limits]\nmax_sides = 1", (2, 1), "max_sides", "max_side"),
            ("[lora]\nrank = 1", (2, 1), "rank", "r"),
            ("[train]\nlabel_smoothing = 0.1", (2, 1), "label_smoothing", "train.loss.label_smoothing"),
            ("temperature = 1", (1, 1), "temperature", "inject.llm.temperature"),
            ("[weaken]\nchosen = \"own\"", (2, 1), "chosen", "chosen"),
            ("[data]\npreset = \"seva\"", (2, 1), "preset", "preset"),
            ("[weaken]\nlora = 1", (2, 1), "lora", "[lora]"),
        ];
        for (text, place, expected, suggestion) in cases {
            match parse(text).unwrap_err() {
                BpoError::UnknownKeys { keys, has_more: false, .. } => {
                    let [UnknownKey { line, column, key, nearest, .. }] = &keys[..] else {
                        panic!("{keys:?}");
                    };
                    assert_eq!((*line, *column), place, "{text}");
                    assert_eq!((key.as_str(), nearest.as_str()), (expected, suggestion));
                }
                other => panic!("{text}: {other}"),
            }
        }
    }

    /// Keys of nested tables, of inline tables and of arrays of tables.
    #[test]
    fn all_unknown_keys_are_found() {
        let text = "model.pth = 1\n[inject.lm]\ntop_p = 1\n[inject.llm]\ntop_q = 1\n[train]\n\
            lr_groups = [{ path = \"a\", learning_rate = 1e-3 }, { path = \"b\", rate = 1 }]\n";
        let BpoError::UnknownKeys { keys, has_more, .. } = parse(text).unwrap_err() else { panic!() };
        let found: Vec<_> = keys.iter().map(|key| (key.line, key.column, key.key.as_str())).collect();
        assert_eq!(found, [(1, 7, "pth"), (2, 9, "lm"), (5, 1, "top_q"), (7, 66, "rate")]);
        assert!(!has_more);
        let many: String = (0..50).map(|number| format!("key_{number} = 1\n")).collect();
        let BpoError::UnknownKeys { keys, has_more, .. } = parse(&many).unwrap_err() else { panic!() };
        assert_eq!((keys.len(), has_more), (MOST_UNKNOWN, true));
    }

    #[test]
    fn array_instead_of_a_table_is_an_error() {
        for (text, key) in [
            ("lora = [1]", "`lora`"),
            ("full_finetune = []", "`full_finetune`"),
            ("[train]\nloss = [\"sigmoid\", 0.3]", "`train.loss`"),
            ("[train]\nlr_groups = [[\"q\", 1.0]]", "`train.lr_groups`"),
        ] {
            let error = RunConfig::parse(Path::new("bpo.toml"), text).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(key), "{error}");
        }
        let text =
            "[weaken]\ndistortion = [\"blank\", \"grayscale\"]\n[lora]\nmodules_to_save = [\"lm_head\"]";
        RunConfig::parse(Path::new("bpo.toml"), text).unwrap();
    }

    #[test]
    fn invalid_values_and_toml_errors_have_positions() {
        let cases = [
            ("[train]\nbeta = \"much\"\n", 2, "`train.beta`: expected a number, found the text \"much\""),
            ("[lora]\nr = \"16\"", 2, "`lora.r`: expected a whole number, at least 0, found the text \"16\""),
            ("model = 3", 1, "`model`: expected a table, found 3"),
            (
                "[model]\ngradient_checkpointing = 1",
                2,
                "`model.gradient_checkpointing`: expected true or false, found 1",
            ),
            ("[weaken]\ndistortion = \"blurr:sigma=1\"", 2, "blur"),
            ("device = \"cpu\"", 1, "libtorch"),
            ("[train\n", 1, "]"),
            ("[inject.server]\nmodel = \"m\"", 1, "base_url"),
            ("[lora]\ntarget_modules = \"all\"", 2, "peft-all-linear"),
            (
                "[train]\nschedule = \"cosin\"",
                2,
                "`train.schedule`: unknown value `cosin`: did you mean `cosine`?",
            ),
            ("[inject.server]\nbase_url = \"http://h\"", 1, "missing key `model`"),
            // settings of other losses and divergences
            (
                "[train]\nloss = { type = \"hinge\", label_smoothing = 0.1 }",
                2,
                "unknown key `label_smoothing`",
            ),
            ("[train]\nloss = { type = \"mdpo\" }", 2, "write `loss = \"mdpo\"`"),
            ("[train]\nloss = { type = \"simgoid\" }", 2, "did you mean `sigmoid`?"),
            ("[train]\nloss = \"mdop\"", 2, "did you mean `mdpo`?"),
            ("[train]\ndivergence = { type = \"forward_kl\", alpha = 0.1 }", 2, "unknown key `alpha`"),
        ];
        for (text, expected, part) in cases {
            match parse(text).unwrap_err() {
                BpoError::ConfigSyntax { line, message, .. } => {
                    assert_eq!(line, expected, "{text}: {message}");
                    assert!(message.contains(part), "{text}: {message}");
                }
                other => panic!("{text}: {other}"),
            }
        }
    }
}
