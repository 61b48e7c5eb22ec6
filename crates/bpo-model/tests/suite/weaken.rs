//! Answers for weakened views: of features, without the image, contrasted, with a prefix.

use std::sync::Arc;

use crate::support::{Golden, device, floats, processor, root};
use bpo_distort::{Distortion, ImageLimits, load_rgb};
use bpo_model::{
    Adapters, ImageInput, ImageQuestion, LoadOptions, Processor, Vlm, VlmResponder, WeakenedImage,
};
use bpo_pairs::{Contrast, ContrastMode, Generated, Sampling};
use image::RgbImage;

const TOKENS: usize = 12;

/// A question that owns its parts.
struct Question {
    image: Arc<RgbImage>,
    distortion: Option<Distortion>,
    seed: u64,
    contrast: Option<Contrast>,
    answer_prefix: &'static str,
    sampling: Sampling,
}

impl Question {
    fn borrow(&self) -> ImageQuestion<'_> {
        let (seed, contrast) = (self.seed, self.contrast);
        let weakened = |distortion| WeakenedImage { distortion, seed, other: None, contrast };
        ImageQuestion {
            images: vec![&*self.image],
            frames: Vec::new(),
            weakened: self.distortion.as_ref().map(weakened),
            system: None,
            history: &[],
            prompt: "What is in the picture?",
            answer_prefix: self.answer_prefix,
            sampling: &self.sampling,
        }
    }
}

struct Asked {
    model: Vlm,
    processor: Processor,
    responder: VlmResponder,
    images: [Arc<RgbImage>; 2],
}

impl Asked {
    fn new() -> Self {
        let dir = Golden::open().checkpoint();
        let model = Vlm::from_pretrained(&dir, &LoadOptions::default(), &device()).unwrap();
        let processor = processor(&dir);
        let image = |i: usize| {
            Arc::new(
                load_rgb(root().join(format!("transformers/image_{i}.png")), &ImageLimits::default())
                    .unwrap(),
            )
        };
        let responder = VlmResponder::new(model.clone(), processor.clone());
        Self { model, processor, responder, images: [image(0), image(1)] }
    }

    fn request(&self, image: usize, distortion: Option<&str>) -> Question {
        Question {
            image: self.images[image].clone(),
            distortion: distortion.map(|text| text.parse().unwrap()),
            seed: 7,
            contrast: None,
            answer_prefix: "",
            sampling: Sampling::greedy(TOKENS),
        }
    }

    fn answer(&mut self, request: &Question) -> Generated {
        self.responder.answer(&[request.borrow()]).remove(0).unwrap()
    }

    fn said(&mut self, image: usize, distortion: Option<&str>) -> String {
        let request = self.request(image, distortion);
        self.answer(&request).text
    }

    fn input(&self, image: usize) -> ImageInput {
        self.processor.image.process(&self.images[image]).unwrap()
    }

    /// The most likely next tokens by the plain forward pass: the logits of each view, combined by
    /// `combine`.
    fn greedy(
        &self,
        views: &[(Vec<u32>, Option<ImageInput>)],
        combine: impl Fn(&[Vec<f32>]) -> Vec<f32>,
    ) -> Vec<u32> {
        let mut said = Vec::new();
        let eos = &self.processor.generation.stop;
        while said.len() < TOKENS {
            let last = |(ids, image): &(Vec<u32>, Option<ImageInput>)| {
                let ids = [ids.as_slice(), &said].concat();
                let logits = self.model.logits(&ids, image.as_slice(), Adapters::On).unwrap();
                let [tokens, _] = logits.dims();
                floats(logits.narrow(0, tokens - 1, 1))
            };
            let logits = combine(&views.iter().map(last).collect::<Vec<_>>());
            let best = |best: usize, id: usize| if logits[id] > logits[best] { id } else { best };
            let next = (0..logits.len()).reduce(best).unwrap() as u32;
            if eos.contains(&next) {
                break;
            }
            said.push(next);
        }
        said
    }

    fn text(&self, ids: &[u32]) -> String {
        self.processor.text.decode(ids, true).unwrap()
    }

    fn prompt(&self, with_image: bool) -> Vec<u32> {
        let image = self.input(0);
        let images = if with_image { vec![&image.layout] } else { Vec::new() };
        self.processor.prompt_ids(None, &[], "What is in the picture?", &images).unwrap()
    }
}

#[test]
fn nothing_done_to_features_is_the_clean_image() {
    let mut asked = Asked::new();
    let clean = asked.said(0, None);
    for nothing in
        ["feature-noise:sigma=0", "mask-tokens:share=0", "mask-attended:share=0", "blur:sigma=0", "clean"]
    {
        assert_eq!(asked.said(0, Some(nothing)), clean, "{nothing}");
    }
}

/// Hidden features do not change the answer, and keep their positions.
#[test]
fn an_image_that_is_hidden_is_not_seen() {
    let mut asked = Asked::new();
    // a high temperature, so that small differences change the answer
    let mut said = |image, distortion: &str| {
        let mut request = asked.request(image, Some(distortion));
        request.sampling = Sampling::greedy(48).with_temperature(2.0).with_seed(5);
        asked.answer(&request).text
    };
    let hidden = said(0, "mask-tokens:share=1");
    assert_ne!(said(0, "blur:sigma=0"), said(1, "blur:sigma=0"), "these images make a difference");
    assert_eq!(hidden, said(1, "mask-tokens:share=1"));
    assert_eq!(hidden, said(0, "mask-attended:share=1"));
    assert_eq!(hidden, said(0, "feature-noise:sigma=2+mask-tokens:share=1"));
    // other positions change the answer
    assert_ne!(hidden, said(0, "no-image"));
    // in part it has
    let parts = ["0.02", "0.3", "0.6", "0.9"].map(|share| said(1, &format!("mask-tokens:share={share}")));
    let distinct: std::collections::HashSet<_> = parts.iter().collect();
    assert!(distinct.len() > 2, "{parts:?}");
}

