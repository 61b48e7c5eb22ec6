//! Validation of settings.

use bpo_distort::Distortion;
use bpo_pairs::{Contrast, Limits};

use super::{RunConfig, SentImages, chosen};
use crate::error::BpoError;

/// Returns a [`BpoError::Setting`] unless the condition holds.
pub(super) fn check(
    key: &'static str,
    holds: bool,
    expected: &'static str,
    found: String,
) -> Result<(), BpoError> {
    if holds { Ok(()) } else { Err(BpoError::Setting { key: key.into(), expected, found }) }
}

/// Largest number of sentences in the settings.
const MAX_SENTENCES: usize = 1000;

/// Returns whether a distortion leaves the image as it is by its name.
fn is_clean(distortion: &Distortion) -> bool {
    distortion.stages().all(|stage| matches!(stage, Distortion::Clean(_)))
}

/// Checks a sampling temperature. Logits are divided by it in f32.
pub(crate) fn check_temperature(key: &'static str, temperature: f64) -> Result<(), BpoError> {
    let usable = temperature == 0.0 || temperature > 0.0 && (temperature as f32).is_normal();
    let expected = "0, or a number above 0 that f32 can hold (1.2e-38 to 3.4e38)";
    check(key, usable, expected, temperature.to_string())
}

/// Checks the probability mass of nucleus sampling.
pub(crate) fn check_top_p(key: &'static str, top_p: f64) -> Result<(), BpoError> {
    check(key, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1", top_p.to_string())
}

impl RunConfig {
    /// Validates the settings.
    ///
    /// # Errors
    /// Returns [`BpoError::Setting`] for the first invalid value, [`BpoError::Conflict`] for the
    /// first setting that another one makes useless, or the errors of the server and training
    /// settings. [`BpoError::OfPreset`] is the error of a value of the preset.
    pub fn validate(&self) -> Result<(), BpoError> {
        self.validate_values().map_err(|error| self.naming_preset(error))
    }

    fn validate_values(&self) -> Result<(), BpoError> {
        let check_seed =
            |key, seed| check(key, i64::try_from(seed).is_ok(), "below 2^63", u64::to_string(&seed));
        check_seed("seed", self.seed.0)?;
        #[cfg(feature = "model")]
        check_seed("train.seed", self.train.seed)?;
        for (key, value) in [
            ("rounds", self.rounds.unwrap_or(1)),
            ("model.max_length", self.model.max_length.unwrap_or(1)),
            ("weaken.own_samples", self.weaken.own_samples),
            ("judge.max_new_tokens", self.judge.max_new_tokens),
            ("judge.batch_size", self.judge.batch_size),
            ("weaken.max_new_tokens", self.weaken.max_new_tokens),
            ("weaken.batch_size", self.weaken.batch_size),
            ("inject.batch_size", self.inject.batch_size),
            ("inject.llm.max_new_tokens", self.inject.llm.max_new_tokens),
            ("inject.max_edits", self.inject.max_edits),
            ("filter.max_words", self.filter.max_words),
        ] {
            check(key, value > 0, "at least 1", value.to_string())?;
        }
        let limits = Limits::DEFAULT;
        for (key, value, limit, expected) in [
            ("rounds", self.rounds.unwrap_or(1), limits.samples, "at most 1000"),
            ("model.max_length", self.model.max_length.unwrap_or(1), limits.positions, "at most 134217728"),
            ("weaken.samples", self.weaken.samples, limits.samples, "at most 1000"),
            ("weaken.own_samples", self.weaken.own_samples, limits.samples, "at most 1000"),
            ("judge.max_new_tokens", self.judge.max_new_tokens, limits.new_tokens, "at most 1048576"),
            ("judge.batch_size", self.judge.batch_size, limits.batch_size, "at most 1048576"),
            ("weaken.max_new_tokens", self.weaken.max_new_tokens, limits.new_tokens, "at most 1048576"),
            ("weaken.batch_size", self.weaken.batch_size, limits.batch_size, "at most 1048576"),
            ("inject.batch_size", self.inject.batch_size, limits.batch_size, "at most 1048576"),
            (
                "inject.llm.max_new_tokens",
                self.inject.llm.max_new_tokens,
                limits.new_tokens,
                "at most 1048576",
            ),
            ("inject.llm.attempts", self.inject.llm.attempts as usize, limits.requests, "at most 10000"),
        ] {
            check(key, value <= limit, expected, value.to_string())?;
        }
        let video = &self.data.video;
        if let Some(fps) = video.fps {
            check("data.video.fps", fps > 0.0 && fps.is_finite(), "a number above 0", fps.to_string())?;
        }
        if let Some(frames) = video.max_frames {
            let is_usable = (1..=limits.images).contains(&frames);
            check("data.video.max_frames", is_usable, "from 1 to 1000", frames.to_string())?;
        }
        for distortion in self.weaken.distortion.iter() {
            let is_attended = |stage: &&Distortion| matches!(stage, Distortion::MaskAttended(_));
            let mut after = distortion.stages().skip_while(|stage| !is_attended(stage));
            let is_last = after.next().is_none() || after.next().is_none();
            let expected = "a distortion with mask-attended as its last stage";
            check("weaken.distortion", is_last, expected, distortion.to_string())?;
        }
        let conditional = &self.conditional.distortion;
        for distortion in conditional.iter() {
            let usable = !distortion.needs_other() && !distortion.needs_model() && !is_clean(distortion);
            let expected = "distortions that change one image, without a second image or model features";
            check("conditional.distortion", usable, expected, distortion.to_string())?;
        }
        let few = conditional.len() <= limits.images;
        check("conditional.distortion", few, "at most 1000 distortions", conditional.len().to_string())?;
        self.judge.validate()?;
        chosen::validate(self)?;
        let (key, fraction) = ("weaken.prefix_fraction", self.weaken.prefix_fraction);
        let expected = "at least 0 and less than 1";
        check(key, (0.0..1.0).contains(&fraction), expected, fraction.to_string())?;
        self.validate_cut()?;
        if let Some(Contrast { alpha, plausibility, .. }) = self.weaken.contrast {
            if let Some(clean) = self.weaken.distortion.iter().find(|distortion| is_clean(distortion)) {
                return Err(BpoError::Conflict {
                    key: "weaken.contrast".into(),
                    with: format!("`weaken.distortion = \"{clean}\"`"),
                    reason: "both sides of the contrast would be the image as it is",
                });
            }
            let key = "weaken.contrast.alpha";
            check(key, (0.0..=100.0).contains(&alpha), "from 0 to 100", alpha.to_string())?;
            let key = "weaken.contrast.plausibility";
            check(key, (0.0..=1.0).contains(&plausibility), "from 0 to 1", plausibility.to_string())?;
        }
        #[cfg(feature = "model")]
        self.validate_training()?;
        check_temperature("weaken.temperature", self.weaken.temperature)?;
        let (key, value) = ("inject.llm.temperature", self.inject.llm.temperature);
        check(key, value >= 0.0 && value.is_finite(), "a finite number, at least 0", value.to_string())?;
        check_top_p("weaken.top_p", self.weaken.top_p)?;
        check_top_p("inject.llm.top_p", self.inject.llm.top_p)?;
        self.inject.llm.validate()?;
        self.validate_injector()?;
        self.pair.validate().map_err(|error| BpoError::Setting {
            key: format!("pair.{}", error.key).into(),
            expected: error.expected,
            found: error.found,
        })?;
        #[cfg(feature = "server")]
        for (section, server) in [
            ("weaken.server", &self.weaken.server),
            ("judge.server", &self.judge.server),
            ("inject.server", &self.inject.server),
        ] {
            if let Some(server) = server {
                server.validate().map_err(|source| BpoError::Server { section, source: source.into() })?;
            }
        }
        self.validate_vlm_server()?;
        #[cfg(feature = "model")]
        self.train.validate()?;
        Ok(())
    }
}

impl RunConfig {
    /// Checks the sentences that are cut off annotated answers.
    fn validate_cut(&self) -> Result<(), BpoError> {
        let section = &self.weaken;
        let (cut, least) = (section.cut_sentences, section.min_sentences);
        check("weaken.cut_sentences", cut <= MAX_SENTENCES, "at most 1000", cut.to_string())?;
        check("weaken.min_sentences", least <= MAX_SENTENCES, "at most 1000", least.to_string())?;
        if cut > 0 && section.prefix_fraction > 0.0 {
            return Err(BpoError::Conflict {
                key: "weaken.cut_sentences".into(),
                with: "`weaken.prefix_fraction`".to_owned(),
                reason: "each of them says where the given start of an answer ends",
            });
        }
        let is_usable = least == 0 || cut > 0 && least > cut;
        let expected = "0, or above `weaken.cut_sentences` (--cut-sentences), which must be set";
        check("weaken.min_sentences", is_usable, expected, least.to_string())
    }

    /// Checks that one model at most rewrites the answers.
    fn validate_injector(&self) -> Result<(), BpoError> {
        let section = &self.inject;
        let models = [
            ("inject.with_model", section.with_model),
            ("inject.model", section.model.is_some()),
            ("inject.server", section.server.is_some()),
        ];
        let set: Vec<_> = models.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key).collect();
        match set[..] {
            [key, with, ..] => Err(BpoError::Conflict {
                key: key.into(),
                with: format!("`{with}`"),
                reason: "one model rewrites the answers",
            }),
            _ => Ok(()),
        }
    }

    /// Checks that a server can do what `[weaken]` asks for, if one is set.
    fn validate_vlm_server(&self) -> Result<(), BpoError> {
        let section = &self.weaken;
        for (quality_key, side_key, SentImages { jpeg_quality, max_side, .. }) in [
            ("weaken.server_images.jpeg_quality", "weaken.server_images.max_side", &section.server_images),
            ("judge.server_images.jpeg_quality", "judge.server_images.max_side", &self.judge.server_images),
        ] {
            check(quality_key, (1..=100).contains(jpeg_quality), "from 1 to 100", jpeg_quality.to_string())?;
            if let Some(side) = max_side {
                check(side_key, (16..=65_535).contains(side), "from 16 to 65535", side.to_string())?;
            }
        }
        if section.server.is_none() {
            return Ok(());
        }
        let refused = |key: &'static str, reason| {
            Err(BpoError::Conflict { key: key.into(), with: "`weaken.server`".to_owned(), reason })
        };
        if section.contrast.is_some() {
            return refused(
                "weaken.contrast",
                "contrastive decoding needs the logits of the model, and a server gives texts",
            );
        }
        for (key, is_set) in [
            ("weaken.prefix_fraction", section.prefix_fraction > 0.0),
            ("weaken.cut_sentences", section.cut_sentences > 0),
        ] {
            if is_set {
                return refused(key, "chat completions have no standard way to continue an answer");
            }
        }
        // without the image, there is nothing to apply: the question is sent alone
        let is_of_features =
            |stage: &Distortion| stage.needs_model() && !matches!(stage, Distortion::NoImage(_));
        if section.distortion.iter().flat_map(Distortion::stages).any(is_of_features) {
            return refused(
                "weaken.distortion",
                "feature-noise, mask-tokens and mask-attended work inside the model, and a server takes images",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "server")]
    fn what_a_server_cannot_do_is_refused() {
        type Set = fn(&mut RunConfig);
        let refused: [(&str, Set); 6] = [
            ("weaken.contrast", |config| {
                config.weaken.contrast = Some(Contrast::new(bpo_pairs::ContrastMode::Vcd));
            }),
            ("weaken.prefix_fraction", |config| config.weaken.prefix_fraction = 0.5),
            ("weaken.cut_sentences", |config| config.weaken.cut_sentences = 2),
            ("weaken.distortion", |config| {
                let of_features: Distortion = "blur:sigma=2+mask-tokens:share=0.5".parse().unwrap();
                config.weaken.distortion = of_features.into();
            }),
            ("weaken.distortion", |config| {
                config.weaken.distortion = "mask-attended:share=0.5".parse::<Distortion>().unwrap().into();
            }),
            ("weaken.distortion", |config| {
                config.weaken.distortion = "feature-noise:sigma=1".parse::<Distortion>().unwrap().into();
            }),
        ];
        for (key, set) in refused {
            let mut config = RunConfig::default();
            set(&mut config);
            config.validate().unwrap();
            config.weaken.server = Some(bpo_server::OpenAiConfig::new("http://h", "m"));
            let error = config.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(&format!("`{key}`")), "{error}");
        }
        for distortion in ["diffusion-noise:step=900", "no-image", "swap", "blur:sigma=2+no-image"] {
            let mut config = RunConfig::default();
            config.weaken.server = Some(bpo_server::OpenAiConfig::new("http://h", "m"));
            config.weaken.distortion = distortion.parse::<Distortion>().unwrap().into();
            config.validate().unwrap();
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Break = fn(&mut RunConfig);
        let broken: [(&str, Break); 18] = [
            ("inject.llm.attempts", |config| config.inject.llm.attempts = u32::MAX),
            ("inject.llm.max_new_tokens", |config| config.inject.llm.max_new_tokens = usize::MAX),
            ("inject.llm.max_new_tokens", |config| config.inject.llm.max_new_tokens = 0),
            ("weaken.temperature", |config| config.weaken.temperature = 1e-50),
            ("weaken.prefix_fraction", |config| config.weaken.prefix_fraction = 1.0),
            ("weaken.cut_sentences", |config| config.weaken.cut_sentences = usize::MAX),
            ("weaken.cut_sentences", |config| {
                (config.weaken.prefix_fraction, config.weaken.cut_sentences) = (0.5, 2);
            }),
            // without an effect
            ("weaken.min_sentences", |config| config.weaken.min_sentences = 4),
            ("weaken.min_sentences", |config| {
                (config.weaken.cut_sentences, config.weaken.min_sentences) = (2, 2);
            }),
            ("conditional.distortion", |config| {
                config.conditional.distortion = "clean".parse::<Distortion>().unwrap().into();
            }),
            ("weaken.contrast", |config| {
                config.weaken.distortion = "clean".parse::<Distortion>().unwrap().into();
                config.weaken.contrast = Some(Contrast::new(bpo_pairs::ContrastMode::Vcd));
            }),
            ("weaken.samples", |config| config.weaken.samples = usize::MAX),
            ("weaken.contrast.alpha", |config| {
                let mut contrast = Contrast::new(bpo_pairs::ContrastMode::Vcd);
                contrast.alpha = -1.0;
                config.weaken.contrast = Some(contrast);
            }),
            ("conditional.distortion", |config| {
                config.conditional.distortion = "no-image".parse::<Distortion>().unwrap().into();
            }),
            ("weaken.batch_size", |config| config.weaken.batch_size = 0),
            ("weaken.top_p", |config| config.weaken.top_p = f64::NAN),
            ("inject.llm.kinds", |config| config.inject.llm.kinds = bpo_inject::KindWeights::none()),
            ("pair.max_per_sample", |config| config.pair.max_per_sample = Some(0)),
        ];
        for (key, break_it) in broken {
            let mut config = RunConfig::default();
            break_it(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn the_default_minimum_of_sentences_can_be_given() {
        for least in [0, 3, 4] {
            let mut config = RunConfig::default();
            (config.weaken.cut_sentences, config.weaken.min_sentences) = (2, least);
            config.validate().unwrap();
        }
    }
}
