//! Downloads from a server that speaks the routes of the Hugging Face Hub.
#![cfg(feature = "hub")]

mod broken;
mod refused;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bpo::{BpoError, FetchedModel, Hub, HubError, HubModel, ModelUse, fingerprint_checkpoint};
use server::{COMMIT, HubServer, Repository};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-model/tests/golden/tiny-llava")
}

/// A server with the tiny model, and an empty cache.
struct Setup {
    server: HubServer,
    cache: tempfile::TempDir,
}

impl Setup {
    fn new(change: impl FnOnce(&mut Repository)) -> Self {
        let mut repository = Repository::of(&tiny());
        for other in ["README.md", "pytorch_model.bin", "modeling.py", "consolidated.safetensors"] {
            repository.files.insert(other.to_owned(), b"nothing".to_vec());
        }
        change(&mut repository);
        Self { server: HubServer::start(repository), cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        let hub = Hub::new(&self.server.url, self.cache.path()).unwrap();
        hub.with_retry_delay(Duration::from_millis(1))
    }

    fn fetch(&self, name: &str) -> Result<FetchedModel, BpoError> {
        self.hub().fetch(&HubModel::parse(name).unwrap(), ModelUse::Images, &mut ())
    }

    /// Fetches a model and returns the error of the hub.
    fn fails(&self, name: &str) -> HubError {
        match self.fetch(name).unwrap_err() {
            BpoError::Hub(error) => error,
            other => panic!("{other}"),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.cache.path().join("models--org--tiny").join(path)
    }

    /// The names in a directory of the cache; empty if there is no directory.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Checks that the model is whole and equals that on the server.
fn check_whole(fetched: &FetchedModel) {
    assert_eq!(fingerprint_checkpoint(&fetched.dir).unwrap(), fingerprint_checkpoint(&tiny()).unwrap());
}

#[test]
fn a_model_is_downloaded_once() {
    let setup = Setup::new(|_| {});
    let fetched = setup.fetch("org/tiny").unwrap();
    check_whole(&fetched);
    assert_eq!((fetched.commit.as_str(), &fetched.dir), (COMMIT, &setup.at(&format!("snapshots/{COMMIT}"))));
    assert_eq!(fs::read_to_string(setup.at("refs/main")).unwrap(), COMMIT);
    let requests = setup.server.requests();
    for never in ["README", ".bin", ".py", "consolidated"] {
        assert!(!requests.iter().any(|request| request.path.contains(never)), "{never}");
    }
    let last = requests.last().unwrap();
    assert!(last.is_storage && last.path.starts_with("/model.safetensors"), "the weights come last");
    // no part and no temporary file is left
    let blobs = setup.names("blobs");
    assert!(blobs.iter().all(|name| [40, 64].contains(&name.len())), "{blobs:?}");
    assert_eq!(blobs.len(), setup.names(&format!("snapshots/{COMMIT}")).len());
    #[cfg(unix)]
    {
        let link = fs::read_link(fetched.dir.join("config.json")).unwrap();
        assert!(link.starts_with("../../blobs"), "{}", link.display());
    }

    // only the list of files is asked for again
    assert_eq!(setup.fetch("org/tiny").unwrap(), fetched);
    assert_eq!(setup.server.requests().len(), 1);
    // a file that is missing or cut off is downloaded again, and only that file
    fs::remove_file(fetched.dir.join("config.json")).unwrap();
    let weights = fetched.dir.join("model.safetensors").canonicalize().unwrap();
    fs::write(weights, "cut off").unwrap();
    check_whole(&setup.fetch("org/tiny").unwrap());
    let requests = setup.server.requests();
    assert!(requests[1..].iter().all(|request| {
        request.path.contains("config.json") || request.path.contains("model.safetensors")
    }));
}

#[test]
fn shards_of_the_index_are_downloaded() {
    let setup = Setup::new(|repository| {
        let weights = repository.files.remove("model.safetensors").unwrap();
        let (names, _) = safetensors_names(&weights);
        let map: serde_json::Map<_, _> =
            names.into_iter().map(|name| (name, "model-00001-of-00001.safetensors".into())).collect();
        let index = serde_json::json!({"metadata": {}, "weight_map": map});
        repository.files.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
        repository.files.insert("model-00001-of-00001.safetensors".into(), weights);
        repository.without_sizes = true;
    });
    let fetched = setup.fetch("org/tiny").unwrap();
    assert!(fetched.dir.join("model-00001-of-00001.safetensors").is_file());
    assert!(!fetched.dir.join("consolidated.safetensors").exists());
    // complete without the server
    let hub = setup.hub().with_offline(true);
    assert_eq!(hub.fetch(&fetched.model, ModelUse::Images, &mut ()).unwrap(), fetched);
    fs::remove_file(fetched.dir.join("model-00001-of-00001.safetensors")).unwrap();
    let error = hub.fetch(&fetched.model, ModelUse::Images, &mut ()).unwrap_err().to_string();
    assert!(error.contains("model-00001-of-00001.safetensors is missing"), "{error}");
}

fn safetensors_names(bytes: &[u8]) -> (Vec<String>, usize) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (header.keys().filter(|name| *name != "__metadata__").cloned().collect(), length)
}

#[test]
fn revisions_have_their_own_commits() {
    let other = "f".repeat(40);
    let setup = Setup::new(|repository| {
        repository.revisions.insert("refs/pr/1".into(), other.clone());
    });
    assert_eq!(setup.fetch("org/tiny").unwrap().commit, COMMIT);
    assert_eq!(setup.fetch("org/tiny@refs/pr/1").unwrap().commit, other);
    assert_eq!(fs::read_to_string(setup.at("refs/refs/pr/1")).unwrap(), other);
    setup.server.requests();
    // blobs are shared: only the hub is asked
    assert_eq!(setup.fetch(&format!("org/tiny@{COMMIT}")).unwrap().commit, COMMIT);
    assert!(setup.server.requests().iter().all(|request| !request.is_storage));
    assert!(!setup.at("refs").join(COMMIT).exists());
    // a branch that has moved
    let next = "a".repeat(40);
    setup.server.change(|repository| {
        repository.revisions.insert("main".into(), next.clone());
    });
    assert_eq!(setup.fetch("org/tiny").unwrap().commit, next);
    assert_eq!(fs::read_to_string(setup.at("refs/main")).unwrap(), next);
    check_whole(&setup.fetch("org/tiny").unwrap());
}

#[test]
fn offline_only_the_cache_is_used() {
    let setup = Setup::new(|_| {});
    let hub = setup.hub().with_offline(true);
    let model = HubModel::parse("org/tiny").unwrap();
    let error = hub.fetch(&model, ModelUse::Images, &mut ()).unwrap_err().to_string();
    assert!(error.contains("org/tiny is not in") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(setup.server.requests().is_empty());
    let fetched = setup.fetch("org/tiny").unwrap();
    setup.server.requests();
    assert_eq!(hub.fetch(&model, ModelUse::Images, &mut ()).unwrap(), fetched);
    let commit = HubModel::parse(&format!("org/tiny@{COMMIT}")).unwrap();
    assert_eq!(hub.fetch(&commit, ModelUse::Images, &mut ()).unwrap().dir, fetched.dir);
    assert!(setup.server.requests().is_empty());
    // a reference that leads out of the cache is not followed
    fs::write(setup.at("refs/main"), "../../../etc").unwrap();
    assert!(
        hub.fetch(&model, ModelUse::Images, &mut ()).unwrap_err().to_string().contains("no revision main")
    );
}

#[test]
fn without_a_network_a_whole_cached_model_is_used() {
    let setup = Setup::new(|_| {});
    let fetched = setup.fetch("org/tiny").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = Hub::new(&format!("http://{closed}"), setup.cache.path()).unwrap();
    let hub = hub.with_retry_delay(Duration::from_millis(1));
    assert_eq!(hub.fetch(&fetched.model, ModelUse::Images, &mut ()).unwrap(), fetched);
    fs::remove_file(fetched.dir.join("model.safetensors")).unwrap();
    let error = hub.fetch(&fetched.model, ModelUse::Images, &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::Hub(HubError::Connection { attempts: 5, .. })), "{error}");
}

/// The hub gets the token, also after a redirect within it; the storage gets none.
#[test]
fn the_token_is_sent_to_the_hub_only() {
    let setup = Setup::new(|repository| repository.token = Some("hf_secret".into()));
    let hub = setup.hub().with_token(Some("hf_secret".into())).unwrap();
    let fetched = hub.fetch(&HubModel::parse("org/old").unwrap(), ModelUse::Images, &mut ()).unwrap();
    check_whole(&fetched);
    let requests = setup.server.requests();
    assert!(requests.iter().any(|request| request.is_storage));
    for request in requests {
        let expected = (!request.is_storage).then(|| "Bearer hf_secret".to_owned());
        assert_eq!(request.authorization, expected, "{}", request.path);
    }
}

#[test]
fn processes_that_start_together_download_each_file_once() {
    let setup = Setup::new(|_| {});
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| setup.fetch("org/tiny").unwrap())).collect();
        fetches.into_iter().for_each(|fetch| check_whole(&fetch.join().unwrap()));
    });
    let stored = setup.server.requests().into_iter().filter(|request| request.is_storage).count();
    assert_eq!(stored, 1);
}