#[test]
fn without_the_image_the_prompt_is_text() {
    let mut asked = Asked::new();
    let ids = asked.greedy(&[(asked.prompt(false), None)], |logits| logits[0].clone());
    assert_eq!(asked.said(0, Some("no-image")), asked.text(&ids));
    assert_eq!(asked.said(1, Some("blur:sigma=3+no-image")), asked.text(&ids));
}

/// Alone, or in a batch with other views of the same image.
#[test]
fn noise_on_features_is_that_of_its_seed() {
    let mut asked = Asked::new();
    let distortions = ["feature-noise:sigma=2", "mask-tokens:share=0.5", "no-image", "feature-noise:sigma=4"];
    let attended = ["mask-attended:share=0.3", "mask-attended:share=0.7,layer=0"];
    let mut requests: Vec<_> = distortions.map(|text| asked.request(0, Some(text))).into();
    requests.push(asked.request(0, None));
    requests.push(asked.request(1, Some("feature-noise:sigma=2+mask-tokens:share=0.3")));
    let mut other_seed = asked.request(0, Some("feature-noise:sigma=2"));
    other_seed.seed = 8;
    requests.push(other_seed);
    requests.extend(attended.map(|text| asked.request(0, Some(text))));
    let questions: Vec<_> = requests.iter().map(Question::borrow).collect();
    let together: Vec<String> =
        asked.responder.answer(&questions).into_iter().map(|answer| answer.unwrap().text).collect();
    for (request, together) in requests.iter().zip(&together) {
        assert_eq!(asked.answer(request).text, *together);
    }
    assert_ne!(together[0], together[4], "the noise is heard");
    assert_ne!(together[0], together[6], "and another seed makes another");
}

#[test]
fn contrast_is_that_of_the_plain_logits() {
    let mut asked = Asked::new();
    let distortion: Distortion = "diffusion-noise:step=900".parse().unwrap();
    let mut noised = asked.input(0);
    distortion.on_pixels(&mut noised.tiles[0].data, 7).unwrap();
    let (clean, noised) = ((asked.prompt(true), Some(asked.input(0))), (asked.prompt(true), Some(noised)));
    let mut answers = Vec::new();
    for (sign, views) in [
        (ContrastMode::Vcd, [clean.clone(), noised.clone()]),
        (ContrastMode::AmplifyPrior, [noised, clean.clone()]),
    ] {
        for (alpha, plausibility) in [(1.0, 0.1), (2.5, 0.0)] {
            let mut contrast = Contrast::new(sign);
            (contrast.alpha, contrast.plausibility) = (alpha, plausibility);
            let mut request = asked.request(0, Some("diffusion-noise:step=900"));
            request.contrast = Some(contrast);
            let said = asked.answer(&request).text;
            let ids = asked.greedy(&views, |logits| {
                let best = logits[0].iter().copied().fold(f32::MIN, f32::max);
                let one = |(&own, &other): (&f32, &f32)| {
                    let likely = f64::from(own - best).exp() >= plausibility;
                    if likely { (1.0 + alpha as f32) * own - alpha as f32 * other } else { f32::MIN }
                };
                logits[0].iter().zip(&logits[1]).map(one).collect()
            });
            assert_eq!(said, asked.text(&ids), "{contrast:?}");
            answers.push(said);
        }
    }
    // a contrast with strength 0 is the plain answer
    let mut request = asked.request(0, Some("blur:sigma=0"));
    request.contrast = Some(Contrast::new(ContrastMode::AmplifyPrior));
    assert_eq!(asked.answer(&request).text, asked.said(0, None));
    assert!(answers.iter().any(|answer| *answer != answers[0]), "{answers:?}");
}

#[test]
fn a_prefix_of_the_answer_is_continued() {
    let mut asked = Asked::new();
    let prefix = "A cat on a mat";
    for distortion in [None, Some("no-image")] {
        let mut request = asked.request(0, distortion);
        request.answer_prefix = prefix;
        let answer = asked.answer(&request);
        assert!(answer.text.starts_with(prefix) && answer.text.len() > prefix.len(), "{answer:?}");
        // the prefix counts as generated by the model
        let image = distortion.is_none().then(|| asked.input(0));
        let layouts: Vec<_> = image.iter().map(|image| &image.layout).collect();
        let answered = asked
            .processor
            .encode_completion(None, &[], "What is in the picture?", prefix, &layouts)
            .unwrap();
        let (end, ids) = answered.ids.split_last().unwrap();
        assert!(asked.processor.generation.stop.contains(end));
        let more = asked.greedy(&[(ids.to_vec(), image)], |logits| logits[0].clone());
        let all = [&ids[answered.answer_start..], &more].concat();
        assert_eq!(answer.text, asked.text(&all));
        assert_eq!(answer.tokens, Some(all.len()));
    }
}
