//! Broken connections and damaged files.

use std::fs;

use bpo::HubError;

use super::{Setup, check_whole};

/// The ranges of the requests for weights, and their number.
fn ranges(setup: &Setup) -> Vec<Option<u64>> {
    let requests = setup.server.requests().into_iter();
    requests.filter(|request| request.is_storage).map(|request| request.range).collect()
}

#[test]
fn a_broken_connection_is_continued() {
    let setup = Setup::new(|repository| repository.broken = 3);
    check_whole(&setup.fetch("org/tiny").unwrap());
    assert_eq!(ranges(&setup), [None, Some(1000), Some(2000), Some(3000)]);
}

#[test]
fn an_interrupted_download_is_continued_by_the_next_call() {
    let stopped_after = 5000;
    let mut weights = Vec::new();
    let setup = Setup::new(|repository| {
        weights.clone_from(&repository.files["model.safetensors"]);
        repository.stored = Some(weights[..stopped_after].to_vec());
    });
    // the connection always ends too early, and no attempt gets further
    let error = setup.fails("org/tiny");
    assert!(matches!(error, HubError::Connection { attempts: 5, .. }), "{error}");
    let text = bpo::chain(&error);
    assert!(text.contains("model.safetensors") && text.contains("resumes"), "{text}");
    assert!(!text.contains("signature"), "the address of the storage is secret: {text}");
    let part = setup.names("blobs").into_iter().find(|name| name.ends_with(".incomplete")).unwrap();
    assert_eq!(fs::read(setup.at("blobs").join(&part)).unwrap(), weights[..stopped_after]);
    // nothing names the revision before the model is whole
    assert!(setup.names("refs").is_empty());
    ranges(&setup);
    setup.server.change(|repository| repository.stored = None);
    check_whole(&setup.fetch("org/tiny").unwrap());
    assert_eq!(ranges(&setup), [Some(stopped_after as u64)]);
    assert!(!setup.at("blobs").join(part).exists());
}

#[test]
fn a_server_without_ranges_sends_the_file_again() {
    let setup = Setup::new(|repository| {
        repository.broken = 2;
        repository.without_ranges = true;
    });
    check_whole(&setup.fetch("org/tiny").unwrap());
    assert_eq!(ranges(&setup), [None, Some(1000), Some(1000)]);
}

#[test]
fn a_damaged_part_is_started_again() {
    let setup = Setup::new(|repository| {
        let full = repository.files["model.safetensors"].clone();
        repository.stored = Some(full[..4000].to_vec());
    });
    setup.fails("org/tiny");
    let part = setup.names("blobs").into_iter().find(|name| name.ends_with(".incomplete")).unwrap();
    setup.server.change(|repository| repository.stored = None);
    let size = fs::metadata(super::tiny().join("model.safetensors")).unwrap().len() as usize;
    // damaged, whole but damaged, and too long
    for length in [10, size, size + 10] {
        fs::write(setup.at("blobs").join(&part), vec![7; length]).unwrap();
        let fetched = setup.fetch("org/tiny").unwrap();
        check_whole(&fetched);
        fs::remove_file(fetched.dir.join("model.safetensors").canonicalize().unwrap()).unwrap();
    }
}

#[test]
fn a_file_with_another_hash_is_removed() {
    let setup = Setup::new(|repository| {
        let mut damaged = repository.files["model.safetensors"].clone();
        *damaged.last_mut().unwrap() ^= 1;
        repository.stored = Some(damaged);
    });
    let error = setup.fails("org/tiny");
    assert!(matches!(&error, HubError::Hash { file, .. } if file == "model.safetensors"), "{error}");
    assert!(setup.names("blobs").iter().all(|name| name.len() == 40), "{:?}", setup.names("blobs"));
    setup.server.change(|repository| repository.stored = None);
    check_whole(&setup.fetch("org/tiny").unwrap());

    // the hash of a small file is that of git
    let setup = Setup::new(|repository| {
        repository.headers.insert("ETag", format!("\"{}\"", "0".repeat(40)));
    });
    let error = setup.fails("org/tiny");
    assert!(matches!(&error, HubError::Hash { .. }), "{error}");
    assert!(setup.names("blobs").is_empty());
}

#[test]
fn a_file_with_another_size_is_refused() {
    let setup = Setup::new(|repository| {
        let longer = [repository.files["model.safetensors"].as_slice(), b"more"].concat();
        repository.stored = Some(longer);
    });
    let error = setup.fails("org/tiny");
    assert!(matches!(&error, HubError::Size { file, .. } if file == "model.safetensors"), "{error}");
    let setup = Setup::new(|repository| {
        repository.headers.insert("X-Linked-Size", "7".into());
    });
    let error = setup.fails("org/tiny");
    assert!(matches!(&error, HubError::Size { found: 7, .. }), "{error}");
}
