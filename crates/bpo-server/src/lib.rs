#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod chat;
mod client;
mod concurrency;
mod config;
mod error;
mod redact;
mod slots;
mod wire;

pub use chat::{Chat, ChatMessage, ChatPart, ChatRole};
pub use client::OpenAiClient;
pub use config::OpenAiConfig;
pub use error::ServerError;
