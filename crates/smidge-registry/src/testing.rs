//! A server that does what a test says, and clients of it.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smidge_image::{Descriptor, Digest};

use crate::agent::Bundles;
use crate::retry::Policy;
use crate::wire::{Surroundings, Wire};
use crate::{Access, Credentials, Endpoint, Found, Repository, Scheme, Secret, Tls};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Method and target.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.target.split('?').next() == Some(path)
    }

    /// A parameter of the query, as it is on the wire.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// What happens after, or in place of, an answer's body.
#[derive(Clone, Debug)]
enum Then {
    Go,
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes, but the connection stays.
    Silence(usize),
    /// Nothing comes at all, but the connection stays.
    Hold,
    /// These bytes come in place of everything.
    Raw(Vec<u8>),
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    then: Then,
    length: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            then: Then::Go,
            length: true,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Without a length: chunked.
    pub(crate) fn chunked(mut self) -> Self {
        self.length = false;
        self
    }

    /// Broken off after so many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.then = Then::Cut(after);
        self
    }

    /// Silent after so many bytes of the body.
    pub(crate) fn silent(mut self, after: usize) -> Self {
        self.then = Then::Silence(after);
        self
    }

    /// Silent from the start.
    pub(crate) fn hold() -> Self {
        let mut reply = Self::new(200);
        reply.then = Then::Hold;
        reply
    }

    /// Not HTTP at all.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        let mut reply = Self::new(200);
        reply.then = Then::Raw(bytes.to_vec());
        reply
    }

    /// No answer: the connection ends.
    pub(crate) fn gone() -> Self {
        Self::raw(b"")
    }

    fn send(&self, seen: &Seen, stream: &mut TcpStream) -> std::io::Result<bool> {
        if let Then::Raw(bytes) = &self.then {
            stream.write_all(bytes)?;
            return Ok(false);
        }
        if let Then::Hold = self.then {
            let _ = stream.read(&mut [0; 1]);
            return Ok(false);
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let told = |(name, _): &(String, String)| name == "content-length";
        if !self.length {
            head += "transfer-encoding: chunked\r\n";
        } else if !self.headers.iter().any(told) {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if seen.method == "HEAD" {
            return Ok(true);
        }
        let end = match self.then {
            Then::Cut(after) | Then::Silence(after) => after.min(self.body.len()),
            _ => self.body.len(),
        };
        if self.length {
            stream.write_all(&self.body[..end])?;
        } else {
            for chunk in self.body[..end].chunks(1000) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            if matches!(self.then, Then::Go) {
                stream.write_all(b"0\r\n\r\n")?;
            }
        }
        if let Then::Silence(_) = self.then {
            // Until the other side gives up.
            let _ = stream.read(&mut [0; 1]);
        }
        Ok(matches!(self.then, Then::Go))
    }
}

/// How a server behaves.
pub(crate) trait Behaviour: Send + 'static {
    /// After how many bytes of a request's body the connection ends, without an answer.
    fn cut(&mut self, _head: &Seen) -> Option<usize> {
        None
    }

    /// What it answers before the body came, in place of taking it.
    fn early(&mut self, _head: &Seen) -> Option<Reply> {
        None
    }

    fn answer(&mut self, seen: &Seen) -> Reply;

    /// Is told of a body that was cut.
    fn lost(&mut self, _seen: &Seen) {}
}

impl<F: FnMut(&Seen) -> Reply + Send + 'static> Behaviour for F {
    fn answer(&mut self, seen: &Seen) -> Reply {
        self(seen)
    }
}

