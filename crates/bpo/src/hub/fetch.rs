//! The download of a whole model, and of the models of a run.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use bpo_pairs::files::{FileError, create_parents, link_file, read_text, write_bytes};

use super::client::{ATTEMPTS, Client, Listed, Listing};
use super::download::download;
use super::error::HubError;
use super::name::HubModel;
use super::select;
use super::settings::Hub;
use crate::checkpoint::ModelUse;
use crate::error::BpoError;
use crate::progress::Progress;

/// Maximum size of a file in `refs` in bytes.
const REF_BYTES: u64 = 1024;

/// A model in the local cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedModel {
    /// The name that was given.
    pub model: HubModel,
    /// The commit: 40 hexadecimal digits.
    pub commit: String,
    /// The directory of the checkpoint.
    pub dir: PathBuf,
}

impl fmt::Display for FetchedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at commit {}", self.model.id(), self.commit)
    }
}

impl Hub {
    /// Downloads the model of a setting that is a [name](HubModel::of_path) and no existing path, and
    /// replaces the name by the directory in the cache, whose path contains the commit.
    ///
    /// # Errors
    /// Returns the errors of [`fetch`](Self::fetch).
    pub fn fetch_path(
        &self,
        path: &mut PathBuf,
        usage: ModelUse,
        progress: &mut dyn Progress,
    ) -> Result<Option<FetchedModel>, BpoError> {
        let Some(model) = HubModel::of_path(path) else { return Ok(None) };
        let fetched = self.fetch(&model, usage, progress)?;
        path.clone_from(&fetched.dir);
        Ok(Some(fetched))
    }

    /// Downloads what the cache does not have of a model: `json` and `jinja` files, files of the
    /// tokenizer, and weights in safetensors files. Pickles and code are never downloaded.
    ///
    /// The small files come first, and a model that is not supported for `usage` is refused before
    /// its weights are downloaded. Each downloaded file is verified by its size and hash. A file that is in
    /// the cache with the listed size is used without reading it. An interrupted download is
    /// continued. If the hub cannot be reached, and the cache has the whole model, the cache is used
    /// with a warning.
    ///
    /// # Errors
    /// Returns [`BpoError::Hub`] if a file cannot be downloaded, and the errors of reading the
    /// configuration and the processor of an unsupported model.
    pub fn fetch(
        &self,
        model: &HubModel,
        usage: ModelUse,
        progress: &mut dyn Progress,
    ) -> Result<FetchedModel, BpoError> {
        let cache = Cache { hub: self, model };
        let cached = cache.cached()?;
        let fetched =
            |commit: String| FetchedModel { model: model.clone(), dir: cache.snapshot(&commit), commit };
        if self.offline {
            return Ok(fetched(cached.map_err(|missing| self.not_cached(model, missing))?));
        }
        let client = Client::new(self, model);
        // without a network, nobody wants to wait for the attempts
        let listing = client.listing(if cached.is_ok() { 1 } else { ATTEMPTS });
        let Listing { commit, files } = match (listing, cached) {
            (Ok(listing), _) => listing,
            (Err(error @ HubError::Connection { .. }), Ok(commit)) => {
                let error = crate::error::chain(&error);
                tracing::warn!(error, commit, "the hub cannot be reached: the cached model is used");
                return Ok(fetched(commit));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let dir = cache.snapshot(&commit);
        let name = model.to_string();
        for file in select::small(&name, &files)? {
            cache.fetch_file(&client, &commit, &file, progress)?;
        }
        usage.processor(&dir)?;
        for file in select::weights(&name, &files, &dir)? {
            cache.fetch_file(&client, &commit, &file, progress)?;
        }
        // last, so that a revision never names a commit that was not downloaded
        cache.record(&commit)?;
        Ok(fetched(commit))
    }

    fn not_cached(&self, model: &HubModel, missing: String) -> HubError {
        HubError::Offline { model: model.to_string(), cache: self.cache.clone(), missing }
    }
}

/// The directory of a model in the cache.
struct Cache<'a> {
    hub: &'a Hub,
    model: &'a HubModel,
}

impl Cache<'_> {
    fn root(&self) -> PathBuf {
        self.hub.cache.join(self.model.folder())
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    fn reference(&self) -> PathBuf {
        self.root().join("refs").join(self.model.revision())
    }

    /// Returns the commit of the revision if the cache has all of its files, or what is missing.
    fn cached(&self) -> Result<Result<String, String>, HubError> {
        let revision = self.model.revision();
        let commit = if self.snapshot(revision).is_dir() {
            revision.to_owned()
        } else {
            match read_text(&self.reference(), REF_BYTES) {
                Ok(text) => text.trim().to_owned(),
                Err(error) if error.is_not_found() => {
                    return Ok(Err(format!("it has no revision {revision}")));
                }
                Err(error) => return Err(error.into()),
            }
        };
        // the content of the file is a component of a path
        if !commit.bytes().all(|c| c.is_ascii_hexdigit()) || !self.snapshot(&commit).is_dir() {
            return Ok(Err(format!("it has no revision {revision}")));
        }
        let missing = select::missing(&self.model.to_string(), &self.snapshot(&commit))?;
        Ok(missing.map_or(Ok(commit), |name| Err(format!("{name} is missing"))))
    }

    /// Downloads a file unless the snapshot has it with the listed size.
    fn fetch_file(
        &self,
        client: &Client<'_>,
        commit: &str,
        file: &Listed,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(&file.name);
        let is_there = fs::metadata(&link)
            .is_ok_and(|there| there.is_file() && file.size.is_none_or(|size| there.len() == size));
        if is_there {
            return Ok(());
        }
        let remote = client.remote(commit, file)?;
        if !file.name.ends_with(".safetensors") {
            select::check_small(&self.model.to_string(), &file.name, remote.size)?;
        }
        let etag = remote.etag.as_str();
        let lock = self.hub.cache.join(".locks").join(self.model.folder()).join(etag);
        download(client, &remote, &self.root().join("blobs").join(etag), &lock, progress)?;
        create_parents(&link)?;
        Ok(link_file(&Path::new("../../blobs").join(etag), &link)?)
    }

    /// Records the commit of a branch or tag, for use without a network.
    fn record(&self, commit: &str) -> Result<(), FileError> {
        let path = self.reference();
        let is_recorded = read_text(&path, REF_BYTES).is_ok_and(|there| there == commit);
        if self.model.revision() == commit || is_recorded {
            return Ok(());
        }
        create_parents(&path)?;
        write_bytes(&path, commit.as_bytes())
    }
}
