//! Severity levels 1 to 5, as in ImageNet-C.

use crate::DistortError;

/// A preset strength of a distortion, from 1 (weakest) to 5 (strongest).
///
/// Levels of different families are not comparable. They are those of ImageNet-C ([arXiv
/// 1903.12261](https://arxiv.org/abs/1903.12261)) for the distortions that it has; each family
/// documents its source. The text form is `blur:severity=3`, which is parsed as `blur:sigma=3`. A
/// level cannot be a range; to draw a value for each item, give a parameter a range.
///
/// ```
/// use bpo_distort::{Distortion, Severity};
///
/// let levels: Vec<u8> = Severity::all().map(Severity::level).collect();
/// assert_eq!(levels, [1, 2, 3, 4, 5]);
/// assert!(Severity::try_from(6).is_err());
/// assert_eq!("jpeg:severity=5".parse::<Distortion>()?.to_string(), "jpeg:quality=7");
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(u8);

impl Severity {
    /// The weakest level, 1.
    pub const MIN: Self = Self(1);

    /// The strongest level, 5.
    pub const MAX: Self = Self(5);

    /// The name in the text form. No parameter has this name.
    pub(crate) const NAME: &'static str = "severity";

    /// All levels, weakest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::MIN.0..=Self::MAX.0).map(Self)
    }

    /// The level as a number from 1 to 5.
    pub fn level(self) -> u8 {
        self.0
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0 - Self::MIN.0)
    }
}

impl TryFrom<u8> for Severity {
    type Error = DistortError;

    fn try_from(level: u8) -> Result<Self, DistortError> {
        Self::all()
            .find(|severity| severity.0 == level)
            .ok_or_else(|| DistortError::NoSuchSeverity { found: level.to_string() })
    }
}

impl std::str::FromStr for Severity {
    type Err = DistortError;

    fn from_str(text: &str) -> Result<Self, DistortError> {
        let level =
            text.parse::<u8>().map_err(|_| DistortError::NoSuchSeverity { found: text.to_owned() })?;
        level.try_into()
    }
}
