//! Flags over the settings file.

use std::path::{Path, PathBuf};

use bpo::inject::KindWeights;
#[cfg(feature = "server")]
use bpo::server::OpenAiConfig;
use bpo::{BpoError, ChosenAnswer, Distortions, Missing, Paths, Preset, RunConfig, Settings};

use crate::args::{
    Accept, Chosen, ChosenTruth, Config, ContrastArg, Data, Grader, Images, Inject, Judge, JudgeCommand,
    SeedArg, Select, Weaken,
};
#[cfg(feature = "model")]
use crate::args::{Checkpoint, Model, RunArgs, Train};

/// Flags that override settings.
pub trait Overrides {
    /// Replaces the settings of all flags that were given.
    fn apply(&self, config: &mut RunConfig);

    /// Checks the flags against the settings that they were applied to.
    ///
    /// # Errors
    /// Returns [`BpoError::Setting`] for a flag that needs another one.
    fn check(&self, _: &RunConfig) -> Result<(), BpoError> {
        Ok(())
    }
}

/// Replaces a setting by a flag that was given.
fn set<T: Clone>(place: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        place.clone_from(value);
    }
}

fn set_some<T: Clone>(place: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        place.clone_from(flag);
    }
}

impl Overrides for SeedArg {
    fn apply(&self, config: &mut RunConfig) {
        if let Some(seed) = self.seed {
            config.seed.0 = seed;
            #[cfg(feature = "model")]
            {
                config.train.seed = seed;
            }
        }
    }
}

#[cfg(feature = "model")]
impl Overrides for Checkpoint {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.model.path, &self.model);
        set(&mut config.device, &self.device.last().cloned());
    }

    fn check(&self, _: &RunConfig) -> Result<(), BpoError> {
        if self.device.len() > 1 {
            let (expected, found) = ("given once; commas separate several devices", self.device.len());
            return Err(BpoError::Setting {
                key: "--device".into(),
                expected,
                found: format!("{found} times"),
            });
        }
        Ok(())
    }
}

#[cfg(feature = "model")]
impl Overrides for Model {
    fn apply(&self, config: &mut RunConfig) {
        self.checkpoint.apply(config);
        set(&mut config.model.dtype, &self.dtype);
        set_some(&mut config.model.adapter, &self.adapter);
    }

    fn check(&self, config: &RunConfig) -> Result<(), BpoError> {
        self.checkpoint.check(config)
    }
}

impl Overrides for Data {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.data.path, &self.data.last().cloned());
    }

    fn check(&self, _: &RunConfig) -> Result<(), BpoError> {
        one("--data", &self.data).map(|_| ())
    }
}

impl Overrides for Images {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.data.images, &self.images);
    }
}

impl Overrides for Select {
    fn apply(&self, config: &mut RunConfig) {
        let pair = &mut config.pair;
        if let Some(rule) = self.rule {
            pair.rule = rule;
        }
        set_some(&mut pair.max_per_sample, &self.max_per_sample);
        set_some(&mut pair.dedup, &self.dedup);
        set(&mut pair.skip_cut, &self.skip_cut);
        set(&mut pair.skip_refusals, &self.skip_refusals);
        set_some(&mut pair.eval_percent, &self.eval_percent);
        set_some(&mut pair.max_tokens, &self.max_tokens);
        for (source, percent) in &self.subset {
            pair.subset = std::mem::take(&mut pair.subset).with(source, *percent);
        }
        #[cfg(feature = "model")]
        set_some(&mut config.model.path, &self.model);
    }
}

impl Overrides for ContrastArg {
    fn apply(&self, config: &mut RunConfig) {
        set(&mut config.pair.contrast, &self.contrast);
    }
}

impl Overrides for Chosen {
    fn apply(&self, config: &mut RunConfig) {
        set(&mut config.chosen, &self.chosen);
    }
}

impl Overrides for ChosenTruth {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.truth.path, &self.truth);
        if !self.coco.is_empty() {
            config.truth.coco.clone_from(&self.coco);
        }
        set_some(&mut config.truth.objects, &self.objects);
    }
}

