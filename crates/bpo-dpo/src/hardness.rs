//! Hardness of pairs whose answers name items of a catalogue (HaNoRec, arXiv 2511.18740).
//!
//! ```text
//! v   = normalized(normalized(text) + normalized(image))     vector of an item
//! p_j = softmax of v_j's cosine similarities to its K nearest others, largest first
//! d_i = mean over the item pairs of pair i of |p_chosen - p_rejected|
//! h_i = sigmoid(d_i) / sigmoid(mean of all d)
//! ```
//!
//! The authors' text vector is the mean of a title's token embeddings, their image vector the mean
//! of the vision features, and `K` is 10. `h_i` grows with the difference between the neighbourhoods
//! of the items. [`DpoConfig::beta`](crate::DpoConfig::beta) times `h_i` is the
//! [`beta`](bpo_pairs::PreferencePair::beta) of the pair;
//! [`responsiveness`](crate::DpoConfig::responsiveness) adds the factor of the batch.
//!
//! ```
//! use bpo_dpo::hardness::{Neighborhoods, hardness, item_vector};
//!
//! let titles = [[1.0, 0.0, 0.2], [0.9, 0.1, 0.0], [0.0, 1.0, 0.3], [0.1, 0.2, 1.0]];
//! let items: Vec<_> = titles.iter().map(|title| item_vector(title, None)).collect::<Result<_, _>>()?;
//! let neighborhoods = Neighborhoods::new(&items, 2)?;
//! // the chosen and the rejected item of two pairs
//! let distances = [neighborhoods.distance(&[(0, 1)])?, neighborhoods.distance(&[(0, 3)])?];
//! let hardness = hardness(&distances)?;
//! assert!(hardness[0] < 1.0 && hardness[1] > 1.0);
//! # Ok::<(), bpo_dpo::hardness::HardnessError>(())
//! ```

/// Vectors, items or distances from which no hardness can be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HardnessError {
    /// A vector is empty.
    #[error("the vector of {what} is empty")]
    Empty {
        /// What the vector describes.
        what: String,
    },
    /// Vectors have different lengths.
    #[error("the vector of {what} has {found} numbers; expected {expected}")]
    Length {
        /// What the vector describes.
        what: String,
        /// The number of numbers that was expected.
        expected: usize,
        /// The number of numbers that was found.
        found: usize,
    },
    /// A number is not finite or, in a distance, negative.
    #[error("{what} must be {expected}, not {found}")]
    Number {
        /// What the number describes.
        what: String,
        /// The numbers that are allowed.
        expected: &'static str,
        /// The number that was found.
        found: f64,
    },
    /// An item cannot have that many neighbours.
    #[error(
        "the number of neighbours must be at least 1 and less than the number of items, {items}, not {found}"
    )]
    Neighbors {
        /// Number of items.
        items: usize,
        /// The number of neighbours that was given.
        found: usize,
    },
    /// An item is not in the catalogue.
    #[error("there is no item {found} among {items} items, which are counted from 0")]
    NoItem {
        /// Number of items.
        items: usize,
        /// The index that was given.
        found: usize,
    },
    /// There is nothing to compare.
    #[error("there is no {what}")]
    Nothing {
        /// What is missing.
        what: &'static str,
    },
}

/// Returns the vector of an item from the vectors of its text and of its image, both `[width]`.
///
/// Each is divided by its norm, and so is their sum. An item without an image has the direction of
/// its text; a vector of zeros stays one.
///
/// # Errors
/// Returns [`HardnessError::Empty`], [`HardnessError::Length`] or [`HardnessError::Number`] for
/// vectors that are empty, of different widths or not finite.
pub fn item_vector(text: &[f64], image: Option<&[f64]>) -> Result<Vec<f64>, HardnessError> {
    check_vector("the text", text, text.len())?;
    let mut sum = normalized(text);
    if let Some(image) = image {
        check_vector("the image", image, text.len())?;
        sum.iter_mut().zip(normalized(image)).for_each(|(sum, value)| *sum += value);
    }
    Ok(normalized(&sum))
}

/// The neighbours of each item of a catalogue, as distributions.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighborhoods {
    /// The softmax of the similarities to the nearest items, largest first, for each item.
    distributions: Vec<Vec<f64>>,
}

