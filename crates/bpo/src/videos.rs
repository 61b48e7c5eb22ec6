//! Videos below the image root, as frames.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bpo_pairs::{Limits, RowImage, SkipCause, SkipReason, Untrusted, VideoFrames};

use crate::config::{RunConfig, VideoSection};
use crate::error::chain;
use crate::frame_names::{frame_name, is_image_file};
use crate::images::{ImageError, ImageRoot};

/// Finds the frames of videos: of a folder of image files, or of an animated GIF, WebP or PNG file.
///
/// At most `max_frames` of them are chosen, spread over the whole video. Their number and rate are
/// those of the settings, else those of the checkpoint.
#[derive(Debug)]
pub struct Videos {
    images: Option<ImageRoot>,
    settings: VideoSection,
    model: Option<PathBuf>,
    rate: OnceLock<Result<FrameRate, String>>,
}

/// How many frames of a video are used.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FrameRate {
    fps: f64,
    min_frames: usize,
    max_frames: usize,
}

impl Videos {
    /// Creates a finder for videos below an image root. Settings that are not set are those of the
    /// checkpoint in the directory `model`.
    pub fn new(images: ImageRoot, settings: VideoSection, model: Option<PathBuf>) -> Self {
        Self { images: Some(images), settings, model, rate: OnceLock::new() }
    }

    /// Creates a finder with the settings of a run. Without an image root, records with videos are
    /// skipped.
    pub fn of(config: &RunConfig) -> Self {
        let images = config.data.images.as_ref().and_then(|images| ImageRoot::new(images).ok());
        let images = images.map(|images| images.with_limits(config.data.limits));
        let (settings, model) = (config.data.video.clone(), config.model.path.clone());
        Self { images, settings, model, rate: OnceLock::new() }
    }

    /// Returns the image root, if there is one.
    pub(crate) fn image_root(&self) -> Option<&ImageRoot> {
        self.images.as_ref()
    }

    /// The number of frames to use of a video.
    fn rate(&self, video: &str) -> Result<FrameRate, SkipCause> {
        let rate = self.rate.get_or_init(|| {
            if let VideoSection { fps: Some(fps), max_frames: Some(max_frames) } = self.settings {
                return Ok(FrameRate { fps, min_frames: 1, max_frames });
            }
            let model = self.model.as_deref().ok_or("`model.path` is not set")?;
            let of_model = rate_of(model)?;
            Ok(FrameRate {
                fps: self.settings.fps.unwrap_or(of_model.fps),
                min_frames: of_model.min_frames,
                max_frames: self.settings.max_frames.unwrap_or(of_model.max_frames),
            })
        });
        rate.clone().map_err(|problem| {
            let video = Untrusted(video);
            SkipCause::new(
                SkipReason::OtherMedia,
                format_args!(
                    "the number of frames of {video:?} follows from the model, or from `data.video.fps` and \
                     `data.video.max_frames`: {problem}"
                ),
            )
        })
    }
}

/// Reads the number of frames that a checkpoint is made for.
#[cfg(feature = "model")]
fn rate_of(model: &Path) -> Result<FrameRate, String> {
    let of_model = bpo_model::VideoSettings::from_dir(model).map_err(|error| chain(&error))?;
    let bpo_model::VideoSettings { fps, min_frames, max_frames, .. } = of_model;
    Ok(FrameRate { fps, min_frames, max_frames })
}

#[cfg(not(feature = "model"))]
fn rate_of(_model: &Path) -> Result<FrameRate, String> {
    Err("this program does not read models".to_owned())
}

