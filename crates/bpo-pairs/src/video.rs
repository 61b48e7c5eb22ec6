//! Videos as frames.

use crate::sft::IMAGE_TOKEN;
use crate::skipped::{SkipCause, SkipReason};
use crate::untrusted::Untrusted;

/// The token that stands for a video in a question of the data.
pub(crate) const VIDEO_TOKEN: &str = "<video>";

/// Finds the frames of videos. A record with a video becomes a sample with its frames as images.
///
/// Another thread may read the file of the records.
pub trait VideoFrames: Sync {
    /// Returns the names of the frames of a video, in their order. `video` is the path in the
    /// record, which is not trusted.
    ///
    /// # Errors
    /// Returns the reason for which the record is skipped.
    fn frames(&self, video: &str) -> Result<Vec<String>, SkipCause>;
}

/// Finds no frames: records with a video are skipped with [`SkipReason::OtherMedia`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVideos;

impl VideoFrames for NoVideos {
    fn frames(&self, video: &str) -> Result<Vec<String>, SkipCause> {
        let video = Untrusted(video);
        Err(SkipCause::new(
            SkipReason::OtherMedia,
            format_args!("expected images and nothing else, found the video {video:?}"),
        ))
    }
}

/// Replaces each video token of the questions by the image tokens of the frames of that video, and
/// returns all images in the order of their tokens. Images or videos without any token stand in
/// front of the first question.
///
/// # Errors
/// Returns [`SkipReason::ImageToken`] if the questions have another number of tokens than there are
/// images and videos.
pub(crate) fn insert_frames(
    questions: &mut [&mut String],
    images: Vec<String>,
    videos: Vec<Vec<String>>,
) -> Result<Vec<String>, SkipCause> {
    if videos.is_empty() {
        return Ok(images);
    }
    for (token, expected) in [(VIDEO_TOKEN, videos.len()), (IMAGE_TOKEN, images.len())] {
        let found: usize = questions.iter().map(|question| question.matches(token).count()).sum();
        if found == 0
            && let Some(first) = questions.first_mut()
        {
            first.insert_str(0, &format!("{token}\n").repeat(expected));
        } else if found != expected {
            return Err(SkipCause::new(
                SkipReason::ImageToken,
                format_args!("expected {token} {expected} times in the questions, found it {found} times"),
            ));
        }
    }
    let (mut images, mut videos) = (images.into_iter(), videos.into_iter());
    let mut all = Vec::new();
    for question in questions {
        let mut placed = String::new();
        let mut rest = question.as_str();
        while let Some((at, token)) = next_token(rest) {
            placed.push_str(&rest[..at]);
            let own: Vec<String> = if token == VIDEO_TOKEN {
                videos.next().unwrap_or_default()
            } else {
                images.next().into_iter().collect()
            };
            placed.push_str(&vec![IMAGE_TOKEN; own.len()].join("\n"));
            all.extend(own);
            rest = &rest[at + token.len()..];
        }
        placed.push_str(rest);
        **question = placed;
    }
    Ok(all)
}

/// Finds the first token of an image or a video.
fn next_token(text: &str) -> Option<(usize, &'static str)> {
    let tokens = [IMAGE_TOKEN, VIDEO_TOKEN].into_iter();
    tokens.filter_map(|token| Some((text.find(token)?, token))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inserts videos of the given numbers of frames, and returns questions and images.
    fn insert(
        questions: &[&str],
        images: usize,
        videos: &[usize],
    ) -> Result<(Vec<String>, String), SkipCause> {
        let mut questions: Vec<String> = questions.iter().map(|text| (*text).to_owned()).collect();
        let images = (0..images).map(|image| format!("i{image}")).collect();
        let frames = |(video, count): (usize, &usize)| (0..*count).map(move |k| format!("v{video}.{k}"));
        let videos = videos.iter().enumerate().map(|video| frames(video).collect()).collect();
        let all = insert_frames(&mut questions.iter_mut().collect::<Vec<_>>(), images, videos)?;
        Ok((questions, all.join(" ")))
    }

    #[test]
    fn frames_stand_in_the_place_of_their_video() {
        type Case<'a> = (&'a [&'a str], usize, &'a [usize], &'a [&'a str], &'a str);
        let cases: [Case<'_>; 5] = [
            (&["<video>\nWhat?"], 0, &[2], &["<image>\n<image>\nWhat?"], "v0.0 v0.1"),
            (&["What?", "Why?"], 0, &[1, 2], &["<image>\n<image>\n<image>\nWhat?", "Why?"], "v0.0 v1.0 v1.1"),
            (
                &["<image> or <video>?", "<video>"],
                1,
                &[2, 1],
                &["<image> or <image>\n<image>?", "<image>"],
                "i0 v0.0 v0.1 v1.0",
            ),
            (&["<video>What?"], 1, &[1], &["<image>\n<image>What?"], "i0 v0.0"),
            (&["<video> is kept"], 0, &[], &["<video> is kept"], ""),
        ];
        for (questions, images, videos, expected, all) in cases {
            let found = insert(questions, images, videos).unwrap();
            let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(found, (expected, all.to_owned()), "{questions:?}");
        }
    }

    #[test]
    fn other_numbers_of_tokens_are_errors() {
        for (questions, images, videos) in [
            (&["<video><video>"][..], 0, &[1][..]),
            (&["<image><video>"], 0, &[1]),
            (&["<image><video>", "<image>"], 1, &[1]),
        ] {
            let cause = insert(questions, images, videos).unwrap_err();
            assert_eq!(cause.reason, SkipReason::ImageToken, "{questions:?}");
        }
    }
}
