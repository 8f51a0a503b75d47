//! A proxy that knows where hosts are that no resolver knows: all on this machine.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A proxy for the rest of the process's life.
pub(crate) struct Proxy {
    pub(crate) url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&lines);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&log);
                // Whoever hangs up has had enough.
                thread::spawn(move || serve(stream?, &log));
            }
        });
        Self { url, lines }
    }

    /// First lines of what was asked.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut input = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    input.read_line(&mut line)?;
    log.lock().unwrap().push(line.trim_end().to_owned());
    let words: Vec<&str> = line.split_whitespace().collect();
    let [method, target, _] = words[..] else {
        return Ok(());
    };
    let tunnel = method == "CONNECT";
    let rest = target.trim_start_matches("http://");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, port) = authority.rsplit_once(':').unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", port.parse().unwrap()))?;
    if tunnel {
        while input.read_line(&mut line)? > 2 {}
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    } else {
        write!(server, "{method} {path} HTTP/1.1\r\n")?;
    }
    let (mut back, mut out) = (server.try_clone()?, client);
    let answers = thread::spawn(move || {
        let _ = io::copy(&mut back, &mut out);
        let _ = out.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut input, &mut server);
    let _ = server.shutdown(Shutdown::Both);
    let _ = answers.join();
    Ok(())
}
