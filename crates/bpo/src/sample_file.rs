//! The annotated data of a file, read again for each pass instead of being held in memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bpo_pairs::format::{ReadOptions, llava};
use bpo_pairs::{Fingerprint, PairsError, SftSample, Skipped, UntrustedPath};

use crate::error::BpoError;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::stages::StageOutcome;

/// Annotated data in a file. The samples of a regular file are read again for each pass. Those of a
/// pipe, which can be read once, are held in memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SampleFile {
    path: PathBuf,
    held: Option<Vec<SftSample>>,
    /// Number of samples. There is at least one.
    pub count: usize,
    /// Conversations and turns that cannot be used, in the order of the file.
    pub skipped: Vec<Skipped>,
    /// Fingerprint of the file.
    pub fingerprint: Fingerprint,
}

impl SampleFile {
    /// Reads a file once, counts its samples and computes its fingerprint. `options` find the
    /// frames of videos and name images in rows, as those of [`Media`](crate::Media) do. A warning
    /// says if no sample has an image.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no usable sample.
    pub fn read(path: &Path, options: &ReadOptions<'_>) -> Result<Self, BpoError> {
        let is_pipe = fs::metadata(path).is_ok_and(|there| !there.is_file());
        let mut held = is_pipe.then(Vec::new);
        let (mut count, mut skipped, mut has_image) = (0, Vec::new(), false);
        let fingerprint = pass(path, options, &mut |item| {
            match item {
                Ok(sample) => {
                    count += 1;
                    has_image |= !sample.images.is_empty();
                    held.iter_mut().for_each(|held| held.push(sample.clone()));
                }
                Err(item) => skipped.push(item),
            }
            Ok(())
        })?;
        if count == 0 {
            return Err(BpoError::nothing(path, "sample", &skipped));
        }
        if !has_image {
            warn_of_no_image(path);
        }
        Ok(Self { path: path.to_owned(), held, count, skipped, fingerprint })
    }

    /// Calls `each` with every sample in the order of the file.
    ///
    /// # Errors
    /// Returns the errors of `each`, or an error if the file cannot be read or has changed since the
    /// first pass.
    pub fn for_each(
        &self,
        options: &ReadOptions<'_>,
        each: &mut dyn FnMut(&SftSample) -> Result<(), BpoError>,
    ) -> Result<(), BpoError> {
        if let Some(held) = &self.held {
            return held.iter().try_for_each(each);
        }
        let print = pass(&self.path, options, &mut |item| item.map_or(Ok(()), |sample| each(&sample)))?;
        if print != self.fingerprint {
            let source = io::Error::other("the file changed while it was read");
            return Err(BpoError::Io { action: "read", path: self.path.clone(), source });
        }
        Ok(())
    }

    /// Reports the data as a finished stage.
    pub fn report(&self, progress: &mut dyn Progress) -> StageOutcome {
        let outcome = StageOutcome::new(self.count, self.skipped.clone());
        progress.started(Stage::Data, self.count, self.count);
        progress.finished(Stage::Data, &outcome.summary);
        outcome
    }
}

/// Warns that no sample of a file has an image: the key of its images may have another name.
pub(crate) fn warn_of_no_image(path: &Path) {
    tracing::warn!(
        file = %UntrustedPath(path),
        "no sample has an image; images are read from `image`, `images` and the content of messages"
    );
}

/// Reads a file, calls `each` with every sample and every skipped item, and returns the fingerprint
/// of the file.
fn pass(
    path: &Path,
    options: &ReadOptions<'_>,
    each: &mut dyn FnMut(Result<SftSample, Skipped>) -> Result<(), BpoError>,
) -> Result<Fingerprint, BpoError> {
    let mut failed = None;
    let read = llava::for_each_sample(path, options, &mut |item| {
        each(item).map_err(|error| {
            failed = Some(error);
            stop(path)
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(read?),
    }
}

/// Returns an error that ends the reading. Its place is taken by the error of the callback.
fn stop(path: &Path) -> PairsError {
    let source = io::Error::other("stopped");
    bpo_pairs::files::FileError::io("read", path)(source).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: usize) -> String {
        format!(
            "{{\"id\": \"{id}\", \"image\": \"a.jpg\", \"conversations\": [{{\"from\": \"human\", \"value\": \
             \"What?\"}}, {{\"from\": \"gpt\", \"value\": \"A cat.\"}}]}}\n"
        )
    }

    #[test]
    fn each_pass_reads_the_same_samples() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.jsonl");
        fs::write(&path, line(0) + "{\"id\": \"broken\"}\n" + &line(1)).unwrap();
        let data = SampleFile::read(&path, &ReadOptions::default()).unwrap();
        assert_eq!((data.count, data.skipped.len(), data.held.is_none()), (2, 1, true));
        let expected = llava::read(&path).unwrap();
        for _ in 0..2 {
            let mut samples = Vec::new();
            let mut each = |sample: &SftSample| {
                samples.push(sample.clone());
                Ok(())
            };
            data.for_each(&ReadOptions::default(), &mut each).unwrap();
            assert_eq!(samples, expected.samples);
        }
        // an error of the callback ends the pass, and a changed file is found
        let failing =
            data.for_each(&ReadOptions::default(), &mut |_| Err(BpoError::UnknownId { id: "x".into() }));
        assert!(matches!(failing, Err(BpoError::UnknownId { .. })));
        fs::write(&path, line(0) + &line(2)).unwrap();
        assert!(matches!(data.for_each(&ReadOptions::default(), &mut |_| Ok(())), Err(BpoError::Io { .. })));
    }
}
