//! Error injection by a server: failures, retries and API keys.

use std::fs;
use std::path::Path;

use crate::common::server::Server;
use crate::common::{Outcome, bpo, command, finish, photos, read_lines, run_arguments};

/// `bpo inject` with a server and short pauses between retries.
fn inject(dir: &Path, url: &str, settings: &str, environment: &[(&str, &str)]) -> Outcome {
    let config = dir.join("bpo.toml");
    let server = format!(
        "base_url = \"{url}\"\nmodel = \"m\"\nmax_retries = 2\nbackoff_initial_ms = 1\nmax_concurrency = 1\n"
    );
    fs::write(&config, format!("[inject.server]\n{server}{settings}")).unwrap();
    let data = photos().join("llava.json");
    let mut command = command(arguments![
        "inject",
        "--config",
        config,
        "--data",
        data,
        "--out",
        dir.join("injected.jsonl")
    ]);
    finish(command.env_remove("BPO_TEST_KEY").envs(environment.iter().copied()))
}

#[test]
fn unavailable_server_stops_the_stage_and_recovered_server_resumes_it() {
    let dir = tempfile::tempdir().unwrap();
    // a port that was free a moment ago
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    inject(dir.path(), &url, "startup_timeout_s = 0.1", &[])
        .fails_naming(&["`inject.server` (--server)", &url, "within 0.1 s (`startup_timeout_s`)", "refused"])
        .says("warning: cannot reach");
    assert_eq!(read_lines(dir.path().join("injected.jsonl")).len(), 0);

    let server = Server::failing_first(2);
    let outcome = inject(dir.path(), &server.url, "", &[]).succeeds().says("inject: 8 answers");
    let warnings: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("trying again")
            && warnings[1].contains("(retries: 2, requests: 8, failures: status 500: 2)"),
        "{warnings:?}"
    );
    let lines = read_lines(dir.path().join("injected.jsonl"));
    assert!(lines.iter().all(|line| line["response"].as_str().unwrap().contains("elephant")));
    assert_eq!(server.requests().len(), 2 + 8);

    let broken = Server::failing_first(usize::MAX);
    let other = tempfile::tempdir().unwrap();
    inject(other.path(), &broken.url, "", &[]).fails_naming(&[
        "inject stopped",
        "status 500 after 3 attempts (`max_retries`",
        "out of luck",
    ]);
}

#[test]
fn server_that_refuses_all_requests_is_an_error_without_results() {
    let dir = tempfile::tempdir().unwrap();
    let refusing = Server::refusing();
    inject(dir.path(), &refusing.url, "", &[]).fails_naming(&[
        "inject: no request was answered",
        "400",
        "out of luck",
    ]);
    // with a working server the same command starts again
    let server = Server::failing_first(0);
    inject(dir.path(), &server.url, "", &[]).succeeds().says("inject: 8 answers");
    // a URL that no server can have is refused before the first stage
    let run = dir.path().join("run");
    let arguments =
        run_arguments(&run).into_iter().chain(arguments!["--server", "no-scheme:80", "--server-model", "m"]);
    let outcome = bpo(arguments).refuses_naming(&["[inject.server]", "base_url"]);
    assert!(!outcome.stderr.contains("weaken:"), "{}", outcome.stderr);
}

#[test]
fn run_without_server_answers_can_continue_without_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let broken = Server::failing_first(usize::MAX);
    let config = dir.path().join("bpo.toml");
    let server = format!("base_url = \"{}\"\nmodel = \"m\"\nmax_retries = 0\n", broken.url);
    fs::write(&config, format!("[inject.server]\n{server}")).unwrap();
    bpo(run_arguments(&run).into_iter().chain(arguments!["--config", config]))
        .fails_naming(&["inject stopped"]);
    let weakened = fs::read(run.join("weakened.jsonl")).unwrap();
    bpo(run_arguments(&run)).succeeds();
    assert_eq!(fs::read(run.join("weakened.jsonl")).unwrap(), weakened);
}

