//! Tests of the public API, one module per topic.

mod amber;
mod amber_captions;
mod answers;
mod as_published;
mod auc;
mod chair;
mod extracted;
mod hostile;
mod mm_vet;
mod mmhal;
mod pairing;
mod pope;
mod ranking;
mod support;
