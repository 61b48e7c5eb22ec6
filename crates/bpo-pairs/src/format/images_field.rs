//! Reads the image paths of a record, under `image` or `images`.

use std::fmt;

use super::fields::{Fields, describe, quoted, wrong};
use super::value::Value;
use crate::limits::Limits;
use crate::skipped::{SkipCause, SkipReason};
use crate::untrusted::Untrusted;
use crate::video::VideoFrames;

/// Maximum length of a path in bytes, as on Linux.
const LONGEST_PATH: usize = 4096;

/// Takes the paths under `image` and `images`, at most [`Limits::images`]. Equal values of both keys
/// count once.
pub(super) fn take_paths(fields: &mut Fields) -> Result<Vec<String>, SkipCause> {
    let mut found = paths("image", fields.take("image"))?;
    let more = paths("images", fields.take("images"))?;
    if found != more {
        found.extend(more);
    }
    Limits::check("images", found.len(), Limits::DEFAULT.images)?;
    Ok(found)
}

/// Takes the paths under `video` and `videos`, and returns the frames of each video.
pub(super) fn take_videos(
    fields: &mut Fields,
    videos: &dyn VideoFrames,
) -> Result<Vec<Vec<String>>, SkipCause> {
    let mut found = Vec::new();
    for key in ["video", "videos"] {
        let value = fields.take(key).filter(|value| *value != Value::Bool(false));
        found.extend(paths(key, value)?);
    }
    frames(&found, videos)
}

/// Returns the frames of each video, at most [`Limits::images`] in all.
pub(super) fn frames(paths: &[String], videos: &dyn VideoFrames) -> Result<Vec<Vec<String>>, SkipCause> {
    let frames = |path: &String| {
        let found = videos.frames(path)?;
        if found.is_empty() {
            // the text without its video would be another one
            return Err(SkipCause::new(
                SkipReason::ImageUnreadable,
                format_args!("the video {:?} has no frame", Untrusted(path)),
            ));
        }
        Ok(found)
    };
    let found = paths.iter().map(frames).collect::<Result<Vec<_>, _>>()?;
    Limits::check("videos (frames)", found.iter().map(Vec::len).sum(), Limits::DEFAULT.images)?;
    Ok(found)
}

/// Reads the paths in a value: a path, an object with a path, a list of these, or nothing.
pub(super) fn paths(key: &str, value: Option<Value>) -> Result<Vec<String>, SkipCause> {
    match value {
        Some(Value::Array(items)) => {
            let item = |(i, item)| path(format_args!("{key}[{i}]"), item).transpose();
            items.into_iter().enumerate().filter_map(item).collect()
        }
        Some(value) => Ok(path(format_args!("{key}"), value)?.into_iter().collect()),
        None => Ok(Vec::new()),
    }
}

/// Reads the path in a value. Null and empty text count as none.
pub(super) fn path(key: fmt::Arguments<'_>, value: Value) -> Result<Option<String>, SkipCause> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => match no_path(&text) {
            Some(found) => Err(not_a_path(key, &found)),
            None => Ok(Some(text)),
        },
        Value::Object(fields) => {
            let mut fields = fields.unrepeated(format_args!("`{key}`: "))?;
            if let Some(bytes) = fields.get("bytes").filter(|bytes| !bytes.is_null()) {
                return Err(not_a_path(format_args!("{key}.bytes"), &describe(Some(bytes))));
            }
            let named = ["path", "image", "image_url", "video", "url"]
                .into_iter()
                .find_map(|name| Some((name, fields.take_some(name)?)));
            match named {
                Some((name, value)) => path(format_args!("{key}.{name}"), value),
                None => Err(wrong(key, "the path of an image", Some(&Value::Object(fields)))),
            }
        }
        other => Err(wrong(key, "the path of an image", Some(&other))),
    }
}