/// A server on this machine, plain HTTP.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(behaviour: impl Behaviour) -> Self {
        Self::start_at("127.0.0.1:0", behaviour)
    }

    pub(crate) fn start_at(address: &str, behaviour: impl Behaviour) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let connections = Arc::new(AtomicUsize::new(0));
        let shared = (
            Arc::clone(&seen),
            Arc::clone(&stop),
            Arc::clone(&connections),
        );
        let thread = thread::spawn(move || {
            let (seen, stop, connections) = shared;
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (behaviour, seen) = (Arc::clone(&behaviour), Arc::clone(&seen));
                // A client that goes away in the middle is no fault of the server's.
                thread::spawn(move || serve(stream?, &behaviour, &seen));
            }
        });
        Self {
            address,
            seen,
            stop,
            connections,
            thread: Some(thread),
        }
    }

    /// Answers one after the other, then nothing but 500.
    pub(crate) fn replies(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        Self::start(move |_: &Seen| replies.pop_front().unwrap_or(Reply::new(500)))
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Where clients find the repository `a/b`.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.host(),
            path: "a/b".to_owned(),
            credentials: self.host(),
            scheme: Scheme::Loopback,
            tls: Tls::default(),
            digests_only: false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(
    stream: TcpStream,
    behaviour: &Mutex<impl Behaviour>,
    log: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    // TLS: no line of text. Servers answer it as they answer nonsense.
    if input.fill_buf()?.first() == Some(&0x16) {
        return output.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    }
    while let Some(mut seen) = read_head(&mut input)? {
        let early = behaviour.lock().unwrap().early(&seen);
        if let Some(reply) = early {
            log.lock().unwrap().push(seen.clone());
            reply.send(&seen, &mut output)?;
            return Ok(());
        }
        let cut = behaviour.lock().unwrap().cut(&seen);
        let length = seen
            .header("content-length")
            .map_or(0, |n| n.parse().unwrap());
        seen.body = vec![0; cut.unwrap_or(length).min(length)];
        input.read_exact(&mut seen.body)?;
        if cut.is_some() {
            behaviour.lock().unwrap().lost(&seen);
            log.lock().unwrap().push(seen);
            return Ok(());
        }
        log.lock().unwrap().push(seen.clone());
        let reply = behaviour.lock().unwrap().answer(&seen);
        if !reply.send(&seen, &mut output)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_head(input: &mut impl BufRead) -> std::io::Result<Option<Seen>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen = Seen {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Ok(Some(seen));
        };
        seen.headers
            .push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

/// Patience for tests: as much as ever with servers, none with clocks.
pub(crate) fn policy() -> Policy {
    Policy {
        attempts: 4,
        base: Duration::from_millis(1),
        longest: Duration::from_millis(10),
        ..Policy::default()
    }
}

/// A client without credentials.
pub(crate) fn wire() -> Arc<Wire> {
    wire_with(policy(), HashMap::new())
}

/// A client with credentials by the name they are kept under.
pub(crate) fn wire_with(policy: Policy, credentials: HashMap<String, Credentials>) -> Arc<Wire> {
    let surroundings = Surroundings {
        bundles: Bundles::default(),
        proxy: Box::new(|_, _| None),
        tls: Box::new(|_| Ok(Tls::default())),
        credentials: Box::new(move |endpoint| {
            let found = credentials.get(&endpoint.credentials).cloned();
            Ok(found.map(|credentials| Found {
                credentials,
                username: None,
                origin: "user `me` from `auth.json`".to_owned(),
            }))
        }),
    };
    Arc::new(Wire::new(surroundings, policy))
}

pub(crate) fn basic() -> Credentials {
    Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new("pass:word"),
    }
}

/// `basic()` as it is on the wire.
pub(crate) const BASIC: &str = "Basic bWU6cGFzczp3b3Jk";

pub(crate) fn repository<'c>(
    wire: &'c Arc<Wire>,
    servers: &[&Server],
    access: Access,
) -> Repository<'c> {
    let endpoints = servers.iter().map(|server| server.endpoint()).collect();
    Repository::new(wire, endpoints, access).unwrap()
}

/// A blob whose bytes all differ from their neighbours.
pub(crate) fn blob(length: usize) -> (Vec<u8>, Descriptor) {
    let some: Vec<u8> = (0..251).map(|at: usize| (at * 7 % 251) as u8).collect();
    let mut bytes = some.repeat(length / some.len() + 1);
    bytes.truncate(length);
    let descriptor = Descriptor::new("x", Digest::of(&bytes), length as u64);
    (bytes, descriptor)
}