#[test]
fn api_key_is_read_from_the_configured_variable() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::failing_first(0);
    let settings = "api_key_env = \"BPO_TEST_KEY\"";
    inject(dir.path(), &server.url, settings, &[])
        .refuses_naming(&["inject.server.api_key_env", "BPO_TEST_KEY"]);
    assert_eq!(server.requests().len(), 0);
    inject(dir.path(), &server.url, settings, &[("BPO_TEST_KEY", "open-sesame")]).succeeds();
    assert!(server.requests()[0].to_lowercase().contains("authorization: bearer open-sesame"));
}

/// The server returns the request's headers in its errors, which reach standard error and the file
/// of answers.
#[test]
fn api_key_in_a_response_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let key = "sk-Open+Sesame/1234567890=";
    let with = |server: &Server| {
        inject(dir.path(), &server.url, "api_key_env = \"BPO_TEST_KEY\"", &[("BPO_TEST_KEY", key)])
    };
    let failing = Server::failing_first(usize::MAX);
    let failed = with(&failing).fails_naming(&["status 500", "[API key removed]"]);
    let refusing = Server::refusing_first(2);
    let refused = with(&refusing).succeeds();
    let file = fs::read_to_string(dir.path().join("injected.jsonl")).unwrap();
    assert_eq!(file.matches("[API key removed]").count(), 2, "{file}");
    for text in [&failed.stderr, &refused.stderr, &file] {
        assert!(!text.to_lowercase().contains("sesame"), "{text}");
    }
}

/// `bpo run` with a server that needs a key.
fn run_with_key(dir: &Path, url: &str) -> Outcome {
    let config = dir.join("bpo.toml");
    let server = format!("base_url = \"{url}\"\nmodel = \"m\"\napi_key_env = \"BPO_TEST_KEY\"\n");
    fs::write(&config, format!("[inject.server]\n{server}")).unwrap();
    let arguments = run_arguments(&dir.join("run")).into_iter().chain(arguments!["--config", config]);
    finish(command(arguments).env("BPO_TEST_KEY", "open-sesame"))
}

/// A key that the server refuses is found before the first stage.
#[test]
fn a_refused_key_stops_a_run_before_its_first_stage() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::refusing_the_key();
    let outcome =
        run_with_key(dir.path(), &server.url).fails_naming(&["`inject.server`", "401", "wrong key"]);
    assert!(!outcome.stderr.contains("weaken:") && !dir.path().join("run").exists(), "{}", outcome.stderr);
    assert!(server.probes()[0].to_lowercase().contains("authorization: bearer open-sesame"));
    assert_eq!((server.probes().len(), server.requests().len()), (1, 0));
}

/// A wrong name of the model is found before the first stage, with the names that the server lists.
#[test]
fn a_wrong_model_stops_a_run_before_its_first_stage() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_models(&["smollm2", "qwen3"]);
    let named = ["`inject.server`", "\"m\"", "\"smollm2\", \"qwen3\"", "unknown model"];
    let outcome = run_with_key(dir.path(), &server.url).fails_naming(&named);
    assert!(!outcome.stderr.contains("weaken:") && !dir.path().join("run").exists(), "{}", outcome.stderr);
    inject(dir.path(), &server.url, "", &[]).fails_naming(&named);
    assert_eq!(read_lines(dir.path().join("injected.jsonl")).len(), 0);
    // a listed model needs one request before the answers
    let server = Server::with_models(&["other", "m"]);
    inject(dir.path(), &server.url, "", &[]).succeeds().says("inject: 8 answers");
    assert_eq!((server.probes().len(), server.requests().len()), (1, 8));
    // nothing is requested if nothing is left to do
    inject(dir.path(), &server.url, "", &[]).succeeds();
    assert_eq!((server.probes().len(), server.requests().len()), (1, 8));
}

/// The address 0.0.0.0 reaches this computer, but is not known as local.
#[test]
fn an_unencrypted_key_is_warned_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::failing_first(0);
    let outcome = run_with_key(dir.path(), &server.url.replace("127.0.0.1", "0.0.0.0")).succeeds();
    assert_eq!(outcome.stderr.matches("sent unencrypted").count(), 1, "{}", outcome.stderr);
}
