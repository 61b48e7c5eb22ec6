//! Models that are refused, and servers that are not trusted.

use std::fs;

use bpo::{BpoError, HubError, HubModel, ModelUse};

use super::Setup;

#[test]
fn refusals_of_the_hub_are_explained() {
    let text = |status: u16| {
        let setup = Setup::new(|repository| repository.status = Some(status));
        setup.fails("org/tiny").to_string()
    };
    let unauthorized = text(401);
    for part in ["org/tiny", "does not exist, or is private", "HF_TOKEN", "local directory"] {
        assert!(unauthorized.contains(part), "{unauthorized}");
    }
    let forbidden = text(403);
    assert!(forbidden.contains("accept the licence on http://127.0.0.1"), "{forbidden}");
    let missing = text(404);
    assert!(missing.contains("has no org/tiny (404)") && missing.contains("revision"), "{missing}");
    assert!(text(418).contains("status 418"));
    let setup = Setup::new(|repository| repository.status = Some(503));
    let error = setup.fails("org/tiny");
    assert!(bpo::chain(&error).contains("status 503"), "{error}");
    assert_eq!(setup.server.requests().len(), 5);
    // a token that is not valid
    let setup = Setup::new(|repository| repository.token = Some("hf_secret".into()));
    let hub = setup.hub().with_token(Some("hf_wrong".into())).unwrap();
    let error =
        hub.fetch(&HubModel::parse("org/tiny").unwrap(), ModelUse::Images, &mut ()).unwrap_err().to_string();
    assert!(error.contains("token is valid") && !error.contains("hf_wrong"), "{error}");
}

/// An unsupported model is refused before its weights are downloaded.
#[test]
fn the_configuration_is_checked_before_the_weights() {
    let setup = Setup::new(|repository| {
        repository.files.insert("config.json".into(), br#"{"model_type": "abc"}"#.to_vec());
    });
    let error = setup.fetch("org/tiny").unwrap_err();
    assert!(matches!(error, BpoError::Model(_)) && error.to_string().contains("abc"), "{error}");
    assert!(setup.server.requests().iter().all(|request| !request.path.contains(".safetensors")));

    let adapter = Setup::new(|repository| {
        repository.files.insert("adapter_config.json".into(), b"{}".to_vec());
    });
    let error = adapter.fetch("org/tiny").unwrap_err();
    assert!(matches!(error, BpoError::AdapterAsModel { .. }), "{error}");

    let pickles = Setup::new(|repository| drop(repository.files.remove("model.safetensors")));
    let error = pickles.fails("org/tiny");
    assert!(
        matches!(&error, HubError::NoWeights { pickles, .. } if pickles == &["pytorch_model.bin"]),
        "{error}"
    );
}

/// Names, hashes and commits of the server are no paths.
#[test]
fn a_server_cannot_write_outside_of_the_snapshot() {
    let setup = Setup::new(|repository| {
        for name in ["../evil.json", "/evil.json", "sub/evil.json", "..\\evil.json", ".evil.json"] {
            repository.also_listed.push(name.to_owned());
        }
    });
    setup.fetch("org/tiny").unwrap();
    assert!(setup.server.requests().iter().all(|request| !request.path.contains("evil")));

    let replaced = |header: &'static str, value: &str| {
        let setup = Setup::new(|repository| {
            repository.headers.insert(header, value.to_owned());
        });
        let error = setup.fails("org/tiny");
        assert!(fs::read_dir(setup.cache.path()).unwrap().all(|entry| {
            let name = entry.unwrap().file_name();
            name == "models--org--tiny" || name == ".locks"
        }));
        error
    };
    for etag in ["../../../evil", "\"..\"", ""] {
        let error = replaced("ETag", etag);
        assert!(matches!(error, HubError::Header { header: "ETag", .. }), "{error}");
        let error = replaced("X-Linked-Etag", etag);
        assert!(matches!(error, HubError::Header { header: "ETag", .. }), "{error}");
    }
    let error = replaced("X-Repo-Commit", "../evil");
    assert!(matches!(error, HubError::Header { header: "X-Repo-Commit", .. }), "{error}");
    let error = replaced("sha", "../evil");
    assert!(matches!(error, HubError::Listing { .. }), "{error}");
}

#[test]
fn redirects_are_followed_to_servers_only() {
    for (location, reason) in [
        ("file:///etc/passwd", "invalid"),
        ("ftp://127.0.0.1/x", "invalid"),
        ("", "invalid"),
        ("/org/tiny/resolve/main/model.safetensors", "too many times"),
    ] {
        let setup = Setup::new(|repository| {
            repository.headers.insert("Location", location.to_owned());
        });
        let error = setup.fails("org/tiny").to_string();
        assert!(error.contains(reason), "{location}: {error}");
    }
}
