//! Evaluation on pairs that are not trained on, and what follows from it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bpo_dpo::{
    CheckpointDir, Control, Criterion, DpoConfig, DpoError, EvalMetrics, MetricsLog, Observer, StepMetrics,
    TrainOutput, Trainer, save_trainable, split_pairs,
};
use bpo_pairs::PreferencePair;

use crate::toy::{Toy, ToyCollate, pairs};

fn config() -> DpoConfig {
    DpoConfig::default()
        .with_learning_rate(0.02)
        .with_batch_size(2)
        .with_epochs(3)
        .with_eval_fraction(0.3)
        .with_eval_every(3)
}

/// Stops after a step.
struct Until {
    stop: usize,
    evaluations: Vec<EvalMetrics>,
}

impl Observer for Until {
    fn on_evaluation(&mut self, metrics: &EvalMetrics) {
        self.evaluations.push(metrics.clone());
    }

    fn on_step(&mut self, metrics: &StepMetrics) -> Control {
        if metrics.step == self.stop { Control::Stop } else { Control::Continue }
    }
}

fn train(config: &DpoConfig, dir: Option<&Path>, stop: usize) -> (Vec<u8>, TrainOutput, Vec<EvalMetrics>) {
    let mut observer = Until { stop, evaluations: Vec::new() };
    let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), dir).expect("valid");
    let (policy, summary) = trainer.train(pairs(), &mut observer).expect("trained");
    (save_trainable(&policy).expect("bytes"), summary, observer.evaluations)
}

#[test]
fn evaluation_split_has_whole_groups() {
    let question = |pair: &PreferencePair| (pair.images.clone(), pair.prompt.clone());
    for seed in 0..20 {
        let (left, taken) = split_pairs(pairs(), 0.3, seed);
        assert!(!left.is_empty() && !taken.is_empty());
        assert_eq!(left.len() + taken.len(), pairs().len());
        let questions: BTreeSet<_> = left.iter().map(question).collect();
        assert!(taken.iter().all(|pair| !questions.contains(&question(pair))));
        assert_eq!((left, taken), split_pairs(pairs(), 0.3, seed), "a function of the seed");
    }
    assert!((1..20).any(|seed| split_pairs(pairs(), 0.3, seed) != split_pairs(pairs(), 0.3, 0)));
    assert_eq!(split_pairs(pairs(), 0.0, 1), (pairs(), Vec::new()));
    assert!(!split_pairs(pairs(), 0.99, 1).0.is_empty(), "something is left to train on");
    assert!(!split_pairs(pairs(), 1e-9, 1).1.is_empty(), "something is there to evaluate on");
}

#[test]
fn evaluations_are_logged_at_their_interval() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, summary, evaluations) = train(&config(), Some(dir.path()), usize::MAX);
    let steps: Vec<usize> = evaluations.iter().map(|metrics| metrics.step).collect();
    let mut expected: Vec<usize> = (3..summary.total_steps).step_by(3).collect();
    expected.push(summary.total_steps);
    assert_eq!(steps, expected);
    assert_eq!(summary.pairs + summary.eval_pairs, pairs().len());
    assert!(
        evaluations.iter().all(|metrics| metrics.pairs == summary.eval_pairs && metrics.loss.is_finite())
    );
    assert_ne!(evaluations[0].loss, evaluations[1].loss);
    for EvalMetrics { logits_chosen, logits_rejected, entropy, lengths_chosen, lengths_rejected, .. } in
        &evaluations
    {
        for metric in [logits_chosen, logits_rejected, entropy, lengths_chosen, lengths_rejected] {
            assert!(metric.is_finite() && *metric != 0.0, "{evaluations:?}");
        }
    }
    let kept = MetricsLog::<EvalMetrics>::read(&dir.path().join("eval.jsonl")).expect("records");
    // as text: what is not there is not a number, and equals nothing
    assert_eq!(format!("{kept:?}"), format!("{evaluations:?}"));
    assert!(summary.best.is_none(), "nobody asked for it");
}

/// An evaluation on what is trained on gives what the next step sees before it changes anything.
#[test]
fn evaluation_of_training_pairs_equals_training_metrics() {
    let config =
        config().with_eval_fraction(0.0).with_eval_every(1).with_batch_size(10).with_max_steps(Some(6));
    let trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None).expect("valid");
    let mut steps = Vec::new();
    struct Both<'a>(&'a mut Vec<StepMetrics>, Vec<EvalMetrics>);
    impl Observer for Both<'_> {
        fn on_evaluation(&mut self, metrics: &EvalMetrics) {
            self.1.push(metrics.clone());
        }
        fn on_step(&mut self, metrics: &StepMetrics) -> Control {
            self.0.push(metrics.clone());
            Control::Continue
        }
    }
    let mut both = Both(&mut steps, Vec::new());
    trainer.with_eval_pairs(pairs()).train(pairs(), &mut both).expect("trained");
    let evaluations = both.1;
    for (before, step) in evaluations.iter().zip(&steps[1..]) {
        for (evaluated, trained) in [
            (before.loss, step.loss),
            (before.rewards_margins, step.rewards_margins),
            (before.rewards_accuracies, step.rewards_accuracies),
            (before.logps_rejected, step.logps_rejected),
            (before.logits_chosen, step.logits_chosen),
            (before.entropy, step.entropy),
            (before.mean_token_accuracy, step.mean_token_accuracy),
            (before.lengths_chosen, step.lengths_chosen),
        ] {
            assert!((evaluated - trained).abs() < 1e-5 * trained.abs().max(1.0), "{evaluated}, {trained}");
        }
    }
}

