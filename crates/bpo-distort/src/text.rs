//! The text form of [`Distortion`], which serde uses too.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::family::{Family, Stage};
use crate::{DistortError, Distortion, Severity};

impl FromStr for Distortion {
    type Err = DistortError;

    fn from_str(text: &str) -> Result<Self, DistortError> {
        let stages = text.split('+').map(|stage| {
            let (name, arguments) = stage.split_once(':').unwrap_or((stage, ""));
            if stage.trim().is_empty() {
                return Err(DistortError::EmptyStage { text: text.to_owned() });
            }
            read_stage(Family::named(name.trim())?, arguments)
        });
        Self::sequence(stages.collect::<Result<Vec<_>, _>>()?)
    }
}

/// Parses `parameter=value,...`. Missing parameters come from the severity level if one is given,
/// else from the defaults.
fn read_stage(family: &'static Family, text: &str) -> Result<Distortion, DistortError> {
    let mut given: Vec<Option<&str>> = vec![None; family.parameters.len()];
    let mut severity = None;
    for argument in text.split(',').map(str::trim).filter(|argument| !argument.is_empty()) {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let (name, value) = (name.trim(), value.trim());
        let (parameter, before) = if name == Severity::NAME && family.levels.is_some() {
            (Severity::NAME, severity.replace(value))
        } else {
            let (index, parameter) = family.parameter(name)?;
            (parameter.name(), given[index].replace(value))
        };
        if before.is_some() {
            return Err(DistortError::RepeatedParameter { family: family.name, parameter });
        }
    }

    let level = severity.map(str::parse).transpose()?.and_then(|level| family.severity(level));
    let has_level = level.is_some();
    let mut stage = level.unwrap_or_else(|| family.weakest.clone());
    let values = stage.stage_mut().map(Stage::values).unwrap_or_default();
    for ((value, parameter), given) in values.into_iter().zip(family.parameters).zip(given) {
        let text = match given.or(parameter.default().filter(|_| !has_level)) {
            Some(text) => text,
            None if has_level => continue,
            None => {
                let parameter = parameter.name();
                return Err(DistortError::MissingParameter { family: family.name, parameter });
            }
        };
        if !value.read(text) {
            return Err(DistortError::InvalidValue {
                family: family.name,
                parameter: parameter.name(),
                value: text.to_owned(),
                expected: parameter.expected(),
            });
        }
    }
    Ok(stage)
}

impl fmt::Display for Distortion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages().enumerate() {
            let Some(family) = stage.family() else { continue };
            write!(f, "{}{}", if index == 0 { "" } else { "+" }, family.name)?;
            let mut copy = stage.clone();
            let values = copy.stage_mut().map(Stage::values).unwrap_or_default();
            for (index, (value, parameter)) in values.iter().zip(family.parameters).enumerate() {
                write!(f, "{}{}={value}", if index == 0 { ":" } else { "," }, parameter.name())?;
            }
        }
        Ok(())
    }
}

/// Fails for an invalid distortion, which could not be parsed again.
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
    use crate::{Blur, DiffusionNoise};

    fn message(text: &str) -> String {
        text.parse::<Distortion>().unwrap_err().to_string()
    }

    fn printed(text: &str) -> String {
        text.parse::<Distortion>().unwrap().to_string()
    }

    #[test]
    fn reads_stages_in_order() {
        let read: Distortion = " blur:sigma=4 + diffusion-noise: step = 900 ".parse().unwrap();
        let expected = vec![Blur { sigma: 4.0.into() }.into(), DiffusionNoise { step: 900.into() }.into()];
        assert_eq!(read, Distortion::Sequence(expected));
        assert_eq!(read.to_string(), "blur:sigma=4+diffusion-noise:step=900");
    }

    #[test]
    fn missing_parameters_come_from_defaults_or_severity() {
        assert_eq!(printed("grayscale"), "grayscale:amount=1");
        assert_eq!(printed("motion-blur:length=9"), "motion-blur:length=9,angle=0..180");
        assert_eq!(printed("motion-blur:angle=5..6, length=2..3"), "motion-blur:length=2..3,angle=5..6");
        assert_eq!(printed("blur:severity=3"), "blur:sigma=3");
        assert_eq!(printed("occlude:fill=mean,severity=1"), "occlude:share=0.1,grid=8,fill=mean");
        assert_eq!(printed("swap"), "swap");
    }

    #[test]
    fn errors_name_the_mistake_and_similar_names() {
        let cases = [
            ("", r#"distortion "" has an empty stage"#),
            ("blur:sigma=2+", r#"distortion "blur:sigma=2+" has an empty stage"#),
            ("difusion-noise:step=5", r#"did you mean "diffusion-noise"?"#),
            (
                "sepia",
                r#"unknown distortion "sepia"; expected one of diffusion-noise, gaussian-noise, salt-and-pepper"#,
            ),
            (
                "blur:sgima=2",
                r#"blur has no parameter "sgima" (did you mean "sigma"?); expected one of sigma, severity"#,
            ),
            ("blur", "blur needs the parameter sigma, as in `blur:sigma=...`"),
            (
                "blur:sigma",
                r#"blur: sigma="" is invalid; expected a number from 0 to 1024, or a range low..high"#,
            ),
            ("blur:sigma=1,sigma=2", "blur: the parameter sigma is given twice"),
            ("blur:sigma=-1", r#"blur: sigma="-1" is invalid; expected a number from 0 to 1024"#),
            ("blur:sigma=nan", r#"blur: sigma="NaN" is invalid; expected a number from 0"#),
            ("blur:sigma=8..2", r#"blur: sigma="8..2" is invalid; expected a number from 0"#),
            ("blur:sigma=2..NaN", r#"blur: sigma="2..NaN" is invalid; expected a number from 0"#),
            ("blur:sigma=2..1025", r#"blur: sigma="2..1025" is invalid; expected a number from 0 to 1024"#),
            ("blur:severity=6", r#"severity "6" is invalid; expected an integer from 1 to 5"#),
            (
                "blur:severity=2..4",
                r#"severity "2..4" is invalid; expected an integer from 1 to 5 and not a range; give a parameter a range"#,
            ),
            ("blur:severity=1,severity=2", "blur: the parameter severity is given twice"),
            ("swap:severity=1", r#"swap has no parameter "severity"; expected no parameter"#),
            ("diffusion-noise:step=1.5", r#"step="1.5" is invalid; expected an integer from 0 to 999"#),
            ("diffusion-noise:step=1000", r#"step="1000" is invalid; expected an integer from 0 to 999"#),
            ("blank:fill=red", r#"blank: fill="red" is invalid; expected one of black, mean, noise"#),
            ("shuffle:grid=99999999999", r#"grid="99999999999" is invalid; expected an integer"#),
            ("no-image+blur:sigma=1", "blur works on the image and cannot follow no-image"),
            (
                "mask-tokens:share=1+diffusion-noise:step=1",
                "diffusion-noise works on the image and cannot follow",
            ),
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
    fn invalid_distortions_are_not_serialized() {
        for invalid in [Blur { sigma: (-1.0).into() }.into(), Distortion::Sequence(vec![])] {
            assert!(serde_json::to_string(&invalid).is_err(), "{invalid:?}");
        }
    }
}
