//! Weakened images of each family.

use bpo_distort::{Distortion, Family};
use bpo_model::{ImageQuestion, VlmResponder, WeakenedImage};
use bpo_pairs::{Contrast, ContrastMode, Sampling};
use image::RgbImage;

use super::case::{Loaded, each_checkpoint, photo};

const TOKENS: usize = 8;

/// Draws of an answer, so that small differences change one.
const DRAWS: u64 = 12;

/// Asks about photographs of which the first is weakened.
struct Asked {
    responder: VlmResponder,
    photos: Vec<RgbImage>,
    other: RgbImage,
}

impl Asked {
    /// One draw of an answer.
    fn answer(&mut self, distortion: Option<&Distortion>, contrast: Option<Contrast>) -> String {
        self.draw(0, distortion, contrast)
    }

    /// Many draws of an answer.
    fn answers(&mut self, distortion: Option<&Distortion>) -> Vec<String> {
        (0..DRAWS).map(|seed| self.draw(seed, distortion, None)).collect()
    }

    fn draw(&mut self, seed: u64, distortion: Option<&Distortion>, contrast: Option<Contrast>) -> String {
        let sampling = Sampling::greedy(TOKENS).with_temperature(2.0).with_seed(seed);
        let weakened = |distortion| WeakenedImage { distortion, seed: 7, other: Some(&self.other), contrast };
        let question = ImageQuestion {
            images: self.photos.iter().collect(),
            frames: Vec::new(),
            weakened: distortion.map(weakened),
            system: None,
            history: &[],
            prompt: "What is in the picture?",
            answer_prefix: "",
            sampling: &sampling,
        };
        self.responder.answer(&[question]).remove(0).unwrap().text
    }
}

/// Every distortion gives an answer, and the same one again. What changes nothing gives the clean
/// answer; a hidden image is not seen.
#[test]
fn images_are_weakened_by_every_distortion() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let photos = vec![photo("wide")];
        let responder = VlmResponder::new(loaded.model, loaded.processor);
        let mut asked = Asked { responder, photos, other: photo("square") };
        let clean = asked.answer(None, None);
        for family in Family::all() {
            if let Some(identity) = family.identity() {
                assert_eq!(
                    asked.answer(Some(&identity), None),
                    clean,
                    "{}: {}",
                    checkpoint.name,
                    family.name()
                );
            }
            let strongest = family.severity(bpo_distort::Severity::MAX);
            for distortion in strongest.iter() {
                let answer = asked.answer(Some(distortion), None);
                assert_eq!(asked.answer(Some(distortion), None), answer, "{}: {distortion}", checkpoint.name);
                let mut nothing = Contrast::new(ContrastMode::Vcd);
                (nothing.alpha, nothing.plausibility) = (0.0, 0.0);
                let contrasted = asked.answer(Some(distortion), Some(nothing));
                assert_eq!(contrasted, clean, "{}: {distortion}", checkpoint.name);
            }
        }
        // the same photograph upside down has the same layout
        let hidden: Distortion = "mask-tokens:share=1".parse().unwrap();
        let (seen, unseen) = (asked.answers(None), asked.answers(Some(&hidden)));
        image::imageops::rotate180_in_place(&mut asked.photos[0]);
        assert_eq!(asked.answers(Some(&hidden)), unseen, "{}", checkpoint.name);
        assert_ne!(asked.answers(None), seen, "{}: the photograph is not seen", checkpoint.name);
    });
}
