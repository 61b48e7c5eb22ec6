//! ViP-LLaVA (Cai et al., 2024, arXiv 2312.00784), as transformers' `models/vipllava` runs it: LLaVA
//! with several hidden states of the vision tower, and a layer norm before the projector.

use std::path::Path;

use serde::Deserialize;

use super::config::{FeatureLayer, FeatureSelect, LlavaConfig};
use super::spec::SPEC;
use crate::error::ModelError;
use crate::families::spec::FamilySpec;
use crate::json::read_json;

/// ViP-LLaVA, `VipLlavaForConditionalGeneration` in transformers. Its weights have LLaVA's names.
pub(crate) static VIP_SPEC: FamilySpec = FamilySpec {
    model_type: "vipllava",
    title: "ViP-LLaVA, such as llava-hf/vip-llava-7b-hf",
    read: |path| read(path).map(Into::into),
    class: "VipLlavaForConditionalGeneration",
    module: "transformers.models.vipllava.modeling_vipllava",
    projector: &[
        "multi_modal_projector.projector_layernorm",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
    ],
    ..SPEC
};

/// The keys that LLaVA's configuration does not have, or with another default.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Keys {
    vision_feature_layer: Option<FeatureLayer>,
    /// The name in files of transformers 4.
    vision_feature_layers: Option<FeatureLayer>,
    projector_layernorm_eps: Option<f64>,
}

/// Reads a `config.json` of the family and checks that the model is supported.
fn read(path: &Path) -> Result<LlavaConfig, ModelError> {
    let keys: Keys = read_json(path)?;
    let layers = keys.vision_feature_layer.or(keys.vision_feature_layers);
    let config = LlavaConfig {
        vision_feature_layer: layers.unwrap_or_else(|| FeatureLayer::Many(vec![-2, -5, -8, -11, 6])),
        vision_feature_select_strategy: FeatureSelect::Default,
        multimodal_projector_bias: true,
        projector_layernorm_eps: Some(keys.projector_layernorm_eps.unwrap_or(1e-5)),
        ..read_json(path)?
    };
    config.check(path)?;
    Ok(config)
}
