//! Tests of the crate's public parts on a toy policy. One binary, so that burn is linked once.

mod checkpoint;
mod chip;
mod config;
mod custom_loss;
mod devices;
mod evaluation;
mod gradients;
mod hanorec;
mod hostile;
mod loss;
mod mdpo;
mod metrics;
mod optimizer;
mod order;
mod prefetch;
mod reference;
mod resume;
mod schedule;
mod symmpo;
mod tensorboard;
mod toy;
mod trainer;
mod trl;
mod validate;
