//! Settings.

use bpo_dpo::DpoConfig;
use bpo_dpo::error::DpoError;

#[test]
fn defaults_are_valid_and_go_through_text() {
    let config = DpoConfig::default();
    config.validate().expect("valid");
    let text = serde_json::to_string(&config).expect("text");
    assert_eq!(serde_json::from_str::<DpoConfig>(&text).expect("settings"), config);
    assert_eq!(serde_json::from_str::<DpoConfig>("{}").expect("settings"), config);
}

#[test]
fn unknown_settings_are_refused() {
    let error = serde_json::from_str::<DpoConfig>(r#"{"learning_rat": 1e-5}"#).expect_err("a typing error");
    assert!(error.to_string().contains("learning_rat"), "{error}");
}

#[test]
fn each_bad_setting_is_named() {
    let new = DpoConfig::default;
    for (config, name) in [
        (new().with_beta(0.0), "beta"),
        (new().with_beta(f64::NAN), "beta"),
        (new().with_learning_rate(-1.0), "learning_rate"),
        (new().with_warmup_ratio(1.5), "warmup_ratio"),
        (new().with_epochs(0), "epochs"),
        (new().with_max_steps(Some(0)), "max_steps"),
        (new().with_batch_size(0), "batch_size"),
        (new().with_accumulation(0), "accumulation"),
        (new().with_max_grad_norm(f64::INFINITY), "max_grad_norm"),
        (new().with_adam_beta2(1.0), "adam_beta2"),
        (new().with_save_every(0), "save_every"),
        (new().with_save_minutes(0.0), "save_minutes"),
        (new().with_keep_checkpoints(0), "keep_checkpoints"),
    ] {
        match config.validate() {
            Err(DpoError::Setting { key, .. }) => assert_eq!(key, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}