/// Describes a text that is not a path: image data, a URL or overlong text. Returns `None` for a
/// path.
fn no_path(text: &str) -> Option<String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    if scheme.eq_ignore_ascii_case("data") {
        return Some(format!("the bytes of an image: {}", quoted(text)));
    }
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_scheme && text[scheme.len()..].starts_with("://") {
        return Some(format!("the URL {}", quoted(text)));
    }
    (text.len() > LONGEST_PATH).then(|| format!("{} bytes of text: {}", text.len(), quoted(text)))
}

fn not_a_path(key: fmt::Arguments<'_>, found: &str) -> SkipCause {
    SkipCause::new(
        SkipReason::ImageNotAPath,
        format_args!("`{key}`: expected a path below the image root, found {found}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::fields::JsonRecord;

    fn images(json: &str) -> Result<Vec<String>, SkipCause> {
        let record: JsonRecord = serde_json::from_str(json).unwrap();
        take_paths(&mut record.into_fields().unwrap())
    }

    #[test]
    fn images_are_read_in_any_form() {
        for form in [
            r#"{"image": "a.jpg"}"#,
            r#"{"image": ["a.jpg"]}"#,
            r#"{"images": ["a.jpg"]}"#,
            r#"{"images": "a.jpg"}"#,
            r#"{"image": "a.jpg", "images": ["a.jpg"]}"#,
            r#"{"image": null, "images": ["a.jpg", null]}"#,
            r#"{"images": [{"path": "a.jpg"}]}"#,
            r#"{"image": {"bytes": null, "path": "a.jpg"}}"#,
            r#"{"image": {"url": "a.jpg"}}"#,
        ] {
            assert_eq!(images(form).unwrap(), ["a.jpg"], "{form}");
        }
        for form in ["{}", r#"{"image": [], "images": ""}"#, r#"{"image": null}"#] {
            assert_eq!(images(form), Ok(Vec::new()), "{form}");
        }
        for form in [
            r#"{"images": ["a.jpg", "b.jpg"]}"#,
            r#"{"image": "a.jpg", "images": ["b.jpg"]}"#,
            r#"{"image": ["a.jpg", "b.jpg"], "images": ["a.jpg", "b.jpg"]}"#,
        ] {
            assert_eq!(images(form).unwrap(), ["a.jpg", "b.jpg"], "{form}");
        }
    }

    #[test]
    fn other_image_values_are_errors() {
        for (form, reason, named) in [
            (r#"{"image": 3}"#, SkipReason::Malformed, "`image`: expected the path of an image, found 3"),
            (
                r#"{"image": {"path": "a", "path": "b"}}"#,
                SkipReason::Malformed,
                "`image`: the key \"path\" is repeated",
            ),
            (r#"{"image": {"width": 3}}"#, SkipReason::Malformed, "`image`: expected the path"),
            (r#"{"images": [["a.jpg"]]}"#, SkipReason::Malformed, "`images[0]`"),
            (
                r#"{"images": [{"bytes": "iVBO", "path": "a.jpg"}]}"#,
                SkipReason::ImageNotAPath,
                "`images[0].bytes`",
            ),
            (
                r#"{"image": "https://a.org/a.jpg"}"#,
                SkipReason::ImageNotAPath,
                r#"found the URL "https://a.org"#,
            ),
            (r#"{"images": [{"url": "s3://a/b.jpg"}]}"#, SkipReason::ImageNotAPath, "`images[0].url`"),
            (
                r#"{"image": "data:image/png;base64,iVBO"}"#,
                SkipReason::ImageNotAPath,
                "the bytes of an image",
            ),
        ] {
            let cause = images(form).unwrap_err();
            assert_eq!(cause.reason, reason, "{form}");
            assert!(cause.detail.contains(named), "{form}: {}", cause.detail);
        }
        let long = images(&format!(r#"{{"image": "{}"}}"#, "A".repeat(5000))).unwrap_err();
        assert!(long.detail.contains("5000 bytes of text") && long.detail.len() < 300, "{}", long.detail);
    }
}
