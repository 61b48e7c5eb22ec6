//! What TRL's DPOTrainer and PEFT compute with the golden batch and adapter.

mod support;

use std::collections::BTreeMap;

use bpo_dpo::gradients::global_norm;
use bpo_dpo::logps::{PairLogps, PairRows};
use bpo_dpo::loss::sigmoid_loss;
use bpo_dpo::policy::{Adapters, Policy};
use bpo_model::llava::ScoreBatch;
use bpo_model::lora::load_adapter;
use bpo_model::processor::{Answered, PixelValues};
use bpo_model::{Llava, LoadOptions};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, Tensor};
use serde_json::Value;
use support::{Golden, close, device, floats, read_json, root, tensor_floats, tensor_ints};

/// The collated batch: rows are all chosen, then all rejected completions.
struct Batch {
    bytes: Vec<u8>,
    sequences: Vec<Answered>,
    images: Vec<PixelValues>,
}

impl Batch {
    fn open() -> Self {
        let bytes = std::fs::read(root().join("trl/batch.safetensors")).unwrap();
        let (ids, shape) = tensor_ints(&bytes, "input_ids");
        let (attention, _) = tensor_ints(&bytes, "attention_mask");
        let (completion, _) = tensor_ints(&bytes, "completion_mask");
        let row = |r: usize| r * shape[1]..(r + 1) * shape[1];
        let sequences = (0..shape[0])
            .map(|r| {
                let kept: Vec<_> = row(r).filter(|at| attention[*at] == 1).collect();
                let start = kept.iter().position(|at| completion[*at] == 1).unwrap();
                Answered::new(kept.iter().map(|at| ids[*at] as u32).collect(), start)
            })
            .collect();
        let (pixels, shape) = tensor_floats(&bytes, "pixel_values");
        let images = pixels
            .chunks(shape[1..].iter().product())
            .map(|data| PixelValues {
                data: data.to_vec(),
                channels: shape[1],
                height: shape[2],
                width: shape[3],
            })
            .collect();
        Self { bytes, sequences, images }
    }

    fn pairs(&self) -> usize {
        self.sequences.len() / 2
    }

    /// A group for each pair, its image once.
    fn grouped(&self, model: &Llava) -> ScoreBatch {
        let n = self.pairs();
        let groups: Vec<_> = (0..n)
            .map(|i| (Some(i), vec![self.sequences[i].clone(), self.sequences[n + i].clone()]))
            .collect();
        self.score_batch(model, self.images[..n].to_vec(), &groups)
    }

    /// A group for each completion: nothing is shared.
    fn apart(&self, model: &Llava) -> ScoreBatch {
        let n = self.pairs();
        let order = (0..n).flat_map(|i| [i, n + i]);
        let groups: Vec<_> = order
            .clone()
            .enumerate()
            .map(|(at, row)| (Some(at), vec![self.sequences[row].clone()]))
            .collect();
        self.score_batch(model, order.map(|row| self.images[row].clone()).collect(), &groups)
    }

    fn score_batch(
        &self,
        model: &Llava,
        images: Vec<PixelValues>,
        groups: &[(Option<usize>, Vec<Answered>)],
    ) -> ScoreBatch {
        ScoreBatch::new(model.config(), images, groups).unwrap()
    }

    fn rows(&self) -> PairRows {
        let pairs = 0..self.pairs();
        PairRows {
            chosen: pairs.clone().map(|i| 2 * i).collect(),
            rejected: pairs.map(|i| 2 * i + 1).collect(),
        }
    }
}

fn policy() -> Llava {
    let golden = Golden::open();
    let model = Llava::from_pretrained(&golden.checkpoint(), &LoadOptions::default(), &device()).unwrap();
    load_adapter(model, &root().join("trl/adapter")).unwrap().0
}

