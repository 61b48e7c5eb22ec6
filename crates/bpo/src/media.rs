//! Media that a data file names or holds: frames of videos, and images in rows of a Parquet file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bpo_pairs::format::{Answers, ReadOptions};
use bpo_pairs::{
    Fingerprint, ImagePlace, ImageSink, PairsError, RowImage, SkipCause, SkipReason, UntrustedPath,
};

use crate::config::RunConfig;
use crate::images::ImageRoot;
use crate::videos::Videos;

/// Finds the frames of videos and names the images in rows of a Parquet file, when a file of samples or
/// pairs is read.
///
/// ```no_run
/// use bpo::pairs::format::jsonl::read_pairs_with;
/// use bpo::{Media, RunConfig};
///
/// let mut config = RunConfig::default();
/// config.data.images = Some("data".into());
/// let set = read_pairs_with("data/train.parquet", &Media::of(&config).read_options())?;
/// println!("{:?}", set.pairs[0].images); // ["train.parquet#image/0"]
/// # Ok::<(), bpo::pairs::PairsError>(())
/// ```
#[derive(Debug)]
pub struct Media {
    videos: Videos,
    rows: RowNames,
    answers: Answers,
}

impl Media {
    /// Uses the image root and the number of frames of the settings of a run. Without an image root,
    /// records with videos or with images in rows are skipped. Samples need an answer if the pairs or a
    /// [judge](crate::JudgeSection) use it.
    pub fn of(config: &RunConfig) -> Self {
        let videos = Videos::of(config);
        let root = videos.image_root().map(|root| root.path().to_owned());
        let answers = if config.needs_annotations() { Answers::Required } else { Answers::Unused };
        Self { videos, rows: RowNames { root, pass: Mutex::default() }, answers }
    }

    /// Returns how a file of any format is read.
    pub fn read_options(&self) -> ReadOptions<'_> {
        let mut options = self.rows.read_options();
        options.videos = &self.videos;
        options.answers = self.answers;
        options
    }
}

/// Names images by their rows in a Parquet file below an image root; see
/// [`RowImage`]. Nothing is written.
///
/// Equal images of a file have the name of the first. So they count as one image where it matters
/// which pairs share an image, as they do in files that are named by content.
#[derive(Debug)]
pub struct RowNames {
    /// Canonical path of the image root.
    root: Option<PathBuf>,
    pass: Mutex<Option<Pass>>,
}

/// A pass over the rows of a file.
#[derive(Debug)]
struct Pass {
    path: PathBuf,
    /// Path of the file relative to the image root.
    file: Result<String, Outside>,
    row: u64,
    /// The names of the images so far, by content.
    names: HashMap<Fingerprint, String>,
}

impl RowNames {
    /// Names images below an image root.
    pub fn new(root: &ImageRoot) -> Self {
        Self { root: Some(root.path().to_owned()), pass: Mutex::default() }
    }

    /// Names images as if the directory of `file` were the image root.
    pub fn beside(file: &Path) -> Self {
        let file = file.canonicalize().ok();
        let root = file.and_then(|file| file.parent().map(Path::to_owned));
        Self { root, pass: Mutex::default() }
    }

    /// Returns how a file of any format is read, without videos.
    pub fn read_options(&self) -> ReadOptions<'_> {
        let mut options = ReadOptions::default();
        options.images = Some(self);
        options
    }

    fn name(&self, path: &Path, row: RowImage<'_>, bytes: &[u8]) -> Result<String, Outside> {
        let mut pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        // a file is read from its first row on
        let current = pass.take().filter(|pass| pass.path == path && pass.row <= row.row);
        let pass = pass.insert(current.unwrap_or_else(|| {
            let file = name_below(self.root.as_deref(), path);
            Pass { path: path.to_owned(), file, row: 0, names: HashMap::new() }
        }));
        pass.row = row.row;
        let file = pass.file.as_deref().map_err(Clone::clone)?;
        let name = pass.names.entry(Fingerprint::of(bytes)).or_insert_with(|| row.name_in(file));
        Ok(name.clone())
    }
}

/// Why a file has no name below the image root.
#[derive(Clone, Debug)]
enum Outside {
    NoRoot,
    /// The file is not below the image root.
    Root(PathBuf),
    NotUtf8,
}

/// Returns the path of a file relative to the image root, whose path is canonical.
fn name_below(root: Option<&Path>, file: &Path) -> Result<String, Outside> {
    let root = root.ok_or(Outside::NoRoot)?;
    let outside = || Outside::Root(root.to_owned());
    let file = file.canonicalize().map_err(|_| outside())?;
    let below = file.strip_prefix(root).map_err(|_| outside())?;
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    Ok(parts.ok_or(Outside::NotUtf8)?.join("/"))
}

