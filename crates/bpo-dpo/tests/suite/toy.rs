//! A small policy built like the real one: a frozen model with a low-rank adapter, and a projector
//! that is trained directly.

use bpo_dpo::{
    Adapters, Collate, Policy, PromptGroup, RowFingerprint, TokenDivergences, TokenLogps, TokenStatistics,
    token_divergence,
};
use bpo_pairs::{CompletionKind, PreferencePair, TextHasher};
use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Distribution, Int, Tensor, TensorData};

const WORDS: usize = 23;
const WIDTH: usize = 6;
const PIXELS: usize = 3;
const RANK: usize = 2;

/// The next word's probability given image, prompt and the word before it.
#[derive(Module, Debug)]
pub struct Toy {
    pub projector: Projector,
    pub embedding: Param<Tensor<2>>,
    pub head: AdaptedHead,
    /// Dropout of the adapter's input, in training.
    #[module(skip)]
    pub lora_dropout: f64,
    /// Dropout of all of the head's input, in training: a mistake.
    #[module(skip)]
    pub dropout: f64,
}

#[derive(Module, Debug)]
pub struct Projector {
    pub weight: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
pub struct AdaptedHead {
    pub weight: Param<Tensor<2>>,
    pub lora_a: Param<Tensor<2>>,
    pub lora_b: Param<Tensor<2>>,
}

impl Toy {
    /// An untouched adapter on a model whose weights are always the same.
    pub fn new(device: &Device) -> Self {
        let fixed = |rows, columns, phase| Param::from_tensor(wave(rows, columns, phase, device));
        Self {
            projector: Projector { weight: fixed(PIXELS, WIDTH, 0.1) },
            embedding: fixed(WORDS, WIDTH, 0.2).set_require_grad(false),
            head: AdaptedHead {
                weight: fixed(WIDTH, WORDS, 0.3).set_require_grad(false),
                lora_a: fixed(WIDTH, RANK, 0.4),
                lora_b: Param::from_tensor(Tensor::zeros([RANK, WORDS], device)),
            },
            lora_dropout: 0.0,
            dropout: 0.0,
        }
    }

    /// On a flex device with autodiff.
    pub fn untouched() -> Self {
        Self::new(&Device::flex().autodiff())
    }

    /// With an adapter that does something.
    pub fn adapted() -> Self {
        let mut toy = Self::untouched();
        toy.head.lora_b = Param::from_tensor(wave(RANK, WORDS, 0.5, &Device::flex().autodiff()));
        toy
    }
}

fn dropped(x: Tensor<2>, p: f64) -> Tensor<2> {
    if p == 0.0 || !x.device().is_autodiff() {
        return x;
    }
    let kept = x.random_like(Distribution::Bernoulli(1.0 - p));
    x * kept.div_scalar(1.0 - p)
}

fn wave(rows: usize, columns: usize, phase: f32, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 1.7 + phase * 31.0).sin() * 0.7).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// Each image and prompt once, each completion with the row of its group.
#[derive(Clone)]
pub struct ToyBatch {
    pixels: Tensor<2>,
    prompts: Tensor<2>,
    group_of_row: Tensor<1, Int>,
    before: Tensor<2, Int>,
    words: Tensor<2, Int>,
    mask: Tensor<2, Bool>,
    fingerprints: Vec<RowFingerprint>,
    lengths: Vec<usize>,
    rows: Vec<Vec<u32>>,
    /// Set by a policy's `shared`.
    pub shared: bool,
}

impl Policy for Toy {
    type Batch = ToyBatch;

    fn token_logps(&self, batch: &ToyBatch, adapters: Adapters) -> TokenLogps {
        self.token_statistics(batch, adapters).0
    }

    fn token_statistics(
        &self,
        batch: &ToyBatch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        let (_, logps, statistics) = self.outputs(batch, adapters);
        (logps, Some(statistics))
    }

    fn vocabulary(&self) -> Option<usize> {
        Some(self.head.weight.val().dims()[1])
    }

    fn token_divergences(
        &self,
        batch: &ToyBatch,
        reference: &Self,
        adapters: Adapters,
        statistics: bool,
    ) -> Option<TokenDivergences> {
        assert!(!reference.projector.weight.val().is_autodiff());
        let [rows, length] = batch.words.dims();
        let (all, policy, of_policy) = self.outputs(batch, Adapters::On);
        let (all_of_reference, reference, _) = reference.outputs(batch, adapters);
        let divergences = token_divergence(all_of_reference, all).reshape([rows, length]);
        let divergences = divergences.mask_fill(batch.mask.clone().bool_not(), 0.0);
        let statistics = statistics.then_some(of_policy);
        Some(TokenDivergences { policy, statistics, reference, divergences })
    }
}

