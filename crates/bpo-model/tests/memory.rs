//! The estimate of a training pass's memory, against the bytes that are allocated.
//!
//! This is a test binary of its own: its global allocator counts the bytes of all threads, so no
//! other test may run in the same process.
#![allow(unsafe_code, reason = "a global allocator is the only way to count what is held")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bpo_dpo::Policy;
use bpo_model::{
    Adapters, LlavaConfig, LoadOptions, LoraConfig, PixelValues, ScoreBatch, TargetModules,
    TokenizedCompletion, Vlm,
};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn config(hidden: usize, kv_heads: usize, vocabulary: usize) -> LlavaConfig {
    serde_json::from_value(serde_json::json!({
        "vision_config": {
            "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 256,
            "image_size": 56, "patch_size": 14,
        },
        "text_config": {
            "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": 4,
            "num_attention_heads": 8, "num_key_value_heads": kv_heads, "max_position_embeddings": 2048,
        },
        "image_token_index": 7,
    }))
    .unwrap()
}

/// A batch of `prompts` images with questions of `text` tokens, and `answers` completions each.
fn batch(config: &LlavaConfig, prompts: usize, text: usize, answers: usize, answer: usize) -> ScoreBatch {
    let side = config.vision_config.image_size;
    let pixels = || PixelValues { data: vec![0.1; 3 * side * side], channels: 3, height: side, width: side };
    let groups: Vec<_> = (0..prompts)
        .map(|group| {
            let prompt = [vec![7; config.image_tokens()], vec![3; text]].concat();
            let answered = |number: usize| {
                let answer = (0..answer).map(|token| 10 + ((token * 7 + number) % 50) as u32);
                TokenizedCompletion::new(prompt.iter().copied().chain(answer).collect(), prompt.len())
            };
            (vec![group], (0..answers).map(answered).collect())
        })
        .collect();
    let images = (0..prompts).map(|_| config.input(pixels())).collect();
    ScoreBatch::new(&config.clone().into(), images, &groups).unwrap()
}

/// The most bytes that one forward and backward pass adds. The minimum of two passes, because
/// threads create buffers in the first one.
fn measure(model: &Vlm, batch: &ScoreBatch) -> usize {
    measure_sum(|| model.completion_logps(batch, Adapters::On).unwrap().0.sum())
}

/// [`measure`] of any sum.
fn measure_sum(sum: impl Fn() -> Tensor<1>) -> usize {
    let pass = || {
        let before = HELD.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let gradients = sum().backward();
        drop(gradients);
        MOST.load(Ordering::Relaxed) - before
    };
    pass().min(pass())
}

/// The allocator counts the bytes of all threads, so the tests run one at a time.
static SERIAL: Mutex<()> = Mutex::new(());

/// The model is deep, so one layer is a small part of the whole.
#[test]
fn gradient_checkpointing_keeps_inputs_only() {
    let _serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut config = config(128, 8, 512);
    config.text_config.num_hidden_layers = 12;
    let lora = LoraConfig::default().with_rank(8, 8.0);
    let model = Vlm::random(config.clone(), 0, &LoadOptions::default(), &Device::flex());
    let model = model.with_lora(&lora, 0).unwrap().train();
    let batch = batch(&config, 2, 100, 2, 60);
    let again = model.clone().with_gradient_checkpointing(true).unwrap();
    let (all, inputs) = (measure(&model, &batch) as f64, measure(&again, &batch) as f64);
    println!("{inputs} bytes in place of {all}");
    assert!(inputs < 0.35 * all, "{inputs} of {all}");
    let ratio = again.activation_bytes(&batch.shape(), lora.r) as f64 / inputs;
    assert!((0.8..1.2).contains(&ratio), "{ratio}");
}

/// The vocabulary is large, so that the distributions of all tokens are most of what is held.
#[test]
fn divergences_keep_no_distribution() {
    let _serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let config = config(64, 8, 8192);
    let lora = LoraConfig::default().with_rank(8, 8.0);
    let model = Vlm::random(config.clone(), 0, &LoadOptions::default(), &Device::flex());
    let model = model.with_lora(&lora, 0).unwrap().train();
    let (batch, reference) = (batch(&config, 2, 40, 16, 200), model.valid());
    let alone = measure(&model, &batch) as f64;
    let both = measure_sum(|| {
        let both = model.token_divergences(&batch, &reference, bpo_dpo::Adapters::Off, false).unwrap();
        both.policy.logps.sum() + both.divergences.sum()
    });
    println!("{both} bytes with divergences, {alone} without");
    assert!((both as f64) < alone, "{both}, {alone}");
}

#[test]
fn the_estimate_is_close_to_the_allocated_bytes() {
    let _serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let plain = LoraConfig::default().with_rank(8, 8.0);
    let everywhere =
        plain.clone().with_target_modules(TargetModules::PeftAllLinear).with_modules_to_save(&[]);
    let noisy = LoraConfig::default().with_rank(64, 8.0).with_noise(0.1);
    let f32 = LoadOptions::default();
    for (name, config, options, lora) in [
        ("all of a kind", config(128, 8, 512), f32.clone(), Some(&plain)),
        ("wide, few keys", config(256, 2, 512), f32.clone(), Some(&plain)),
        ("many words", config(64, 8, 8192), f32.clone(), Some(&plain)),
        ("vision tower", config(64, 8, 512), f32.clone(), Some(&everywhere)),
        (
            "half precision",
            config(128, 8, 512),
            LoadOptions::default().with_dtype(FloatDType::BF16),
            Some(&plain),
        ),
        ("noise", config(128, 8, 512), f32.clone(), Some(&noisy)),
        ("in full", config(128, 8, 512), f32, None),
    ] {
        let model = Vlm::random(config.clone(), 0, &options, &Device::flex());
        let (model, rank) = match lora {
            Some(lora) => (model.with_lora(lora, 0).unwrap().train(), lora.r),
            None => (model.train().unfreeze(|_| true), 0),
        };
        for (prompts, text, answers, answer) in [(1, 200, 2, 30), (2, 40, 3, 120), (4, 16, 2, 64)] {
            let batch = batch(&config, prompts, text, answers, answer);
            let held = measure(&model, &batch) as f64;
            let ratio = model.activation_bytes(&batch.shape(), rank) as f64 / held;
            println!("{name}, {:?}: {held} bytes, estimate {ratio:.3} of it", batch.shape());
            assert!((0.8..1.2).contains(&ratio), "{name}: {ratio}");
        }
    }
}
