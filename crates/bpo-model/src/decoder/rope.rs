//! Rotary positions (Su et al., 2021, arXiv 2104.09864) in the half-rotation form of transformers'
//! Llama.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::iter::repeat_n;
use std::ops::Range;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::{DecoderConfig, Position, Positions, RopeParameters};

/// The rotary frequencies of a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// `[head_dim / 2]`, in f32 as transformers computes them.
    inv_freq: Vec<f32>,
    /// The axis whose positions each frequency turns by.
    axes: Vec<usize>,
}

/// Cosines and sines of tokens' positions, `[tokens, 1, head_dim]`.
#[derive(Clone, Debug)]
pub(crate) struct RopeTables {
    pub(crate) cos: Tensor<3>,
    /// Sines, negative in the first half: the factors of the swapped halves.
    pub(crate) sin: Tensor<3>,
    /// Sines of the opposite angles.
    pub(crate) back: Tensor<3>,
    /// The rotations as matrices `[tokens, head_dim, head_dim]`, where a product is faster.
    pub(crate) turns: Option<Tensor<3>>,
}

impl RopeTables {
    /// The tables of the tokens from a place on.
    pub(crate) fn behind(&self, place: usize) -> Self {
        self.map(|table| {
            let tokens = table.dims()[0];
            table.narrow(0, place, tokens - place)
        })
    }

    /// The factor of attention scores: `1 / sqrt(head_dim)`.
    pub(crate) fn score_scale(&self) -> f64 {
        (self.cos.dims()[2] as f64).powf(-0.5)
    }

    pub(crate) fn off_tape(&self) -> Self {
        self.map(Tensor::inner)
    }

    fn map(&self, of: impl Fn(Tensor<3>) -> Tensor<3>) -> Self {
        let [cos, sin, back] = [&self.cos, &self.sin, &self.back].map(|table| of(table.clone()));
        Self { cos, sin, back, turns: self.turns.clone().map(of) }
    }
}

impl Rope {
    /// Computes the frequencies `theta^(-2i/d)`, scaled as the configuration says (`linear`, or
    /// `llama3`'s smooth cut). `dynamic` scales those of sequences above `max_position_embeddings`,
    /// which are refused.
    pub(crate) fn new(config: &DecoderConfig) -> Self {
        let (rope, width) = (config.rope(), config.head_dim());
        let theta = rope.rope_theta.unwrap_or(10_000.0) as f32;
        let plain = (0..width / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / width as f32));
        let factor = rope.factor.unwrap_or(1.0) as f32;
        let inv_freq = match rope.kind() {
            Some("linear") => plain.map(|frequency| frequency / factor).collect(),
            Some("llama3") => {
                let low = rope.low_freq_factor.unwrap_or(1.0) as f32;
                let high = rope.high_freq_factor.unwrap_or(4.0) as f32;
                let context = rope.original_max_position_embeddings.unwrap_or(8192) as f32;
                plain.map(|frequency| llama3(frequency, factor, low, high, context)).collect()
            }
            _ => plain.collect(),
        };
        Self { axes: axes(&rope, width / 2), inv_freq }
    }

    /// Computes the frequencies of vision towers whose patches have a row and a column (axes 0 and
    /// 1): each takes half of the frequencies. `width` is that of a head.
    pub(crate) fn of_grid(theta: f64, width: usize) -> Self {
        let (theta, half) = (theta as f32, width / 2);
        let plain = || (0..half / 2).map(move |i| 1.0 / theta.powf((2 * i) as f32 / half as f32));
        let axes = [0, 1].into_iter().flat_map(|axis| repeat_n(axis, half / 2)).collect();
        Self { inv_freq: plain().chain(plain()).collect(), axes }
    }

    /// Computes tables for the positions of rows of tokens: `[tokens of all rows, 1, head_dim]`.
    pub(crate) fn tables(&self, rows: &[Positions], dtype: FloatDType, device: &Device) -> RopeTables {
        let half = self.inv_freq.len();
        let mut places: BTreeMap<Position, Range<usize>> = BTreeMap::new();
        let values = rows.iter().map(|row| row.tokens().len()).sum::<usize>() * 2 * half;
        let [mut cos, mut sin] = [(); 2].map(|()| Vec::<f32>::with_capacity(values));
        let tables = &mut [&mut cos, &mut sin];
        let mut tokens = 0;
        for position in rows.iter().flat_map(Positions::tokens) {
            // many rows have the same positions
            match places.entry(*position) {
                Entry::Occupied(known) => {
                    for table in &mut *tables {
                        table.extend_from_within(known.get().clone());
                    }
                }
                Entry::Vacant(new) => {
                    new.insert(tokens * 2 * half..(tokens + 1) * 2 * half);
                    let pairs = || self.inv_freq.iter().zip(&self.axes);
                    let angles = || pairs().map(|(frequency, axis)| position[*axis] as f32 * frequency);
                    // both halves have the same angles
                    for sign in [-1.0, 1.0] {
                        tables[0].extend(angles().map(f32::cos));
                        tables[1].extend(angles().map(|angle| sign * angle.sin()));
                    }
                }
            }
            tokens += 1;
        }
        let tensor = |values| {
            let table: Tensor<3> =
                Tensor::from_data(TensorData::new(values, [tokens, 1, 2 * half]), (device, DType::F32));
            table.cast(dtype)
        };
        let sin = tensor(sin);
        RopeTables { cos: tensor(cos), back: sin.clone().neg(), sin, turns: None }
    }
}