impl VideoFrames for Videos {
    fn frames(&self, video: &str) -> Result<Vec<String>, SkipCause> {
        let Some(images) = &self.images else {
            let video = Untrusted(video);
            return Err(SkipCause::new(
                SkipReason::OtherMedia,
                format_args!("the frames of {video:?} need the image root (`data.images`, --images)"),
            ));
        };
        let path = images.resolve(video).map_err(|error| match error {
            ImageError::Missing { .. } if RowImage::of_name(video).is_some() => in_a_row(video),
            error => cause_of(&error),
        })?;
        if path.is_dir() {
            let files = frame_files(&path, video)?;
            let chosen = evenly(files.len(), self.rate(video)?.max_frames);
            return Ok(chosen.map(|index| frame_name(video, &files[index])).collect());
        }
        let durations = images.frame_durations(&path).map_err(|source| {
            let error = ImageError::Load { name: video.to_owned(), source };
            SkipCause::new(
                error.reason().unwrap_or(SkipReason::ImageUnreadable),
                format_args!(
                    "{}; a video is a folder of frames, or an animated GIF, WebP or PNG file (ffmpeg -i a.mp4 -vf fps=2 a/%05d.png)",
                    chain(&error)
                ),
            )
        })?;
        let chosen = at_rate(&durations, self.rate(video)?);
        Ok(chosen.into_iter().map(|index| frame_name(video, index)).collect())
    }
}

fn in_a_row(video: &str) -> SkipCause {
    let video = Untrusted(video);
    SkipCause::new(
        SkipReason::OtherMedia,
        format_args!(
            "the video {video:?} is in a row of a Parquet file; `bpo convert --images DIR` writes it to a file"
        ),
    )
}

fn cause_of(error: &ImageError) -> SkipCause {
    SkipCause::new(error.reason().unwrap_or(SkipReason::ImageUnreadable), chain(error))
}

/// Returns the names of the image files in a folder, with numbers in their names in numeric order.
fn frame_files(folder: &Path, video: &str) -> Result<Vec<String>, SkipCause> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let video = Untrusted(video);
        SkipCause::new(
            SkipReason::ImageUnreadable,
            format_args!("cannot list the frames of {video:?}: {error}"),
        )
    };
    let mut files = Vec::new();
    for (count, entry) in fs::read_dir(folder).map_err(|error| unreadable(&error))?.enumerate() {
        Limits::check("frames of a video", count + 1, Limits::DEFAULT.video_frames)?;
        let entry = entry.map_err(|error| unreadable(&error))?;
        if let Some(name) = entry.file_name().to_str().filter(|name| is_image_file(name)) {
            files.push(name.to_owned());
        }
    }
    if files.is_empty() {
        let video = Untrusted(video);
        return Err(SkipCause::new(
            SkipReason::ImageMissing,
            format_args!("no frame in the folder {video:?}: expected files such as 00001.png"),
        ));
    }
    files.sort_by(|one, other| by_numbers(one, other));
    Ok(files)
}

/// Compares names, with runs of digits as numbers: `2.png` comes before `10.png`.
fn by_numbers(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one, other);
    loop {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let digits = |rest: &str| rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number_a, behind_a) = rest_a.split_at(digits(rest_a));
        let (number_b, behind_b) = rest_b.split_at(digits(rest_b));
        // a longer number without leading zeros is larger
        let (value_a, value_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
        let order = text_a.cmp(text_b).then(value_a.len().cmp(&value_b.len())).then(value_a.cmp(value_b));
        if order != Ordering::Equal {
            return order;
        }
        if behind_a.is_empty() || behind_b.is_empty() {
            return behind_a.cmp(behind_b).then(one.cmp(other));
        }
        (a, b) = (behind_a, behind_b);
    }
}

/// Returns at most `max` indices of `count` frames, spread evenly: `floor(i * count / chosen)`, as
/// `sample_frames` of transformers' Qwen2-VL video processor.
fn evenly(count: usize, max: usize) -> impl Iterator<Item = usize> {
    let chosen = count.min(max.max(1));
    (0..chosen).map(move |index| index * count / chosen)
}

