//! TRL's golden table: its settings as ours.

use std::path::PathBuf;
use std::{env, fs};

use bpo_dpo::loss::{Loss, Objective, WeightedLoss};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What TRL computes for one batch.
#[derive(Deserialize)]
pub struct Golden {
    beta_default: f64,
    rows: Vec<Row>,
}

/// What it computes under some settings.
#[derive(Clone, Deserialize)]
pub struct Row {
    pub settings: Map<String, Value>,
    #[serde(flatten)]
    values: Map<String, Value>,
}

impl Golden {
    /// Of the repository, or of another set of golden files.
    pub fn open() -> Self {
        let path = root().join("trl/losses.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("the golden table")
    }

    /// Rows with values, that is, which TRL computes.
    pub fn computed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.values.contains_key("loss"))
    }

    /// Rows whose backward pass fails in TRL.
    pub fn failed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.values.contains_key("failed"))
    }

    /// TRL's weights of the pairs, as a loss tells them that was computed with and without them.
    pub fn weights(&self, loss: &str) -> Vec<f64> {
        let of = |row: &&Row| row.is_weighted() && row.settings["loss_type"] == json!([loss]);
        let weighted = self.computed().find(of).expect("a weighted loss");
        let plain = self.unweighted(weighted).numbers("per_sequence_loss");
        weighted.numbers("per_sequence_loss").into_iter().zip(plain).map(|(one, other)| one / other).collect()
    }

    /// Rows that TRL refuses.
    pub fn refused(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.values.contains_key("refused"))
    }

    /// The row with the same settings but the weights.
    pub fn unweighted(&self, row: &Row) -> &Row {
        let mut settings = row.settings.clone();
        settings.remove("use_weighting");
        self.computed().find(|row| row.settings == settings).expect("a row without weighting")
    }

    /// The settings of a row.
    pub fn objective(&self, row: &Row) -> Objective {
        let number = |key: &str| row.settings.get(key).map(|value| value.as_f64().expect("a number"));
        let names: Vec<String> =
            serde_json::from_value(row.settings["loss_type"].clone()).expect("names of losses");
        let losses = names.iter().map(|name| {
            let mut loss = json!({ "type": name });
            // TRL ignores it for all others
            let smoothed = ["exo_pair", "robust", "aot", "aot_unpaired"].contains(&name.as_str());
            if let Some(smoothing) = number("label_smoothing").filter(|_| smoothed) {
                loss["label_smoothing"] = smoothing.into();
            } else if name == "exo_pair" {
                loss["label_smoothing"] = 0.0.into();
            }
            serde_json::from_value::<Loss>(loss).expect("TRL's name is ours")
        });
        let mut losses: Vec<Loss> = losses.collect();
        let loss = match row.settings.get("loss_weights") {
            None => losses.remove(0),
            Some(weights) => {
                let weights: Vec<f64> = serde_json::from_value(weights.clone()).expect("numbers");
                let terms = weights.into_iter().zip(losses);
                Loss::Sum { terms: terms.map(|(weight, loss)| WeightedLoss::new(weight, loss)).collect() }
            }
        };
        let mut divergence =
            json!({ "type": row.settings.get("f_divergence_type").unwrap_or(&json!("reverse_kl")) });
        if let Some(alpha) = number("f_alpha_divergence_coef") {
            divergence["alpha"] = alpha.into();
        }
        let divergence = serde_json::from_value(divergence).expect("TRL's name is ours");
        Objective::new(loss, number("beta").unwrap_or(self.beta_default))
            .with_divergence(divergence)
            .with_ld_alpha(number("ld_alpha"))
    }
}

impl Row {
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.values[name].clone()).expect("an array of numbers")
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.values.get(name).map(|value| value.as_f64().expect("a number"))
    }

    /// Whether each loss is multiplied by WPO's weight.
    pub fn is_weighted(&self) -> bool {
        self.settings.contains_key("use_weighting")
    }

    /// Returns whether the only loss is the likelihood of the chosen completions, which TRL
    /// averages over the batch.
    pub fn is_sft(&self) -> bool {
        self.settings["loss_type"] == json!(["sft"])
    }

    /// Whether that is one of several.
    pub fn has_sft(&self) -> bool {
        self.settings["loss_type"].as_array().expect("names").contains(&json!("sft"))
    }
}

/// The directory of golden files.
pub fn root() -> PathBuf {
    env::var_os("BPO_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../bpo-model/tests/golden")),
        PathBuf::from,
    )
}