/// The axis of each of `half` frequencies. In sections, the frequencies of an axis follow each other
/// (Qwen2-VL); interleaved, axes take turns as long as their section lasts, and the first axis takes
/// the rest (Qwen3-VL).
fn axes(rope: &RopeParameters, half: usize) -> Vec<usize> {
    const AXES: usize = 3;
    let Some(sections) = &rope.mrope_section else { return vec![0; half] };
    if rope.mrope_interleaved == Some(true) {
        let lasts = |i: &usize| sections.get(i % AXES).is_some_and(|section| i / AXES < *section);
        return (0..half).map(|i| if lasts(&i) { i % AXES } else { 0 }).collect();
    }
    let of_sections = sections.iter().enumerate().flat_map(|(i, section)| repeat_n(i % AXES, *section));
    of_sections.chain(std::iter::repeat(0)).take(half).collect()
}

/// Llama 3's scaling: long waves are stretched by `factor`, short ones stay, and those between are
/// interpolated.
fn llama3(frequency: f32, factor: f32, low: f32, high: f32, context: f32) -> f32 {
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    if wavelength < context / high {
        frequency
    } else if wavelength > context / low {
        frequency / factor
    } else {
        let smooth = (context / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(parameters: serde_json::Value) -> Vec<f32> {
        let config =
            serde_json::json!({"hidden_size": 64, "num_attention_heads": 4, "rope_parameters": parameters});
        Rope::new(&serde_json::from_value(config).unwrap()).inv_freq
    }

    fn assert_close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected, "{found} and {expected}");
        }
    }

    /// Values of transformers 5.23: `ROPE_INIT_FUNCTIONS["linear"]` and `["llama3"]`.
    #[test]
    fn frequencies_are_scaled_as_transformers_does() {
        assert_close(
            &frequencies(serde_json::json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})),
            &[
                0.25,
                0.079_056_94,
                0.025,
                0.007_905_694_7,
                0.002_5,
                0.000_790_569_47,
                0.000_25,
                0.000_079_056_94,
            ],
        );
        assert_close(
            &frequencies(serde_json::json!({
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            })),
            &[
                1.0,
                0.193_922_76,
                0.037_606_03,
                0.007_292_665,
                0.000_524_846,
                0.000_034_281_024,
                0.000_006_647_869_7,
                0.000_001_289_173_2,
            ],
        );
    }

    #[test]
    fn frequencies_turn_by_the_axis_of_their_section() {
        let of = |sections: &[usize], interleaved| {
            let rope = RopeParameters {
                mrope_section: Some(sections.to_vec()),
                mrope_interleaved: Some(interleaved),
                ..RopeParameters::default()
            };
            axes(&rope, 8)
        };
        assert_eq!(of(&[2, 3, 3], false), [0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(of(&[4, 2, 2], true), [0, 1, 2, 0, 1, 2, 0, 0]);
        assert_eq!(of(&[usize::MAX, 1, 1], false), [0; 8]);
        assert_eq!(axes(&RopeParameters::default(), 8), [0; 8]);
    }

    #[test]
    fn patches_turn_by_row_and_column() {
        let tables = Rope::of_grid(100.0, 8).tables(
            &[Positions::new(vec![[1, 2, 0]], 0)],
            FloatDType::F32,
            &Device::default(),
        );
        let cos: Vec<f32> = tables.cos.into_data().try_into_vec().unwrap();
        let expected = [1.0f32, 0.1, 2.0, 0.2].map(f32::cos);
        assert_eq!(cos, [expected, expected].concat());
    }

    /// Up to the context, which transformers' `_compute_dynamic_ntk_parameters` takes as the least
    /// length.
    #[test]
    fn dynamic_scaling_changes_nothing() {
        let of = |kind: &str| {
            frequencies(serde_json::json!({"rope_type": kind, "factor": 2.0, "rope_theta": 1e6}))
        };
        assert_eq!(of("dynamic"), of("default"));
    }

    #[test]
    fn older_files_say_the_same_in_other_keys() {
        let old = serde_json::json!({
            "hidden_size": 64, "num_attention_heads": 4, "rope_theta": 500.0,
            "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0},
        });
        let old = Rope::new(&serde_json::from_value(old).unwrap()).inv_freq;
        assert_eq!(
            old,
            frequencies(serde_json::json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}))
        );
    }
}