#[test]
fn best_checkpoint_is_kept_and_returned() {
    // so fast that it soon gets worse
    let config = config().with_learning_rate(1.0).with_eval_every(1).with_epochs(10).with_keep_checkpoints(1);
    for criterion in [Criterion::Loss, Criterion::Margins, Criterion::Accuracies] {
        let config = config.clone().with_keep_best(Some(criterion));
        let dir = tempfile::tempdir().expect("a directory");
        let (found, summary, evaluations) = train(&config, Some(dir.path()), usize::MAX);
        let value = |metrics: &EvalMetrics| match criterion {
            Criterion::Loss => -metrics.loss,
            Criterion::Margins => metrics.rewards_margins,
            _ => metrics.rewards_accuracies,
        };
        let mut best = &evaluations[0];
        for metrics in &evaluations {
            if value(metrics) > value(best) {
                best = metrics;
            }
        }
        assert_eq!(summary.best.expect("the best").step, best.step, "{criterion:?}");
        let checkpoint = CheckpointDir::new(dir.path()).load(best.step).expect("still there");
        assert!(found == checkpoint.trainable, "{criterion:?}");
        let (in_memory, ..) = train(&config, None, usize::MAX);
        assert!(found == in_memory, "{criterion:?}");
        let (again, ..) = train(&config, Some(dir.path()), usize::MAX);
        assert!(found == again, "{criterion:?}: a finished run");
    }
    let config = config.with_keep_best(Some(Criterion::Loss));
    let (_, summary, _) = train(&config, None, usize::MAX);
    assert!(summary.best.expect("the best").step < summary.total_steps, "or this shows nothing");
}

#[test]
fn patience_ends_training() {
    let config = config().with_learning_rate(1.0).with_eval_every(1).with_epochs(10).with_patience(Some(3));
    let dir = tempfile::tempdir().expect("a directory");
    let (expected, summary, evaluations) = train(&config, Some(dir.path()), usize::MAX);
    assert!(summary.stopped_early && summary.is_finished() && summary.steps < summary.total_steps);
    assert_eq!(summary.steps, summary.best.expect("the best").step + 3);
    assert_eq!(evaluations.len(), summary.steps);
    let (found, again, _) = train(&config, Some(dir.path()), usize::MAX);
    assert!(found == expected && again.steps == summary.steps && again.stopped_early);
}

#[test]
fn resumed_run_with_evaluations_equals_uninterrupted_run() {
    let config = config().with_keep_best(Some(Criterion::Margins)).with_learning_rate(0.3);
    let whole = tempfile::tempdir().expect("a directory");
    let (expected, summary, _) = train(&config, Some(whole.path()), usize::MAX);
    for stop in [2, 3, 4, summary.total_steps - 1] {
        let dir = tempfile::tempdir().expect("a directory");
        train(&config, Some(dir.path()), stop);
        let (found, ..) = train(&config, Some(dir.path()), usize::MAX);
        assert!(found == expected, "after a stop at {stop}");
        for name in ["metrics.jsonl", "eval.jsonl"] {
            let read = |dir: &Path| fs::read_to_string(dir.join(name)).expect("a file");
            assert_eq!(read(dir.path()), read(whole.path()), "{name} after a stop at {stop}");
        }
    }
}

/// A best checkpoint is not compared across criteria, and not looked up if none was kept.
#[test]
fn another_criterion_resets_the_best_evaluation() {
    let config = config().with_learning_rate(0.3).with_eval_every(1).with_keep_checkpoints(1);
    let keeping = |criterion| config.clone().with_keep_best(criterion);
    for then in [None, Some(Criterion::Loss)] {
        let dir = tempfile::tempdir().expect("a directory");
        train(&keeping(then), Some(dir.path()), 4);
        let now = keeping(Some(Criterion::Margins));
        let (found, summary, evaluations) = train(&now, Some(dir.path()), usize::MAX);
        let best = summary.best.expect("the best");
        assert!(best.step > 4, "{best:?}");
        let margins = evaluations.iter().map(|metrics| metrics.rewards_margins).fold(f64::MIN, f64::max);
        assert_eq!(best.value, margins);
        assert!(found == CheckpointDir::new(dir.path()).load(best.step).expect("kept").trainable);
    }
}

#[test]
fn other_evaluation_pairs_reset_the_best_evaluation() {
    let config = config().with_eval_fraction(0.0).with_keep_best(Some(Criterion::Loss)).with_eval_every(1);
    let dir = tempfile::tempdir().expect("a directory");
    let train = |eval_pairs: &[PreferencePair], stop| {
        let mut observer = Until { stop, evaluations: Vec::new() };
        let trainer = Trainer::new(config.clone(), Toy::untouched(), ToyCollate::default(), Some(dir.path()));
        let trainer = trainer.expect("valid").with_eval_pairs(eval_pairs.to_vec());
        trainer.train(pairs(), &mut observer).expect("trained").1
    };
    train(&pairs()[..3], 4);
    assert!(train(&pairs()[5..], usize::MAX).best.expect("the best").step > 4);
}

#[test]
fn settings_that_need_evaluations_without_pairs_are_errors() {
    for config in [
        config().with_eval_fraction(0.0).with_patience(Some(1)),
        config().with_eval_fraction(0.0).with_keep_best(Some(Criterion::Loss)),
    ] {
        let trainer = Trainer::new(config, Toy::untouched(), ToyCollate::default(), None).expect("valid");
        let error = trainer.train(pairs(), &mut ()).expect_err("nothing to evaluate on");
        assert!(matches!(error, DpoError::NothingToEvaluate), "{error}");
    }
    for part in [1.0, -0.1, f64::NAN] {
        assert!(config().with_eval_fraction(part).validate().is_err());
    }
}
