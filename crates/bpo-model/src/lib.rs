#![doc = include_str!("../README.md")]

mod checkpoint;
#[cfg(feature = "dpo")]
mod collate;
mod convert;
mod decoder;
mod error;
mod families;
mod generation;
mod gradient_checkpointing;
mod input;
mod json;
mod kernels;
mod layers;
mod lora;
mod memory;
mod pool;
mod processor;
mod responder;
mod scoring;
mod vision;
mod vlm;

pub use checkpoint::{TensorEntry, WeightIndex};
#[cfg(feature = "dpo")]
pub use collate::{ImageError, ImageSource, OnImage, VlmCollator};
pub use convert::{Converted, convert_original};
pub use decoder::{Decoder, DecoderConfig, DecoderKind, RopeParameters};
pub use error::{ModelError, WeightProblems};
pub use families::internvl::{InternVlConfig, InternVlProjector};
pub use families::llava::{FeatureLayer, FeatureSelect, LlavaConfig, LlavaProjector};
pub use families::llava_next::{LlavaNextConfig, LlavaNextProjector};
pub use families::qwen_vl::{QwenGeneration, QwenMerger, QwenVlConfig};
pub use families::smolvlm::{SmolVlmConfig, SmolVlmKind, SmolVlmProjector, SmolVlmVisionConfig};
pub use families::text::TextConfig;
pub use families::{FamilySpec, Projector, VlmConfig};
pub use generation::{Continuation, ContrastInput, OnContinuation, Prompt};
pub use input::{ImageInput, ImageLayout, ModelInput};
pub use json::JsonError;
pub use layers::Activation;
pub use lora::{
    AdapterBase, Adapters, Linear, LoraConfig, ModulePatterns, TargetModules, adapter_settings,
    base_of_adapter, load_adapter, merge_checkpoint, save_adapter,
};
pub use memory::{BatchShape, Footprint};
pub use processor::{
    Aspect, ChatTemplate, GenerationSettings, IMAGE_TOKEN, ImagePreprocessor, ImageProcessor, PixelValues,
    Processor, ProcessorError, Rendered, SpecialToken, SpecialTokens, TextProcessor, TokenizedCompletion,
    VideoSettings,
};
pub use responder::{ImageQuestion, PreparedQuestion, VlmResponder, WeakenedImage};
pub use scoring::ScoreBatch;
pub use vision::{
    ClipVision, Idefics3Vision, InternVlNorm, InternVlVision, InternVlVisionConfig, QwenVision,
    QwenVisionConfig, SiglipVision, TokenGrid, VisionTower, VitConfig, VitKind, WindowConfig,
};
pub use vlm::{LoadOptions, ModelPart, PackedFeatures, Vlm};
