//! The image field of data sets: a path, a list of paths, or nothing.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::set_aside::Reason;

/// All paths that a record names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Images(Vec<String>);

impl Images {
    /// The only image.
    pub(super) fn single(mut self) -> Result<String, Reason> {
        self.0.retain(|path| !path.trim().is_empty());
        match self.0.len() {
            0 => Err(Reason::NoImage),
            1 => Ok(self.0.remove(0)),
            _ => Err(Reason::SeveralImages),
        }
    }
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImagesVisitor;
        impl<'de> Visitor<'de> for ImagesVisitor {
            type Value = Images;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of an image, or a list of paths")
            }

            fn visit_unit<E: Error>(self) -> Result<Images, E> {
                Ok(Images::default())
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<Images, E> {
                Ok(Images(vec![path.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Images, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = sequence.next_element()? {
                    paths.push(path);
                }
                Ok(Images(paths))
            }
        }
        deserializer.deserialize_any(ImagesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_is_a_path_or_a_list_of_one() {
        let single = |json| serde_json::from_str::<Images>(json).unwrap().single();
        assert_eq!(single(r#""a.jpg""#).as_deref(), Ok("a.jpg"));
        assert_eq!(single(r#"["a.jpg"]"#).as_deref(), Ok("a.jpg"));
        for nothing in ["null", "[]", r#""""#] {
            assert_eq!(single(nothing), Err(Reason::NoImage), "{nothing}");
        }
        assert_eq!(single(r#"["a.jpg", "b.jpg"]"#), Err(Reason::SeveralImages));
        assert!(serde_json::from_str::<Images>("{}").is_err());
    }
}
