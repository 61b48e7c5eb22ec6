//! Tests of the crate's public parts on the golden checkpoint. They are one binary, so that burn is
//! linked once.
//!
//! `BPO_GOLDEN` names another golden directory of the same layout. `BPO_TEST_DEVICE` names another
//! device than flex; the modules `parity`, `trl`, `lora` and `groups` are the ones that hold on
//! every device.

mod convert;
mod families;
mod groups;
mod language_models;
mod loading;
mod lora;
mod not_finite;
mod parity;
mod peft;
mod processor;
mod support;
mod trl;
mod trl_batch;
/// The reader of TRL's table of losses; bpo-dpo's tests use more of its columns.
#[allow(dead_code)]
#[path = "../../../bpo-dpo/tests/suite/trl.rs"]
mod trl_losses;
mod trl_steps;
mod weaken;