impl Overrides for Weaken {
    fn apply(&self, config: &mut RunConfig) {
        let given = self.distortion.iter().chain(&self.noise_step).cloned().collect();
        set(&mut config.weaken.distortion, &Distortions::new(given));
        set(&mut config.weaken.samples, &self.samples);
        set(&mut config.weaken.own_samples, &self.own_samples);
        set(&mut config.weaken.cut_sentences, &self.cut_sentences);
        set(&mut config.weaken.min_sentences, &self.min_sentences);
        set(&mut config.weaken.temperature, &self.temperature);
        set(&mut config.weaken.max_new_tokens, &self.max_new_tokens);
        self.server().apply(&mut config.weaken.server);
    }

    fn check(&self, config: &RunConfig) -> Result<(), BpoError> {
        self.server().check(config.weaken.server.is_some())
    }
}

impl Weaken {
    fn server(&self) -> ServerFlags<'_> {
        ServerFlags {
            url: (&self.vlm_server, "--vlm-server"),
            model: (&self.vlm_model, "--vlm-model"),
            alone: "given with --vlm-server, or with [weaken.server] in the settings file",
        }
    }
}

impl Overrides for Accept {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.judge.accept_from, &self.accept_from);
    }
}

impl Overrides for Judge {
    fn apply(&self, config: &mut RunConfig) {
        if let Some(method) = self.judge_method {
            config.judge.method = method;
        }
        set(&mut config.judge.images, &self.judge_images);
        self.server().apply(&mut config.judge.server);
    }

    fn check(&self, config: &RunConfig) -> Result<(), BpoError> {
        self.server().check(config.judge.server.is_some())?;
        let flags = [
            ("--judge-method", self.judge_method.is_some()),
            ("--judge-images", self.judge_images == Some(true)),
        ];
        for (key, is_given) in flags {
            if is_given && !config.judges() {
                let expected = "given with --chosen judged, or with --chosen revised and --accept-from";
                return Err(BpoError::Setting { key: key.into(), expected, found: "alone".to_owned() });
            }
        }
        Ok(())
    }
}

impl Judge {
    fn server(&self) -> ServerFlags<'_> {
        ServerFlags {
            url: (&self.judge_server, "--judge-server"),
            model: (&self.judge_model, "--judge-model"),
            alone: "given with --judge-server, or with [judge.server] in the settings file",
        }
    }
}

impl Overrides for Grader {
    fn apply(&self, config: &mut RunConfig) {
        // of the settings of a run only those of the judge apply
        let given = std::mem::take(config);
        (config.judge, config.seed, config.chosen) = (given.judge, given.seed, ChosenAnswer::Judged);
        self.server().apply(&mut config.judge.server);
    }

    fn check(&self, config: &RunConfig) -> Result<(), BpoError> {
        self.server().check(config.judge.server.is_some())
    }
}

impl Grader {
    fn server(&self) -> ServerFlags<'_> {
        ServerFlags {
            url: (&self.judge_server, "--judge-server"),
            model: (&self.judge_model, "--judge-model"),
            alone: "given with --judge-server, or with [judge.server] in the settings file",
        }
    }
}

impl Overrides for JudgeCommand {
    fn apply(&self, config: &mut RunConfig) {
        match self.chosen {
            Some(chosen) => config.chosen = chosen,
            // the default of this command
            None if config.chosen == ChosenAnswer::Annotated => config.chosen = ChosenAnswer::Judged,
            None => {}
        }
    }
}

impl Overrides for Inject {
    fn apply(&self, config: &mut RunConfig) {
        // one model rewrites the answers, so the flag of one replaces the others in the file
        if self.server.is_some() || self.has_local_model() {
            (config.inject.with_model, config.inject.model) = (false, None);
        }
        if self.has_local_model() {
            config.inject.server = None;
        }
        self.flags().apply(&mut config.inject.server);
        #[cfg(feature = "model")]
        set(&mut config.inject.with_model, &self.inject_with_model);
        #[cfg(feature = "model")]
        set_some(&mut config.inject.model, &self.inject_model);
        if !self.kind.is_empty() {
            let none = KindWeights::none();
            config.inject.llm.kinds =
                self.kind.iter().fold(none, |kinds, &(kind, weight)| kinds.with(kind, weight));
        }
        if let Some(fallback) = self.fallback {
            config.inject.fallback = fallback;
        }
    }

