//! PEFT's names for what is trained.

/// What PEFT puts before the names of the wrapped model's modules.
const WRAPPER: &str = "base_model.model.";
/// What transformers 5 puts before everything but the head.
const MODEL: &str = "model.";

/// The name that transformers 5 gives the module at a path of [`Llava`](crate::llava::Llava)'s.
pub(super) fn module_name(path: &str) -> String {
    format!("{MODEL}{path}")
}

/// FNV-1a: an own random stream for each module, whatever else is adapted.
pub(super) fn stream(module: &str) -> u64 {
    module
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which of an adapter's two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    A,
    B,
}

impl Factor {
    /// The one that it is multiplied with.
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
    /// A factor of the module's adapter.
    Lora(String, Factor),
    /// A weight of a module that is saved whole, by its canonical name.
    Saved(String),
}

impl AdapterTensor {
    /// Reads a name of `adapter_model.safetensors`, written on transformers 4 or 5.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = crate::weights::canonical(name.strip_prefix(WRAPPER)?);
        for (suffix, factor) in [(".lora_A.weight", Factor::A), (".lora_B.weight", Factor::B)] {
            if let Some(module) = name.strip_suffix(suffix) {
                return Some(Self::Lora(module.to_owned(), factor));
            }
        }
        // PEFT strips the adapter's name when it saves; some versions leave the wrapper's
        Some(Self::Saved(name.replace(".modules_to_save", "").replace(".original_module", "")))
    }

    /// The name that PEFT gives it on transformers 5.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Lora(module, Factor::A) => format!("{WRAPPER}{}.lora_A.weight", module_name(module)),
            Self::Lora(module, Factor::B) => format!("{WRAPPER}{}.lora_B.weight", module_name(module)),
            Self::Saved(weight) => format!("{WRAPPER}{}", module_name(weight)),
        }
    }

    /// The tensor that a parameter path of [`Llava`](crate::llava::Llava) is, if it is a trained one.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix("trained_projector.") {
            return Some(Self::Saved(format!("multi_modal_projector.{rest}")));
        }
        let (module, factor) = path.rsplit_once(".weight.lora.")?;
        let factor = if factor == "a" { Factor::A } else { Factor::B };
        Some(Self::Lora(module.to_owned(), factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for path in [
            "language_model.layers.0.self_attn.q_proj.weight.lora.a",
            "language_model.layers.11.mlp.down_proj.weight.lora.b",
            "vision_tower.encoder.layers.3.mlp.fc1.weight.lora.a",
            "multi_modal_projector.linear_2.weight.lora.b",
            "trained_projector.linear_1.bias",
        ] {
            let tensor = AdapterTensor::of_path(path).unwrap();
            assert_eq!(AdapterTensor::parse(&tensor.name()), Some(tensor));
        }
        assert_eq!(AdapterTensor::of_path("language_model.norm.gamma"), None);
    }

    #[test]
    fn older_adapters_are_understood() {
        let old = "base_model.model.language_model.model.layers.3.mlp.up_proj.lora_A.weight";
        let new = "base_model.model.model.language_model.layers.3.mlp.up_proj.lora_A.weight";
        assert_eq!(AdapterTensor::parse(old), AdapterTensor::parse(new));
    }
}