fn sigmoid_row() -> (Value, f64) {
    let report = read_json(&root().join("trl/losses.json"));
    let row = report["rows"].as_array().unwrap().iter().find(|row| {
        let settings = row["settings"].as_object().unwrap();
        settings.len() == 1 && settings["loss_type"] == serde_json::json!(["sigmoid"])
    });
    (row.unwrap().clone(), report["beta_default"].as_f64().unwrap())
}

fn values(row: &Value, key: &str) -> Vec<f32> {
    row[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[derive(Default)]
struct Gradients {
    path: Vec<String>,
    taken: Option<GradientsParams>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Gradients {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.taken.as_ref().unwrap().get::<D>(param.id) {
            assert_eq!(D, 2, "only factors have gradients");
            self.found.insert(self.path.join("."), floats(gradient.swap_dims(0, 1)));
        }
    }
}

#[test]
fn log_probs_loss_rewards_and_gradients() {
    let (row, beta) = sigmoid_row();
    let batch = Batch::open();
    let model = policy().train();
    for (name, scored) in [("grouped", batch.grouped(&model)), ("apart", batch.apart(&model))] {
        let pairs = |sums: Tensor<1>| PairLogps::select(sums, &batch.rows());
        let reference = pairs(model.valid().token_logps(&scored, Adapters::Off).sum());
        let policy = pairs(model.token_logps(&scored, Adapters::On).sum());
        for (found, key) in [
            (&policy.chosen, "policy_chosen"),
            (&policy.rejected, "policy_rejected"),
            (&reference.chosen, "ref_chosen"),
            (&reference.rejected, "ref_rejected"),
        ] {
            close(&floats(found.clone()), &values(&row, key), 1e-4, &format!("{name} {key}"));
        }
        let reference =
            PairLogps::new(Tensor::from_inner(reference.chosen), Tensor::from_inner(reference.rejected));
        let output = sigmoid_loss(&policy, &reference, beta, 0.0);
        close(&floats(output.losses.clone()), &values(&row, "per_sequence_loss"), 1e-4, name);
        close(&floats(output.chosen_rewards), &values(&row, "reward_chosen"), 1e-4, name);
        close(&floats(output.rejected_rewards), &values(&row, "reward_rejected"), 1e-4, name);
        let loss = output.losses.mean();
        close(&floats(loss.clone()), &[row["loss"].as_f64().unwrap() as f32], 1e-4, name);

        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let norm = global_norm(&model, &gradients).unwrap();
        let expected = row["lora_grad_norm"].as_f64().unwrap();
        assert!((norm - expected).abs() < 1e-4 * expected, "{name}: gradient norm {norm}, TRL {expected}");
        let mut visitor = Gradients { taken: Some(gradients), ..Gradients::default() };
        model.visit(&mut visitor);
        assert!(!visitor.found.is_empty());
        for (path, gradient) in visitor.found {
            let (module, factor) = path.rsplit_once(".weight.lora.").unwrap();
            let peft =
                format!("grad.base_model.model.model.{module}.lora_{}.default.weight", factor.to_uppercase());
            let (expected, _) = tensor_floats(&batch.bytes, &peft);
            close(&gradient, &expected, 1e-3, &format!("{name} {peft}"));
        }
    }
}

/// What a row's padding holds and what else is in the batch must not matter.
#[test]
fn batch_composition_changes_nothing() {
    let batch = Batch::open();
    let model = policy();
    let sums = |scored: &ScoreBatch| floats(model.token_logps(scored, Adapters::On).sum());
    let together = sums(&batch.grouped(&model));
    let apart = sums(&batch.apart(&model));
    close(&apart, &together, 1e-5, "apart");
    for i in 0..batch.pairs() {
        let group = (Some(0), vec![batch.sequences[i].clone(), batch.sequences[batch.pairs() + i].clone()]);
        let alone = sums(&batch.score_batch(&model, vec![batch.images[i].clone()], &[group]));
        close(&alone, &together[2 * i..2 * i + 2], 1e-5, "alone");
    }
    let mask: Tensor<2, Bool> = model.token_logps(&batch.grouped(&model), Adapters::On).mask;
    assert_eq!(mask.dims()[0], together.len());
}
