//! Distorted copies of files and folders.

mod copies;
mod existing;
mod skipped;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bpo::distort::{Distortion, ImageLimits, load_rgb};
use bpo::{DistortFiles, DistortFilesError, DistortOutcome};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A folder of images, and an output folder.
struct Folders {
    dir: TempDir,
}

impl Folders {
    /// Six images, two of them in subfolders, and two other files.
    fn new() -> Self {
        let folders = Self { dir: tempfile::tempdir().unwrap() };
        for (index, name) in
            ["a.png", "b.bmp", "c.gif", "d.tiff", "sub/a.png", "sub/deep/e.png"].iter().enumerate()
        {
            folders.draw(name, index as u8);
        }
        fs::write(folders.images().join("notes.txt"), "no image").unwrap();
        fs::write(folders.images().join(".hidden.png"), "no image").unwrap();
        folders
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn draw(&self, name: &str, which: u8) {
        let path = self.images().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let side = 20 + u32::from(which);
        RgbImage::from_fn(side, 16, |x, y| Rgb([which * 40, (x * 9) as u8, (y * 11) as u8]))
            .save(path)
            .unwrap();
    }

    fn run(&self, files: &DistortFiles) -> Result<DistortOutcome, DistortFilesError> {
        files.folder(self.images(), self.out(), |_| {})
    }

    fn error(&self, files: &DistortFiles) -> DistortFilesError {
        self.run(files).expect_err("it succeeded")
    }

    /// All files of the output folder with their content.
    fn copies(&self) -> BTreeMap<String, Vec<u8>> {
        let files = walkdir::WalkDir::new(self.out()).into_iter().map(Result::unwrap);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(self.out()).unwrap().display().to_string();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn remove_out(&self) {
        fs::remove_dir_all(self.out()).unwrap();
    }

    fn image(&self, name: &str) -> RgbImage {
        load_rgb(self.images().join(name), &ImageLimits::default()).unwrap()
    }

    fn copy(&self, name: &str) -> RgbImage {
        load_rgb(self.out().join(name), &ImageLimits::default()).unwrap()
    }
}

fn files(text: &str) -> DistortFiles {
    DistortFiles::new(distortion(text)).with_seed(7)
}

fn distortion(text: &str) -> Distortion {
    text.parse().unwrap()
}

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Written, existing and skipped images.
fn counts(outcome: &DistortOutcome) -> [usize; 3] {
    [outcome.written, outcome.existing, outcome.skipped.len()]
}

fn skipped(outcome: &DistortOutcome) -> Vec<&str> {
    outcome.skipped.iter().map(|skipped| skipped.id.as_str()).collect()
}
