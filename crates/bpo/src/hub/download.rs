//! The download of one file into the cache.

use std::io::Read;
use std::path::Path;

use bpo_pairs::files::{AppendLog, FileError, create_parents, lock_file};
use ureq::Body;
use ureq::http::Response;

use super::client::{ATTEMPTS, Client, Failure, Remote};
use super::error::HubError;
use crate::paths::with_suffix;
use crate::progress::Progress;

/// Bytes that are written at a time.
const PART: usize = 1 << 20;

/// Downloads a file to `blob`, unless it is there, and verifies its size and hash.
///
/// The bytes go to `BLOB.incomplete`, which a later call continues, and which is renamed when it is
/// complete and verified. `lock` is the path whose lock other processes wait for, also those of
/// `huggingface_hub`.
pub(super) fn download(
    client: &Client<'_>,
    file: &Remote<'_>,
    blob: &Path,
    lock: &Path,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    create_parents(blob)?;
    create_parents(lock)?;
    let _lock = lock_file(lock)?;
    // another process may have downloaded it
    if blob.metadata().is_ok_and(|there| there.is_file() && there.len() == file.size) {
        return Ok(());
    }
    let path = with_suffix(blob, ".incomplete");
    loop {
        let mut part = AppendLog::open(&path)?;
        if part.len() > file.size {
            part.truncate(0)?;
        }
        let is_continued = !part.is_empty();
        transfer(client, file, &mut part, progress)?;
        let hash = file.etag.of(file.size, part.reader()?).map_err(FileError::io("read", &path))?;
        if hash == file.etag.as_str() {
            part.finish_as(blob)?;
            return Ok(());
        }
        part.remove()?;
        // the part of an earlier process may be what is damaged
        if !is_continued {
            return Err(HubError::Hash {
                model: client.model.to_string(),
                file: file.name.to_owned(),
                expected: file.etag.as_str().to_owned(),
                found: hash,
            });
        }
        tracing::warn!(file = file.name, "an interrupted download was damaged and is started again");
    }
}

/// Appends bytes until the file has its size. A broken connection is continued.
fn transfer(
    client: &Client<'_>,
    file: &Remote<'_>,
    part: &mut AppendLog,
    progress: &mut dyn Progress,
) -> Result<(), HubError> {
    let mut failures = 0;
    progress.downloading(file.name, part.len(), file.size);
    while part.len() < file.size {
        let before = part.len();
        let received = client.bytes(file, before).and_then(|(response, start)| {
            part.truncate(start).map_err(HubError::from)?;
            receive(client, file, response, part, progress)
        });
        if let Err(failure) = received {
            // attempts count only while nothing arrives
            failures = if part.len() > before { 1 } else { failures + 1 };
            client.wait(failure, file.name, failures, ATTEMPTS)?;
        }
    }
    Ok(())
}

/// Appends the body of a response.
fn receive(
    client: &Client<'_>,
    file: &Remote<'_>,
    response: Response<Body>,
    part: &mut AppendLog,
    progress: &mut dyn Progress,
) -> Result<(), Failure> {
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; PART];
    loop {
        let (filled, failed) = fill(&mut body, &mut buffer);
        let found = part.len() + filled as u64;
        if found > file.size {
            let (model, name) = (client.model.to_string(), file.name.to_owned());
            // the rest of the file is not what the hub has described
            part.truncate(0).map_err(HubError::from)?;
            return Err(HubError::Size { model, file: name, expected: file.size, found }.into());
        }
        if filled > 0 {
            part.append(&buffer[..filled]).map_err(HubError::from)?;
            progress.downloading(file.name, part.len(), file.size);
        }
        if let Some(error) = failed {
            return Err(Failure::Transient(error.into()));
        }
        if filled < buffer.len() {
            return if part.len() == file.size {
                Ok(())
            } else {
                let reason = format!("the connection ended after {} of {} bytes", part.len(), file.size);
                Err(Failure::Transient(reason.into()))
            };
        }
    }
}

/// Reads until the buffer is full, the body ends, or reading fails. Returns the number of bytes.
fn fill(body: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<std::io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match body.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}
