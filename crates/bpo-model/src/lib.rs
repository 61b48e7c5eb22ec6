#![doc = include_str!("../README.md")]

pub mod clip;
pub mod config;
pub mod error;
mod family;
mod files;
pub mod generate;
mod gradient_checkpointing;
pub mod input;
mod kernels;
pub mod llama;
pub mod llava;
pub mod lora;
pub mod memory;
mod nn;
#[cfg(feature = "dpo")]
pub mod policy;
mod pool;
pub mod processor;
pub mod projector;
pub mod responder;
pub mod weights;

pub use error::ModelError;
pub use llava::{Llava, LoadOptions};
pub use lora::{Adapters, LoraConfig};
