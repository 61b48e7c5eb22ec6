//! How many frames of a video a checkpoint is made for.

use std::path::Path;

use bpo_pairs::Limits;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::sources::{IMAGES, PROCESSOR};
use crate::error::ModelError;
use crate::families::FamilySpec;
use crate::json::{JsonError, from_value, optional, read_json};

/// Settings of a video processor.
pub(super) const VIDEOS: &str = "video_preprocessor_config.json";

/// The frames of a video that a checkpoint is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct VideoSettings {
    /// Frames per second.
    pub fps: f64,
    /// Least number of frames, where the video has as many.
    pub min_frames: usize,
    /// Largest number of frames.
    pub max_frames: usize,
}

/// The keys of a video processor that are read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Keys {
    fps: Option<f64>,
    num_frames: Option<usize>,
    min_frames: Option<usize>,
    max_frames: Option<usize>,
    video_sampling: Option<Box<Keys>>,
    video_size: Option<Value>,
    size: Option<Value>,
    video_processor_type: Option<String>,
}

impl VideoSettings {
    /// Reads the settings of the video processor: `video_processor` in `processor_config.json`,
    /// else `video_preprocessor_config.json`, else `preprocessor_config.json`, as transformers 5
    /// does. What they do not have is the default of the family's video processor, and else two
    /// frames per second and at most eight.
    ///
    /// # Errors
    /// Those of [`FamilySpec::of_checkpoint`]; [`ModelError::Json`] for a value that cannot be
    /// used.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let default = FamilySpec::of_checkpoint(dir)?.video;
        let Some((path, at, settings)) = settings_of(dir)? else { return Ok(default) };
        let keys: Keys = from_value(&settings, &path, at)?;
        let (keys, within) = match keys.video_sampling {
            Some(sampling) => (*sampling, "video_sampling"),
            None => (keys, ""),
        };
        let read = Self {
            fps: keys.fps.unwrap_or(default.fps),
            min_frames: keys.min_frames.unwrap_or(default.min_frames),
            max_frames: keys.max_frames.or(keys.num_frames).unwrap_or(default.max_frames),
        };
        let wrong = |key: &str, expected: &str, found: String| {
            let names = [at, within, key].into_iter().filter(|name| !name.is_empty());
            let (key, expected) = (names.collect::<Vec<_>>().join("."), expected.to_owned());
            Err(JsonError::Value { path: path.clone(), key, expected, found }.into())
        };
        if !(read.fps.is_finite() && read.fps > 0.0) {
            return wrong("fps", "a number above 0", read.fps.to_string());
        }
        let most = Limits::DEFAULT.images;
        if !(1..=most).contains(&read.max_frames) {
            let key = if keys.max_frames.is_some() { "max_frames" } else { "num_frames" };
            return wrong(key, &format!("from 1 to {most}"), read.max_frames.to_string());
        }
        Ok(read)
    }
}

impl VideoSettings {
    /// Reads the longest edge that frames are resized to, in pixels: `video_sampling.video_size`,
    /// or `size` of a video processor. `None` if no file has one.
    ///
    /// # Errors
    /// [`JsonError::Value`] for an edge that cannot be used.
    pub(crate) fn longest_edge(dir: &Path) -> Result<Option<usize>, JsonError> {
        let Some((path, at, settings)) = settings_of(dir)? else { return Ok(None) };
        let keys: Keys = from_value(&settings, &path, at)?;
        let (key, size) = match keys.video_sampling {
            Some(sampling) => ("video_sampling.video_size.longest_edge", sampling.video_size),
            // a file of the image processor has the size of images
            None if path.ends_with(IMAGES) && keys.video_processor_type.is_none() => return Ok(None),
            None => ("size.longest_edge", keys.size),
        };
        let edge = size.as_ref().and_then(|size| size.get("longest_edge")).filter(|edge| !edge.is_null());
        let Some(edge) = edge else { return Ok(None) };
        let key = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        let most = Limits::DEFAULT.resized_pixels;
        match from_value::<usize>(edge, &path, &key)? {
            edge if (1..=most).contains(&edge) => Ok(Some(edge)),
            edge => {
                let expected = format!("from 1 to {most}");
                Err(JsonError::Value { path, key, expected, found: edge.to_string() })
            }
        }
    }
}

/// The file with settings of a video processor, the key that they are under, and the settings.
fn settings_of(dir: &Path) -> Result<Option<(std::path::PathBuf, &'static str, Value)>, JsonError> {
    const KEY: &str = "video_processor";
    let path = dir.join(PROCESSOR);
    let nested = optional(read_json::<Map<String, Value>>(&path))?.and_then(|mut all| all.remove(KEY));
    if let Some(settings) = nested.filter(|settings| !settings.is_null()) {
        return Ok(Some((path, KEY, settings)));
    }
    for name in [VIDEOS, IMAGES] {
        let path = dir.join(name);
        if let Some(settings) = optional(read_json::<Map<String, Value>>(&path))? {
            return Ok(Some((path, "", settings.into())));
        }
    }
    Ok(None)
}

/// The settings of families whose video processor has none.
pub(crate) const FEW_FRAMES: VideoSettings = VideoSettings { fps: 2.0, min_frames: 1, max_frames: 8 };

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(model_type: &str, files: &[(&str, Value)]) -> Result<VideoSettings, ModelError> {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &Value| std::fs::write(dir.path().join(name), value.to_string());
        write("config.json", &json!({ "model_type": model_type })).unwrap();
        files.iter().for_each(|(name, value)| write(name, value).unwrap());
        VideoSettings::from_dir(dir.path())
    }

    #[test]
    fn settings_are_those_of_the_video_processor() {
        let settings = |fps, min_frames, max_frames| VideoSettings { fps, min_frames, max_frames };
        let images = |value: Value| (IMAGES, value);
        // as published with SmolVLM2
        let smolvlm2 =
            json!({"video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 512}}});
        let v5 = json!({"video_processor": {"fps": 1, "num_frames": 64}, "image_processor": {}});
        for (model_type, files, expected) in [
            ("llava", vec![], FEW_FRAMES),
            ("llava_onevision", vec![(VIDEOS, json!({"fps": null, "num_frames": 32}))], settings(2.0, 1, 32)),
            ("smolvlm", vec![images(smolvlm2.clone())], settings(1.0, 1, 64)),
            ("smolvlm", vec![(PROCESSOR, v5), images(json!({"fps": 9}))], settings(1.0, 1, 64)),
            ("qwen2_5_vl", vec![images(json!({"min_pixels": 3136}))], settings(2.0, 4, 768)),
            ("qwen3_vl", vec![(VIDEOS, json!({"fps": 4, "max_frames": 100}))], settings(4.0, 4, 100)),
        ] {
            assert_eq!(read(model_type, &files).unwrap(), expected, "{model_type} {files:?}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_are_named() {
        for (value, expected) in [
            (json!({"fps": 0}), "`fps`: expected a number above 0, found 0"),
            (json!({"max_frames": 0}), "`max_frames`: expected from 1 to 1000, found 0"),
            (
                json!({"video_sampling": {"fps": -1}}),
                "`video_sampling.fps`: expected a number above 0, found -1",
            ),
        ] {
            let error = read("smolvlm", &[(VIDEOS, value)]).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
