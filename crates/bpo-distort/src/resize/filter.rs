//! Resampling filters of Pillow.

use std::f64::consts::PI;

use serde::Deserialize;

/// A resampling filter. Its serde form is Pillow's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "u8")]
pub enum Filter {
    /// The nearest pixel (0).
    Nearest,
    /// Lanczos with three lobes (1).
    Lanczos,
    /// Linear interpolation (2).
    Bilinear,
    /// Cubic convolution with a = -0.5 (3).
    Bicubic,
    /// The mean of the covered pixels (4).
    Box,
    /// A Hamming window (5).
    Hamming,
}

impl TryFrom<u8> for Filter {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        Ok(match code {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => {
                return Err(format!(
                    "unknown resampling filter {code}; expected one of Pillow's numbers 0 to 5"
                ));
            }
        })
    }
}

impl Filter {
    /// Half the width of the filter in pixels, without shrinking.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at distance `x`.
    pub(super) fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest | Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => match x.abs() {
                0.0 => 1.0,
                x if x >= 1.0 => 0.0,
                x => sinc(x) * (0.54 + 0.46 * libm::cos(x * PI)),
            },
            Self::Bicubic => {
                const A: f64 = -0.5;
                match x.abs() {
                    x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                    _ => 0.0,
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    libm::sin(x) / x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_the_numbers_of_pillow() {
        use Filter::*;
        let parsed: Vec<Filter> = serde_json::from_str("[0, 1, 2, 3, 4, 5]").unwrap();
        assert_eq!(parsed, [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming]);
        let error = serde_json::from_str::<Filter>("6").unwrap_err().to_string();
        assert!(error.contains("unknown resampling filter 6"), "{error}");
    }
}