    fn check(&self, config: &RunConfig) -> Result<(), BpoError> {
        self.flags().check(config.inject.server.is_some())?;
        let has_llm = config.inject.has_llm();
        let expected = if cfg!(feature = "model") {
            "given with a language model: --server, --inject-model or --inject-with-model"
        } else {
            self.flags().alone
        };
        for (key, is_given) in [("--kind", !self.kind.is_empty()), ("--fallback", self.fallback.is_some())] {
            if is_given && !has_llm {
                return Err(BpoError::Setting { key: key.into(), expected, found: "alone".to_owned() });
            }
        }
        Ok(())
    }
}

impl Inject {
    #[cfg(feature = "model")]
    fn has_local_model(&self) -> bool {
        self.inject_with_model == Some(true) || self.inject_model.is_some()
    }

    /// A build without models has no such flag.
    #[cfg(not(feature = "model"))]
    fn has_local_model(&self) -> bool {
        false
    }

    fn flags(&self) -> ServerFlags<'_> {
        ServerFlags {
            url: (&self.server, "--server"),
            model: (&self.server_model, "--server-model"),
            alone: "given with --server, or with [inject.server] in the settings file",
        }
    }
}

/// The flags of a server, with their names.
struct ServerFlags<'a> {
    url: (&'a Option<String>, &'static str),
    model: (&'a Option<String>, &'static str),
    /// What the flag of the model needs.
    alone: &'static str,
}

