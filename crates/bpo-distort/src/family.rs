//! What there is to know about a family of distortions: its name, its parameters, its levels.

use std::fmt;

use image::RgbImage;

use crate::{DistortError, Distortion, Input, Severity, StageSeed};

/// A kind of distortion, described: for a command's help, a contact sheet, a form.
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
    /// Levels 1 to 5, for a family that has a strength.
    pub(crate) levels: Option<[Distortion; 5]>,
    /// What reading starts from: the weakest of the family. Nothing of it is left that has no default.
    pub(crate) weakest: Distortion,
    /// Whether the weakest does nothing at all.
    pub(crate) has_identity: bool,
}

impl Family {
    /// All families, in the order in which they are best shown.
    pub fn all() -> impl ExactSizeIterator<Item = &'static Self> {
        crate::families::ALL.iter().copied()
    }

    /// The family of that name.
    ///
    /// # Errors
    ///
    /// [`DistortError::UnknownFamily`], which suggests the nearest name.
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

    /// What it does, in one line.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// The parameters, in the order in which they are printed.
    pub fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    /// The parameters of a level; `None` if the family has nothing that could be stronger or weaker.
    pub fn severity(&self, level: Severity) -> Option<Distortion> {
        self.levels.as_ref().map(|levels| levels[level.index()].clone())
    }

    /// The distortion of this family that gives back the very same image; `None` if there is none.
    pub fn identity(&self) -> Option<Distortion> {
        self.has_identity.then(|| self.weakest.clone())
    }

    /// Whether it takes something from another image.
    pub fn needs_other(&self) -> bool {
        self.needs_other
    }

    /// Whether only a model can apply it, as it works on what the model makes of the image.
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

/// Where in the way from an image to an answer a distortion works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Image,
    /// On normalized pixels if nothing of the image's part follows, else on the image.
    Pixels,
    Features,
}

/// A parameter of a family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    name: &'static str,
    expected: Expected,
    default: Option<&'static str>,
}

impl Parameter {
    pub(crate) const fn number(name: &'static str, low: f32, high: f32) -> Self {
        Self { name, expected: Expected::Number { low, high }, default: None }
    }

    pub(crate) const fn whole(name: &'static str, low: u32, high: u32) -> Self {
        Self { name, expected: Expected::Whole { low, high }, default: None }
    }

    pub(crate) const fn word(name: &'static str, words: &'static [&'static str]) -> Self {
        Self { name, expected: Expected::Word(words), default: None }
    }

    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The name in the text form.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What values it takes.
    pub fn expected(&self) -> Expected {
        self.expected
    }

    /// What it is when left out; `None` if it must be given.
    pub fn default(&self) -> Option<&'static str> {
        self.default
    }
}

/// The values that a parameter takes; numbers may also be ranges, see [`Amount`](crate::Amount).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Expected {
    /// A fraction from `low` to `high`, both included.
    Number {
        /// The least value.
        low: f32,
        /// The greatest value.
        high: f32,
    },
    /// A whole number from `low` to `high`, both included.
    Whole {
        /// The least value.
        low: u32,
        /// The greatest value.
        high: u32,
    },
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Expected {
    pub(crate) fn includes(&self, value: f64) -> bool {
        match *self {
            Self::Number { low, high } => (f64::from(low)..=f64::from(high)).contains(&value),
            Self::Whole { low, high } => (f64::from(low)..=f64::from(high)).contains(&value),
            Self::Word(_) => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { low, high } => write!(f, "a number from {low} to {high}, or a range low..high")?,
            Self::Whole { low, high } => {
                write!(f, "a whole number from {low} to {high}, or a range low..high")?
            }
            Self::Word(words) => write!(f, "one of {}", words.join(", "))?,
        }
        Ok(())
    }
}

/// The value of a parameter, whatever its type.
pub(crate) trait Value: fmt::Display {
    /// Takes over what the text says; `false`, and nothing changed, if it says nothing of this type.
    fn read(&mut self, text: &str) -> bool;

    fn fits(&self, expected: &Expected) -> bool;

    /// Replaces a range by a number in it.
    fn draw(&mut self, bits: u64);
}

/// What every family can do; what is known of it without a value is in its [`Family`].
pub(crate) trait Stage {
    /// The parameters' values, in the order of [`Family::parameters`].
    fn values(&mut self) -> Vec<&mut dyn Value>;

    /// Weakens an image that has pixels; ranges have been drawn, and what the family needs is there.
    fn run(&self, input: Input<'_>, seed: StageSeed) -> Result<RgbImage, DistortError>;
}

/// Below this Jaro-Winkler similarity a suggestion would puzzle more than help.
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
    fn what_a_family_says_of_itself_holds() {
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
