//! The least of an HTTP client that shows everything: what is sent is written here byte by byte, and
//! what comes back is kept as it came.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A server that never answers fails the case, at last.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Request<'b> {
    address: SocketAddr,
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<&'b [u8]>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    shown: String,
}

/// What a case found wrong.
pub(crate) type Verdict = Result<(), String>;

impl<'b> Request<'b> {
    pub(crate) fn new(address: SocketAddr, method: &'static str, target: &str) -> Self {
        // A location may be absolute.
        let target = target
            .strip_prefix("http://")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
            .unwrap_or(target);
        Self {
            address,
            method,
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds to the query, whether there is one or not.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target = format!("{}{separator}{name}={value}", self.target);
        self
    }

    pub(crate) fn body(mut self, body: &'b [u8]) -> Self {
        self.body = Some(body);
        self
    }

    /// The request's head, as it is sent.
    pub(crate) fn head(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.address
        );
        let chunked = self
            .headers
            .iter()
            .any(|(name, _)| name == "Transfer-Encoding");
        let stated = self
            .headers
            .iter()
            .any(|(name, _)| name == "Content-Length");
        let sends = self.body.is_some() || matches!(self.method, "POST" | "PUT" | "PATCH");
        if sends && !chunked && !stated {
            let length = self.body.map_or(0, <[u8]>::len);
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }

    /// Sends it on a connection of its own and reads the answer to its end.
    pub(crate) fn send(self) -> Result<Response, String> {
        let request = self.header("Connection", "close");
        let shown = format!("{} {}", request.method, request.target);
        request
            .exchange()
            .map_err(|error| format!("{shown}: {error}"))
    }

    fn exchange(&self) -> io::Result<Response> {
        let mut stream = connect(self.address)?;
        stream.write_all(self.head().as_bytes())?;
        // Who refuses a body may not read it: what it answered counts all the same.
        let _ = stream.write_all(self.body.unwrap_or_default());
        let mut reader = BufReader::new(stream);
        let mut response = read_response(&mut reader, self.method == "HEAD")?;
        response.shown = format!("{} {}", self.method, self.target);
        Ok(response)
    }
}

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer; `bodiless` is one to HEAD.
pub(crate) fn read_response(
    reader: &mut BufReader<TcpStream>,
    bodiless: bool,
) -> io::Result<Response> {
    let response = read_head(reader, "")?;
    read_body(reader, response, bodiless)
}

/// As [`read_response`], of an answer whose first byte was read.
pub(crate) fn read_response_after(
    reader: &mut BufReader<TcpStream>,
    first: u8,
) -> io::Result<Response> {
    let response = read_head(reader, &char::from(first).to_string())?;
    read_body(reader, response, false)
}

fn read_body(
    reader: &mut BufReader<TcpStream>,
    mut response: Response,
    bodiless: bool,
) -> io::Result<Response> {
    let length = response.header("content-length").map(str::to_owned);
    let chunked = response.header("transfer-encoding") == Some("chunked");
    let none = bodiless || matches!(response.status, 100..=199 | 204 | 304);
    if none {
        return Ok(response);
    }
    match length {
        _ if chunked => read_chunks(reader, &mut response.body)?,
        Some(length) => {
            let length: u64 = length.parse().map_err(io::Error::other)?;
            let read = reader.take(length).read_to_end(&mut response.body)?;
            if read as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        None => drop(reader.read_to_end(&mut response.body)?),
    }
    Ok(response)
}

fn read_head(reader: &mut BufReader<TcpStream>, begun: &str) -> io::Result<Response> {
    let status = format!("{begun}{}", read_line(reader)?);
    let number = status.split(' ').nth(1).unwrap_or_default();
    let mut response = Response {
        status: number
            .parse()
            .map_err(|_| io::Error::other(format!("no status line: {status:?}")))?,
        headers: Vec::new(),
        body: Vec::new(),
        shown: String::new(),
    };
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        response
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if reader.take(1 << 16).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(reader)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.take(size).read_to_end(body)?;
        read_line(reader)?;
        if size == 0 {
            return Ok(());
        }
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        let found = self.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| &**value)
    }

    /// Asserts a status.
    pub(crate) fn is(self, status: u16) -> Result<Self, String> {
        self.among(&[status])
    }

    /// Asserts one of several statuses.
    pub(crate) fn among(self, statuses: &[u16]) -> Result<Self, String> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        Err(self.complaint(&format!("expected {statuses:?}")))
    }

    /// Asserts that a header is there, and gives it.
    pub(crate) fn must(&self, name: &str) -> Result<String, String> {
        match self.header(name) {
            Some(value) => Ok(value.to_owned()),
            None => Err(self.complaint(&format!("no header `{name}`"))),
        }
    }

    /// Asserts a header.
    pub(crate) fn has(self, name: &str, expected: impl ToString) -> Result<Self, String> {
        let (value, expected) = (self.must(name)?, expected.to_string());
        match value == expected {
            true => Ok(self),
            false => Err(self.complaint(&format!("`{name}` is `{value}`, expected `{expected}`"))),
        }
    }

    /// Asserts that a header is not there.
    pub(crate) fn lacks(self, name: &str) -> Result<Self, String> {
        match self.header(name) {
            None => Ok(self),
            Some(value) => Err(self.complaint(&format!("`{name}` is there: `{value}`"))),
        }
    }

    /// Asserts the body.
    pub(crate) fn holds(self, body: &[u8]) -> Result<Self, String> {
        match self.body == body {
            true => Ok(self),
            false => Err(self.complaint(&format!("expected {} other bytes", body.len()))),
        }
    }

    /// Asserts the specification's document of errors, with one of these codes.
    pub(crate) fn says(self, codes: &[&str]) -> Result<Self, String> {
        let document = self.json()?;
        let errors = document["errors"].as_array().cloned().unwrap_or_default();
        let first = errors.first().and_then(|error| error["code"].as_str());
        match first {
            Some(code) if codes.contains(&code) => Ok(self),
            _ => Err(self.complaint(&format!("expected one of the codes {codes:?}"))),
        }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| self.complaint(&format!("no JSON: {error}")))
    }

    pub(crate) fn complaint(&self, what: &str) -> String {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]).into_owned();
        format!("{}: {what}; got {} {body}", self.shown, self.status)
    }
}

/// Asserts something of a case's own.
pub(crate) fn ensure(sound: bool, complaint: impl FnOnce() -> String) -> Verdict {
    match sound {
        true => Ok(()),
        false => Err(complaint()),
    }
}