#[cfg(feature = "server")]
impl ServerFlags<'_> {
    fn apply(&self, server: &mut Option<OpenAiConfig>) {
        if let Some(url) = self.url.0 {
            server.get_or_insert_with(|| OpenAiConfig::new(url, "default")).base_url.clone_from(url);
        }
        if let Some(server) = server {
            set(&mut server.model, self.model.0);
        }
    }

    fn check(&self, has_server: bool) -> Result<(), BpoError> {
        match self.model {
            (Some(_), flag) if !has_server => {
                Err(BpoError::Setting { key: flag.into(), expected: self.alone, found: "alone".to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// A build without the client of a server refuses the flags.
#[cfg(not(feature = "server"))]
impl ServerFlags<'_> {
    fn apply<T>(&self, _: &mut Option<T>) {}

    fn check(&self, _: bool) -> Result<(), BpoError> {
        let _ = self.alone;
        match [self.url, self.model].into_iter().find(|(value, _)| value.is_some()) {
            Some((_, what)) => Err(BpoError::NotBuilt { what, feature: "server" }),
            None => Ok(()),
        }
    }
}

#[cfg(feature = "model")]
impl Overrides for Train {
    fn apply(&self, config: &mut RunConfig) {
        let train = &mut config.train;
        set(&mut train.learning_rate, &self.learning_rate);
        if let Some(epochs) = self.epochs {
            train.epochs = epochs;
            // `max_steps` of the settings file would win over `epochs`
            train.max_steps = None;
        }
        set_some(&mut train.max_steps, &self.max_steps);
        set(&mut train.batch_size, &self.batch_size);
        set(&mut train.gradient_accumulation_steps, &self.gradient_accumulation_steps);
        set(&mut train.loss, &self.loss);
        set(&mut train.beta, &self.beta);
        set(&mut train.eval_fraction, &self.eval_fraction);
        set(&mut train.eval_every, &self.eval_every);
        set_some(&mut train.sample_every, &self.sample_every);
        set(&mut train.save_every, &self.save_every);
        set(&mut train.reference_differs, &self.reference_differs);
        set(&mut train.tensorboard, &self.tensorboard);
        set(&mut config.lora.r, &self.lora_r);
        set(&mut config.lora.lora_alpha, &self.lora_alpha);
        match self.full_finetune {
            Some(true) => {
                config.full_finetune.get_or_insert_default();
            }
            Some(false) => config.full_finetune = None,
            None => {}
        }
        set_some(&mut config.model.max_length, &self.max_length);
        set(&mut config.model.gradient_checkpointing, &self.gradient_checkpointing);
        set_some(&mut config.data.eval_pairs, &self.eval_pairs);
        set_some(&mut config.reference.path, &self.reference);
        set_some(&mut config.reference.adapter, &self.reference_adapter);
        set_some(&mut config.reference.cache, &self.reference_cache);
    }
}

impl Config {
    /// The settings: the defaults, below those of the preset, the settings file and the flags.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or parsed, or a value cannot be used.
    #[cfg(feature = "model")]
    pub fn resolve(&self, preset: Option<Preset>, flags: &[&dyn Overrides]) -> Result<RunConfig, BpoError> {
        resolve(self.settings()?, preset, flags)
    }

    /// The same settings for a command that trains nothing.
    ///
    /// # Errors
    /// Returns the errors of [`resolve`](Self::resolve).
    pub fn resolve_for_answers(
        &self,
        preset: Option<Preset>,
        flags: &[&dyn Overrides],
    ) -> Result<RunConfig, BpoError> {
        resolve(self.settings()?.for_answers(), preset, flags)
    }

    fn settings(&self) -> Result<Settings, BpoError> {
        self.config.as_deref().map_or_else(|| Ok(Settings::default()), Settings::read)
    }

    /// The input paths of a command: those in the settings, and the settings file.
    pub fn inputs(&self, config: &RunConfig) -> Paths {
        let mut paths = Paths::default();
        paths.inputs_of(config);
        if let Some(path) = &self.config {
            paths.input("--config", path);
        }
        paths
    }
}

fn resolve(
    settings: Settings,
    preset: Option<Preset>,
    flags: &[&dyn Overrides],
) -> Result<RunConfig, BpoError> {
    let config =
        settings.with_preset(preset).resolve(|config| flags.iter().for_each(|flags| flags.apply(config)))?;
    flags.iter().try_for_each(|flags| flags.check(&config))?;
    Ok(config)
}

/// The file of a flag that takes one file.
///
/// # Errors
/// Returns [`BpoError::Setting`] for several files, of which all but one would be ignored.
pub fn one(flag: &'static str, files: &[PathBuf]) -> Result<Option<PathBuf>, BpoError> {
    match files {
        [] => Ok(None),
        [file] => Ok(Some(file.clone())),
        files => Err(BpoError::Setting {
            key: flag.into(),
            expected: "given once: join the files, or run the command for each",
            found: format!("{} files", files.len()),
        }),
    }
}

/// The value of a required flag that has no key in the settings.
///
/// # Errors
/// Returns [`BpoError::NotSet`] if the value is missing. Call [`RunConfig::require`] first, which
/// reports all missing values together.
pub fn required<'a>(flag: &'static str, value: &'a Option<PathBuf>) -> Result<&'a Path, BpoError> {
    let missing = || BpoError::NotSet { missing: vec![Missing { key: None, flag }] };
    value.as_deref().ok_or_else(missing)
}

#[cfg(feature = "model")]
impl RunArgs {
    /// All flags that override settings.
    pub fn overrides(&self) -> [&dyn Overrides; 12] {
        [
            &self.seed,
            &self.model,
            &self.data,
            &self.images,
            &self.chosen,
            &self.truth,
            &self.accept,
            &self.weaken,
            &self.judge,
            &self.inject,
            &self.contrast,
            &self.train,
        ]
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use bpo::Dtype;
    use clap::{CommandFactory, Parser};

    use crate::args::{Cli, Command};

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_override_settings() {
        let arguments = [
            "bpo",
            "run",
            "--model",
            "m",
            "--out",
            "o",
            "--noise-step",
            "500",
            "--learning-rate",
            "1e-3",
            "--seed",
            "7",
            "--lora-r",
            "4",
            "--server",
            "http://h",
            "--dtype",
            "bf16",
            "--device",
            "cuda:1",
        ];
        let Command::Run(args) = Cli::try_parse_from(arguments).unwrap().command else { panic!("not run") };
        let config = args.config.resolve(args.preset.preset, &args.overrides()).unwrap();
        assert_eq!(config.weaken.distortion.to_string(), "diffusion-noise:step=500");
        assert_eq!((config.seed.0, config.train.seed, config.lora.r), (7, 7, 4));
        assert_eq!((config.train.learning_rate, config.train.beta), (1e-3, 0.1));
        assert_eq!(config.inject.server.unwrap().base_url, "http://h");
        assert_eq!((config.model.dtype, config.device.to_string().as_str()), (Dtype::Bf16, "cuda:1"));
    }

    #[test]
    fn epochs_flag_overrides_max_steps_of_the_file() {
        let resolve = |flags: [&str; 2], train: &str| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("bpo.toml");
            std::fs::write(&file, format!("[train]\n{train}\n")).unwrap();
            let arguments = ["bpo", "run", "--out", "o", "--config", file.to_str().unwrap()];
            let cli = Cli::try_parse_from(arguments.into_iter().chain(flags)).unwrap();
            let Command::Run(args) = cli.command else { panic!("not run") };
            let train = args.config.resolve(args.preset.preset, &args.overrides()).unwrap().train;
            (train.epochs, train.max_steps)
        };
        assert_eq!(resolve(["--epochs", "3"], "max_steps = 9"), (3, None));
        assert_eq!(resolve(["--max-steps", "5"], "epochs = 9").1, Some(5));
    }

    #[test]
    fn flags_switch_settings_off() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bpo.toml");
        let settings = "[model]\ngradient_checkpointing = true\n[full_finetune]\nlanguage_model = true\n[train]\n\
                        tensorboard = true\n";
        std::fs::write(&file, settings).unwrap();
        let resolve = |flags: &[&str]| {
            let arguments = ["bpo", "run", "--out", "o", "--config", file.to_str().unwrap()];
            let cli = Cli::try_parse_from(arguments.iter().chain(flags)).unwrap();
            let Command::Run(args) = cli.command else { panic!("not run") };
            let config = args.config.resolve(args.preset.preset, &args.overrides()).unwrap();
            (config.model.gradient_checkpointing, config.train.tensorboard, config.full_finetune.is_some())
        };
        assert_eq!(resolve(&["--tensorboard", "--full-finetune"]), (true, true, true));
        let off = ["--gradient-checkpointing=false", "--tensorboard=false", "--full-finetune=false"];
        assert_eq!(resolve(&off), (false, false, false));
    }

    #[test]
    fn server_model_without_a_server_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bpo.toml");
        std::fs::write(&file, "[inject.server]\nbase_url = \"http://h\"\nmodel = \"a\"\n").unwrap();
        let resolve = |flags: &[&str]| {
            let arguments = ["bpo", "inject", "--server-model", "m"].iter().chain(flags);
            let Command::Inject(args) = Cli::try_parse_from(arguments).unwrap().command else { panic!() };
            args.config.resolve_for_answers(None, &[&args.inject])
        };
        let model = |flags: &[&str]| resolve(flags).unwrap().inject.server.unwrap().model;
        assert_eq!(model(&["--server", "http://h"]), "m");
        assert_eq!(model(&["--config", file.to_str().unwrap()]), "m");
        let error = resolve(&[]).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("`--server-model`"), "{error}");
    }

    #[test]
    fn invalid_flag_values_are_errors() {
        for bad in [
            ["--noise-step", "1000"],
            ["--device", "cpu"],
            ["--distortion", "fog"],
            ["--learning-rate", "fast"],
            ["--batch-size", "-1"],
        ] {
            let arguments = ["bpo", "run", "--out", "o"].into_iter().chain(bad);
            assert!(Cli::try_parse_from(arguments).is_err(), "{bad:?}");
        }
    }
}
