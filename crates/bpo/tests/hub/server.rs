//! A server that speaks the routes of the Hugging Face Hub, with a second one that stores large files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A request that one of the two servers got.
#[derive(Clone, Debug)]
pub struct Request {
    pub is_storage: bool,
    pub method: String,
    pub path: String,
    pub range: Option<u64>,
    pub authorization: Option<String>,
}

/// The model on the server, and how the server misbehaves.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    /// `org/name`.
    pub id: String,
    /// Another name, which redirects to this one.
    pub old_id: String,
    /// Branches and tags with their commits.
    pub revisions: BTreeMap<String, String>,
    pub files: BTreeMap<String, Vec<u8>>,
    /// The token that the hub asks for.
    pub token: Option<String>,
    /// Status of all answers of the hub.
    pub status: Option<u16>,
    /// The storage closes this many connections after 1000 bytes.
    pub broken: usize,
    /// The storage ignores ranges.
    pub without_ranges: bool,
    /// The storage sends these bytes.
    pub stored: Option<Vec<u8>>,
    /// Replaced headers of the hub.
    pub headers: BTreeMap<&'static str, String>,
    /// More names in the list of files.
    pub also_listed: Vec<String>,
    /// The list has no sizes.
    pub without_sizes: bool,
}

pub struct HubServer {
    pub url: String,
    state: Arc<Mutex<(Repository, Vec<Request>)>>,
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Repository {
    /// `org/tiny` with the files of a directory.
    pub fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
        Self {
            id: "org/tiny".into(),
            old_id: "org/old".into(),
            revisions: [("main".to_owned(), COMMIT.to_owned())].into(),
            files,
            ..Self::default()
        }
    }

    fn commit(&self, revision: &str) -> Option<&String> {
        self.revisions.get(revision).or_else(|| self.revisions.values().find(|commit| *commit == revision))
    }
}

impl HubServer {
    pub fn start(repository: Repository) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let storage = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", hub.local_addr().unwrap());
        let stored_at = format!("http://{}", storage.local_addr().unwrap());
        let state = Arc::new(Mutex::new((repository, Vec::new())));
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let (state, stored_at) = (state.clone(), stored_at.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (state, stored_at) = (state.clone(), stored_at.clone());
                    std::thread::spawn(move || serve(stream.unwrap(), is_storage, &state, &stored_at));
                }
            });
        }
        Self { url, state }
    }

    pub fn change(&self, change: impl FnOnce(&mut Repository)) {
        change(&mut self.state.lock().unwrap().0);
    }

    /// Returns the requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().1)
    }
}

fn serve(mut stream: TcpStream, is_storage: bool, state: &Mutex<(Repository, Vec<Request>)>, storage: &str) {
    // one request per connection
    let Some(request) = read_request(&stream, is_storage) else { return };
    let repository = {
        let mut state = state.lock().unwrap();
        state.1.push(request.clone());
        let repository = state.0.clone();
        if is_storage {
            state.0.broken = state.0.broken.saturating_sub(1);
        }
        repository
    };
    if is_storage {
        store(&mut stream, &request, &repository);
    } else {
        hub(&mut stream, &request, &repository, storage);
    }
}

fn read_request(stream: &TcpStream, is_storage: bool) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { is_storage, method, path, range: None, authorization: None };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { return Some(request) };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let start = value.trim().strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
                request.range = Some(start.parse().unwrap());
            }
            "authorization" => request.authorization = Some(value.trim().to_owned()),
            "accept-encoding" => assert_eq!(value.trim(), "identity"),
            _ => {}
        }
    }
}

fn hub(stream: &mut TcpStream, request: &Request, repository: &Repository, storage: &str) {
    let expected = repository.token.as_ref().map(|token| format!("Bearer {token}"));
    if let Some(status) = repository.status {
        return answer(stream, request, status, &[], b"");
    }
    if expected.is_some() && request.authorization != expected {
        return answer(stream, request, 401, &[], b"");
    }
    if request.path.contains(&repository.old_id) {
        let moved = request.path.replace(&repository.old_id, &repository.id);
        return answer(stream, request, 307, &[("Location", moved)], b"");
    }
    let (id, api) = (&repository.id, format!("/api/models/{}/revision/", repository.id));
    if let Some(revision) = request.path.strip_prefix(&api) {
        let revision = revision.strip_suffix("?blobs=true").unwrap().replace("%2F", "/");
        let Some(commit) = repository.commit(&revision) else {
            return answer(stream, request, 404, &[], b"");
        };
        let mut siblings = Vec::new();
        for (name, bytes) in &repository.files {
            siblings.push(match repository.without_sizes {
                true => serde_json::json!({"rfilename": name}),
                false => serde_json::json!({"rfilename": name, "size": bytes.len()}),
            });
        }
        siblings.extend(repository.also_listed.iter().map(|name| serde_json::json!({"rfilename": name})));
        let sha = repository.headers.get("sha").unwrap_or(commit);
        let listing = serde_json::json!({"id": id, "sha": sha, "siblings": siblings});
        return answer(stream, request, 200, &[], listing.to_string().as_bytes());
    }
    let resolved =
        request.path.strip_prefix(&format!("/{id}/resolve/")).and_then(|rest| rest.split_once('/'));
    let found = resolved
        .and_then(|(revision, name)| Some((repository.commit(revision)?, name, repository.files.get(name)?)));
    let Some((commit, name, bytes)) = found else { return answer(stream, request, 404, &[], b"") };
    let mut headers = vec![("X-Repo-Commit", commit.clone())];
    let is_stored = name.ends_with(".safetensors");
    if is_stored {
        headers.push(("X-Linked-Etag", format!("\"{}\"", hex(&Sha256::digest(bytes)))));
        headers.push(("X-Linked-Size", bytes.len().to_string()));
        headers.push(("Location", format!("{storage}/{name}?signature=secret")));
    } else {
        let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        headers.push(("ETag", format!("W/\"{}\"", hex(&Sha1::digest(blob)))));
    }
    for (name, value) in &mut headers {
        if let Some(replaced) = repository.headers.get(name) {
            value.clone_from(replaced);
        }
    }
    answer(stream, request, if is_stored { 302 } else { 200 }, &headers, if is_stored { b"" } else { bytes });
}

fn store(stream: &mut TcpStream, request: &Request, repository: &Repository) {
    let name = request.path[1..].split('?').next().unwrap();
    let bytes = repository.stored.as_ref().unwrap_or_else(|| &repository.files[name]);
    let start = request.range.filter(|_| !repository.without_ranges).unwrap_or(0) as usize;
    if start > bytes.len() {
        return answer(stream, request, 416, &[], b"");
    }
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    let (status, headers) = if start > 0 { (206, vec![("Content-Range", range)]) } else { (200, Vec::new()) };
    if repository.broken > 0 {
        let head = head(status, &headers, bytes.len() - start);
        let end = (start + 1000).min(bytes.len());
        let _ = stream.write_all(&[head.as_bytes(), &bytes[start..end]].concat());
        return;
    }
    answer(stream, request, status, &headers, &bytes[start..]);
}

fn answer(stream: &mut TcpStream, request: &Request, status: u16, headers: &[(&str, String)], body: &[u8]) {
    let head = head(status, headers, body.len());
    let body = if request.method == "HEAD" { b"" } else { body };
    // the client may have closed the connection
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

fn head(status: u16, headers: &[(&str, String)], length: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head + "\r\n"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
