//! The names of LLaVA-NeXT.

use super::{Kind, LlavaNextConfig};
use crate::families::llava::SPEC as LLAVA;
use crate::families::spec::{FamilySpec, PartNames};

/// The names of LLaVA-1.5, and that of the embedding of the end of a row.
pub(crate) static NAMES: [PartNames; 5] = [
    LLAVA.names[0],
    LLAVA.names[1],
    LLAVA.names[2],
    LLAVA.names[3],
    PartNames {
        path: "multi_modal_projector.image_newline",
        current: "model.image_newline",
        published: "image_newline",
        others: &[],
    },
];

/// LLaVA-NeXT, `LlavaNextForConditionalGeneration` in transformers.
pub(crate) static SPEC: FamilySpec = FamilySpec {
    model_type: "llava_next",
    read: |path| LlavaNextConfig::read(path, Kind::Next).map(Into::into),
    class: "LlavaNextForConditionalGeneration",
    module: "transformers.models.llava_next.modeling_llava_next",
    names: &NAMES,
    ..LLAVA
};
