//! A web server that answers `/` with one line of text.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

mod signal;

fn main() -> io::Result<()> {
    signal::exit_when_asked();
    let listener = TcpListener::bind(("0.0.0.0", 8080))?;
    println!("Started, serving at 8080");
    for client in listener.incoming().flatten() {
        std::thread::spawn(move || serve(&client));
    }
    Ok(())
}

/// Answers one client's requests until it has no more.
fn serve(mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut requests = BufReader::new(client);
    while let Some(request) = read_request(&mut requests)? {
        let (status, body) = match request.path.as_str() {
            "/" => ("200 OK", "Hello World from Rust!\n"),
            _ => ("404 Not Found", "not found\n"),
        };
        let connection = if request.keep_alive {
            "keep-alive"
        } else {
            "close"
        };
        let mut response = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len(),
        );
        if request.method != "HEAD" {
            response.push_str(body);
        }
        client.write_all(response.as_bytes())?;
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    keep_alive: bool,
}

/// Reads the head of a request and skips its body; `None` at the end of the connection, and for
/// what is not HTTP.
fn read_request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    // No head needs more. The body is skipped outside of this limit.
    let mut head = io::Read::take(&mut *input, 64 << 10);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Ok(None);
    };
    let mut request = Request {
        method: method.to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        keep_alive: version == "HTTP/1.1",
    };
    let mut body = 0;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "connection" => request.keep_alive = !value.eq_ignore_ascii_case("close"),
            "content-length" => body = value.parse().unwrap_or(0),
            // Where a chunked body ends is not worth knowing here.
            "transfer-encoding" => request.keep_alive = false,
            _ => {}
        }
    }
    io::copy(&mut io::Read::take(input, body), &mut io::sink())?;
    Ok(Some(request))
}
