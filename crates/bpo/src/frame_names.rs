//! Names of frames of videos. Names of images in rows are those of [`bpo_pairs::RowImage`].

use std::fmt;

/// A frame in its video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePlace<'a> {
    /// A frame of an animated file, counted from 0.
    Number(usize),
    /// A file in a folder.
    File(&'a str),
}

/// Returns the name of a frame of a video: `FILE#N` or `FOLDER#FILE`.
pub(crate) fn frame_name(video: &str, frame: impl fmt::Display) -> String {
    format!("{video}#{frame}")
}

/// Splits the name of a frame into the video and the frame.
pub(crate) fn frame_of(name: &str) -> Option<(&str, FramePlace<'_>)> {
    let (video, frame) = name.rsplit_once('#')?;
    let is_number = !frame.is_empty() && frame.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return Some((video, FramePlace::Number(frame.parse().ok()?)));
    }
    let is_file = is_image_file(frame) && !frame.contains(['/', '\\']);
    (is_file && !video.is_empty()).then_some((video, FramePlace::File(frame)))
}

/// Returns whether a file in a folder of frames is one, by the end of its name.
pub(crate) fn is_image_file(name: &str) -> bool {
    /// Ends of the names of files that are frames in a folder.
    const FRAME_FILES: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];
    let end = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, end)| end);
    end.is_some_and(|end| FRAME_FILES.iter().any(|known| end.eq_ignore_ascii_case(known)))
}
