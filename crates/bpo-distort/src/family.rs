//! Families of distortions: name, parameters and severity levels.

use std::fmt;

use image::RgbImage;

use crate::{DistortError, Distortion, Input, Severity, StageSeed};

/// The description of a family of distortions, for help texts, contact sheets and forms.
///
/// ```
/// use bpo_distort::{Family, Severity};
///
/// for family in Family::all() {
///     println!("{}: {}", family.name(), family.about());
///     for parameter in family.parameters() {
///         println!("    {} is {}", parameter.name(), parameter.expected());
///     }
/// }
/// let strongest = Family::named("blur")?.severity(Severity::MAX);
/// assert_eq!(strongest.map(|blur| blur.to_string()).as_deref(), Some("blur:sigma=6"));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug)]
pub struct Family {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) part: Part,
    pub(crate) needs_other: bool,
    /// Severity levels 1 to 5; `None` for a family without a strength.
    pub(crate) levels: Option<[Distortion; 5]>,
    /// The weakest distortion of the family. The parser starts from it and replaces all parameters
    /// without a default.
    pub(crate) weakest: Distortion,
    /// Whether the weakest distortion returns the same image.
    pub(crate) has_identity: bool,
}

impl Family {
    /// All families, in display order.
    pub fn all() -> impl ExactSizeIterator<Item = &'static Self> {
        crate::families::ALL.iter().copied()
    }

    /// The family with this name.
    ///
    /// # Errors
    ///
    /// Returns [`DistortError::UnknownFamily`], which suggests a similar name.
    pub fn named(name: &str) -> Result<&'static Self, DistortError> {
        Self::all().find(|family| family.name == name).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(|family| family.name).collect();
            DistortError::UnknownFamily { found: name.to_owned(), nearest: nearest(name, &known), known }
        })
    }

    /// The name in the text form.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Description in one line.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// The parameters, in the order of the text form.
    pub fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    /// The distortion at a severity level; `None` for a family without a strength.
    pub fn severity(&self, level: Severity) -> Option<Distortion> {
        self.levels.as_ref().map(|levels| levels[level.index()].clone())
    }

    /// The distortion of this family that returns the same image; `None` if there is none.
    pub fn identity(&self) -> Option<Distortion> {
        self.has_identity.then(|| self.weakest.clone())
    }

    /// Whether the family needs a second image.
    pub fn needs_other(&self) -> bool {
        self.needs_other
    }

    /// Whether the family works on the features of a model, so that only a model can apply it.
    pub fn needs_model(&self) -> bool {
        self.part == Part::Features
    }

    pub(crate) fn parameter(&self, name: &str) -> Result<(usize, &'static Parameter), DistortError> {
        let position = self.parameters.iter().position(|parameter| parameter.name == name);
        position.map(|index| (index, &self.parameters[index])).ok_or_else(|| {
            let mut known: Vec<_> = self.parameters.iter().map(|parameter| parameter.name).collect();
            known.extend(self.levels.as_ref().map(|_| Severity::NAME));
            DistortError::UnknownParameter {
                family: self.name,
                found: name.to_owned(),
                nearest: nearest(name, &known),
                known,
            }
        })
    }
}

/// The data that a family works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The RGB image.
    Image,
    /// Normalized pixels if no image stage follows, else the RGB image.
    Pixels,
    /// Features of a model.
    Features,
}

/// A parameter of a family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    name: &'static str,
    expected: AllowedValues,
    default: Option<&'static str>,
}

impl Parameter {
    pub(crate) const fn number(name: &'static str, low: f32, high: f32) -> Self {
        Self { name, expected: AllowedValues::Number { low, high }, default: None }
    }

    pub(crate) const fn whole(name: &'static str, low: i32, high: i32) -> Self {
        Self { name, expected: AllowedValues::Whole { low, high }, default: None }
    }

    pub(crate) const fn word(name: &'static str, words: &'static [&'static str]) -> Self {
        Self { name, expected: AllowedValues::Word(words), default: None }
    }

    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The name in the text form.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The accepted values.
    pub fn expected(&self) -> AllowedValues {
        self.expected
    }

    /// The default in text form; `None` if the parameter is required.
    pub fn default(&self) -> Option<&'static str> {
        self.default
    }
}

/// The accepted values of a parameter. Numbers may be ranges, see [`Amount`](crate::Amount).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum AllowedValues {
    /// A real number from `low` to `high`, both included.
    Number {
        /// The smallest value.
        low: f32,
        /// The largest value.
        high: f32,
    },
    /// An integer from `low` to `high`, both included.
    Whole {
        /// The smallest value.
        low: i32,
        /// The largest value.
        high: i32,
    },
    /// One of these words.
    Word(&'static [&'static str]),
}

impl AllowedValues {
    pub(crate) fn includes(&self, value: f64) -> bool {
        match *self {
            Self::Number { low, high } => (f64::from(low)..=f64::from(high)).contains(&value),
            Self::Whole { low, high } => (f64::from(low)..=f64::from(high)).contains(&value),
            Self::Word(_) => false,
        }
    }
}

impl fmt::Display for AllowedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { low, high } => write!(f, "a number from {low} to {high}, or a range low..high")?,
            Self::Whole { low, high } => write!(f, "an integer from {low} to {high}, or a range low..high")?,
            Self::Word(words) => write!(f, "one of {}", words.join(", "))?,
        }
        Ok(())
    }
}

/// The value of a parameter of any type.
pub(crate) trait Value: fmt::Display {
    /// Parses a text. Returns `false` and changes nothing if the text does not have this type.
    fn read(&mut self, text: &str) -> bool;

    /// Whether the value is within the limits of the parameter.
    fn fits(&self, expected: &AllowedValues) -> bool;

    /// Replaces a range by a number drawn from it.
    fn draw(&mut self, bits: u64);
}

/// A stage of a distortion: the parameter values of a family, and its implementation.
pub(crate) trait Stage {
    /// The parameter values, in the order of [`Family::parameters`].
    fn values(&mut self) -> Vec<&mut dyn Value>;

    /// Applies the stage to an image with at least one pixel. Ranges are already drawn, and a
    /// needed second image is present.
    fn run(&self, input: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError>;
}

/// The smallest Jaro-Winkler similarity for a suggestion.
const SIMILAR: f64 = 0.7;

fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_texts_are_short() {
        let mut names: Vec<_> = Family::all().map(Family::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Family::all().len());
        for family in Family::all() {
            assert!(family.about.len() <= 90 && !family.about.contains('\n'), "{}", family.name);
            assert!(family.parameters.iter().all(|parameter| parameter.name != Severity::NAME));
        }
    }

    #[test]
    fn descriptions_match_the_stages() {
        for family in Family::all() {
            let mut weakest = family.weakest.clone();
            assert_eq!(weakest.family().map(Family::name), Some(family.name));
            assert_eq!(weakest.needs_other(), family.needs_other);
            weakest.validate().unwrap();
            let stage = weakest.stage_mut().unwrap();
            assert_eq!(stage.values().len(), family.parameters.len(), "{}", family.name);
            for (value, parameter) in stage.values().iter_mut().zip(family.parameters) {
                if let Some(default) = parameter.default {
                    assert!(value.read(default) && value.fits(&parameter.expected), "{}", family.name);
                }
            }
            for level in family.levels.iter().flatten() {
                assert_eq!(level.family().map(Family::name), Some(family.name));
                level.validate().unwrap();
            }
        }
    }

    #[test]
    fn levels_differ() {
        for levels in Family::all().filter_map(|family| family.levels.as_ref()) {
            assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "{}", levels[0]);
        }
    }
}
