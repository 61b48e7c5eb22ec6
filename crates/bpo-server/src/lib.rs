#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod client;
mod config;
mod error;
mod redact;
mod wire;

pub use client::OpenAiClient;
pub use config::OpenAiConfig;
pub use error::ServerError;
