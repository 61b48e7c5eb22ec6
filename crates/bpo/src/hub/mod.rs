//! Models of the Hugging Face Hub: names in place of local directories.
//!
//! The requests are made with `ureq`, because no version of the crate `hf-hub` fits: 0.5 sends the
//! token to other servers that the hub redirects to, verifies neither size nor hash, and uses
//! headers of the server as paths; 1.0 needs an asynchronous runtime, a second HTTP client and the
//! client of the hub's storage.

#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod error;
#[cfg(feature = "hub")]
mod etag;
#[cfg(feature = "hub")]
mod fetch;
mod name;
#[cfg(feature = "hub")]
mod select;
#[cfg(feature = "hub")]
mod settings;

#[cfg(feature = "hub")]
pub use error::HubError;
#[cfg(feature = "hub")]
pub use fetch::FetchedModel;
pub use name::HubModel;
#[cfg(feature = "hub")]
pub use settings::Hub;
