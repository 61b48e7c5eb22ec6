//! Five levels, as ImageNet-C has them.

use crate::DistortError;

/// How strong a distortion is, from 1, the weakest level, to 5, the strongest.
///
/// The levels of a family are examples, not a scale that holds across families. Where ImageNet-C
/// ([arXiv 1903.12261](https://arxiv.org/abs/1903.12261)) has the same distortion, they are its own; each family
/// says so. In text: `blur:severity=3`, which reads as `blur:sigma=3`. A level is a preset, never a range: of that which
/// lies between two levels a family may have nothing. To have something drawn for each item, give its parameters ranges.
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

    /// Its name in the text form, which no parameter has.
    pub(crate) const NAME: &'static str = "severity";

    /// The levels, from the weakest.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::MIN.0..=Self::MAX.0).map(Self)
    }

    /// The level, 1 to 5.
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
