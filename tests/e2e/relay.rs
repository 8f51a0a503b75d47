//! Proxies that pass bytes on: one that gives a server another address, and one that clients are told
//! to use by their environment.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::wire::Message;

/// Gives a server another address.
pub(crate) struct Relay {
    address: SocketAddr,
    over: Arc<Mutex<bool>>,
}

impl Relay {
    /// At an address, before a server.
    pub(crate) fn start(address: &str, server: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(Mutex::new(false));
        serve(listener, Arc::clone(&over), move |client| {
            tie(&client, &smidge_tests::connect(server)?)
        });
        Self { address, over }
    }

    /// What to write before a repository's name.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        end(&self.over, self.address);
    }
}

/// A proxy as `HTTPS_PROXY` and `HTTP_PROXY` name them.
pub(crate) struct Forward {
    address: SocketAddr,
    over: Arc<Mutex<bool>>,
    requests: Arc<Mutex<Vec<Message>>>,
}

impl Forward {
    /// One that knows some servers by names that nobody else knows.
    pub(crate) fn start(names: &[(&str, SocketAddr)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(Mutex::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let names: BTreeMap<String, SocketAddr> = names
            .iter()
            .map(|(name, server)| ((*name).to_owned(), *server))
            .collect();
        let seen = Arc::clone(&requests);
        serve(listener, Arc::clone(&over), move |client| {
            forward(&client, &names, &seen)
        });
        Self {
            address,
            over,
            requests,
        }
    }

    /// Where it is, for the environment.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it is, with somebody's password.
    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        format!("http://{user}:{password}@{}", self.address)
    }

    /// What it was asked.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        end(&self.over, self.address);
    }
}

fn serve(
    listener: TcpListener,
    over: Arc<Mutex<bool>>,
    answer: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in smidge_tests::incoming(&listener) {
            if *over.lock().unwrap() {
                return;
            }
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
}

fn end(over: &Mutex<bool>, address: SocketAddr) {
    *over.lock().unwrap() = true;
    // Whoever waits for a connection sees that it is over.
    let _ = TcpStream::connect(address);
}

/// Passes bytes on in both directions.
fn tie(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    let pass = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pass(one, other));
        pass(other, one);
    });
    Ok(())
}

fn forward(
    client: &TcpStream,
    names: &BTreeMap<String, SocketAddr>,
    seen: &Mutex<Vec<Message>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    while let Some(mut request) = Message::read_head(&mut reader)? {
        seen.lock().unwrap().push(request.clone());
        let target = request.target().to_owned();
        let named = |host: &str| names.get(host).copied();
        if request.method() == "CONNECT" {
            let Some(server) = named(&target) else {
                return Message::answer(502, "unknown host").send(&mut &*client);
            };
            let server = smidge_tests::connect(server)?;
            (&mut &*client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
            return tie(client, &server);
        }
        request.read_body(&mut reader)?;
        let rest = target.strip_prefix("http://").unwrap_or(&target);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let Some(server) = named(host) else {
            return Message::answer(502, "unknown host").send(&mut &*client);
        };
        request.line = request.line.replace(&target, path);
        let answer = request.ask(server)?;
        if request.method() == "HEAD" {
            (&mut &*client).write_all(answer.head().as_bytes())?;
        } else {
            answer.send(&mut &*client)?;
        }
    }
    Ok(())
}