impl Toy {
    /// The log-probabilities of all words, `[rows * words, vocabulary]`, those of the words of the
    /// batch, and their statistics.
    fn outputs(&self, batch: &ToyBatch, adapters: Adapters) -> (Tensor<2>, TokenLogps, TokenStatistics) {
        let [rows, length] = batch.words.dims();
        let groups = batch.pixels.clone().matmul(self.projector.weight.val())
            + batch.prompts.clone().matmul(self.embedding.val());
        let groups = groups.select(0, batch.group_of_row.clone()).unsqueeze_dim::<3>(1);
        let before = self.embedding.val().select(0, batch.before.clone().reshape([rows * length]));
        let hidden = (before.reshape([rows, length, WIDTH]) + groups).tanh().reshape([rows * length, WIDTH]);
        let hidden = dropped(hidden, self.dropout);
        let mut logits = hidden.clone().matmul(self.head.weight.val());
        if adapters == Adapters::On {
            logits = logits
                + dropped(hidden, self.lora_dropout)
                    .matmul(self.head.lora_a.val())
                    .matmul(self.head.lora_b.val());
        }
        let words = batch.words.clone().reshape([rows * length, 1]);
        let padding = batch.mask.clone().bool_not();
        let all = log_softmax(logits.clone(), 1);
        let statistics = TokenStatistics::of_logps(logits, all.clone(), words.clone())
            .reshape([rows, length, TokenStatistics::COUNT])
            .mask_fill(padding.clone().unsqueeze_dim::<3>(2), 0.0);
        let logps = all.clone().gather(1, words).reshape([rows, length]);
        let logps = TokenLogps { logps: logps.mask_fill(padding, 0.0), mask: batch.mask.clone() };
        (all, logps, TokenStatistics::unpack(statistics))
    }
}

