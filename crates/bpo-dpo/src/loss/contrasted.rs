//! The sequences that the contrast of a pair adds.

/// One value for each of the three sequences that the [contrast](bpo_pairs::PreferencePair::contrast)
/// of a pair adds: its images `m'` with their answer `y'`. The images of the pair are `m`, its chosen
/// completion is `y_w`, and the prompt is the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contrasted<T> {
    /// Of the contrast's answer given the images of the pair, `(m, y')`: a wrong answer.
    pub answer: T,
    /// Of the chosen completion given the contrast's images, `(m', y_w)`: a wrong answer.
    pub images: T,
    /// Of the contrast's answer given its own images, `(m', y')`: a right answer.
    pub both: T,
}

impl<T> Contrasted<T> {
    /// Returns references to the values.
    pub fn as_ref(&self) -> Contrasted<&T> {
        Contrasted { answer: &self.answer, images: &self.images, both: &self.both }
    }

    /// Applies a function to each value.
    pub fn map<U>(self, of: impl Fn(T) -> U) -> Contrasted<U> {
        Contrasted { answer: of(self.answer), images: of(self.images), both: of(self.both) }
    }

    /// Combines the values with those of `other`.
    pub(crate) fn zip<U>(self, other: Contrasted<U>) -> Contrasted<(T, U)> {
        Contrasted {
            answer: (self.answer, other.answer),
            images: (self.images, other.images),
            both: (self.both, other.both),
        }
    }

    /// Returns the values: `answer`, `images` and `both`.
    pub(crate) fn values(&self) -> [&T; 3] {
        [&self.answer, &self.images, &self.both]
    }
}
