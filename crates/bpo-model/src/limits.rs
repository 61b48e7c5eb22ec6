//! Stand-in for `bpo_pairs::Limits`.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub layers: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub width: usize,
    pub vocabulary: usize,
    pub positions: usize,
    pub image_side: usize,
    pub ids: usize,
    pub lora_rank: usize,
    pub settings_bytes: u64,
    pub tokenizer_bytes: u64,
}
impl Limits {
    pub const DEFAULT: Self = Self {
        layers: 1000,
        heads: 4096,
        head_dim: 8192,
        width: 1 << 20,
        vocabulary: 1 << 24,
        positions: 1 << 27,
        image_side: 16_384,
        ids: 10_000,
        lora_rank: 65_536,
        settings_bytes: 16 << 20,
        tokenizer_bytes: 256 << 20,
    };
}
