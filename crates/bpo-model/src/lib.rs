#![doc = include_str!("../README.md")]

mod clip;
mod config;
mod error;
mod family;
mod generate;
mod gradient_checkpointing;
mod input;
mod json;
mod kernels;
mod llama;
mod llava;
mod lora;
mod memory;
mod nn;
#[cfg(feature = "dpo")]
mod policy;
mod pool;
mod processor;
mod projector;
mod responder;
mod weights;

pub use clip::ClipVision;
pub use config::{
    Activation, FeatureLayer, FeatureSelect, LlavaConfig, RopeParameters, TextConfig, VisionConfig,
};
pub use error::{ModelError, WeightProblems};
pub use generate::{Continuation, ContrastInput, OnContinuation, Prompt};
pub use input::{ImageInput, ModelInput};
pub use json::JsonError;
pub use llama::Llama;
pub use llava::{Llava, LoadOptions, ScoreBatch};
pub use lora::{
    Adapters, Linear, LoraConfig, ModulePatterns, TargetModules, adapter_settings, base_of_adapter,
    load_adapter, merge_checkpoint, save_adapter,
};
pub use memory::{BatchShape, Footprint};
#[cfg(feature = "dpo")]
pub use policy::{ImageError, ImageSource, LlavaCollator};
pub use processor::{
    Aspect, ChatTemplate, IMAGE_TOKEN, ImageProcessor, PixelValues, Processor, ProcessorError, Rendered,
    SpecialToken, SpecialTokens, TextProcessor, TokenizedCompletion, check_prompt_length,
};
pub use projector::Projector;
pub use responder::{ImageQuestion, LlavaResponder, PreparedQuestion, WeakenedImage};
pub use weights::{TensorEntry, WeightIndex, canonical};
