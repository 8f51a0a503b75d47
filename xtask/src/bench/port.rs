//! Published ports: bulk transfer, requests per second and many connections, by every way that leads to a
//! program, beside the same program in the host's network.
//!
//! All are asked at an address of the machine's own that is not its loopback device's, where there is one:
//! the kernel leads nothing else.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
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

/// The ordinary user that measures.
const USER: &str = "smidge-ranges";

/// A way that leads to a program.
struct Way {
    name: &'static str,
    /// What a shell calls the engine.
    engine: String,
    /// Options of `run`, with PORT for the host's port and INSIDE for the program's.
    options: &'static str,
    /// Whether it is another engine's.
    is_peer: bool,
    /// The least that is wanted of bulk and of requests, of what the host's network has.
    goals: [f64; 2],
}

/// All measurements.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    make_images(bench)?;
    bench.smidge(&["network", "create", "led"])?;
    let rows = measure_all(bench);
    bench.smidge(&["network", "rm", "led"])?;
    rows
}

fn measure_all(bench: &Bench) -> Outcome<Vec<Row>> {
    let address = own_address();
    let ways = ways(bench)?;
    let bulk = measured(bench, &ways, ("source", 9000), |port| {
        download(&address, port).map_err(|error| error.to_string())
    })?;
    let requests = measured(bench, &ways, ("pages", 8080), |port| {
        let text = bench.sh(&format!("wrk -t1 -c32 -d3s http://{address}:{port}/"))?;
        said(&text, "Requests/sec:").ok_or(text)
    })?;
    let mut rows = Vec::new();
    for (which, figures) in [bulk, requests].iter().enumerate() {
        let (what, unit) = [("bulk", " Gbit/s"), ("requests", "/s")][which];
        let Some(Some(host)) = figures.first().copied() else {
            return Err("the host's network was not measured".to_owned());
        };
        for (way, figure) in ways.iter().zip(figures).skip(1) {
            let Some(figure) = *figure else { continue };
            let goal = way.goals[which];
            rows.push(Row {
                what: format!("published port, {what}: {}", way.name),
                smidge: format!("{figure:.1}{unit}"),
                peer: format!("host network {host:.1}{unit}: {:.2} ×", figure / host),
                goal: match goal > 0.0 {
                    true => verdict(figure >= goal * host, &format!("≥ {goal} ×")),
                    false => String::new(),
                },
            });
        }
    }
    rows.extend(held(bench, &address, &ways)?);
    Ok(rows)
}

/// Every way that there is here, the host's network first.
fn ways(bench: &Bench) -> Outcome<Vec<Way>> {
    const PORT: &str = "-p PORT:INSIDE";
    let way = |name: &'static str, engine: &str, options, goals| Way {
        name,
        engine: engine.to_owned(),
        options,
        is_peer: name.starts_with("docker") || name.starts_with("podman"),
        goals,
    };
    let own = bench.shell();
    let bridge = "--network led -p PORT:INSIDE";
    let mut ways = vec![
        way("host network", &own, "--network host", [0.0; 2]),
        way("kernel (bridge)", &own, bridge, [0.95; 2]),
        way("proxy", &own, PORT, [0.0; 2]),
        way(
            "direct",
            &own,
            "--publish-mode direct -p PORT:INSIDE",
            [0.95; 2],
        ),
    ];
    if docker::answers() {
        bench.sh("docker build -q -t pages pages && docker build -q -t source sourced")?;
        ways.push(way("docker", "docker", PORT, [0.0; 2]));
    }
    if let Some(rootless) = rootless_smidge(bench) {
        let direct = "--publish-mode direct -p PORT:INSIDE";
        ways.push(way("proxy, rootless", &rootless, PORT, [0.9, 0.0]));
        ways.push(way("direct, rootless", &rootless, direct, [0.95; 2]));
    }
    if let Some(podman) = rootless_podman(bench) {
        let pasta = "--network pasta -p PORT:INSIDE";
        ways.push(way("podman rootless", &podman, PORT, [0.0; 2]));
        ways.push(way("podman pasta", &podman, pasta, [0.0; 2]));
    }
    Ok(ways)
}

/// An address of this machine's that others use.
fn own_address() -> String {
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    own.map_or("127.0.0.1".to_owned(), |own| own.ip().to_string())
}

/// Starts an image by every way, measures them by turns, and stops them: the medians, none of what fails.
fn measured(
    bench: &Bench,
    ways: &[Way],
    (image, inside): (&str, u16),
    measure: impl Fn(u16) -> Outcome<f64>,
) -> Outcome<Vec<Option<f64>>> {
    let mut servers = Vec::new();
    for way in ways {
        let port = match way.options.contains("PORT") {
            true => free_port()?,
            false => inside,
        };
        servers.push(match start(bench, way, (image, inside, port)) {
            Ok(()) => Some(port),
            Err(error) => {
                eprintln!("not measured: {}: {error}", way.name);
                None
            }
        });
    }
    let mut figures = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((server, figures), way) in servers.iter().zip(&mut figures).zip(ways) {
            match server.map(&measure) {
                Some(Ok(figure)) => figures.push(figure),
                Some(Err(error)) => eprintln!("not measured: {}: {error}", way.name),
                None => {}
            }
        }
    }
    for (way, port) in ways.iter().zip(servers) {
        if let Some(port) = port {
            bench.sh(&format!("{} rm -f box{port}", way.engine))?;
        }
    }
    let medians = figures.into_iter().map(|figures| {
        let complete = figures.len() == ROUNDS;
        complete.then(|| median(figures))
    });
    Ok(medians.collect())
}

