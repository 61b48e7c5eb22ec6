//! Settings.

use bpo_dpo::loss::{Divergence, Loss};
use bpo_dpo::{Criterion, DpoConfig, DpoError, LrGroup};
use bpo_pairs::CompletionKind;

#[test]
fn defaults_are_valid_and_round_trip() {
    let config = DpoConfig::default();
    config.validate().expect("valid");
    let text = serde_json::to_string(&config).expect("text");
    assert_eq!(serde_json::from_str::<DpoConfig>(&text).expect("settings"), config);
    assert_eq!(serde_json::from_str::<DpoConfig>("{}").expect("settings"), config);
}

#[test]
fn a_loss_is_a_name_or_a_table() {
    let loss = |text: &str| {
        serde_json::from_str::<DpoConfig>(&format!(r#"{{"loss": {text}}}"#)).map(|config| config.loss)
    };
    for name in ["sigmoid", "chip", "mpo", "mdpo"] {
        assert_eq!(loss(&format!("{name:?}")).expect("a loss"), name.parse().expect("a loss"), "{name}");
    }
    assert_eq!(loss(r#"{"type": "anchor", "delta": 2}"#).expect("a loss"), Loss::Anchor { delta: 2.0 });
    let sum = r#"{"type": "sum", "terms": [{"weight": 1, "loss": "sigmoid"}, {"weight": 2.5, "loss": {"type": "sft"}}]}"#;
    assert_eq!(loss(sum).expect("a loss"), Loss::sigmoid_with_sft(2.5));
    for wrong in [r#""sum""#, r#""sigmod""#, r#"{"type": "sigmod"}"#, r#"{"type": "hinge", "delta": 1}"#, "3"]
    {
        loss(wrong).expect_err("no loss");
    }
    let error = loss(r#""sigmod""#).expect_err("no loss").to_string();
    assert!(error.contains("sigmod") && error.contains("sppo_hard"), "{error}");
    for (wrong, meant) in
        [("sigmod", "sigmoid"), ("mdop", "mdpo"), ("DPO", "sigmoid"), ("bco", "bco_pair"), ("simPO", "simpo")]
    {
        let error = loss(&format!("{wrong:?}")).expect_err("no loss").to_string();
        assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}");
    }
    let error = loss(r#""xyz""#).expect_err("no loss").to_string();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn unknown_settings_are_refused() {
    let error = serde_json::from_str::<DpoConfig>(r#"{"learning_rat": 1e-5}"#).expect_err("a typing error");
    assert!(error.to_string().contains("learning_rat"), "{error}");
}

#[test]
fn each_invalid_setting_is_named() {
    let new = DpoConfig::default;
    for (config, name) in [
        (new().with_beta(0.0), "beta"),
        (new().with_beta(f64::NAN), "beta"),
        (new().with_learning_rate(-1.0), "learning_rate"),
        (new().with_warmup_ratio(1.5), "warmup_ratio"),
        (new().with_epochs(0), "epochs"),
        (new().with_max_steps(Some(0)), "max_steps"),
        (new().with_batch_size(0), "batch_size"),
        (new().with_gradient_accumulation_steps(0), "gradient_accumulation_steps"),
        (new().with_max_grad_norm(f64::INFINITY), "max_grad_norm"),
        (new().with_adam_beta2(1.0), "adam_beta2"),
        (new().with_save_every(0), "save_every"),
        (new().with_save_minutes(0.0), "save_minutes"),
        (new().with_keep_checkpoints(0), "keep_checkpoints"),
        // what f32 cannot hold, in which parameters are updated
        (new().with_learning_rate(1e39), "learning_rate"),
        (new().with_learning_rate(1e-50), "learning_rate"),
        (new().with_weight_decay(1e308), "weight_decay"),
        (new().with_adam_epsilon(1e-50), "adam_epsilon"),
        (new().with_adam_beta1(1.0 - 1e-9), "adam_beta1"),
        (new().with_max_grad_norm(1e-50), "max_grad_norm"),
        (new().with_beta(1e39), "beta"),
        (new().with_margin_scale(1e-50), "margin_scale"),
        (new().with_responsiveness(true).with_batch_size(2), "batch_size"),
        (new().with_kind_weights([(CompletionKind::ErrorInjected, 1e39)].into()), "kind_weights"),
        (
            new().with_lr_groups(vec![LrGroup { path: "projector".into(), learning_rate: 1e39 }]),
            "lr_groups.learning_rate",
        ),
        (new().with_loss(Loss::Anchor { delta: 1e39 }), "loss.delta"),
        (new().with_divergence(Divergence::AlphaDivergence { alpha: 1e39 }), "divergence.alpha"),
    ] {
        match config.validate() {
            Err(DpoError::Setting { key, .. }) => assert_eq!(key, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Left unread they would be taken for granted.
#[test]
fn conflicting_settings_are_errors() {
    let with = |loss| DpoConfig::default().with_loss(loss);
    let weights = |kind: &str| [(CompletionKind::from(kind.to_owned()), 2.0)].into();
    for (config, name) in [
        (with(Loss::Sft).with_divergence(Divergence::ForwardKl), "divergence"),
        (with(Loss::NcaPair).with_divergence(Divergence::JsDivergence), "divergence"),
        (with(Loss::Sft).with_ld_alpha(Some(0.5)), "ld_alpha"),
        (with(Loss::Conditional).with_keep_best(Some(Criterion::Margins)), "keep_best"),
        (with(Loss::Sft).with_keep_best(Some(Criterion::Accuracies)), "keep_best"),
        (with(Loss::ApoZero).with_margin_scale(1.0), "margin_scale"),
        (with(Loss::Aot { label_smoothing: 0.0 }).with_kind_weights(weights("llm-hal")), "kind_weights"),
        (with(Loss::Ipo).with_responsiveness(true), "responsiveness"),
        (with(Loss::Sft).with_responsiveness(true), "responsiveness"),
        (with(Loss::Aot { label_smoothing: 0.0 }).with_responsiveness(true), "responsiveness"),
        (with(Loss::mpo()).with_responsiveness(true), "responsiveness"),
    ] {
        match config.validate() {
            Err(DpoError::Conflict { key, with, .. }) => {
                assert_eq!(key, name);
                assert_eq!(with, format!("the loss {}", config.loss));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    with(Loss::Sft).with_keep_best(Some(Criterion::Loss)).validate().expect("a loss there is");
    with(Loss::sigmoid_with_sft(1.0)).with_responsiveness(true).validate().expect("a margin there is");
    let alone = DpoConfig::default().with_responsiveness(true).with_reference_free(true);
    let error = alone.validate().expect_err("no reference").to_string();
    assert!(error.contains("`responsiveness`") && error.contains("`reference_free`"), "{error}");
}

#[test]
fn losses_display_their_names() {
    for name in ["sigmoid", "mpo", "mdpo", "simpo"] {
        assert_eq!(name.parse::<Loss>().expect("a name").to_string(), name);
    }
    assert_eq!(Loss::sigmoid_with_sft(3.5).to_string(), "sum (1 sigmoid, 3.5 sft)");
}

#[test]
fn settings_of_other_losses_are_errors() {
    for text in [
        r#"{"type": "hinge", "label_smoothing": 0.1}"#,
        r#"{"type": "sft", "tau": 0.1}"#,
        r#"{"type": "anchor", "gamma": 0.1}"#,
    ] {
        let error = serde_json::from_str::<Loss>(text).expect_err(text).to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
    serde_json::from_str::<Divergence>(r#"{"type": "forward_kl", "alpha": 0.3}"#).expect_err("no alpha");
    assert_eq!(serde_json::from_str::<Loss>(r#"{"type": "hinge"}"#).expect("a loss"), Loss::Hinge);
}
