//! A web server that answers `/args` with the arguments it was started with.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
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

/// Answers one request and closes the connection, without cutting the answer off: a socket that is
/// closed with unread input resets the connection, so the rest of the input is read first.
fn serve(mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut input = BufReader::new(io::Read::take(client, 1 << 20));
    let mut request = String::new();
    input.read_line(&mut request)?;
    let mut line = String::new();
    while !matches!(line.as_str(), "\r\n" | "\n") {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
    }
    client.write_all(response(&request).as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    io::copy(&mut input, &mut io::sink())?;
    Ok(())
}

/// The response to a request's first line, `GET /args HTTP/1.1`.
fn response(request: &str) -> String {
    let mut words = request.split_whitespace();
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (status, body) = match target.split('?').next() {
        Some("/args") => ("200 OK", arguments()),
        _ => ("404 Not Found", "not found: try /args\n".to_owned()),
    };
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The process's arguments in brackets, as Go prints a list.
fn arguments() -> String {
    let arguments: Vec<_> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    format!("[{}]\n", arguments.join(" "))
}
