//! A reverse proxy that goes wrong as it is told to, and remembers what it was asked.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::craft;
use crate::wire::Message;

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is reset after so many bytes of the answer's body.
    Reset(usize),
    /// The connection is closed after so many bytes of the answer's body.
    Cut(usize),
    /// The connection is reset after so many bytes of the request's body.
    ResetRequest(usize),
    /// The connection is closed without an answer.
    Refuse,
    /// The answer is complete, and its body is shorter than it ought to be.
    Shorten(usize),
    /// The answer's body is longer than it ought to be.
    Lengthen(usize),
    /// One byte of the answer's body is another.
    Corrupt(usize),
    /// The answer comes so many bytes at a time.
    Trickle(usize),
    /// Nothing more comes after so many bytes of the answer's body; the connection stays open.
    Stall(usize),
    /// An answer in place of the registry's.
    Answer(Message),
    /// The blob is elsewhere: at this URL's place, below which its digest is its name.
    Redirect(u16, String),
    /// The whole answer in place of a part.
    IgnoreRange,
    /// A header of the answer has another value, or is missing.
    Header(&'static str, Option<String>),
    /// A part that begins elsewhere than was asked.
    WrongRange,
}

/// When something goes wrong.
struct Rule {
    method: &'static str,
    path: &'static str,
    /// Requests that meet the rule and are spared.
    spared: usize,
    /// Requests that it still applies to.
    left: usize,
    fault: Fault,
}

/// What answers if nothing goes wrong.
enum Upstream {
    Registry(SocketAddr),
    /// A registry's directory of blobs: a storage of objects, as clouds have them. Nobody has to log in.
    Blobs(PathBuf),
}

/// The proxy. It ends when it is dropped, and so does everything that hangs.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    upstream: Upstream,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<Message>,
    /// Answers that stopped half way.
    stalled: usize,
    over: bool,
}

impl Proxy {
    /// In front of a registry.
    pub(crate) fn before(registry: &crate::registry::Registry) -> Self {
        let upstream = Upstream::Registry(registry.address());
        Self::start(Ipv4Addr::LOCALHOST, upstream)
    }

    /// In front of a registry, at an address of this machine.
    pub(crate) fn before_at(registry: &crate::registry::Registry, host: [u8; 4]) -> Self {
        Self::start(host.into(), Upstream::Registry(registry.address()))
    }

    /// A storage of a registry's blobs, on another host than the registry.
    pub(crate) fn storage(registry: &crate::registry::Registry) -> Self {
        let upstream = Upstream::Blobs(registry.blobs());
        Self::start(Ipv4Addr::new(127, 0, 0, 2), upstream)
    }

