//! Flags over the settings' file.

use std::path::{Path, PathBuf};

#[cfg(feature = "model")]
use bpo::Distortions;
#[cfg(feature = "server")]
use bpo::server::OpenAiConfig;
use bpo::{BpoError, Missing, Paths, RunConfig, Settings};

#[cfg(feature = "model")]
use crate::args::{Checkpoint, Images, Model, RunArgs, Train, Weaken};
use crate::args::{Config, Data, Inject};

/// Flags that override settings.
pub trait Overrides {
    /// Writes what was given over the settings.
    fn apply(&self, config: &mut RunConfig);
}

/// Writes a flag that was given to its place.
#[cfg(any(feature = "model", feature = "server"))]
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

impl Overrides for Config {
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
        set(&mut config.device, &self.device);
    }
}

#[cfg(feature = "model")]
impl Overrides for Model {
    fn apply(&self, config: &mut RunConfig) {
        self.checkpoint.apply(config);
        set(&mut config.model.dtype, &self.dtype);
        set_some(&mut config.model.adapter, &self.adapter);
    }
}

impl Overrides for Data {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.data.path, &self.data);
    }
}

#[cfg(feature = "model")]
impl Overrides for Images {
    fn apply(&self, config: &mut RunConfig) {
        set_some(&mut config.data.images, &self.images);
    }
}

#[cfg(feature = "model")]
impl Overrides for Weaken {
    fn apply(&self, config: &mut RunConfig) {
        let given = self.distortion.iter().chain(&self.noise_step).cloned().collect();
        set(&mut config.weaken.distortion, &Distortions::new(given));
        set(&mut config.weaken.samples, &self.samples);
        set(&mut config.weaken.max_new_tokens, &self.max_new_tokens);
    }
}

impl Overrides for Inject {
    #[cfg(not(feature = "server"))]
    fn apply(&self, _: &mut RunConfig) {}

    #[cfg(feature = "server")]
    fn apply(&self, config: &mut RunConfig) {
        let Some(url) = &self.server else { return };
        let server = config.inject.server.get_or_insert_with(|| OpenAiConfig::new(url, "default"));
        server.base_url.clone_from(url);
        set(&mut server.model, &self.server_model);
    }
}

#[cfg(feature = "model")]
impl Overrides for Train {
    fn apply(&self, config: &mut RunConfig) {
        let train = &mut config.train;
        set(&mut train.learning_rate, &self.lr);
        if let Some(epochs) = self.epochs {
            train.epochs = epochs;
            // the file's, which would win
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
        train.reference_differs |= self.reference_differs;
        set(&mut config.lora.r, &self.lora_r);
        set(&mut config.lora.lora_alpha, &self.lora_alpha);
        if self.full_finetune {
            config.full_finetune.get_or_insert_default();
        }
        set(&mut config.model.max_length, &self.max_length);
        config.model.gradient_checkpointing |= self.gradient_checkpointing;
        set_some(&mut config.data.eval_pairs, &self.eval_pairs);
        set_some(&mut config.reference.path, &self.reference);
        set_some(&mut config.reference.adapter, &self.reference_adapter);
        set_some(&mut config.reference.cache, &self.reference_cache);
    }
}

impl Config {
    /// The settings' file, or the defaults, with all flags over it.
    ///
    /// # Errors
    /// If the file cannot be read or is not right, or a value cannot work.
    #[cfg(feature = "model")]
    pub fn resolve(&self, flags: &[&dyn Overrides]) -> Result<RunConfig, BpoError> {
        self.resolved(self.settings()?, flags)
    }

    /// The settings' file, or the defaults, with all flags over it, for a command that trains nothing.
    ///
    /// # Errors
    /// If the file cannot be read or is not right, or a value cannot work.
    pub fn resolve_for_answers(&self, flags: &[&dyn Overrides]) -> Result<RunConfig, BpoError> {
        self.resolved(self.settings()?.for_answers(), flags)
    }

    fn settings(&self) -> Result<Settings, BpoError> {
        self.config.as_deref().map_or_else(|| Ok(Settings::default()), Settings::read)
    }

    fn resolved(&self, settings: Settings, flags: &[&dyn Overrides]) -> Result<RunConfig, BpoError> {
        settings.with_preset(self.preset).resolve(|config| {
            self.apply(config);
            flags.iter().for_each(|flags| flags.apply(config));
        })
    }

    /// The inputs that a command's settings name, and the settings' file.
    pub fn inputs(&self, config: &RunConfig) -> Paths {
        let mut paths = Paths::default();
        paths.inputs_of(config);
        if let Some(path) = &self.config {
            paths.input("--config", path);
        }
        paths
    }
}

/// A flag that has no key in the settings and that a command cannot do without.
///
/// # Errors
/// [`BpoError::NotSet`]; [`RunConfig::require`] names it with all else that is missing.
pub fn given<'a>(flag: &'static str, value: &'a Option<PathBuf>) -> Result<&'a Path, BpoError> {
    let missing = || BpoError::NotSet { missing: vec![Missing { key: None, flag }] };
    value.as_deref().ok_or_else(missing)
}

#[cfg(feature = "model")]
impl RunArgs {
    /// All its flags that override settings.
    pub fn overrides(&self) -> [&dyn Overrides; 6] {
        [&self.model, &self.data, &self.images, &self.weaken, &self.inject, &self.train]
    }
}

#[cfg(all(test, feature = "model", feature = "server"))]
mod tests {
    use bpo::Dtype;
    use clap::{CommandFactory, Parser};

    use crate::args::{Cli, Command};

    #[test]
    fn the_command_line_is_sound() {
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
            "--lr",
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
        let config = args.config.resolve(&args.overrides()).unwrap();
        assert_eq!(config.weaken.distortion.to_string(), "diffusion-noise:step=500");
        assert_eq!((config.seed.0, config.train.seed, config.lora.r), (7, 7, 4));
        assert_eq!((config.train.learning_rate, config.train.beta), (1e-3, 0.1));
        assert_eq!(config.inject.server.unwrap().base_url, "http://h");
        assert_eq!((config.model.dtype, config.device.to_string().as_str()), (Dtype::Bf16, "cuda:1"));
    }

    #[test]
    fn epochs_on_the_command_line_win_over_steps_in_the_file() {
        let resolve = |flags: [&str; 2], train: &str| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("bpo.toml");
            std::fs::write(&file, format!("[train]\n{train}\n")).unwrap();
            let arguments = ["bpo", "run", "--out", "o", "--config", file.to_str().unwrap()];
            let cli = Cli::try_parse_from(arguments.into_iter().chain(flags)).unwrap();
            let Command::Run(args) = cli.command else { panic!("not run") };
            let train = args.config.resolve(&args.overrides()).unwrap().train;
            (train.epochs, train.max_steps)
        };
        assert_eq!(resolve(["--epochs", "3"], "max_steps = 9"), (3, None));
        assert_eq!(resolve(["--max-steps", "5"], "epochs = 9").1, Some(5));
    }

    #[test]
    fn bad_values_are_refused_at_once() {
        for bad in
            [["--noise-step", "1000"], ["--device", "cpu"], ["--distortion", "fog"], ["--server-model", "m"]]
        {
            let arguments = ["bpo", "run", "--out", "o"].into_iter().chain(bad);
            assert!(Cli::try_parse_from(arguments).is_err(), "{bad:?}");
        }
    }
}
