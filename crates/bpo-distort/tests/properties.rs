//! What holds for every distortion, image and seed.

use bpo_distort::{DistortError, Distortion, StageSeed, diffusion};
use image::RgbImage;
use proptest::prelude::*;

fn images() -> impl Strategy<Value = RgbImage> {
    (1u32..24, 1u32..24).prop_flat_map(|(width, height)| {
        prop::collection::vec(any::<u8>(), (width * height * 3) as usize)
            .prop_map(move |levels| RgbImage::from_raw(width, height, levels).unwrap())
    })
}

fn stages() -> impl Strategy<Value = Distortion> {
    prop_oneof![
        (0..diffusion::STEPS).prop_map(|step| Distortion::DiffusionNoise { step }),
        (0.01f32..30.0).prop_map(|sigma| Distortion::Blur { sigma }),
    ]
}

fn distortions() -> impl Strategy<Value = Distortion> {
    prop::collection::vec(stages(), 1..5).prop_map(|stages| Distortion::sequence(stages).unwrap())
}

fn largest_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn the_size_is_kept(image in images(), distortion in distortions(), seed: u64) {
        prop_assert_eq!(distortion.apply(&image, seed).unwrap().dimensions(), image.dimensions());
        let on_image = distortion.on_image(&image, seed).unwrap();
        prop_assert_eq!(on_image.dimensions(), image.dimensions());
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes(image in images(), distortion in distortions(), seed: u64) {
        prop_assert_eq!(distortion.apply(&image, seed).unwrap(), distortion.apply(&image, seed).unwrap());
        let (mut once, mut twice) = (vec![0.25; 48], vec![0.25; 48]);
        distortion.on_pixels(&mut once, seed).unwrap();
        distortion.on_pixels(&mut twice, seed).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn different_seeds_differ(seed: u64, other: u64, step in 100..diffusion::STEPS) {
        prop_assume!(seed != other);
        let image = RgbImage::from_pixel(16, 16, image::Rgb([128; 3]));
        let noise = Distortion::diffusion_noise(step).unwrap();
        prop_assert_ne!(noise.apply(&image, seed).unwrap(), noise.apply(&image, other).unwrap());
    }

    #[test]
    fn the_weakest_noise_is_almost_nothing(image in images(), seed: u64) {
        // Its standard deviation is 0.6 grey levels; 4 levels are more than five of them.
        let noised = Distortion::diffusion_noise(0).unwrap().apply(&image, seed).unwrap();
        prop_assert!(largest_difference(&image, &noised) <= 4);
    }

    #[test]
    fn the_narrowest_blur_is_nothing(image in images(), sigma in 0.001f32..0.2) {
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
    fn the_text_form_round_trips(distortion in distortions()) {
        let text = distortion.to_string();
        prop_assert_eq!(text.parse::<Distortion>().unwrap(), distortion.clone());
        let json = serde_json::to_string(&distortion).unwrap();
        prop_assert_eq!(serde_json::from_str::<Distortion>(&json).unwrap(), distortion);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9:=,+. -]{0,40}") {
        if let Ok(distortion) = text.parse::<Distortion>() {
            prop_assert!(distortion.validate().is_ok());
        }
    }

    #[test]
    fn replaying_the_drawn_noise_gives_the_same_pixels(
        pixels in prop::collection::vec(-3.0f32..3.0, 0..60), step in 0..diffusion::STEPS, seed: u64,
    ) {
        // Noise on zeros is the noise times its coefficient, at the last step nearly the noise itself.
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

mod split {
    //! Which stages run on the image and which on normalized pixels.
    use super::*;

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
    fn noise_alone_leaves_the_image_to_its_borrower() {
        let image = checker();
        let on_image = parse("diffusion-noise:step=900").on_image(&image, 11).unwrap();
        assert!(matches!(on_image, std::borrow::Cow::Borrowed(_)));
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
    fn noise_before_another_kind_runs_on_the_image() {
        let image = checker();
        let text = "diffusion-noise:step=500+blur:sigma=2";
        assert_eq!(*parse(text).on_image(&image, 11).unwrap(), parse(text).apply(&image, 11).unwrap());
        assert_eq!(on_pixels(text), [0.5; 12]);
    }

    #[test]
    fn each_noise_of_a_sequence_is_its_own() {
        let twice = on_pixels("diffusion-noise:step=500+diffusion-noise:step=500");
        let mut expected = vec![0.5; 12];
        for stage in 0..2 {
            diffusion::noise_pixels(&mut expected, 500, StageSeed::new(11, stage)).unwrap();
        }
        assert_eq!(twice, expected);
    }

    #[test]
    fn nesting_changes_nothing() {
        let image = checker();
        let flat = parse("blur:sigma=1+diffusion-noise:step=300+blur:sigma=2");
        let Distortion::Sequence(stages) = flat.clone() else { panic!("a sequence was read") };
        let nested = Distortion::Sequence(vec![
            Distortion::Sequence(stages[..2].to_vec()),
            Distortion::Sequence(stages[2..].to_vec()),
        ]);
        assert_eq!(nested.apply(&image, 11).unwrap(), flat.apply(&image, 11).unwrap());
        assert_eq!(nested.to_string(), flat.to_string());
        assert_eq!(Distortion::sequence([nested]).unwrap(), flat);
    }

    #[test]
    fn invalid_values_are_errors_in_every_form() {
        let image = checker();
        let late = Distortion::Sequence(vec![
            Distortion::Blur { sigma: 1.0 },
            Distortion::DiffusionNoise { step: 1000 },
        ]);
        assert!(matches!(late.apply(&image, 0), Err(DistortError::StepOutOfRange { step: 1000, .. })));
        assert!(matches!(late.on_image(&image, 0), Err(DistortError::StepOutOfRange { .. })));
        assert!(matches!(late.on_pixels(&mut [0.0], 0), Err(DistortError::StepOutOfRange { .. })));
        let empty = Distortion::Sequence(vec![]);
        assert!(matches!(empty.apply(&image, 0), Err(DistortError::EmptySequence)));
        assert!(matches!(Distortion::sequence([]), Err(DistortError::EmptySequence)));
        assert!(matches!(Distortion::blur(-2.0), Err(DistortError::SigmaOutOfRange { .. })));
    }
}