/// Says where a link to a file leads.
fn linked(file: &Path) -> String {
    let is_link = file.symlink_metadata().is_ok_and(|there| there.is_symlink());
    match file.canonicalize() {
        Ok(target) if is_link => format!("; the file is a link to {}", UntrustedPath(&target)),
        _ => String::new(),
    }
}

impl ImageSink for RowNames {
    fn store(&self, place: &ImagePlace<'_>, bytes: &[u8]) -> Result<Result<String, SkipCause>, PairsError> {
        const CONVERT: &str = "`bpo convert --images DIR` writes the images to files";
        let (key, file) = (place.key, UntrustedPath(place.file));
        let Some(row) = place.row else {
            return Ok(Err(SkipCause::new(
                SkipReason::ImageNotAPath,
                format_args!("`{key}`: expected an image or a list of images as a column; {CONVERT}"),
            )));
        };
        Ok(self.name(place.file, row, bytes).map_err(|outside| match outside {
            Outside::NoRoot => SkipCause::new(
                SkipReason::ImageNotAPath,
                format_args!(
                    "`{key}`: the image is in a row of {file}; set `data.images` (--images) to a directory \
                     that contains the file, or {CONVERT}"
                ),
            ),
            Outside::Root(root) => SkipCause::new(
                SkipReason::ImageOutside,
                format_args!(
                    "`{key}`: the image is in a row of {file}; `data.images` (--images) must contain the file, \
                     and is {}{}; {CONVERT}",
                    UntrustedPath(&root),
                    linked(place.file)
                ),
            ),
            Outside::NotUtf8 => SkipCause::new(
                SkipReason::ImageNotAPath,
                format_args!("`{key}`: expected a file whose name is UTF-8, found {file}; {CONVERT}"),
            ),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn images_have_names_below_the_image_root() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("root/b")).unwrap();
        fs::write(at("root/b/a.parquet"), "").unwrap();
        fs::write(at("other.parquet"), "").unwrap();
        let row = |row| RowImage::new("image", row, None);
        let store = |names: &RowNames, file: &str, row, bytes: &[u8]| {
            let file = at(file);
            names.store(&ImagePlace::new(&file, "image.bytes", row), bytes).unwrap()
        };
        let mut config = RunConfig::default();
        config.data.images = Some(at("root"));
        let names = &Media::of(&config).rows;
        // equal images have one name
        for (place, bytes, expected) in [(0, b"a", 0), (1, b"b", 1), (3, b"a", 0), (0, b"b", 0), (1, b"b", 0)]
        {
            let name = store(names, "root/b/a.parquet", row(place), bytes).unwrap();
            assert_eq!(name, format!("b/a.parquet#image/{expected}"));
        }
        assert_eq!(store(names, "root/b/../b/a.parquet", row(4), b"a").unwrap(), "b/a.parquet#image/4");
        assert_eq!(
            store(&RowNames::beside(&at("other.parquet")), "other.parquet", row(2), b"a").unwrap(),
            "other.parquet#image/2"
        );

        let media = Media::of(&config);
        let cause = media.read_options().videos.frames("b/a.parquet#video/0").unwrap_err();
        assert_eq!(cause.reason, SkipReason::OtherMedia);
        assert!(cause.detail.contains("bpo convert --images DIR"), "{}", cause.detail);

        let none = Media::of(&RunConfig::default());
        let root = ImageRoot::new(at("root")).unwrap();
        for (names, file, place, reason, part) in [
            (
                &none.rows,
                "root/b/a.parquet",
                row(0),
                SkipReason::ImageNotAPath,
                "set `data.images` (--images)",
            ),
            (names, "other.parquet", row(0), SkipReason::ImageOutside, "must contain the file"),
            (
                &RowNames::new(&root),
                "gone.parquet",
                row(0),
                SkipReason::ImageOutside,
                "must contain the file",
            ),
            (names, "root/b/a.parquet", None, SkipReason::ImageNotAPath, "as a column"),
        ] {
            let cause = store(names, file, place, b"a").unwrap_err();
            assert_eq!(cause.reason, reason, "{}", cause.detail);
            assert!(
                cause.detail.contains(part) && cause.detail.contains("`image.bytes`"),
                "{}",
                cause.detail
            );
            assert!(cause.detail.contains("bpo convert --images DIR"), "{}", cause.detail);
        }
    }
}
