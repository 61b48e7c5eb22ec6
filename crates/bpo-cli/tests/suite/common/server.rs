//! A small chat-completion server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server in a thread of its own, which ends with the test.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
    probes: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers 500 to the first `failures` requests and then a rewritten answer to each.
    pub fn failing_first(failures: usize) -> Self {
        Self::start("500 Internal Server Error", "out of luck", failures, None)
    }

    /// Answers 400 to the first `failures` requests and then a rewritten answer to each.
    pub fn refusing_first(failures: usize) -> Self {
        Self::start("400 Bad Request", "out of luck", failures, None)
    }

    /// Answers 400 to every request.
    pub fn refusing() -> Self {
        Self::start("400 Bad Request", "out of luck", usize::MAX, None)
    }

    /// Answers 401 to every request.
    pub fn refusing_the_key() -> Self {
        Self::start("401 Unauthorized", "wrong key", usize::MAX, None)
    }

    /// Answers 500 with a text to every request.
    pub fn failing_with(text: &'static str) -> Self {
        Self::start("500 Internal Server Error", text, usize::MAX, None)
    }

    /// Lists models, and answers 404 to a request to another one.
    pub fn with_models(models: &'static [&'static str]) -> Self {
        Self::start("404 Not Found", "unknown model", 0, Some(models))
    }

    fn start(
        status: &'static str,
        text: &'static str,
        failures: usize,
        models: Option<&'static [&'static str]>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let probes = Arc::new(Mutex::new(Vec::new()));
        let (log, probe_log) = (Arc::clone(&requests), Arc::clone(&probes));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                if request.starts_with("GET ") {
                    probe_log.lock().unwrap().push(request.clone());
                    let (status, body) = match models {
                        Some(models) => ("200 OK", list(models)),
                        None if status.starts_with("401") => (status, text.to_owned()),
                        None => ("404 Not Found", String::new()),
                    };
                    respond(&mut stream, status, &body);
                    continue;
                }
                let is_known = models.is_none_or(|models| models.contains(&model(&request).as_str()));
                let count = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len()
                };
                let fails = count <= failures || !is_known;
                answer(&mut stream, count, fails.then_some((status, text)), &request);
            }
        });
        Self { url, requests, probes }
    }

    /// Heads of all GET requests so far.
    pub fn probes(&self) -> Vec<String> {
        self.probes.lock().unwrap().clone()
    }

    /// Heads and bodies of all other requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head).unwrap() == 0 {
            return head;
        }
        let line = head[start..].trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// Sends a failure, whose body has the request's head as with some gateways, or a rewritten answer.
fn answer(stream: &mut TcpStream, count: usize, failure: Option<(&str, &str)>, request: &str) {
    let (status, body) = if let Some((status, text)) = failure {
        let head = request.split("\r\n\r\n").next().unwrap();
        (status, format!("{text} {}", serde_json::json!({"error": text, "headers": head})))
    } else {
        let message = serde_json::json!({"role": "assistant", "content": format!("A purple elephant plays chess {count}.")});
        let choice = serde_json::json!({"index": 0, "finish_reason": "stop", "message": message});
        ("200 OK", serde_json::json!({"object": "chat.completion", "choices": [choice]}).to_string())
    };
    respond(stream, status, &body);
}

/// The name of the model in a request.
fn model(request: &str) -> String {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["model"].as_str().unwrap().to_owned()
}

/// The response to `GET /models`.
fn list(models: &[&str]) -> String {
    let models: Vec<_> = models.iter().map(|id| serde_json::json!({"id": id, "object": "model"})).collect();
    serde_json::json!({"object": "list", "data": models}).to_string()
}

fn respond(stream: &mut TcpStream, status: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // a client may have closed the connection
    let _ = stream.write_all((head + body).as_bytes());
}
