//! The compact text form of a [`Distortion`], which is its serde form too.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{DistortError, Distortion};

/// Below this Jaro-Winkler similarity a suggestion would puzzle more than help.
const SIMILAR: f64 = 0.7;

/// The name and the parameters of a kind of distortion.
struct Family {
    name: &'static str,
    parameters: &'static [&'static str],
    build: fn(&Arguments<'_>) -> Result<Distortion, DistortError>,
}

static FAMILIES: [Family; 2] = [
    Family {
        name: "diffusion-noise",
        parameters: &["step"],
        build: |arguments| {
            Distortion::diffusion_noise(arguments.required("step", "a whole number from 0 to 999")?)
        },
    },
    Family {
        name: "blur",
        parameters: &["sigma"],
        build: |arguments| Distortion::blur(arguments.required("sigma", "a number above 0")?),
    },
];

/// The parameters written for one stage; names are known and unique.
struct Arguments<'a> {
    family: &'static Family,
    values: Vec<(&'static str, &'a str)>,
}

impl<'a> Arguments<'a> {
    fn parse(family: &'static Family, text: &'a str) -> Result<Self, DistortError> {
        let mut values = Vec::new();
        for argument in text.split(',').map(str::trim).filter(|argument| !argument.is_empty()) {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            let parameter = family.parameter(name.trim())?;
            if values.iter().any(|(known, _)| *known == parameter) {
                return Err(DistortError::RepeatedParameter { family: family.name, parameter });
            }
            values.push((parameter, value.trim()));
        }
        Ok(Self { family, values })
    }

    fn required<T: FromStr>(
        &self,
        parameter: &'static str,
        expected: &'static str,
    ) -> Result<T, DistortError> {
        let family = self.family.name;
        let (_, value) = self
            .values
            .iter()
            .find(|(name, _)| *name == parameter)
            .ok_or(DistortError::MissingParameter { family, parameter })?;
        value.parse().map_err(|_| DistortError::InvalidValue {
            family,
            parameter,
            value: (*value).to_owned(),
            expected,
        })
    }
}

impl Family {
    fn named(name: &str) -> Result<&'static Self, DistortError> {
        FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
            let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
            DistortError::UnknownFamily { found: name.to_owned(), nearest: nearest(name, &known), known }
        })
    }

    fn parameter(&self, name: &str) -> Result<&'static str, DistortError> {
        self.parameters.iter().find(|known| **known == name).copied().ok_or_else(|| {
            DistortError::UnknownParameter {
                family: self.name,
                found: name.to_owned(),
                nearest: nearest(name, self.parameters),
                known: self.parameters,
            }
        })
    }
}

fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

impl FromStr for Distortion {
    type Err = DistortError;

    fn from_str(text: &str) -> Result<Self, DistortError> {
        let stages = text.split('+').map(|stage| {
            let (name, arguments) = stage.split_once(':').unwrap_or((stage, ""));
            if stage.trim().is_empty() {
                return Err(DistortError::EmptyStage { text: text.to_owned() });
            }
            let family = Family::named(name.trim())?;
            (family.build)(&Arguments::parse(family, arguments)?)
        });
        Self::sequence(stages.collect::<Result<Vec<_>, _>>()?)
    }
}

impl fmt::Display for Distortion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages().enumerate() {
            let joint = if index == 0 { "" } else { "+" };
            match stage {
                Self::DiffusionNoise { step } => write!(f, "{joint}diffusion-noise:step={step}")?,
                Self::Blur { sigma } => write!(f, "{joint}blur:sigma={sigma}")?,
                Self::Sequence(_) => unreachable!("stages() yields no sequences"),
            }
        }
        Ok(())
    }
}

/// Fails on a value that could not be read back.
impl Serialize for Distortion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.validate().map_err(ser::Error::custom)?;
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Distortion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        text.parse::<Distortion>().unwrap_err().to_string()
    }

    #[test]
    fn reads_stages_in_order() {
        let read: Distortion = " blur:sigma=4 + diffusion-noise: step = 900 ".parse().unwrap();
        let expected = vec![Distortion::Blur { sigma: 4.0 }, Distortion::DiffusionNoise { step: 900 }];
        assert_eq!(read, Distortion::Sequence(expected));
        assert_eq!(read.to_string(), "blur:sigma=4+diffusion-noise:step=900");
    }

    #[test]
    fn errors_name_what_is_wrong_and_what_is_near() {
        let cases = [
            ("", r#"distortion "" has an empty stage"#),
            ("blur:sigma=2+", r#"distortion "blur:sigma=2+" has an empty stage"#),
            ("difusion-noise:step=5", r#"did you mean "diffusion-noise"?"#),
            ("sepia", r#"unknown distortion "sepia"; known are diffusion-noise, blur"#),
            ("blur:sgima=2", r#"blur has no parameter "sgima" (did you mean "sigma"?); it takes sigma"#),
            ("blur", "blur needs the parameter sigma, as in `blur:sigma=...`"),
            ("blur:sigma", r#"blur: sigma="" is not a number above 0"#),
            ("blur:sigma=1,sigma=2", "blur has the parameter sigma twice"),
            ("blur:sigma=0", "blur sigma 0 is out of range"),
            ("blur:sigma=nan", "blur sigma NaN is out of range"),
            ("diffusion-noise:step=1.5", r#"step="1.5" is not a whole number from 0 to 999"#),
            ("diffusion-noise:step=1000", "diffusion step 1000 is out of range"),
        ];
        for (text, expected) in cases {
            assert!(message(text).contains(expected), "{text:?} gave {:?}", message(text));
        }
    }

    #[test]
    fn serde_uses_the_text_form() {
        let distortion = Distortion::diffusion_noise(500).unwrap();
        let json = serde_json::to_string(&distortion).unwrap();
        assert_eq!(json, r#""diffusion-noise:step=500""#);
        assert_eq!(serde_json::from_str::<Distortion>(&json).unwrap(), distortion);
        let error = serde_json::from_str::<Distortion>(r#""blurr:sigma=1""#).unwrap_err();
        assert!(error.to_string().contains(r#"did you mean "blur"?"#), "{error}");
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        for invalid in [Distortion::Blur { sigma: -1.0 }, Distortion::Sequence(vec![])] {
            assert!(serde_json::to_string(&invalid).is_err(), "{invalid:?}");
        }
    }
}