/// Returns the frames that are shown at evenly spread times. Frames without a duration are spread by
/// their number.
fn at_rate(durations: &[Duration], rate: FrameRate) -> Vec<usize> {
    let FrameRate { fps, min_frames, max_frames } = rate;
    let total: Duration = durations.iter().sum();
    if total.is_zero() {
        return evenly(durations.len(), max_frames).collect();
    }
    let wanted = (total.as_secs_f64() * fps) as usize;
    let chosen = wanted.max(min_frames).min(max_frames).clamp(1, durations.len().max(1));
    let mut found = Vec::with_capacity(chosen);
    let (mut frame, mut end) = (0, durations[0].as_nanos());
    for index in 0..chosen {
        let time = total.as_nanos() * index as u128 / chosen as u128;
        while end <= time && frame + 1 < durations.len() {
            frame += 1;
            end += durations[frame].as_nanos();
        }
        if found.last() != Some(&frame) {
            found.push(frame);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_names_are_in_order() {
        let mut names = ["f10.png", "f2.png", "f02.png", "a3b10.png", "a3b9.png", "f.png", "10.png", "9.png"];
        names.sort_by(|one, other| by_numbers(one, other));
        assert_eq!(
            names,
            ["9.png", "10.png", "a3b9.png", "a3b10.png", "f02.png", "f2.png", "f10.png", "f.png"]
        );
        for (name, expected) in [("a.JPG", true), (".png", false), ("a.txt", false), ("png", false)] {
            assert_eq!(is_image_file(name), expected, "{name}");
        }
    }

    #[test]
    fn frames_are_spread_over_the_video() {
        assert_eq!(evenly(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(evenly(3, 8).collect::<Vec<_>>(), [0, 1, 2]);
        let at_rate = |durations: &[Duration], fps, max_frames| {
            super::at_rate(durations, FrameRate { fps, min_frames: 1, max_frames })
        };
        let tenths = vec![Duration::from_millis(100); 30];
        assert_eq!(at_rate(&tenths, 2.0, 8), [0, 5, 10, 15, 20, 25]);
        assert_eq!(at_rate(&tenths, 2.0, 3), [0, 10, 20]);
        assert_eq!(at_rate(&tenths, 0.01, 3), [0]);
        let least = FrameRate { fps: 0.01, min_frames: 3, max_frames: 8 };
        assert_eq!(super::at_rate(&tenths, least), [0, 10, 20]);
        assert_eq!(super::at_rate(&tenths[..2], least), [0, 1]);
        assert_eq!(super::at_rate(&tenths, FrameRate { max_frames: 2, ..least }), [0, 15]);
        // the first frame is shown for most of the time
        let uneven = [Duration::from_secs(9), Duration::from_millis(500), Duration::from_millis(500)];
        assert_eq!(at_rate(&uneven, 1.0, 8), [0]);
        assert_eq!(at_rate(&[Duration::ZERO; 5], 2.0, 2), [0, 2]);
    }

    proptest! {
        #[test]
        fn chosen_frames_are_in_order(
            millis in prop::collection::vec(0_u64..3000, 1..40), fps in 0.1_f64..60.0, max in 1_usize..20,
            min_frames in 1_usize..20,
        ) {
            let durations: Vec<_> = millis.into_iter().map(Duration::from_millis).collect();
            let chosen = at_rate(&durations, FrameRate { fps, min_frames, max_frames: max });
            prop_assert!(!chosen.is_empty() && chosen.len() <= max);
            prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(chosen.iter().all(|frame| *frame < durations.len()));
        }

        #[test]
        fn order_of_names_is_total(names in prop::collection::vec("[a-c0-2.]{0,5}", 3)) {
            let order = |one: usize, other: usize| by_numbers(&names[one], &names[other]);
            prop_assert_eq!(order(0, 1), order(1, 0).reverse());
            if order(0, 1).is_le() && order(1, 2).is_le() {
                prop_assert!(order(0, 2).is_le());
            }
            prop_assert_eq!(order(0, 1) == Ordering::Equal, names[0] == names[1]);
        }
    }
}
