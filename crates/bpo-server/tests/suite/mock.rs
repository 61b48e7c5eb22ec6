//! A server on a local port that answers according to a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;

/// The response to one request.
pub enum Reply {
    /// Sends these bytes and closes the connection.
    Bytes(String),
    /// Sends nothing until the client closes the connection.
    Silence,
    /// Sends the first text, and then the second until the client closes the connection.
    Endless(String, String),
}

impl Reply {
    pub fn json(status: u16, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
        Self::Bytes(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    pub fn answer(text: &str) -> Self {
        let body = format!(r#"{{"choices":[{{"message":{{"content":{text:?}}},"finish_reason":"stop"}}]}}"#);
        Self::json(200, &body)
    }

    pub fn hang_up() -> Self {
        Self::Bytes(String::new())
    }

    pub fn silence() -> Self {
        Self::Silence
    }

    /// A head and a body without an end.
    pub fn endless_body() -> Self {
        Self::Endless("HTTP/1.1 200 X\r\n\r\n{".into(), " ".repeat(1 << 16))
    }

    /// A head without an end.
    pub fn endless_head() -> Self {
        Self::Endless("HTTP/1.1 200 X\r\n".into(), "name: value\r\n".repeat(1 << 10))
    }

    pub fn with_header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.replacen("\r\n", &format!("\r\n{name}: {value}\r\n"), 1)),
            other => other,
        }
    }

    /// Closes the connection in the middle of the body.
    pub fn cut_off(self) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes[..bytes.len() - 20].to_owned()),
            other => other,
        }
    }
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<String>>,
    stopped: AtomicBool,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

pub struct MockServer {
    pub url: String,
    address: std::net::SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl MockServer {
    /// A server that answers the n-th request (from 0) with `script(n)`.
    pub fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(move |call, _| script(call))
    }

    /// A server that answers with the prompt, in groups of `group` at a time; the prompt "fail"
    /// gets status 400.
    pub fn start_echo(group: usize) -> Self {
        let barrier = Barrier::new(group);
        Self::start_with(move |_, request| {
            barrier.wait();
            let prompt = prompt(request);
            match prompt.as_str() {
                "fail" => Reply::json(400, "asked to fail"),
                prompt => Reply::answer(prompt),
            }
        })
    }

    /// A server at `address`, which answers as that of [`start`](Self::start).
    pub fn start_at(address: &str, script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind(address).unwrap(), move |call, _| script(call))
    }

    fn start_with(script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    fn listen(listener: TcpListener, script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let script = Arc::new(script);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (state, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || serve(stream.unwrap(), &state, &*script));
            }
        });
        Self { url: format!("http://{address}"), address, state, thread: Some(thread) }
    }

    /// Every request so far, head and body.
    pub fn seen(&self) -> Vec<String> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The largest number of requests that were open at one time.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// Closes the port; the address now refuses connections.
    pub fn into_closed(mut self) -> String {
        self.stop();
        self.url.clone()
    }

    fn stop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // The listener stops at its next connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The user message of a request.
pub fn prompt(request: &str) -> String {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_owned()
}

fn serve(mut stream: TcpStream, state: &State, script: &dyn Fn(usize, &str) -> Reply) {
    let at_once = state.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_at_once.fetch_max(at_once, Ordering::SeqCst);
    let request = read_request(&stream);
    let call = {
        let mut seen = state.seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let reply = script(call, &request);
    // After the response, the client may open its next connection at any moment.
    state.at_once.fetch_sub(1, Ordering::SeqCst);
    match reply {
        Reply::Bytes(bytes) => stream.write_all(bytes.as_bytes()).unwrap_or(()),
        Reply::Silence => {
            let _ = stream.read(&mut [0; 1]);
        }
        Reply::Endless(start, more) => {
            let mut sent = stream.write_all(start.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(more.as_bytes());
            }
        }
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        // A TLS handshake is not UTF-8.
        match reader.read_line(&mut head) {
            Ok(0) | Err(_) => return head,
            Ok(_) => {}
        }
    }
    let lower = head.to_lowercase();
    let length =
        lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}
