//! Values of numeric parameters: a number, or a range from which a number is drawn for each item.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::family::{AllowedValues, Value};

/// The value of a numeric parameter: a number, or a range from which a number is drawn for each
/// item.
///
/// The text form of a range is `2..8`; both ends are included. Fractions are drawn uniformly, whole
/// numbers with equal probability. The draw depends on the seed of the item and on the stage, see
/// [`Distortion::drawn`](crate::Distortion::drawn).
///
/// ```
/// use bpo_distort::{Amount, Blur, Distortion};
///
/// let blur: Distortion = "blur:sigma=2..8".parse()?;
/// assert_eq!(blur, Blur { sigma: Amount::Between(2.0, 8.0) }.into());
/// let Distortion::Blur(Blur { sigma: Amount::Exactly(sigma) }) = blur.drawn(7) else {
///     unreachable!()
/// };
/// assert!((2.0..=8.0).contains(&sigma));
/// assert_eq!(blur.drawn(7), blur.drawn(7));
/// assert_ne!(blur.drawn(7), blur.drawn(8));
/// # Ok::<(), bpo_distort::DistortError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount<T> {
    /// The same value for every item.
    Exactly(T),
    /// A value drawn for each item, from the lower to the upper end.
    Between(T, T),
}

impl<T: Copy> Amount<T> {
    /// The value after [`Value::draw`].
    pub(crate) fn exact(self) -> T {
        match self {
            Self::Exactly(value) | Self::Between(value, _) => value,
        }
    }
}

impl<T> From<T> for Amount<T> {
    fn from(value: T) -> Self {
        Self::Exactly(value)
    }
}

impl<T> From<RangeInclusive<T>> for Amount<T> {
    fn from(range: RangeInclusive<T>) -> Self {
        let (low, high) = range.into_inner();
        Self::Between(low, high)
    }
}

impl<T: fmt::Display> fmt::Display for Amount<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::Between(low, high) => write!(f, "{low}..{high}"),
        }
    }
}

/// Parses `2` or `2..8`. The limits of the parameter are checked by
/// [`Distortion::validate`](crate::Distortion::validate).
impl<T: FromStr> FromStr for Amount<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        Ok(match text.split_once("..") {
            Some((low, high)) => Self::Between(low.trim().parse()?, high.trim().parse()?),
            None => Self::Exactly(text.trim().parse()?),
        })
    }
}

/// The number types of parameters.
pub(crate) trait Number: Copy + PartialOrd + FromStr + fmt::Display + Into<f64> {
    /// Maps 64 random bits to a number from `low` to `high`.
    fn pick(low: Self, high: Self, bits: u64) -> Self;
}

impl Number for f32 {
    fn pick(low: Self, high: Self, bits: u64) -> Self {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        let share = (bits >> 11) as f64 * STEP;
        let value = (f64::from(low) + share * (f64::from(high) - f64::from(low))) as f32;
        // Rounding may exceed an end. `clamp` would panic if the ends are swapped.
        value.max(low).min(high)
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn pick(low: Self, high: Self, bits: u64) -> Self {
                let (low, high) = (i64::from(low), i64::from(high));
                let count = u128::from((high - low).max(0).unsigned_abs()) + 1;
                // The high half of the product is below `count`, so the sum is at most `high`.
                (low + ((u128::from(bits) * count) >> 64) as i64) as $type
            }
        }
    )*};
}
whole_number!(u8, u16, u32, i32);

impl<T: Number> Value for Amount<T> {
    fn read(&mut self, text: &str) -> bool {
        let read = text.parse();
        if let Ok(amount) = read {
            *self = amount;
        }
        read.is_ok()
    }

    fn fits(&self, expected: &AllowedValues) -> bool {
        let (low, high) = match *self {
            Self::Exactly(value) => (value, value),
            Self::Between(low, high) => (low, high),
        };
        // Comparisons with NaN are false, so NaN does not fit.
        low <= high && expected.includes(low.into()) && expected.includes(high.into())
    }

    fn draw(&mut self, bits: u64) {
        if let Self::Between(low, high) = *self {
            *self = Self::Exactly(T::pick(low, high, bits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ends_are_included() {
        let drawn = |bits| <u8 as Number>::pick(3, 5, bits);
        assert_eq!([0, u64::MAX / 2, u64::MAX].map(drawn), [3, 4, 5]);
        assert_eq!(<u32 as Number>::pick(0, u32::MAX, u64::MAX), u32::MAX);
        assert_eq!(<f32 as Number>::pick(2.0, 8.0, 0), 2.0);
        assert!(<f32 as Number>::pick(2.0, 8.0, u64::MAX) > 7.999);
        assert_eq!(<u8 as Number>::pick(5, 3, u64::MAX), 5);
        assert_eq!([0, u64::MAX / 2, u64::MAX].map(|bits| <i32 as Number>::pick(-2, 0, bits)), [-2, -1, 0]);
        assert_eq!(<i32 as Number>::pick(i32::MIN, i32::MAX, u64::MAX), i32::MAX);
    }

    #[test]
    fn text_form_of_numbers_and_ranges() {
        let read = |text: &str| text.parse::<Amount<f32>>().ok();
        assert_eq!(read("2"), Some(Amount::Exactly(2.0)));
        assert_eq!(read(" 2 .. 8.5 "), Some(Amount::Between(2.0, 8.5)));
        assert_eq!(read("-45..45"), Some(Amount::Between(-45.0, 45.0)));
        for text in ["", "..", "2..", "..8", "2..8..9", "2-8", "two"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn draws_lie_in_the_range(a in -1e6f32..1e6, b in -1e6f32..1e6, c: u16, d: u16, bits: u64) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!((low..=high).contains(&f32::pick(low, high, bits)));
            let (low, high) = (c.min(d), c.max(d));
            prop_assert!((low..=high).contains(&u16::pick(low, high, bits)));
        }
    }
}
