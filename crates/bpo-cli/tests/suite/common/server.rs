//! A small chat-completion server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server in a thread of its own, which ends with the test.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers 500 to the first `failures` requests and then a rewritten answer to each.
    pub fn failing_first(failures: usize) -> Self {
        Self::start("500 Internal Server Error", "out of luck", failures)
    }

    /// Answers 400 to the first `failures` requests and then a rewritten answer to each.
    pub fn refusing_first(failures: usize) -> Self {
        Self::start("400 Bad Request", "out of luck", failures)
    }

    /// Answers 400 to every request.
    pub fn refusing() -> Self {
        Self::start("400 Bad Request", "out of luck", usize::MAX)
    }

    /// Answers 401 to every request.
    pub fn refusing_the_key() -> Self {
        Self::start("401 Unauthorized", "wrong key", usize::MAX)
    }

    /// Answers 500 with a text to every request.
    pub fn failing_with(text: &'static str) -> Self {
        Self::start("500 Internal Server Error", text, usize::MAX)
    }

    fn start(status: &'static str, text: &'static str, failures: usize) -> Self {
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
                answer(&mut stream, count, (count <= failures).then_some((status, text)), &request);
            }
        });
        Self { url, requests }
    }

    /// Heads and bodies of all requests so far.
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
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // a client may have closed the connection
    let _ = stream.write_all((head + &body).as_bytes());
}