impl Neighborhoods {
    /// Finds the `neighbors` nearest others of each item by the cosine of their vectors, and
    /// returns the softmax of these similarities.
    ///
    /// `vectors` has one row per item, `[items][width]`. It takes time proportional to the square of
    /// the number of items, and memory proportional to the number of items.
    ///
    /// # Errors
    /// Returns [`HardnessError::Neighbors`] if there are not more items than neighbours, or
    /// [`HardnessError::Empty`], [`HardnessError::Length`] or [`HardnessError::Number`] for vectors
    /// that are empty, of different widths or not finite.
    pub fn new(vectors: &[Vec<f64>], neighbors: usize) -> Result<Self, HardnessError> {
        let items = vectors.len();
        if neighbors == 0 || neighbors >= items {
            return Err(HardnessError::Neighbors { items, found: neighbors });
        }
        for (item, vector) in vectors.iter().enumerate() {
            check_vector(&format!("item {item}"), vector, vectors[0].len())?;
        }
        let vectors: Vec<_> = vectors.iter().map(|vector| normalized(vector)).collect();
        let distribution = |item: usize| {
            let others = vectors.iter().enumerate().filter(|(other, _)| *other != item);
            let mut cosines: Vec<f64> = others.map(|(_, other)| dot(&vectors[item], other)).collect();
            cosines.sort_unstable_by(|one, other| other.total_cmp(one));
            cosines.truncate(neighbors);
            softmax(&cosines)
        };
        Ok(Self { distributions: (0..items).map(distribution).collect() })
    }

    /// Returns the distribution over the neighbours of an item, nearest first. `None` if there is no
    /// such item.
    pub fn distribution(&self, item: usize) -> Option<&[f64]> {
        self.distributions.get(item).map(Vec::as_slice)
    }

    /// Returns the Euclidean distance between the distributions of a chosen and a rejected item.
    /// For several, such as the items of two lists, it is the mean over them.
    ///
    /// # Errors
    /// Returns [`HardnessError::Nothing`] without items, or [`HardnessError::NoItem`] for an item
    /// that is not in the catalogue.
    pub fn distance(&self, items: &[(usize, usize)]) -> Result<f64, HardnessError> {
        if items.is_empty() {
            return Err(HardnessError::Nothing { what: "chosen and rejected item" });
        }
        let of = |item: usize| {
            let none = HardnessError::NoItem { items: self.distributions.len(), found: item };
            self.distribution(item).ok_or(none)
        };
        let mut sum = 0.0;
        for &(chosen, rejected) in items {
            let differences = of(chosen)?.iter().zip(of(rejected)?).map(|(one, other)| one - other);
            sum += differences.map(|difference| difference * difference).sum::<f64>().sqrt();
        }
        Ok(sum / items.len() as f64)
    }
}

/// Returns the hardness of each pair from the [distances](Neighborhoods::distance) of all pairs,
/// `h_i = sigmoid(d_i) / sigmoid(mean of all d)`: 1 for a pair with the mean distance, and between
/// 0.5 and 2.
///
/// # Errors
/// Returns [`HardnessError::Nothing`] without distances, or [`HardnessError::Number`] for one that
/// is negative or not finite.
pub fn hardness(distances: &[f64]) -> Result<Vec<f64>, HardnessError> {
    if distances.is_empty() {
        return Err(HardnessError::Nothing { what: "pair" });
    }
    let invalid = |distance: &f64| !(*distance >= 0.0 && distance.is_finite());
    if let Some(pair) = distances.iter().position(invalid) {
        let (what, expected) = (format!("the distance of pair {pair}"), "a finite number, at least 0");
        return Err(HardnessError::Number { what, expected, found: distances[pair] });
    }
    // divided one by one, because a sum could overflow
    let count = distances.len() as f64;
    let mean: f64 = distances.iter().map(|distance| distance / count).sum();
    Ok(distances.iter().map(|distance| sigmoid(*distance) / sigmoid(mean)).collect())
}

fn check_vector(what: &str, vector: &[f64], expected: usize) -> Result<(), HardnessError> {
    let what = what.to_owned();
    if vector.is_empty() {
        return Err(HardnessError::Empty { what });
    }
    if vector.len() != expected {
        return Err(HardnessError::Length { what, expected, found: vector.len() });
    }
    match vector.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(&found) => {
            let what = format!("each number of the vector of {what}");
            Err(HardnessError::Number { what, expected: "finite", found })
        }
    }
}

/// Divides a vector by its norm. A vector of zeros stays one.
fn normalized(vector: &[f64]) -> Vec<f64> {
    // of the largest element, so that squares neither overflow nor underflow
    let largest = vector.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return vector.to_vec();
    }
    let scaled: Vec<f64> = vector.iter().map(|value| value / largest).collect();
    let norm = dot(&scaled, &scaled).sqrt();
    scaled.into_iter().map(|value| value / norm).collect()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// Returns the softmax of cosines, largest first.
fn softmax(cosines: &[f64]) -> Vec<f64> {
    let weights: Vec<f64> = cosines.iter().map(|cosine| (cosine - cosines[0]).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}
