//! Errors of downloads.

use std::path::PathBuf;

use bpo_pairs::files::FileError;
use bpo_pairs::{Untrusted, UntrustedPath};

/// An error of downloading a model from a hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// `HF_ENDPOINT` is not an address.
    #[error("HF_ENDPOINT must be an address such as https://huggingface.co, not {:?}", Untrusted(found))]
    Endpoint {
        /// The value.
        found: String,
    },
    /// There is no directory for the cache.
    #[error("there is no home directory for the Hugging Face cache: set HF_HOME or HF_HUB_CACHE")]
    NoCache,
    /// The token has characters that a header cannot have.
    #[error("the Hugging Face token (HF_TOKEN, or the token file) has characters that no token has")]
    Token,
    /// The server cannot be reached, or the connection broke in every attempt.
    #[error(
        "{model}: {what} cannot be read from {host} ({attempts} {}); the next call resumes the download",
        if *attempts == 1 { "attempt" } else { "attempts" }
    )]
    Connection {
        /// The model.
        model: String,
        /// A file, or the list of files.
        what: String,
        /// Scheme and host of the server.
        host: String,
        /// Number of attempts.
        attempts: u32,
        /// The last failure.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server asks for a token, or refuses it (401). The hub gives the same answer for models
    /// that do not exist.
    #[error(
        "{model} cannot be read from {endpoint} (401): the model does not exist, or is private or gated. Check the \
         name (a local directory of this name does not exist){}",
        if *has_token {
            ", and that the Hugging Face token is valid and may read the model"
        } else {
            ", and give a token: set HF_TOKEN, or log in with `hf auth login`"
        }
    )]
    Unauthorized {
        /// The model.
        model: String,
        /// The hub.
        endpoint: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The account of the token may not read the model (403).
    #[error(
        "{model} cannot be read from {endpoint} (403): ask for access or accept the licence on {endpoint}/{id}, with \
         the account of the Hugging Face token"
    )]
    Forbidden {
        /// The model.
        model: String,
        /// `org/name`.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// There is no such model, revision or file (404).
    #[error(
        "{endpoint} has no {what} (404): check the name and the revision{}",
        if *is_listing { " (a local directory of this name does not exist)" } else { "" }
    )]
    NotFound {
        /// The model, or a file of it.
        what: String,
        /// The hub.
        endpoint: String,
        /// Whether the whole model was asked for.
        is_listing: bool,
    },
    /// The server answered with another status.
    #[error("{model}: {what}: {host} answered with status {status}")]
    Status {
        /// The model.
        model: String,
        /// A file, or the list of files.
        what: String,
        /// Scheme and host of the server.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server redirects to an address that is not followed.
    #[error("{model}: {what}: {host} redirects {reason}")]
    Redirect {
        /// The model.
        model: String,
        /// A file, or the list of files.
        what: String,
        /// Scheme and host of the server.
        host: String,
        /// The reason why the redirect is not followed.
        reason: &'static str,
    },
    /// The list of files cannot be parsed.
    #[error("{model}: the list of files cannot be used: {}", Untrusted(reason))]
    Listing {
        /// The model.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// A header of a file is missing or invalid.
    #[error("{model}: {file}: the header {header} must be {expected}, not {:?}", Untrusted(found))]
    Header {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Name of the header.
        header: &'static str,
        /// Values that are allowed.
        expected: &'static str,
        /// Value that was found; empty if there is none.
        found: String,
    },
    /// A file has another size than the hub says.
    #[error("{model}: {file} must have {expected} bytes, but the server sends {found}")]
    Size {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Size in bytes, from the hub.
        expected: u64,
        /// Size that was found.
        found: u64,
    },
    /// A downloaded file has another hash than the hub says. The file was removed.
    #[error(
        "{model}: the downloaded {file} is damaged: its hash must be {expected}, not {found}; it was removed"
    )]
    Hash {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// The hash from the hub: SHA-256, or the SHA-1 of a git blob.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// A file that is not a weight file is too large.
    #[error("{model}: {file} has {size} bytes, more than {limit}, the limit for such a file")]
    TooLarge {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The repository has no `config.json`.
    #[error("{model} has no config.json, so it is no model in the format of transformers{found}")]
    NoConfig {
        /// The model.
        model: String,
        /// What it is instead, if that is known.
        found: &'static str,
    },
    /// The model has no usable file of weights.
    #[error(
        "{model} has no model.safetensors and no model.safetensors.index.json{}",
        if pickles.is_empty() {
            String::new()
        } else {
            format!(
                ". Pickles ({}) can run code and are not read: use a revision with safetensors, or load the model with \
                 transformers and write it with save_pretrained",
                Untrusted(&pickles.join(", "))
            )
        }
    )]
    NoWeights {
        /// The model.
        model: String,
        /// Weight files in Python's pickle format.
        pickles: Vec<String>,
    },
    /// The model lacks a file that it needs.
    #[error("{model} has no file {:?}, which {of} names", Untrusted(file))]
    NoFile {
        /// The model.
        model: String,
        /// The missing file.
        file: String,
        /// The file that names it.
        of: &'static str,
    },
    /// The model is not, or not completely, in the cache, and nothing may be downloaded.
    #[error(
        "{model} is not in the Hugging Face cache {} ({}), and HF_HUB_OFFLINE is set: download it without HF_HUB_OFFLINE",
        UntrustedPath(cache),
        Untrusted(missing)
    )]
    Offline {
        /// The model.
        model: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A file of the cache cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}
