//! PEFT's names of trained tensors.

use crate::families::FamilySpec;
use crate::families::spec::file_leaf;
use crate::vlm::{HEAD, PROJECTOR};

/// The prefix that PEFT adds to the names of the wrapped model's modules.
const WRAPPER: &str = "base_model.model.";
/// The random stream of a module (FNV-1a of its name), which does not depend on what else is
/// adapted.
pub(super) fn stream(module: &str) -> u64 {
    module
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One of an adapter's two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    A,
    B,
}

impl Factor {
    /// The other factor.
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A tensor of an adapter file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdapterTensor {
    /// A factor of the adapter of a module.
    Lora(String, Factor),
    /// A weight of a module that is saved in full, by its canonical name.
    Saved(String),
    /// The weight that the adapter of a module is added to. PEFT saves it for an adapted head.
    Base(String),
}

impl AdapterTensor {
    /// Parses a name of `adapter_model.safetensors`, written with transformers 4 or 5. As in PEFT,
    /// the wrapper's prefix may be missing, and the name of a factor may contain that of PEFT's
    /// `default` adapter.
    pub(super) fn parse(name: &str, spec: &FamilySpec) -> Option<Self> {
        let name = unwrapped(name);
        if name.starts_with("base_model.") || name.contains("_orig_mod.") {
            return None;
        }
        let name = spec.canonical(name);
        for (suffix, factor) in [("lora_A", Factor::A), ("lora_B", Factor::B)] {
            let rest = name.strip_suffix(".weight").map(|rest| rest.strip_suffix(".default").unwrap_or(rest));
            let module = rest.and_then(|rest| rest.strip_suffix(suffix)?.strip_suffix('.'));
            if let Some(module) = module {
                return Some(Self::Lora(module.to_owned(), factor));
            }
        }
        if name.contains(".lora_") {
            return None;
        }
        if let Some(module) = name.strip_suffix(".base_layer.weight") {
            return Some(Self::Base(module.to_owned()));
        }
        // PEFT removes the adapter's name when it saves; some versions leave the wrapper's
        Some(Self::Saved(name.replace(".modules_to_save", "").replace(".original_module", "")))
    }

    /// The name in PEFT with transformers 5.
    pub(super) fn name(&self, spec: &FamilySpec) -> String {
        let (path, end) = match self {
            Self::Lora(module, Factor::A) => (module, ".lora_A.weight"),
            Self::Lora(module, Factor::B) => (module, ".lora_B.weight"),
            Self::Saved(weight) => (weight, ""),
            Self::Base(module) => (module, ".base_layer.weight"),
        };
        format!("{WRAPPER}{}{end}", spec.current(path))
    }

    /// The tensor at a parameter path of [`Vlm`](crate::Vlm), if it may be a trained one.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let original = original(path);
        let path = original.clone().unwrap_or_else(|| path.to_owned());
        if let Some((module, factor)) = path.rsplit_once(".weight.lora.") {
            let factor = if factor == "a" { Factor::A } else { Factor::B };
            return Some(Self::Lora(module.to_owned(), factor));
        }
        original.map(|path| Self::Saved(file_leaf(&path)))
    }
}

/// Copies that are trained in full, and the modules that they are copies of.
const COPIES: [(&str, &str); 2] = [("trained_projector", PROJECTOR), ("trained_head", HEAD)];

/// The path of the original, if a path is that of a copy.
pub(super) fn original(path: &str) -> Option<String> {
    let (first, rest) = path.split_once('.')?;
    let (_, of) = COPIES.into_iter().find(|(copy, _)| *copy == first)?;
    Some(format!("{of}.{rest}"))
}

/// A name in a file without the prefix that PEFT adds.
pub(super) fn unwrapped(name: &str) -> &str {
    name.strip_prefix(WRAPPER).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::llava::LLAVA as SPEC;

    fn parse(name: &str) -> Option<AdapterTensor> {
        AdapterTensor::parse(name, &SPEC)
    }

    #[test]
    fn names_round_trip() {
        for path in [
            "language_model.layers.0.self_attn.q_proj.weight.lora.a",
            "language_model.layers.11.mlp.down_proj.weight.lora.b",
            "vision_tower.encoder.layers.3.mlp.fc1.weight.lora.a",
            "multi_modal_projector.linear_2.weight.lora.b",
            "trained_projector.linear_1.bias",
            "trained_projector.linear_2.weight.lora.a",
            "trained_head.weight",
            "lm_head.weight.lora.b",
        ] {
            let tensor = AdapterTensor::of_path(path).unwrap();
            assert_eq!(parse(&tensor.name(&SPEC)), Some(tensor));
        }
        assert_eq!(AdapterTensor::of_path("language_model.norm.gamma"), None);
    }

    #[test]
    fn older_adapters_are_understood() {
        let old = "base_model.model.language_model.model.layers.3.mlp.up_proj.lora_A.weight";
        let new = "base_model.model.model.language_model.layers.3.mlp.up_proj.lora_A.weight";
        assert_eq!(parse(old), parse(new));
        let head = AdapterTensor::Lora("lm_head".into(), Factor::A);
        for name in ["base_model.model.language_model.lm_head", "base_model.model.lm_head"] {
            assert_eq!(parse(&format!("{name}.lora_A.weight")), Some(head.clone()));
        }
    }

    /// PEFT 0.21.2 reads the first three names and ignores the others.
    #[test]
    fn names_are_read_that_peft_reads() {
        let module = "model.language_model.layers.0.mlp.up_proj";
        let read = Some(AdapterTensor::Lora("language_model.layers.0.mlp.up_proj".into(), Factor::A));
        for name in [
            format!("base_model.model.{module}.lora_A.weight"),
            format!("base_model.model.{module}.lora_A.default.weight"),
            format!("{module}.lora_A.weight"),
        ] {
            assert_eq!(parse(&name), read, "{name}");
        }
        for name in [
            "base_model.language_model.layers.0.mlp.up_proj.lora_A.weight".to_owned(),
            format!("base_model.model._orig_mod.{module}.lora_A.weight"),
            format!("base_model.model.{module}.lora_A.other.weight"),
            format!("base_model.model.{module}.lora_embedding_A"),
        ] {
            assert_eq!(parse(&name), None, "{name}");
        }
    }
}
