//! Answers, retries, concurrency and keys.

use bpo_inject::{
    ErrorInjector, InjectionRequest, LlmInjector, LlmInjectorConfig, Rejection, TextGenerator, TextRequest,
};
use bpo_pairs::{FinishReason, Sampling};
use bpo_server::{OpenAiClient, OpenAiConfig, ServerError};

use crate::mock::{self, MockServer, Reply};

const HOUR_MS: u64 = 3_600_000;

fn request(prompt: &str) -> TextRequest {
    TextRequest { system: None, prompt: prompt.into(), sampling: Sampling::greedy(16) }
}

/// Settings with two retries and no waits between attempts.
pub fn config(base_url: &str) -> OpenAiConfig {
    let config = OpenAiConfig::new(base_url, "test").with_retries(2, 0, 0).with_timeout_s(20.0);
    config.with_startup_timeout_s(0.0)
}

pub fn client(server: &MockServer) -> OpenAiClient {
    OpenAiClient::new(config(&server.url), None).unwrap()
}

pub fn ask(client: &mut OpenAiClient) -> Result<String, ServerError> {
    let mut results = client.generate(&[request("hello")]);
    assert_eq!(results.len(), 1);
    results.remove(0).map(|generated| generated.text)
}

#[test]
fn answer_has_finish_reason_and_length() {
    let server = MockServer::start(|_| {
        let body = r#"{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"length"}],
            "usage":{"completion_tokens":3}}"#;
        Reply::json(200, body)
    });
    let generated = client(&server).generate(&[request("hello")]).remove(0).unwrap();
    assert_eq!(
        (generated.text.as_str(), generated.finish, generated.tokens),
        ("hi", FinishReason::Length, Some(3))
    );
    let seen = server.seen();
    assert!(seen[0].starts_with("POST /v1/chat/completions HTTP/1.1"), "{}", seen[0]);
    assert_eq!(mock::prompt(&seen[0]), "hello");
    assert!(!seen[0].to_lowercase().contains("authorization"));
}