    fn start(host: Ipv4Addr, upstream: Upstream) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in smidge_tests::incoming(&listener) {
                if serving.state.lock().unwrap().over {
                    return;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away in the middle is what this is about.
                std::thread::spawn(move || drop(serving.serve(&stream)));
            }
        });
        Self { shared, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to write before a repository's name.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Lets something go wrong with the next `times` requests of a method whose path contains a text.
    pub(crate) fn fault(
        &self,
        (method, path): (&'static str, &'static str),
        times: usize,
        fault: Fault,
    ) -> &Self {
        self.later((method, path), 0, times, fault)
    }

    /// The same after so many requests that go well.
    pub(crate) fn later(
        &self,
        (method, path): (&'static str, &'static str),
        spared: usize,
        times: usize,
        fault: Fault,
    ) -> &Self {
        self.shared.state.lock().unwrap().rules.push(Rule {
            method,
            path,
            spared,
            left: times,
            fault,
        });
        self
    }

    /// Lets everything go well from now on, and forgets what was asked.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.rules.clear();
        state.requests.clear();
    }

    /// The requests of a method whose path contains a text, in the order in which they came.
    pub(crate) fn requests(&self, method: &str, path: &str) -> Vec<Message> {
        let state = self.shared.state.lock().unwrap();
        let meets = |r: &&Message| r.method() == method && r.target().contains(path);
        state.requests.iter().filter(meets).cloned().collect()
    }

    /// How many requests there were in all.
    pub(crate) fn count(&self) -> usize {
        self.shared.state.lock().unwrap().requests.len()
    }

    /// Waits until so many answers have stopped half way.
    pub(crate) fn wait_for_stalls(&self, count: usize) {
        let state = self.shared.state.lock().unwrap();
        let waiting = |state: &mut State| state.stalled < count;
        let limit = Duration::from_secs(60);
        let (_state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, limit, waiting)
            .unwrap();
        assert!(!waited.timed_out(), "nothing stalled");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().over = true;
        self.shared.changed.notify_all();
        // Whoever waits for a connection sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(mut request) = Message::read_head(&mut reader)? {
            let fault = self.fault(&request);
            if request.header("expect").is_some() {
                (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if let Some(Fault::ResetRequest(after)) = fault {
                let length = request.header("content-length");
                let length = length.map_or(u64::MAX, |length| length.parse().unwrap());
                let part = reader.by_ref().take(length.min(after as u64));
                io::copy(&mut { part }, &mut io::sink())?;
                return Err(reset(stream)?);
            }
            request.read_body(&mut reader)?;
            if !self.answer(stream, &request, fault.as_ref())? {
                return stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    /// Remembers a request, and finds what is to go wrong with it.
    fn fault(&self, request: &Message) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.requests.push(request.clone());
        let rule = state.rules.iter_mut().find(|rule| {
            rule.left > 0 && rule.method == request.method() && request.target().contains(rule.path)
        })?;
        if rule.spared > 0 {
            rule.spared -= 1;
            return None;
        }
        rule.left -= 1;
        Some(rule.fault.clone())
    }

    /// Answers a request; tells whether the connection goes on.
    fn answer(
        &self,
        stream: &TcpStream,
        request: &Message,
        fault: Option<&Fault>,
    ) -> io::Result<bool> {
        let mut forwarded = request.clone();
        forwarded.set("expect", None);
        let answer = match fault {
            Some(Fault::Refuse) => return Ok(false),
            Some(Fault::Answer(answer)) => answer.clone(),
            Some(Fault::Redirect(status, base)) => {
                let path = request.target().split('?').next().unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default();
                let signed = format!("{base}/{name}?signature=s1gned-s3cret");
                Message::answer(*status, "").with("Location", signed)
            }
            Some(Fault::IgnoreRange) => {
                forwarded.set("range", None);
                self.upstream(&forwarded)?
            }
            Some(Fault::WrongRange) => {
                forwarded.set("range", Some("bytes=1-".to_owned()));
                self.upstream(&forwarded)?
            }
            _ => self.upstream(&forwarded)?,
        };
        self.send(stream, request, answer, fault)
    }

    fn send(
        &self,
        mut stream: &TcpStream,
        request: &Message,
        mut answer: Message,
        fault: Option<&Fault>,
    ) -> io::Result<bool> {
        if request.method() == "HEAD" {
            if let Some(Fault::Header(name, value)) = fault {
                answer.set(name, value.clone());
            }
            stream.write_all(answer.head().as_bytes())?;
            return Ok(true);
        }
        answer.set("content-length", None);
        match fault {
            Some(Fault::Shorten(by)) => {
                answer.body.truncate(answer.body.len().saturating_sub(*by));
            }
            Some(Fault::Lengthen(by)) => answer.body.extend(vec![0; *by]),
            Some(Fault::Corrupt(at)) => {
                let at = at % answer.body.len().max(1);
                answer.body[at] ^= 1;
            }
            Some(Fault::Header(name, value)) => answer.set(name, value.clone()),
            _ => {}
        }
        if answer.header("content-length").is_none() {
            answer.set("content-length", Some(answer.body.len().to_string()));
        }
        stream.write_all(answer.head().as_bytes())?;
        let sent = |bytes: usize| &answer.body[..bytes.min(answer.body.len())];
        match fault {
            Some(Fault::Reset(after)) => {
                stream.write_all(sent(*after))?;
                return Err(reset(stream)?);
            }
            Some(Fault::Cut(after)) => {
                stream.write_all(sent(*after))?;
                return Ok(false);
            }
            Some(Fault::Stall(after)) => {
                stream.write_all(sent(*after))?;
                self.stall();
                return Ok(false);
            }
            Some(Fault::Trickle(step)) => {
                for piece in answer.body.chunks(*step) {
                    stream.write_all(piece)?;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            _ => stream.write_all(&answer.body)?,
        }
        // A length that is wrong ends the connection: nobody knows where the next answer begins.
        Ok(answer.header("content-length") == Some(&answer.body.len().to_string()))
    }

    /// Does nothing until all is over.
    fn stall(&self) {
        let mut state = self.state.lock().unwrap();
        state.stalled += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.over).unwrap());
    }

    /// What comes if nothing goes wrong.
    fn upstream(&self, request: &Message) -> io::Result<Message> {
        match &self.upstream {
            Upstream::Registry(address) => request.ask(*address),
            Upstream::Blobs(dir) => Ok(stored(dir, request)),
        }
    }
}

/// A blob of a registry's storage, or a part of it.
fn stored(dir: &std::path::Path, request: &Message) -> Message {
    let path = request.target().split('?').next().unwrap_or_default();
    let hex = path.rsplit(':').next().unwrap_or_default();
    let Ok(bytes) = std::fs::read(dir.join(&hex[..2]).join(hex).join("data")) else {
        return Message::answer(404, "no such object");
    };
    assert_eq!(craft::digest(&bytes), format!("sha256:{hex}"));
    let start = request.header("range").and_then(|range| {
        let range = range.strip_prefix("bytes=")?;
        range.split('-').next()?.parse::<usize>().ok()
    });
    match start {
        None => Message::answer(200, bytes),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Message::answer(206, &bytes[start..]).with("Content-Range", range)
        }
    }
}

/// Lets a connection end with a reset when it is dropped, for which this is the error.
fn reset(stream: &TcpStream) -> io::Result<io::Error> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(io::ErrorKind::ConnectionReset.into())
}
