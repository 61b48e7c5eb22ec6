//! Validation of the settings.

use bpo_pairs::Limits;

use super::{Criterion, DpoConfig};
use crate::error::DpoError;
use crate::loss::{
    ABOVE_0, AT_LEAST_0, Divergence, NUMBER, Objective, PreferenceLoss, RESPONSIVE_PAIRS, fits_f32,
};

impl DpoConfig {
    /// Checks each setting.
    ///
    /// # Errors
    /// Returns [`DpoError::Setting`] for the first setting outside its range, or
    /// [`DpoError::Conflict`] for the first one that cannot be combined with another.
    pub fn validate(&self) -> Result<(), DpoError> {
        self.validate_with(&self.objective())
    }

    /// Checks each setting together with an objective of these settings.
    pub(crate) fn validate_with<L: PreferenceLoss>(&self, objective: &Objective<L>) -> Result<(), DpoError> {
        objective.validate()?;
        let loss = objective.loss.properties();
        let weights =
            [("kind_weights", !self.kind_weights.is_empty()), ("weighting", self.weighting.is_some())];
        let conflict = |key, reason| {
            let with = format!("the loss {}", objective.loss.name());
            Err(DpoError::Conflict { key, with, reason })
        };
        if let Some((key, _)) = weights.into_iter().find(|(_, is_set)| *is_set && loss.batch_wide) {
            return conflict(key, "the values of the loss are not those of single pairs");
        }
        check("margin_scale", fits_f32(self.margin_scale), NUMBER, self.margin_scale)?;
        if self.margin_scale != 0.0 && !loss.takes_margins {
            return conflict(
                "margin_scale",
                "the loss is not a function of the difference between the rewards",
            );
        }
        let enough = !self.responsiveness || self.batch_size >= RESPONSIVE_PAIRS;
        check("batch_size", enough, "at least 3 with `responsiveness`", self.batch_size)?;
        if self.divergence != Divergence::ReverseKl && !loss.reference {
            return conflict("divergence", "the loss has no reference");
        }
        if self.ld_alpha.is_some() && !loss.rejected {
            return conflict("ld_alpha", "the loss does not compare completions of different lengths");
        }
        let by_margin = matches!(self.keep_best, Some(Criterion::Margins | Criterion::Accuracies));
        if by_margin && !loss.rejected {
            return conflict(
                "keep_best",
                "the loss does not compare answers, so `loss` is the only criterion",
            );
        }
        for weight in self.kind_weights.values() {
            check("kind_weights", *weight >= 0.0 && fits_f32(*weight), AT_LEAST_0, weight)?;
        }
        for (key, value) in [("beta", self.beta), ("adam_epsilon", self.adam_epsilon)] {
            check(key, value > 0.0 && fits_f32(value), ABOVE_0, value)?;
        }
        for (key, value) in [("learning_rate", self.learning_rate), ("weight_decay", self.weight_decay)] {
            check(key, value >= 0.0 && fits_f32(value), AT_LEAST_0, value)?;
        }
        // gradients are multiplied by at most 1, so there is no upper limit
        let norm = self.max_grad_norm;
        let usable = norm >= 0.0 && norm.is_finite() && fits_f32(norm.min(1.0));
        check("max_grad_norm", usable, "0, or a finite number from 1.2e-38 on", norm)?;
        let minutes = self.save_minutes;
        check("save_minutes", minutes > 0.0 && minutes.is_finite(), "a finite number above 0", minutes)?;
        let tolerance = self.initial_tolerance.unwrap_or_default();
        let usable = tolerance >= 0.0 && tolerance.is_finite();
        check("initial_tolerance", usable, "a finite number, at least 0", tolerance)?;
        if let Some(moving) = &self.reference_sync {
            check("reference_sync.steps", moving.steps > 0, "at least 1", moving.steps)?;
            let mixup_alpha = moving.mixup_alpha;
            let usable = mixup_alpha <= 1.0 && mixup_alpha > 0.0 && fits_f32(mixup_alpha);
            check("reference_sync.mixup_alpha", usable, "above 0 (in f32) and at most 1", mixup_alpha)?;
        }
        for group in &self.lr_groups {
            let rate = group.learning_rate;
            check("lr_groups.learning_rate", rate >= 0.0 && fits_f32(rate), AT_LEAST_0, rate)?;
        }
        for (key, value) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            // AdamW divides by 1 - beta in f32, where 0.99999999 is 1
            let usable = value >= 0.0 && fits_f32(value) && (value as f32) < 1.0;
            check(key, usable, "at least 0 and less than 1, in f32", value)?;
        }
        check(
            "eval_fraction",
            (0.0..1.0).contains(&self.eval_fraction),
            "at least 0 and less than 1",
            self.eval_fraction,
        )?;
        check("warmup_ratio", (0.0..=1.0).contains(&self.warmup_ratio), "from 0 to 1", self.warmup_ratio)?;
        for (key, value) in [
            ("epochs", self.epochs),
            ("max_steps", self.max_steps.unwrap_or(1)),
            ("batch_size", self.batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("eval_every", self.eval_every),
            ("sample_every", self.sample_every.unwrap_or(1)),
            ("patience", self.patience.unwrap_or(1)),
            ("save_every", self.save_every),
            ("keep_checkpoints", self.keep_checkpoints),
            ("max_skipped", self.max_skipped),
        ] {
            check(key, value > 0, "at least 1", value)?;
        }
        let accumulation = ("gradient_accumulation_steps", self.gradient_accumulation_steps);
        for (key, value) in [("batch_size", self.batch_size), accumulation] {
            check(key, value <= Limits::DEFAULT.batch_size, "at most 1048576", value)?;
        }
        Ok(())
    }
}

fn check(
    key: &'static str,
    holds: bool,
    expected: &'static str,
    found: impl std::fmt::Display,
) -> Result<(), DpoError> {
    if holds {
        return Ok(());
    }
    let found = found.to_string();
    // 1e308 has 309 digits
    let found = match found.parse::<f64>() {
        Ok(number) if found.len() > 20 => format!("{number:e}"),
        _ => found,
    };
    Err(DpoError::Setting { key, expected, found })
}
