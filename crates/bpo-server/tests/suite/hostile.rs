//! Servers that send hostile responses, and settings that expose a secret.

use std::fmt;
use std::sync::{Arc, Mutex};

use bpo_server::{OpenAiClient, ServerError};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::mock::{MockServer, Reply};
use crate::openai::{ask, client, config};

/// Text that sets the title of a terminal, its colors and the direction of writing.
const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2028}";

/// The messages of an error and its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(chain).unwrap_or_default();
    format!("{error}: {source}")
}

#[test]
fn control_characters_of_a_server_are_escaped() {
    let bodies = [
        (400, ESCAPES.to_owned()),
        (200, ESCAPES.to_owned()),
        (200, serde_json::json!({"choices": ESCAPES}).to_string()),
        (200, serde_json::json!({"choices": [], "error": ESCAPES}).to_string()),
        (200, format!("{{\"choices\": [], \"error\": \"{ESCAPES}\"}}")),
    ];
    for (status, body) in bodies {
        let server = MockServer::start(move |_| Reply::json(status, &body));
        let error = ask(&mut client(&server)).unwrap_err();
        let shown = chain(&error);
        assert!(shown.contains("owned"), "{shown:?}");
        let steers = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}');
        assert!(!shown.contains(steers), "{shown:?}");
    }
}

#[test]
fn responses_without_an_end_are_errors() {
    for reply in [Reply::endless_body as fn() -> Reply, Reply::endless_head] {
        let server = MockServer::start(move |_| reply());
        let error = ask(&mut client(&server)).unwrap_err();
        assert!(matches!(error, ServerError::Connection { .. }), "{error:?}");
    }
    let server = MockServer::start(|_| Reply::endless_body());
    ask(&mut client(&server)).unwrap_err();
    assert_eq!(server.seen().len(), 1, "another attempt ends the same way");
}

#[test]
fn api_key_is_not_sent_to_a_redirect() {
    let other = MockServer::start(|_| Reply::answer("hi"));
    for status in [301, 302, 307, 308] {
        let target = format!("{}/v1/chat/completions", other.url);
        let server = MockServer::start(move |_| Reply::json(status, "").with_header("Location", &target));
        let mut client = OpenAiClient::new(config(&server.url), Some("sk-secret-1234".into())).unwrap();
        let error = ask(&mut client).unwrap_err();
        assert!(matches!(error, ServerError::Status { attempts: 1, .. }), "{error:?}");
    }
    assert_eq!(other.seen().len(), 0);
}

#[test]
fn https_to_a_server_without_tls_is_an_error() {
    let server = MockServer::start(|_| Reply::answer("hi"));
    let url = server.url.replace("http://", "https://");
    let mut client = OpenAiClient::new(config(&url), Some("sk-secret-1234".into())).unwrap();
    let error = ask(&mut client).unwrap_err();
    assert!(matches!(error, ServerError::Connection { .. }), "{error:?}");
    assert!(!server.seen().concat().contains("secret"));
}

#[test]
fn secrets_of_an_address_are_sent_and_never_shown() {
    let server = MockServer::start(|_| Reply::json(500, "no"));
    let address = server.url.replace("http://", "http://me:open-sesame@") + "/v1?key=sesame-seed";
    let mut client = OpenAiClient::new(config(&address), None).unwrap();
    let error = ask(&mut client).unwrap_err();
    let seen = server.seen()[0].to_lowercase();
    assert!(seen.starts_with("post /v1/chat/completions?key=sesame-seed http/1.1"), "{seen}");
    assert!(seen.contains("authorization: basic "), "{seen}");
    for shown in [chain(&error), format!("{error:?}"), format!("{client:?}"), client.endpoint().to_owned()] {
        assert!(!shown.contains("sesame"), "{shown}");
    }
}

/// A subscriber that keeps the fields of all events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{value:?} ");
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn unencrypted_secret_causes_a_warning() {
    let warnings = |address: &str, key: Option<&str>| {
        let events = Events::default();
        tracing::subscriber::with_default(events.clone(), || {
            OpenAiClient::new(config(address), key.map(str::to_owned)).unwrap();
        });
        events.0.lock().unwrap().clone()
    };
    for (address, key) in [
        ("http://host:8080", Some("sk-sesame-1234")),
        ("http://me:sesame@host", None),
        ("http://host/v1?key=sesame", None),
    ] {
        let warned = warnings(address, key);
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].contains("unencrypted") && warned[0].contains("http://"), "{warned:?}");
        assert!(!warned[0].contains("sesame"), "{warned:?}");
    }
    for (address, key) in [
        ("http://host:8080", None),
        ("http://localhost:8080", Some("sk-sesame-1234")),
        ("https://host", Some("sk-sesame-1234")),
    ] {
        assert_eq!(warnings(address, key), Vec::<String>::new());
    }
}
