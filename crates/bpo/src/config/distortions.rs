//! A non-empty list of distortions.

use std::fmt;
use std::ops::Deref;

use bpo_distort::Distortion;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One or more distortions. In a file it is a string, or a list of strings.
#[derive(Clone, Debug, PartialEq)]
pub struct Distortions(Vec<Distortion>);

impl Distortions {
    /// Creates the list. Returns `None` if `distortions` is empty.
    pub fn new(distortions: Vec<Distortion>) -> Option<Self> {
        (!distortions.is_empty()).then_some(Self(distortions))
    }
}

impl From<Distortion> for Distortions {
    fn from(distortion: Distortion) -> Self {
        Self(vec![distortion])
    }
}

impl Deref for Distortions {
    type Target = [Distortion];

    fn deref(&self) -> &[Distortion] {
        &self.0
    }
}

impl fmt::Display for Distortions {
    /// Writes the distortions separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.iter().map(Distortion::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

impl Serialize for Distortions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self[..] {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Distortions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> serde::de::Visitor<'de> for OneOrMore {
            type Value = Distortions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a distortion, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Distortions, E> {
                Ok(text.parse::<Distortion>().map_err(E::custom)?.into())
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Distortions, A::Error> {
                let mut distortions = Vec::new();
                while let Some(distortion) = list.next_element()? {
                    distortions.push(distortion);
                }
                Distortions::new(distortions).ok_or_else(|| serde::de::Error::invalid_length(0, &self))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_distortion_is_a_text_and_several_are_a_list() {
        for text in [r#""blur:sigma=2..8""#, r#"["blur:sigma=2..8","no-image"]"#] {
            let read: Distortions = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for bad in ["[]", "3", r#""fog""#, r#"["blur:sigma=2", "fog"]"#] {
            serde_json::from_str::<Distortions>(bad).unwrap_err();
        }
    }
}
