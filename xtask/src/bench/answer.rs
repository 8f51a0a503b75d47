//! From a command to the first answer of a web server.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use super::timing::{Goal, row};
use super::{Bench, Row, port};
use crate::tool::{self, Outcome};

/// How often each is started.
const ROUNDS: usize = 20;

/// What the server listens on.
const PORT: u16 = 8080;

/// How long it may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// The Go server in a container with a published port, beside the same program started directly.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    port::make_pages(bench)?;
    let (mut ours, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(alone(bench)?);
        ours.push(contained(bench)?);
    }
    Ok(vec![row(
        "`run -d -p` to the first answer of a Go web server",
        port::median(ours),
        ("the program alone", port::median(direct)),
        &Goal::AtMost(4.0),
    )])
}

fn alone(bench: &Bench) -> Outcome<f64> {
    let begin = Instant::now();
    let mut server = tool::command(bench.path("pages/helloworld"));
    let mut server = server
        .stdout(std::process::Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start the server: {error}"))?;
    let answered = first_answer(begin);
    let _ = server.kill();
    let _ = server.wait();
    answered
}

fn contained(bench: &Bench) -> Outcome<f64> {
    let published = format!("127.0.0.1:{PORT}:{PORT}");
    let begin = Instant::now();
    bench.smidge(&[
        "run", "-d", "--rm", "--name", "first", "-p", &published, "pages",
    ])?;
    let answered = first_answer(begin);
    bench.smidge(&["rm", "-f", "first"])?;
    answered
}

/// Asks every millisecond until there is an answer: seconds since `begin`.
fn first_answer(begin: Instant) -> Outcome<f64> {
    while begin.elapsed() < PATIENCE {
        if ask().is_some_and(|answer| answer.contains("Hello")) {
            return Ok(begin.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the server never answered".to_owned())
}

fn ask() -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
