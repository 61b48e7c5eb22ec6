//! Properties of all distortions, images and seeds.

use std::path::Path;

use bpo_distort::{
    AllowedValues, DistortError, Distortion, Family, ImageLimits, Input, Parameter, Severity, StageSeed,
    diffusion, load_rgb,
};
use image::RgbImage;
use proptest::prelude::*;

fn images() -> impl Strategy<Value = RgbImage> {
    (1u32..24, 1u32..24).prop_flat_map(|(width, height)| {
        prop::collection::vec(any::<u8>(), (width * height * 3) as usize)
            .prop_map(move |levels| RgbImage::from_raw(width, height, levels).unwrap())
    })
}

/// A value or a range in text form, without large values, which are slow.
fn values(parameter: &Parameter) -> BoxedStrategy<String> {
    let one_or_two =
        |value: BoxedStrategy<String>, pair: BoxedStrategy<String>| prop_oneof![value, pair].boxed();
    match parameter.expected() {
        AllowedValues::Number { low, high } => {
            let value = low..=high.min(40.0);
            one_or_two(
                value.clone().prop_map(|value| value.to_string()).boxed(),
                (value.clone(), value).prop_map(|(a, b)| format!("{}..{}", a.min(b), a.max(b))).boxed(),
            )
        }
        AllowedValues::Whole { low, high } => one_or_two(
            (low..=high).prop_map(|value| value.to_string()).boxed(),
            (low..=high, low..=high).prop_map(|(a, b)| format!("{}..{}", a.min(b), a.max(b))).boxed(),
        ),
        AllowedValues::Word(words) => prop::sample::select(words).prop_map(str::to_owned).boxed(),
        _ => unreachable!("there are no other kinds"),
    }
}

/// A stage of a family with random parameters.
fn stage_of(family: &'static Family) -> impl Strategy<Value = Distortion> {
    let values: Vec<_> = family.parameters().iter().map(values).collect();
    values.prop_map(|values| {
        let named = family.parameters().iter().zip(values).map(|(p, value)| format!("{}={value}", p.name()));
        let text = format!("{}:{}", family.name(), named.collect::<Vec<_>>().join(","));
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    })
}

fn stages(of: impl Fn(&Family) -> bool) -> impl Strategy<Value = Distortion> {
    let families: Vec<_> = Family::all().filter(|family| of(family)).collect();
    prop::sample::select(families).prop_flat_map(stage_of)
}

/// Random sequences that need no model.
fn distortions() -> impl Strategy<Value = Distortion> {
    let stages = stages(|family| !family.needs_model());
    prop::collection::vec(stages, 1..5).prop_map(|stages| Distortion::sequence(stages).unwrap())
}

/// Random sequences.
fn all_distortions() -> impl Strategy<Value = Distortion> {
    let of_model = prop::collection::vec(stages(Family::needs_model), 0..3);
    (distortions(), of_model)
        .prop_map(|(first, then)| Distortion::sequence([first].into_iter().chain(then)).unwrap())
}

fn apply(distortion: &Distortion, image: &RgbImage, seed: u64) -> RgbImage {
    let other = RgbImage::from_fn(13, 9, |x, y| image::Rgb([(x * 19) as u8, (y * 28) as u8, 77]));
    distortion.apply(Input::new(image).with_other(&other), seed).unwrap()
}

fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_size_does_not_change(image in images(), distortion in distortions(), seed: u64) {
        prop_assert_eq!(apply(&distortion, &image, seed).dimensions(), image.dimensions());
        let on_image = distortion.on_image(Input::new(&image).with_other(&image), seed).unwrap();
        prop_assert_eq!(on_image.dimensions(), image.dimensions());
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes(image in images(), distortion in distortions(), seed: u64) {
        prop_assert_eq!(apply(&distortion, &image, seed), apply(&distortion, &image, seed));
        let (mut once, mut twice) = (vec![0.25; 48], vec![0.25; 48]);
        distortion.on_pixels(&mut once, seed).unwrap();
        distortion.on_pixels(&mut twice, seed).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn drawing_ranges_first_changes_nothing(image in images(), distortion in all_distortions(), seed: u64) {
        let drawn = distortion.drawn(seed);
        prop_assert!(drawn.validate().is_ok(), "{distortion} gave {drawn}");
        prop_assert!(!drawn.to_string().contains(".."), "{drawn}");
        prop_assert_eq!(&drawn.drawn(!seed), &drawn);
        let input = Input::new(&image).with_other(&image);
        prop_assert_eq!(drawn.on_image(input, seed).unwrap(), distortion.on_image(input, seed).unwrap());
        let (mut once, mut twice) = (vec![0.25; 48], vec![0.25; 48]);
        distortion.on_pixels(&mut once, seed).unwrap();
        drawn.on_pixels(&mut twice, seed).unwrap();
        prop_assert_eq!(once, twice);
        let stages = |distortion: &Distortion| distortion.feature_stages(seed).unwrap().collect::<Vec<_>>();
        prop_assert_eq!(stages(&drawn), stages(&distortion));
    }

    /// `bpo-model` tests `feature-noise` and `mask-tokens` with a model. `no-image` has no
    /// strength.
    #[test]
    fn strength_0_is_the_identity(image in images(), seed: u64) {
        for family in Family::all().filter(|family| !family.needs_model()) {
            if let Some(identity) = family.identity() {
                prop_assert_eq!(apply(&identity, &image, seed), image.clone(), "{}", identity);
            }
        }
    }

    #[test]
    fn different_seeds_differ(seed: u64, other: u64) {
        prop_assume!(seed != other);
        // All rows and columns differ, so that every draw changes the result.
        let level = |x: u32, y: u32| image::Rgb([(x * x / 4) as u8, (x * 5 + y * 3) as u8, (x * y / 4) as u8]);
        let image = RgbImage::from_fn(32, 32, level);
        for text in [
            "diffusion-noise:step=100", "gaussian-noise:severity=1", "salt-and-pepper:severity=1",
            "motion-blur:severity=3", "crop:severity=5", "occlude:severity=3", "shuffle:severity=5",
            "blank:fill=noise", "occlude:share=1,fill=noise", "blur:sigma=0.5..8", "brightness:factor=0..1",
        ] {
            let distortion: Distortion = text.parse().unwrap();
            let (mut a, mut b) = (apply(&distortion, &image, seed), apply(&distortion, &image, other));
            if a == b {
                // A single draw may repeat; pairs of draws do not.
                (a, b) = (apply(&distortion, &image, seed ^ 1 << 40), apply(&distortion, &image, other ^ 1 << 41));
            }
            prop_assert_ne!(a, b, "{}", text);
        }
    }

    #[test]
    fn the_weakest_noise_is_small(image in images(), seed: u64) {
        // The standard deviation is 0.6 levels; 4 levels are more than five standard deviations.
        let noised = Distortion::diffusion_noise(0).unwrap().apply(&image, seed).unwrap();
        prop_assert!(largest_difference(&image, &noised) <= 4);
    }

    #[test]
    fn the_narrowest_blur_changes_nothing(image in images(), sigma in 0.001f32..0.2) {
        prop_assert_eq!(Distortion::blur(sigma).unwrap().apply(&image, 0).unwrap(), image);
    }

    #[test]
    fn blur_stays_within_the_levels_of_the_image(image in images(), sigma in 0.1f32..40.0) {
        let blurred = Distortion::blur(sigma).unwrap().apply(&image, 0).unwrap();
        for channel in 0..3 {
            let levels = |image: &RgbImage| image.pixels().map(|p| p[channel]).collect::<Vec<_>>();
            let (before, after) = (levels(&image), levels(&blurred));
            prop_assert!(after.iter().min() >= before.iter().min());
            prop_assert!(after.iter().max() <= before.iter().max());
        }
    }

    #[test]
    fn the_text_form_round_trips(distortion in all_distortions()) {
        let text = distortion.to_string();
        prop_assert_eq!(text.parse::<Distortion>().unwrap(), distortion.clone());
        let json = serde_json::to_string(&distortion).unwrap();
        prop_assert_eq!(serde_json::from_str::<Distortion>(&json).unwrap(), distortion);
    }

    #[test]
    fn any_text_is_parsed_or_an_error(
        text in prop_oneof![
            "[a-z0-9:=,+. -]{0,40}",
            "\\PC{0,40}",
            (prop::sample::select(Family::all().map(Family::name).collect::<Vec<_>>()), "[:a-z0-9=,+.-]{0,30}")
                .prop_map(|(name, rest)| name.to_owned() + &rest),
            (stages(|_| true), any::<prop::sample::Index>(), "[:=,+.e0-9-]{0,4}").prop_map(|(stage, at, put)| {
                let mut text = stage.to_string();
                text.insert_str(at.index(text.len() + 1), &put);
                text
            }),
        ],
    ) {
        if let Ok(distortion) = text.parse::<Distortion>() {
            prop_assert!(distortion.validate().is_ok());
            prop_assert_eq!(distortion.to_string().parse::<Distortion>().unwrap(), distortion);
        }
    }

    #[test]
    fn replaying_the_drawn_noise_gives_the_same_pixels(
        pixels in prop::collection::vec(-3.0f32..3.0, 0..60), step in 0..diffusion::STEPS, seed: u64,
    ) {
        // Noise on zeros is the noise times its coefficient.
        let at = StageSeed::new(seed, 0);
        let mut noise = vec![0.0; pixels.len()];
        diffusion::noise_pixels(&mut noise, 999, at).unwrap();
        let scale = diffusion::coefficients(999).unwrap().noise as f32;
        noise.iter_mut().for_each(|value| *value /= scale);

        let (mut drawn, mut replayed) = (pixels.clone(), pixels);
        diffusion::noise_pixels(&mut drawn, step, at).unwrap();
        diffusion::replay_noise(&mut replayed, &noise, step).unwrap();
        for (drawn, replayed) in drawn.iter().zip(&replayed) {
            prop_assert!((drawn - replayed).abs() < 1e-5, "{} is not {}", drawn, replayed);
        }
    }
}

mod hostile {
    //! Extreme values and images.
    use super::*;

    /// The extreme values of each parameter.
    fn extremes(family: &'static Family) -> Vec<Distortion> {
        let mut all = vec![String::new()];
        for parameter in family.parameters() {
            let values: Vec<String> = match parameter.expected() {
                AllowedValues::Number { low, high } => {
                    vec![low.to_string(), high.to_string(), format!("{low}..{high}")]
                }
                AllowedValues::Whole { low, high } => {
                    vec![low.to_string(), high.to_string(), format!("{low}..{high}")]
                }
                AllowedValues::Word(words) => words.iter().map(|word| (*word).to_owned()).collect(),
                _ => unreachable!("there are no other kinds"),
            };
            let name = parameter.name();
            let longer =
                |text: &String| values.iter().map(|v| format!("{text}{name}={v},")).collect::<Vec<_>>();
            all = all.iter().flat_map(longer).collect();
        }
        all.iter().map(|text| format!("{}:{text}", family.name()).parse().unwrap()).collect()
    }

    #[test]
    fn extreme_values_on_tiny_and_thin_images() {
        for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 300), (300, 1), (2, 3)] {
            let image =
                RgbImage::from_fn(width, height, |x, y| image::Rgb([(x % 256) as u8, (y % 256) as u8, 200]));
            for distortion in Family::all().filter(|family| !family.needs_model()).flat_map(extremes) {
                assert_eq!(apply(&distortion, &image, 3).dimensions(), (width, height), "{distortion}");
            }
        }
    }

    #[test]
    fn invalid_numbers_are_an_error() {
        for family in Family::all() {
            for parameter in family.parameters() {
                for value in
                    ["nan", "inf", "-inf", "1e9", "99999999999999999999", "1..inf", "nan..nan", "-1e38..1e38"]
                {
                    let text = format!("{}:{}={value}", family.name(), parameter.name());
                    let Err(error) = text.parse::<Distortion>() else { panic!("{text} was read") };
                    // Another required parameter may be missing first.
                    let named = matches!(
                        error,
                        DistortError::InvalidValue { .. } | DistortError::MissingParameter { .. }
                    );
                    assert!(named, "{text}: {error}");
                }
            }
        }
    }

    #[test]
    fn images_too_large_for_jpeg_are_an_error() {
        let long = RgbImage::new(65_536, 1);
        let error =
            Distortion::sequence(["jpeg:quality=50".parse().unwrap()]).unwrap().apply(&long, 0).unwrap_err();
        assert!(matches!(error, DistortError::Recompress { width: 65_536, height: 1, .. }), "{error}");
    }

    #[test]
    fn deep_nesting_is_flattened() {
        let mut nested: Distortion = "blur:sigma=1".parse().unwrap();
        for _ in 0..1000 {
            nested = Distortion::Sequence(vec![nested]);
        }
        assert_eq!(Distortion::sequence([nested]).unwrap().to_string(), "blur:sigma=1");
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let image =
        RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, (x * y % 251) as u8]));
    let levels = Family::all()
        .filter(|family| !family.needs_model())
        .flat_map(|family| Severity::all().filter_map(|severity| family.severity(severity)));
    let levels: Vec<Distortion> = levels.collect();
    let all = || levels.iter().map(|distortion| apply(distortion, &image, 5)).collect::<Vec<_>>();
    let alone = all();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
        for thread in threads {
            assert!(thread.join().unwrap() == alone);
        }
    });
}

#[test]
fn distances_grow_with_severity() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/photos/cat.jpg");
    let photo = load_rgb(path, &ImageLimits::default()).unwrap();
    let image = image::imageops::crop_imm(&photo, 100, 50, 224, 224).to_image();
    // `shuffle` has smaller cells at higher levels, but the same distances.
    for family in Family::all().filter(|family| !family.needs_model() && family.name() != "shuffle") {
        let distance = |severity| {
            let distorted = apply(&family.severity(severity)?, &image, 5);
            let differences = distorted.iter().zip(image.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)));
            Some(differences.sum::<u64>())
        };
        let distances: Vec<u64> = Severity::all().filter_map(distance).collect();
        assert!(distances.is_sorted(), "{}: {distances:?}", family.name());
    }
}
