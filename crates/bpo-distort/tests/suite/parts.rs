//! Stages on the image, on normalized pixels and on features.

use std::borrow::Cow;

use bpo_distort::{Blur, DiffusionNoise, DistortError, Distortion, Input, StageSeed, diffusion};
use image::RgbImage;

fn parse(text: &str) -> Distortion {
    text.parse().unwrap()
}

fn checker() -> RgbImage {
    RgbImage::from_fn(12, 10, |x, y| image::Rgb([((x + y) % 2 * 255) as u8; 3]))
}

fn on_pixels(text: &str) -> Vec<f32> {
    let mut pixels = vec![0.5; 12];
    parse(text).on_pixels(&mut pixels, 11).unwrap();
    pixels
}

#[test]
fn noise_alone_borrows_the_image() {
    let image = checker();
    let on_image = parse("diffusion-noise:step=900").on_image(&image, 11).unwrap();
    assert!(matches!(on_image, Cow::Borrowed(_)));
    assert_ne!(on_pixels("diffusion-noise:step=900"), [0.5; 12]);
}

#[test]
fn noise_at_the_end_runs_on_pixels_with_the_seed_of_its_stage() {
    let image = checker();
    let both = parse("blur:sigma=2+diffusion-noise:step=900");
    assert_eq!(*both.on_image(&image, 11).unwrap(), parse("blur:sigma=2").apply(&image, 11).unwrap());

    let mut expected = vec![0.5; 12];
    diffusion::noise_pixels(&mut expected, 900, StageSeed::new(11, 1)).unwrap();
    assert_eq!(on_pixels("blur:sigma=2+diffusion-noise:step=900"), expected);
}

#[test]
fn noise_before_an_image_stage_runs_on_the_image() {
    let image = checker();
    let text = "diffusion-noise:step=500+blur:sigma=2";
    assert_eq!(*parse(text).on_image(&image, 11).unwrap(), parse(text).apply(&image, 11).unwrap());
    assert_eq!(on_pixels(text), [0.5; 12]);
}

#[test]
fn noise_stages_are_independent() {
    let twice = on_pixels("diffusion-noise:step=500+diffusion-noise:step=500");
    let mut expected = vec![0.5; 12];
    for stage in 0..2 {
        diffusion::noise_pixels(&mut expected, 500, StageSeed::new(11, stage)).unwrap();
    }
    assert_eq!(twice, expected);
}

#[test]
fn nested_sequences_are_flattened() {
    let image = checker();
    let flat = parse("blur:sigma=1+diffusion-noise:step=300+blur:sigma=2");
    let Distortion::Sequence(stages) = flat.clone() else { unreachable!() };
    let nested = Distortion::Sequence(vec![
        Distortion::Sequence(stages[..2].to_vec()),
        Distortion::Sequence(stages[2..].to_vec()),
    ]);
    assert_eq!(nested.apply(&image, 11).unwrap(), flat.apply(&image, 11).unwrap());
    assert_eq!(nested.to_string(), flat.to_string());
    assert_eq!(Distortion::sequence([nested]).unwrap(), flat);
}

#[test]
fn invalid_values_are_errors_in_every_method() {
    let image = checker();
    let late = Distortion::Sequence(vec![
        Blur { sigma: 1.0.into() }.into(),
        DiffusionNoise { step: (5..=1000).into() }.into(),
    ]);
    assert!(matches!(late.apply(&image, 0), Err(DistortError::InvalidValue { parameter: "step", .. })));
    assert!(matches!(late.on_image(&image, 0), Err(DistortError::InvalidValue { .. })));
    assert!(matches!(late.on_pixels(&mut [0.0], 0), Err(DistortError::InvalidValue { .. })));
    assert!(matches!(late.feature_stages(0).err(), Some(DistortError::InvalidValue { .. })));
    let empty = Distortion::Sequence(vec![]);
    assert!(matches!(empty.apply(&image, 0), Err(DistortError::EmptySequence)));
    assert!(matches!(Distortion::sequence([]), Err(DistortError::EmptySequence)));
    assert!(matches!(Distortion::blur(-2.0), Err(DistortError::InvalidValue { .. })));
    assert!(matches!(Distortion::diffusion_noise(1000), Err(DistortError::InvalidValue { .. })));
}

#[test]
fn feature_stages_come_last() {
    let image = checker();
    let all = parse("blur:sigma=2+diffusion-noise:step=900+mask-tokens:share=0.5+feature-noise:sigma=1");
    let without = parse("blur:sigma=2+diffusion-noise:step=900");
    assert_eq!(all.on_image(&image, 11).unwrap(), without.on_image(&image, 11).unwrap());
    assert_eq!(on_pixels(&all.to_string()), on_pixels(&without.to_string()));
    let seeds: Vec<_> = all.feature_stages(11).unwrap().map(|(_, seed)| seed).collect();
    assert_eq!(seeds, [2, 3].map(|stage| StageSeed::new(11, stage)));
    assert!(matches!(all.apply(&image, 11), Err(DistortError::NeedsModel { family: "mask-tokens" })));
    let wrong = [parse("no-image"), parse("blur:sigma=1")];
    assert!(matches!(Distortion::sequence(wrong), Err(DistortError::StageAfterFeatures { .. })));
}

#[test]
fn a_second_image_is_needed_only_where_it_is_used() {
    let (image, empty) = (checker(), RgbImage::new(0, 3));
    let swap = parse("swap+blur:sigma=1");
    assert!(matches!(swap.on_image(&image, 1), Err(DistortError::NeedsOther { family: "swap" })));
    let input = Input::new(&image).with_other(&empty);
    assert!(matches!(swap.apply(input, 1), Err(DistortError::NeedsOther { .. })));
    swap.on_pixels(&mut [0.0], 1).unwrap();
    assert!(!parse("blur:sigma=1+no-image").needs_other());
}
