//! HTTP messages as bytes: the fixtures' own, so that they can also be wrong.

use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;

/// A request's or an answer's first line, headers and body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// `GET /v2/ HTTP/1.1`, `HTTP/1.1 200 OK`.
    pub(crate) line: String,
    /// Names as they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A message without headers.
    pub(crate) fn new(line: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            line: line.to_owned(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// An answer.
    pub(crate) fn answer(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(&format!("HTTP/1.1 {status} As Told"), body)
    }

    /// The same with one more header.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|(_, v)| v.as_str())
    }

    /// Replaces a header, or takes it away.
    pub(crate) fn set(&mut self, name: &str, value: Option<String>) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        if let Some(value) = value {
            self.headers.push((name.to_owned(), value));
        }
    }

    /// A request's method.
    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// A request's path and query.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1);
        status.and_then(|s| s.parse().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}: {}", self.line, self.text()))
    }

    /// Reads the first line and the headers; `None` if the other side has nothing more to say.
    pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut message = Self::default();
        if reader.read_line(&mut message.line)? == 0 {
            return Ok(None);
        }
        message.line.truncate(message.line.trim_end().len());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    let (name, value) = (name.to_owned(), value.trim().to_owned());
                    message.headers.push((name, value));
                }
                None => return Ok(Some(message)),
            }
        }
    }

    /// Reads the body that the headers announce. An answer without a length goes to the end.
    pub(crate) fn read_body(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        let chunked = self.header("transfer-encoding").is_some();
        let length = self.header("content-length").and_then(|l| l.parse().ok());
        if chunked {
            self.body = read_chunks(reader)?;
            self.set("transfer-encoding", None);
        } else if let Some(length) = length {
            self.body = vec![0; length];
            reader.read_exact(&mut self.body)?;
        } else if self.line.starts_with("HTTP/") {
            reader.read_to_end(&mut self.body)?;
        }
        Ok(())
    }

    /// The first line and headers as they are sent.
    pub(crate) fn head(&self) -> String {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n"
    }

    /// Sends all of it, with a `Content-Length` that is right.
    pub(crate) fn send(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut message = self.clone();
        if message.header("content-length").is_none() {
            message.set("content-length", Some(self.body.len().to_string()));
        }
        let mut bytes = message.head().into_bytes();
        bytes.extend(&self.body);
        writer.write_all(&bytes)?;
        writer.flush()
    }

    /// Sends a request to a server, and gives its answer.
    pub(crate) fn ask(&self, server: SocketAddr) -> io::Result<Self> {
        let mut stream = smidge_tests::connect(server)?;
        let mut request = self.clone();
        if request.header("host").is_none() {
            request.set("host", Some(server.to_string()));
        }
        request.set("connection", Some("close".to_owned()));
        request.send(&mut stream)?;
        let mut reader = io::BufReader::new(stream);
        let mut answer = Self::read_head(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let bodiless = request.method() == "HEAD" || matches!(answer.status(), 204 | 304);
        if !bodiless {
            answer.read_body(&mut reader)?;
        }
        Ok(answer)
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, line.clone()))?;
        reader.by_ref().take(size).read_to_end(&mut body)?;
        let mut end = String::new();
        reader.read_line(&mut end)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
