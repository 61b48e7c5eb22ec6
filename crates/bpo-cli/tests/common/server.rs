//! A chat-completion server of a few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers in a thread of its own until the test ends.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers 500 to the first `failures` requests and then a rewritten answer to each.
    pub fn failing_first(failures: usize) -> Self {
        Self::start("500 Internal Server Error", failures)
    }

    /// Answers 400 to the first `failures` requests and then a rewritten answer to each.
    pub fn refusing_first(failures: usize) -> Self {
        Self::start("400 Bad Request", failures)
    }

    /// Answers 400 to every request.
    pub fn refusing() -> Self {
        Self::start("400 Bad Request", usize::MAX)
    }

    fn start(failure: &'static str, failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                let count = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len()
                };
                answer(&mut stream, count, (count <= failures).then_some(failure), &request);
            }
        });
        Self { url, requests }
    }

    /// All requests so far, head and body.
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

/// A failure shows the request's head, as some gateways do.
fn answer(stream: &mut TcpStream, count: usize, failure: Option<&'static str>, request: &str) {
    let (status, body) = if let Some(failure) = failure {
        let head = request.split("\r\n\r\n").next().unwrap();
        (failure, serde_json::json!({"error": "out of luck", "headers": head}).to_string())
    } else {
        let message = serde_json::json!({"role": "assistant", "content": format!("A purple elephant plays chess {count}.")});
        let choice = serde_json::json!({"index": 0, "finish_reason": "stop", "message": message});
        ("200 OK", serde_json::json!({"object": "chat.completion", "choices": [choice]}).to_string())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // a client that has gone away is the test's own doing
    let _ = stream.write_all((head + &body).as_bytes());
}