/// A collator that rejects images named `missing` and completions of more than twelve words, and
/// fails to weaken images named `glaring`. The image `nan` has the brightness NaN. Weakened images
/// are dark, and less so in each further form.
#[derive(Clone, Debug, Default)]
pub struct ToyCollate {
    pub collated: usize,
    /// Added to the brightness of all images.
    pub light: f32,
    /// In what all words begin.
    pub dialect: &'static str,
    /// Does not weaken images.
    pub unweakened: bool,
    /// Number of weakened forms beside the first one.
    pub more_weakened: usize,
    /// Does not give the words of completions.
    pub silent: bool,
    /// Forgets the length of the first row: a mistake.
    pub forgetful: bool,
    /// Checks a group by its header only: images named `damaged...` pass the check.
    pub headers: bool,
    /// Shows whether the collator is still alive.
    pub _alive: Option<std::sync::Arc<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ToyError {
    #[error("cannot read {0}")]
    Image(String, #[source] std::io::Error),
    #[error("completion of {0} words")]
    TooLong(usize),
}

impl Collate for ToyCollate {
    type Batch = ToyBatch;
    type Error = ToyError;

    fn lengths(&self, batch: &ToyBatch) -> Option<Vec<usize>> {
        Some(batch.lengths.iter().copied().skip(usize::from(self.forgetful)).collect())
    }

    fn completions(&self, batch: &ToyBatch) -> Option<Vec<Vec<u32>>> {
        (!self.silent).then(|| batch.rows.clone())
    }

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ToyBatch, ToyError> {
        self.collated += 1;
        let device = Device::flex();
        let (mut pixels, mut prompts, mut group_of_row, mut rows) = (vec![], vec![], vec![], vec![]);
        let (mut fingerprints, mut lengths) = (Vec::new(), Vec::new());
        for (index, group) in groups.iter().enumerate() {
            assert!(group.images[0] != "panic", "the collator panics");
            if group.images[0] == "missing"
                || group.images[0].starts_with("damaged")
                || group.weakened.is_some() && group.images[0] == "glaring"
            {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(ToyError::Image(group.images[0].clone(), source));
            }
            let brightness = match group.images[0].as_str() {
                "nan" if group.weakened.is_none() => f32::NAN,
                image => match group.weakened {
                    None => word(image) as f32 / 7.0 + self.light,
                    Some(form) => form as f32 / 5.0,
                },
            };
            pixels.extend((0..PIXELS).map(|channel| (brightness + channel as f32).cos()));
            let mut bag = [0.0; WORDS];
            group.prompt.split(' ').for_each(|text| bag[word(text)] += 0.2);
            prompts.extend(bag);
            for completion in &group.completions {
                let words: Vec<i32> = completion
                    .split(' ')
                    .map(|text| word(&format!("{}{text}", self.dialect)) as i32)
                    .collect();
                if words.len() > 12 {
                    return Err(ToyError::TooLong(words.len()));
                }
                let of = |values: String| {
                    let mut hasher = TextHasher::default();
                    hasher.add(&values);
                    hasher.bytes()
                };
                let (image, tokens) = (of(format!("{brightness:?}")), of(format!("{words:?}")));
                fingerprints.push(RowFingerprint { image, tokens });
                lengths.push(group.prompt.split(' ').count() + words.len());
                rows.push(words);
                group_of_row.push(index as i32);
            }
        }
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        let table = |cell: &dyn Fn(&[i32], usize) -> i32| -> Tensor<2, Int> {
            let cells: Vec<i32> =
                rows.iter().flat_map(|row| (0..length).map(move |at| cell(row, at))).collect();
            Tensor::from_data(TensorData::new(cells, [rows.len(), length]), &device)
        };
        let at = |row: &[i32], at: usize| row.get(at).copied().unwrap_or(0);
        Ok(ToyBatch {
            pixels: Tensor::from_data(TensorData::new(pixels, [groups.len(), PIXELS]), &device),
            prompts: Tensor::from_data(TensorData::new(prompts, [groups.len(), WORDS]), &device),
            group_of_row: Tensor::from_data(group_of_row.as_slice(), &device),
            before: table(&|row, place| place.checked_sub(1).map_or(0, |place| at(row, place))),
            words: table(&at),
            mask: table(&|row, place| i32::from(place < row.len())).equal_elem(1),
            fingerprints,
            lengths,
            rows: rows.iter().map(|row| row.iter().map(|word| *word as u32).collect()).collect(),
            shared: false,
        })
    }

    fn weakenings(&self) -> usize {
        if self.unweakened { 0 } else { 1 + self.more_weakened }
    }

    fn check(&mut self, group: &PromptGroup) -> Result<(), ToyError> {
        if self.headers && (group.images[0].starts_with("damaged") || group.images[0] == "panic") {
            return Ok(());
        }
        self.collate(std::slice::from_ref(group)).map(drop)
    }

    fn fingerprints(&self, batch: &ToyBatch) -> Option<Vec<RowFingerprint>> {
        Some(batch.fingerprints.clone())
    }
}

fn word(text: &str) -> usize {
    text.bytes().fold(7usize, |hash, byte| hash * 31 % 10_007 + usize::from(byte)) % WORDS
}

pub fn pair(id: usize, image: &str, prompt: &str, chosen: &str, rejected: &str) -> PreferencePair {
    PreferencePair {
        id: id.to_string(),
        images: vec![image.to_owned()],
        system: None,
        history: Default::default(),
        prompt: prompt.to_owned(),
        chosen: chosen.to_owned(),
        rejected: rejected.to_owned(),
        kind: CompletionKind::ImageWeakened,
        chosen_kind: None,
        provenance: None,
        margin: None,
        beta: None,
        contrast_images: Vec::new(),
        contrast_answer: None,
    }
}

/// Ten pairs about six questions; the first question has three pairs, the second three.
pub fn pairs() -> Vec<PreferencePair> {
    vec![
        pair(0, "a", "what is there", "a dog on a mat", "a cat on a mat"),
        pair(1, "b", "what is there", "two cups", "two cups and a spoon on it"),
        pair(2, "a", "what is there", "a dog on a mat", "a dog and a child"),
        pair(3, "c", "which color", "red", "blue it is blue"),
        pair(4, "d", "how many people are there", "there are three", "there is one person here"),
        pair(5, "b", "what is there", "two cups", "a table"),
        pair(6, "a", "what is there", "a sleeping dog", "a cat on a mat"),
        pair(7, "e", "describe it", "a street with one bus", "a street with a bus and many people"),
        pair(8, "b", "what is there", "cups", "plates"),
        pair(9, "f", "is it raining", "no the sun shines", "yes"),
    ]
}