fn start(bench: &Bench, way: &Way, (image, inside, port): (&str, u16, u16)) -> Outcome {
    let options = way.options.replace("PORT", &port.to_string());
    let options = options.replace("INSIDE", &inside.to_string());
    let engine = &way.engine;
    bench
        .sh(&format!(
            "{engine} run -d --name box{port} {options} {image}"
        ))
        .map(drop)
}

/// 10,000 connections at once: errors, and the memory of what leads them in.
fn held(bench: &Bench, address: &str, ways: &[Way]) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for way in ways
        .iter()
        .filter(|way| !way.is_peer && way.options.contains("PORT"))
    {
        let port = free_port()?;
        start(bench, way, ("pages", 8080, port))?;
        let text = bench.sh(&format!(
            "ulimit -n 20000; wrk -t2 -c10000 -d5s --timeout 30 http://{address}:{port}/ & sleep 4; \
             {0} inspect box{port} --format 'Pid: {{{{.State.Pid}}}}'; wait",
            way.engine
        ))?;
        let pss = said(&text, "Pid:").map_or(0.0, supervisors_memory);
        bench.sh(&format!("{} rm -f box{port}", way.engine))?;
        let errors = text.lines().find(|line| line.contains("Socket errors"));
        rows.push(Row {
            what: format!("10,000 connections: {}", way.name),
            smidge: errors.map_or("no error".to_owned(), |line| line.trim().to_owned()),
            peer: format!("supervisor and helpers {pss:.1} MB afterwards"),
            goal: verdict(errors.is_none(), "no error"),
        });
    }
    Ok(rows)
}

/// What a container's supervisor and its helpers weigh, in MB (proportional set size).
fn supervisors_memory(program: f64) -> f64 {
    let parent = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        line.unwrap_or("0").trim().to_owned()
    };
    let program = format!("{program:.0}");
    let supervisor = parent(&program);
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let helpers = children.split_whitespace().filter(|pid| *pid != program);
    let all = helpers.chain([supervisor.as_str()]).filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        said(&text, "Pss:")
    });
    all.sum::<f64>() / 1024.0
}

/// The number behind a word at the beginning of a line.
fn said(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Gigabits a second of one download to its end.
fn download(address: &str, port: u16) -> std::io::Result<f64> {
    let mut stream = TcpStream::connect((address, port))?;
    let mut buffer = vec![0; 1 << 18];
    let (start, mut bytes) = (Instant::now(), 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes as f64 * 8e-9 / start.elapsed().as_secs_f64()),
            read => bytes += read,
        }
    }
}

/// Stores the C program as the image `source` and the Go server as `pages`, and makes directories that others
/// can build them from.
fn make_images(bench: &Bench) -> Outcome {
    let program = bench.compile("source", SOURCE)?;
    bench.smidge(&[
        "build",
        "-q",
        "-t",
        "source",
        &program.display().to_string(),
    ])?;
    bench.sh("mkdir -p sourced && cp source sourced/ && printf 'FROM scratch\\nCOPY source /source\\nCMD [\"/source\"]\\n' > sourced/Dockerfile")?;
    make_pages(bench)
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

/// The beginning of a shell command of the ordinary user's, who has a directory that everybody can read from.
fn as_user(bench: &Bench) -> Option<String> {
    tool::read("id", ["-u", USER])
        .ok()
        .filter(|_| tool::is_superuser())?;
    bench
        .sh(&format!(
            "mkdir -p /tmp/{USER} && chown {USER} /tmp/{USER} && chmod 755 /tmp/{USER}"
        ))
        .ok()?;
    Some(format!(
        "cd /tmp && setpriv --reuid={USER} --regid={USER} --init-groups env HOME=/home/{USER} XDG_RUNTIME_DIR=/tmp/{USER}"
    ))
}

/// smidge as an ordinary user, with the images: a shell command's beginning.
fn rootless_smidge(bench: &Bench) -> Option<String> {
    let user = as_user(bench)?;
    let copy = format!("/tmp/{USER}/smidge");
    let own = bench.shell();
    bench
        .sh(&format!("install -m 755 {} {copy}", bench.smidge.display()))
        .ok()?;
    let smidge = format!("{user} {copy} --root /tmp/{USER}/store");
    bench
        .sh(&format!("{own} save source pages > /tmp/{USER}/images.tar && {smidge} load -q -i /tmp/{USER}/images.tar"))
        .map_err(|error| eprintln!("not measured: rootless: {error}"))
        .ok()?;
    Some(smidge)
}

/// Podman as an ordinary user, with the images built: a shell command's beginning.
fn rootless_podman(bench: &Bench) -> Option<String> {
    let podman = format!("{} podman --cgroup-manager cgroupfs", as_user(bench)?);
    bench.sh(&format!("chmod 700 /tmp/{USER} && rm -rf /tmp/{USER}-images && mkdir /tmp/{USER}-images && cp -r pages sourced /tmp/{USER}-images && ({podman} build -q -t pages /tmp/{USER}-images/pages) && {podman} build -q -t source /tmp/{USER}-images/sourced")).ok()?;
    Some(podman)
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
