//! A chat-completion server that takes many connections at a time and answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The response to one request.
pub enum Reply {
    /// A chat completion with this text.
    Text(String),
    /// A chat completion with this message, and a reason why it ends.
    Message(Value, &'static str),
    /// A status, with further lines of the head.
    Status(u16, &'static str),
    /// Status 200 and this body.
    Body(&'static str),
    /// The head and half of the body of a chat completion.
    HalfBody,
    /// Nothing until the client closes the connection.
    Silence,
}

/// A server in threads of its own, which end with the test.
pub struct VlmServer {
    pub url: String,
    requests: Arc<Mutex<Vec<Value>>>,
    most_at_once: Arc<AtomicUsize>,
}

impl VlmServer {
    /// Starts a server that answers a request with `reply`, which also gets the number of the
    /// request, counted from 0.
    pub fn start(reply: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, most_at_once) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (log, most) = (Arc::clone(&requests), Arc::clone(&most_at_once));
        let (reply, at_once) = (Arc::new(reply), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, most) = (Arc::clone(&log), Arc::clone(&most));
                let (reply, at_once) = (Arc::clone(&reply), Arc::clone(&at_once));
                std::thread::spawn(move || {
                    let Ok(mut stream) = stream else { return };
                    let Some(body) = read_body(&stream) else {
                        return respond(&mut stream, "404 Not Found", "", "");
                    };
                    most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(body.clone());
                        log.len() - 1
                    };
                    let reply = reply(number, &body);
                    // after the response, the client may open its next connection at any moment
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    answer(&mut stream, reply);
                });
            }
        });
        Self { url, requests, most_at_once }
    }

    /// The bodies of all requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }

    /// The largest number of requests that were open at one time.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::SeqCst)
    }
}

/// What identifies the answer that a request is for: its seed, which each item has for itself.
pub fn key(request: &Value) -> u64 {
    request["seed"].as_u64().unwrap()
}

/// Reads the body of a POST request.
fn read_body(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut is_post) = (String::new(), 0, None);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        is_post.get_or_insert_with(|| line.starts_with("POST "));
        let lower = line.trim().to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if lower.is_empty() {
            break;
        }
    }
    if is_post != Some(true) {
        return None;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn answer(stream: &mut TcpStream, reply: Reply) {
    let completion = |message: Value, finish: &str| {
        let choice = json!({"index": 0, "finish_reason": finish, "message": message});
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
        json!({"object": "chat.completion", "choices": [choice], "usage": usage}).to_string()
    };
    match reply {
        Reply::Text(text) => {
            let body = completion(json!({"role": "assistant", "content": text}), "stop");
            respond(stream, "200 OK", "", &body);
        }
        Reply::Message(message, finish) => respond(stream, "200 OK", "", &completion(message, finish)),
        Reply::Status(status, head) => respond(stream, &format!("{status} X"), head, "out of luck"),
        Reply::Body(body) => respond(stream, "200 OK", "", body),
        Reply::HalfBody => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choices\": [{\"mess");
        }
        Reply::Silence => {
            let _ = stream.read(&mut [0; 1]);
        }
    }
}

fn respond(stream: &mut TcpStream, status: &str, head: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{head}\r\n"
    );
    // a client may have closed the connection
    let _ = stream.write_all((head + body).as_bytes());
}