#[test]
fn requests_are_retried_until_the_server_recovers() {
    let server = MockServer::start(|call| match call {
        0 => Reply::json(500, "out of memory"),
        1 => Reply::hang_up(),
        _ => Reply::answer("hi"),
    });
    assert_eq!(ask(&mut client(&server)).unwrap(), "hi");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn failed_retries_end_with_an_error() {
    let server = MockServer::start(|_| Reply::json(503, "loading model"));
    let error = ask(&mut client(&server)).unwrap_err();
    let expected = format!(
        "{}/v1/chat/completions answered with status 503 after 3 attempts (`max_retries` and `backoff_max_ms` set \
         how long it is tried): loading model",
        server.url
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn retry_after_replaces_the_backoff() {
    let server = MockServer::start(|call| match call {
        0 => Reply::json(429, "slow down").with_header("Retry-After", "0"),
        _ => Reply::answer("hi"),
    });
    // With the back-off of the settings, an hour, the test would not end.
    let config = config(&server.url).with_retries(1, HOUR_MS, HOUR_MS);
    assert_eq!(ask(&mut OpenAiClient::new(config, None).unwrap()).unwrap(), "hi");
}

#[test]
fn too_long_retry_after_fails_without_a_retry() {
    let server = MockServer::start(|_| Reply::json(429, "quota").with_header("Retry-After", "86400"));
    let error = ask(&mut client(&server)).unwrap_err();
    assert!(matches!(error, ServerError::Status { status: 429, attempts: 1, .. }), "{error}");
}

#[test]
fn client_errors_are_not_retried() {
    let server = MockServer::start(|_| Reply::json(401, r#"{"error":"wrong key"}"#));
    let error = ask(&mut client(&server)).unwrap_err();
    assert!(matches!(&error, ServerError::Status { status: 401, attempts: 1, .. }), "{error}");
    assert!(error.to_string().contains("wrong key"));
}

#[test]
fn unavailable_server_is_named() {
    let url = MockServer::start(|_| Reply::hang_up()).into_closed();
    let error = ask(&mut OpenAiClient::new(config(&url), None).unwrap()).unwrap_err();
    assert!(matches!(&error, ServerError::Connection { attempts: 3, .. }), "{error:?}");
    assert!(error.to_string().contains(&url));
}

#[test]
fn unresponsive_server_times_out() {
    let server = MockServer::start(|_| Reply::silence());
    let config = config(&server.url).with_timeout_s(0.2).with_retries(1, 0, 0);
    let error = ask(&mut OpenAiClient::new(config, None).unwrap()).unwrap_err();
    let ServerError::Connection { attempts: 2, source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, ureq::Error::Timeout(_)), "{source:?}");
}

#[test]
fn invalid_chat_completion_is_shown_in_the_error() {
    let bodies = ["<html>Gateway</html>", r#"{"choices": [{"mess"#, r#"{"object": "list"}"#, ""];
    for body in bodies {
        let server = MockServer::start(move |_| Reply::json(200, body));
        let error = ask(&mut client(&server)).unwrap_err();
        assert!(matches!(error, ServerError::Body { .. }), "{body}: {error:?}");
        assert!(error.to_string().contains(if body.is_empty() { "(no body)" } else { body }), "{error}");
    }
    let server = MockServer::start(|_| Reply::json(200, r#"{"choices": []}"#));
    assert!(matches!(ask(&mut client(&server)), Err(ServerError::NoChoice { .. })));
}

#[test]
fn truncated_body_is_a_connection_error() {
    let server = MockServer::start(|call| match call {
        0 => Reply::answer("hi").cut_off(),
        _ => Reply::answer("hi"),
    });
    assert_eq!(ask(&mut client(&server)).unwrap(), "hi");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn results_are_in_order_and_failures_are_independent() {
    // The server answers four requests at a time, when all four are there.
    let server = MockServer::start_echo(4);
    let prompts: Vec<String> =
        (0..12).map(|i| if i == 5 { "fail".into() } else { format!("prompt {i}") }).collect();
    let requests: Vec<TextRequest> = prompts.iter().map(|prompt| request(prompt)).collect();
    let config = config(&server.url).with_max_concurrency(4);
    let mut client = OpenAiClient::new(config, None).unwrap();
    let results = client.generate(&requests);
    assert_eq!(results.len(), 12);
    for (i, result) in results.iter().enumerate() {
        match result {
            Ok(generated) => assert_eq!(generated.text, prompts[i]),
            Err(error) => {
                assert!(i == 5 && matches!(error, ServerError::Status { status: 400, .. }), "{i}: {error}");
                assert!(client.is_request_error(error), "asking again would not help");
            }
        }
    }
    assert!(results[5].is_err());
    assert!(server.most_at_once() <= 4, "{} at once", server.most_at_once());
    assert!(server.most_at_once() > 1, "nothing ran side by side");
}

#[test]
fn api_key_is_sent_and_not_shown() {
    let server = MockServer::start(|_| Reply::json(500, "no"));
    let mut client = OpenAiClient::new(config(&server.url), Some("sk-secret".into())).unwrap();
    let error = ask(&mut client).unwrap_err();
    assert!(server.seen()[0].to_lowercase().contains("authorization: bearer sk-secret"));
    for shown in [format!("{client:?}"), format!("{error:?}"), error.to_string()] {
        assert!(!shown.contains("sk-secret"), "{shown}");
    }
    let error = OpenAiClient::new(config(&server.url), Some("sk-secret\n".into())).unwrap_err();
    assert!(error.to_string().contains("api_key") && !format!("{error:?}").contains("sk-secret"));
}

/// The server shows the request's headers in its errors and answers.
#[test]
fn api_key_in_an_error_response_is_removed() {
    const KEY: &str = "sk-Ab3+dE/f9=gh";
    let in_base64 = "QmVhcmVyIHNrLUFiMytkRS9mOT1naA==";
    let echoes = [
        format!("Authorization: Bearer {KEY}"),
        format!("{}{KEY}", "x".repeat(296)),
        "Bearer sk-Ab3%2BdE%2Ff9%3Dgh".to_owned(),
        r"Bearer sk-Ab3\u002bdE\/f9\u003dgh".to_owned(),
        in_base64.to_owned(),
    ];
    for echo in echoes {
        let bodies = [
            (401, echo.clone()),
            (500, format!(r#"{{"error": "{echo}"}}"#)),
            (200, echo.clone()),
            (200, format!(r#"{{"choices": "{echo}"}}"#)),
            (200, format!(r#"{{"choices": [], "error": "{echo}"}}"#)),
        ];
        for (status, body) in bodies {
            let server = MockServer::start(move |_| Reply::json(status, &body));
            let mut client = OpenAiClient::new(config(&server.url), Some(KEY.into())).unwrap();
            let error = ask(&mut client).unwrap_err();
            let mut shown = format!("{error:?} {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                shown += &format!(" {error:?} {error}");
                source = error.source();
            }
            for part in ["sk-A", "gh", "9naA", "SNrLUF"] {
                assert!(!shown.contains(part), "{part} in {shown}");
            }
        }
    }
}

#[test]
fn answer_with_the_api_key_is_rejected() {
    let server = MockServer::start(|_| Reply::answer("You sent Bearer SK-secret-1234."));
    let mut client = OpenAiClient::new(config(&server.url), Some("sk-secret-1234".into())).unwrap();
    assert_eq!(ask(&mut client).unwrap(), "You sent Bearer [API key removed].");
    let mut injector = LlmInjector::new(client, LlmInjectorConfig::default()).unwrap();
    let request = InjectionRequest::new("What do you see?", "A cup.", 1);
    let failure = injector.inject(&[request]).remove(0).unwrap_err();
    assert_eq!(failure.rejection(), Some(Rejection::Secret));
}

#[test]
fn empty_batch_does_not_call_the_server() {
    let mut client = OpenAiClient::new(config("http://127.0.0.1:9"), None).unwrap();
    assert!(client.generate(&[]).is_empty());
}

#[test]
fn invalid_client_settings_are_errors() {
    let none_at_once = config("http://h").with_max_concurrency(0);
    for bad in [config("h"), none_at_once, config("http://h").with_timeout_s(0.0)] {
        assert!(matches!(OpenAiClient::new(bad, None), Err(ServerError::Setting { .. })));
    }
}

#[test]
fn check_accepts_any_response() {
    for reply in [|| Reply::json(500, "{}"), || Reply::json(404, ""), || Reply::json(200, r#"{"data": 1}"#)] {
        let server = MockServer::start(move |_| reply());
        client(&server).check().unwrap();
        assert_eq!(server.seen().len(), 2);
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [format!("http://{gone}"), "http://no-such-host.invalid".to_owned()] {
        let dead = OpenAiClient::new(config(&address), None).unwrap();
        let error = dead.check().unwrap_err();
        assert!(matches!(error, ServerError::Unreachable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&address) && !text.contains("startup_timeout_s"), "{text}");
    }
    // a server that closes the connection exists
    client(&MockServer::start(|_| Reply::hang_up())).check().unwrap();
}

/// A server that starts a moment later than its client.
#[test]
fn a_server_that_starts_late_passes_the_check() {
    let url = MockServer::start(|_| Reply::hang_up()).into_closed();
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        MockServer::start_at(&address, |_| list(&["test".into()]))
    });
    let client = OpenAiClient::new(config(&url).with_startup_timeout_s(600.0), None).unwrap();
    client.check().unwrap();
    assert_eq!(late.join().unwrap().seen().len(), 1);
    let dead = MockServer::start(|_| Reply::hang_up()).into_closed();
    let client = OpenAiClient::new(config(&dead).with_startup_timeout_s(0.1), None).unwrap();
    let text = client.check().unwrap_err().to_string();
    assert!(text.ends_with("/v1/chat/completions within 0.1 s (`startup_timeout_s`)"), "{text}");
}

/// The key is sent with the check, and a server that refuses it fails the check.
#[test]
fn a_refused_key_fails_the_check() {
    for status in [401, 403, 404, 405, 500] {
        let server = MockServer::start(move |_| Reply::json(status, r#"{"error": "secret-key is wrong"}"#));
        let client = OpenAiClient::new(config(&server.url), Some("secret-key".to_owned())).unwrap();
        let checked = client.check();
        if status < 404 {
            let error = checked.unwrap_err();
            assert!(
                matches!(&error, ServerError::Status { status: found, .. } if *found == status),
                "{error}"
            );
            assert!(!error.to_string().contains("secret-key"), "{error}");
        } else {
            checked.unwrap();
        }
        // a server that does not list its models is asked at the address of the chat completions
        assert_eq!(server.seen().len(), if status == 401 { 1 } else { 2 });
    }
}

/// A list of models as OpenAI's.
fn list(names: &[String]) -> Reply {
    let models: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({"id": name, "object": "model", "owned_by": "me"}))
        .collect();
    Reply::json(200, &serde_json::json!({"object": "list", "data": models}).to_string())
}

/// A listed model needs one request.
#[test]
fn a_listed_model_passes_the_check() {
    let server = MockServer::start(|_| list(&["other".into(), "test".into()]));
    let client = OpenAiClient::new(config(&server.url), Some("secret-key".to_owned())).unwrap();
    client.check().unwrap();
    let [request] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
    assert!(request.starts_with("GET /v1/models "), "{request}");
    assert!(request.to_lowercase().contains("authorization: bearer secret-key"), "{request}");
}

/// A model that the server neither lists nor accepts fails the check with the names of the listed
/// ones.
#[test]
fn a_wrong_model_fails_the_check() {
    let names = || (0..12).map(|number| format!("model-{number}\u{1b}")).collect::<Vec<_>>();
    let refusing = |status| {
        MockServer::start(move |call| match call {
            0 => list(&names()),
            _ => Reply::json(status, r#"{"error": "secret-key has no such model"}"#),
        })
    };
    for status in [400, 404, 422] {
        let server = refusing(status);
        let client = OpenAiClient::new(config(&server.url), Some("secret-key".to_owned())).unwrap();
        let error = client.check().unwrap_err();
        assert!(matches!(error, ServerError::UnknownModel { .. }), "{error}");
        let text = error.to_string();
        for part in
            ["\"test\"", "\"model-0\\u{1b}\"", "model-9", "and 2 more", "no such model", &status.to_string()]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("model-10") && !text.contains("secret-key"), "{text}");
        assert_eq!(server.seen().len(), 2);
    }
    assert!(matches!(client(&refusing(401)).check(), Err(ServerError::Status { status: 401, .. })));
    // a server may be overloaded, or accept names that it does not list
    for status in [200, 408, 429, 500] {
        client(&refusing(status)).check().unwrap();
    }
}
