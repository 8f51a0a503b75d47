//! Published ports: bulk transfer and requests per second, beside a direct connection.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::timing::verdict;
use super::{Bench, Row, docker};
use crate::tool::{self, Outcome};

/// Serves 1 GiB to whoever connects to port 9000, and pages on port 8080 like the examples.
const SOURCE: &str = r#"#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static char block[1 << 18];
int main(void) {
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(9000) };
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l, (void *)&a, sizeof a) || listen(l, 16)) return 1;
    for (;;) {
        int c = accept(l, 0, 0);
        for (long left = 1L << 31; left > 0;) {
            long n = write(c, block, sizeof block);
            if (n <= 0) break;
            left -= n;
        }
        close(c);
    }
}"#;

/// Rounds of each measurement, of which the median counts.
const ROUNDS: usize = 5;

/// Both measurements.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    let mut rows = vec![bulk(bench)?];
    rows.extend(requests(bench)?);
    Ok(rows)
}

fn bulk(bench: &Bench) -> Outcome<Row> {
    let program = bench.compile("source", SOURCE)?;
    bench.smidge(&[
        "build",
        "-q",
        "-t",
        "source",
        &program.display().to_string(),
    ])?;
    let published = free_port()?;
    bench.smidge(&[
        "run",
        "-d",
        "--name",
        "source",
        "-p",
        &format!("{published}:9000"),
        "source",
    ])?;
    bench.smidge(&[
        "run",
        "-d",
        "--name",
        "direct",
        "--network",
        "host",
        "source",
    ])?;
    let measured = (|| {
        let (mut through, mut direct) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            through.push(download(published)?);
            direct.push(download(9000)?);
        }
        Ok((median(through), median(direct)))
    })();
    bench.smidge(&["rm", "-f", "source", "direct"])?;
    let (through, direct): (f64, f64) = measured.map_err(|e: std::io::Error| e.to_string())?;
    Ok(Row {
        what: "published port, bulk".to_owned(),
        smidge: format!("{through:.1} Gbit/s"),
        peer: format!("direct {direct:.1} Gbit/s: {:.2} ×", through / direct),
        goal: verdict(through >= 0.8 * direct, "≥ 0.8 ×"),
    })
}

/// Gigabits a second of one download to its end.
fn download(port: u16) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut buffer = vec![0; 1 << 18];
    let (start, mut bytes) = (Instant::now(), 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes as f64 * 8e-9 / start.elapsed().as_secs_f64()),
            read => bytes += read,
        }
    }
}

fn requests(bench: &Bench) -> Outcome<Vec<Row>> {
    make_pages(bench)?;
    let own = bench.shell();
    let smidge = served(bench, &own, "-p PORT:8080")?;
    let mut peers = vec![(
        "--network host",
        served(bench, &own, "--network host"),
        None,
    )];
    if docker::answers() {
        bench.sh("docker build -q -t pages pages")?;
        peers.push(("docker", served(bench, "docker", "-p PORT:8080"), Some(1.0)));
    }
    if let Some(podman) = rootless_podman(bench) {
        let measured = served(bench, &podman, "-p PORT:8080");
        peers.push(("podman rootless", measured, Some(1.0)));
    }
    let mut rows = Vec::new();
    for (name, peer, goal) in peers {
        match peer {
            Err(error) => eprintln!("not measured: {name}: {error}"),
            Ok(peer) => rows.push(Row {
                what: "published port, requests".to_owned(),
                smidge: format!("{smidge:.0}/s"),
                peer: format!("{name} {peer:.0}/s: {:.2} ×", smidge / peer),
                goal: goal.map_or_else(String::new, |goal| {
                    verdict(smidge >= goal * peer, &format!("> {goal} ×"))
                }),
            }),
        }
    }
    Ok(rows)
}

/// Stores the Go server as the image `pages`, and makes a directory that others can build it from.
pub(super) fn make_pages(bench: &Bench) -> Outcome {
    let source = tool::root().join("examples/go/helloworld");
    let source = source.display().to_string();
    let output = format!("type=rootfs,dest={}", bench.path("pages").display());
    bench.smidge(&["build", "-q", "-t", "pages", "--as", "go", &source])?;
    bench.smidge(&["build", "-q", "--output", &output, "--as", "go", &source])?;
    bench.sh("printf 'FROM scratch\\nCOPY helloworld /helloworld\\nCMD [\"/helloworld\"]\\n' > pages/Dockerfile")?;
    Ok(())
}

/// Requests a second that an engine's container of `pages` answers.
fn served(bench: &Bench, engine: &str, network: &str) -> Outcome<f64> {
    let start = format!("{engine} run -d --rm --name pages {network} pages");
    wrk(bench, &start, &format!("{engine} rm -f pages"))
}

/// Podman as an ordinary user, with the image built: a shell command's beginning.
fn rootless_podman(bench: &Bench) -> Option<String> {
    let user = "smidge-ranges";
    tool::read("id", ["-u", user])
        .ok()
        .filter(|_| tool::is_superuser())?;
    let podman = format!(
        "setpriv --reuid={user} --regid={user} --init-groups env HOME=/home/{user} XDG_RUNTIME_DIR=/tmp/{user} podman --cgroup-manager cgroupfs"
    );
    bench.sh(&format!("mkdir -p /tmp/{user} && chown {user} /tmp/{user} && chmod 700 /tmp/{user} && rm -rf /tmp/{user}-pages && cp -r pages /tmp/{user}-pages && cd /tmp && {podman} build -q -t pages /tmp/{user}-pages")).ok()?;
    Some(format!("cd /tmp && {podman}"))
}

/// Starts a server, asks it with wrk, and stops it: requests a second, the median of three runs.
fn wrk(bench: &Bench, start: &str, stop: &str) -> Outcome<f64> {
    let port = if start.contains("PORT") {
        free_port()?
    } else {
        8080
    };
    bench.sh(&start.replace("PORT", &port.to_string()))?;
    let measured = (0..3)
        .map(|_| {
            let text = bench.sh(&format!("wrk -t1 -c32 -d3s http://127.0.0.1:{port}/"))?;
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("Requests/sec:"));
            line.and_then(|n| n.trim().parse::<f64>().ok()).ok_or(text)
        })
        .collect::<Outcome<Vec<f64>>>();
    bench.sh(stop)?;
    Ok(median(measured?))
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(|error| error.to_string())
}
