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

/// Rounds of each measurement, in each of which every way has its turn. What counts is the median of what a way
/// has of what the host's network had in the same round.
const ROUNDS: usize = 7;

/// Of how many times a peer's requests an ordinary user's proxy is to answer at least.
const PEERS: [(&str, f64); 2] = [(PASTA, 2.0), (ROOTLESSPORT, 1.0)];

const PASTA: &str = "pasta";
const ROOTLESSPORT: &str = "podman's rootlessport";
const ROOTLESS_PROXY: &str = "proxy, rootless";

/// Lets what follows open the tunnel device, as everybody may on other machines, and sees to it that podman
/// does not see the v2 half of a hybrid cgroup layout.
const TUNNEL: &str = r#"mknod -m 666 tun c 10 200 2>/dev/null
mount --bind tun /dev/net/tun
umount /sys/fs/cgroup/unified 2>/dev/null
cd /tmp && exec "$@"
"#;

/// The ordinary user that measures.
const USER: &str = "smidge-ranges";

/// A way that leads to a program.
struct Way {
    name: &'static str,
    /// What a shell calls smidge; empty if it is not smidge's.
    engine: String,
    /// Shell commands that start a server and end it, with PORT for the host's port, INSIDE for the program's,
    /// IMAGE and PROGRAM for what it is.
    start: String,
    stop: String,
    /// The least that is wanted of bulk and of requests, of what the host's network has.
    goals: [f64; 2],
}

impl Way {
    /// One that an engine like Docker leads.
    fn of(name: &'static str, engine: &str, options: &str, goals: [f64; 2]) -> Self {
        let is_own = engine.contains("smidge --root");
        Self {
            name,
            engine: if is_own { engine } else { "" }.to_owned(),
            start: format!("{engine} run -d --name boxPORT {options} IMAGE"),
            stop: format!("{engine} rm -f boxPORT"),
            goals,
        }
    }

    /// Where it is asked. pasta gives the program the machine's address, so what asks from there for much gets no
    /// answer.
    fn address<'a>(&self, own: &'a str) -> &'a str {
        if self.name == PASTA { "127.0.0.1" } else { own }
    }

    /// What to call of a server.
    fn filled(&self, template: &str, (image, inside, port): (&str, u16, u16)) -> String {
        let program = match image {
            "pages" => format!("/tmp/{USER}-images/pages/helloworld"),
            _ => format!("/tmp/{USER}-images/sourced/source"),
        };
        template
            .replace("PORT", &port.to_string())
            .replace("INSIDE", &inside.to_string())
            .replace("IMAGE", image)
            .replace("PROGRAM", &program)
    }
}

/// Figures by round, of each way; none of one that failed.
type Figures = Vec<Option<Vec<f64>>>;

/// All measurements.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    make_images(bench)?;
    let address = own_address();
    let ways = ways(bench)?;
    let bulk = measured(bench, &ways, ("source", 9000), |way, port| {
        download(way.address(&address), port).map_err(|error| error.to_string())
    })?;
    let requests = measured(bench, &ways, ("pages", 8080), |way, port| {
        let address = way.address(&address);
        let text = bench.sh(&format!("wrk -t1 -c32 -d3s http://{address}:{port}/"))?;
        said(&text, "Requests/sec:").ok_or(text)
    })?;
    let mut rows = rows(&ways, &bulk, 0)?;
    rows.extend(self::rows(&ways, &requests, 1)?);
    rows.extend(held(bench, &address, &ways)?);
    Ok(rows)
}

/// What came of bulk (0) or requests (1).
fn rows(ways: &[Way], figures: &Figures, which: usize) -> Outcome<Vec<Row>> {
    let (what, unit) = [("bulk", " Gbit/s"), ("requests", "/s")][which];
    let Some(Some(host)) = figures.first() else {
        return Err("the host's network was not measured".to_owned());
    };
    let ratio = |figures: &Vec<f64>| {
        let rounds = figures.iter().zip(host);
        median(rounds.map(|(own, host)| own / host).collect())
    };
    let of = |name: &str| {
        let at = ways.iter().position(|way| way.name == name)?;
        figures.get(at)?.as_ref().map(ratio)
    };
    let peers = PEERS
        .iter()
        .filter_map(|(name, factor)| Some((*name, *factor, of(name)?)));
    let peers: Vec<_> = peers.collect();
    let mut rows = Vec::new();
    for (way, own) in ways.iter().zip(figures).skip(1) {
        let Some(own) = own else { continue };
        let goal = way.goals[which];
        let share = ratio(own);
        let goal = match which {
            _ if goal > 0.0 => verdict(share >= goal, &format!("≥ {goal} ×")),
            1 if way.name == ROOTLESS_PROXY => {
                let told = peers.iter().map(|(name, factor, theirs)| {
                    verdict(share >= factor * theirs, &format!("≥ {factor} × {name}"))
                });
                told.collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        };
        let (own, host) = (median(own.clone()), median(host.clone()));
        rows.push(Row {
            what: format!("published port, {what}: {}", way.name),
            smidge: format!("{share:.2} × ({own:.1}{unit})"),
            peer: format!("host network {host:.1}{unit}"),
            goal,
        });
    }
    Ok(rows)
}

/// Every way that there is here, the host's network first.
fn ways(bench: &Bench) -> Outcome<Vec<Way>> {
    const PORT: &str = "-p PORT:INSIDE";
    const PROXY: &str = "--publish-mode proxy -p PORT:INSIDE";
    const DIRECT: &str = "--publish-mode direct -p PORT:INSIDE";
    let own = bench.shell();
    let mut ways = vec![
        Way::of("host network", &own, "--network host", [0.0; 2]),
        Way::of("kernel", &own, PORT, [0.95; 2]),
        Way::of("proxy", &own, PROXY, [0.0; 2]),
        Way::of("direct", &own, DIRECT, [0.95; 2]),
    ];
    if docker::answers() {
        bench.sh("docker build -q -t pages pages && docker build -q -t source sourced")?;
        ways.push(Way::of("docker", "docker", PORT, [0.0; 2]));
    }
    if let Some(rootless) = rootless_smidge(bench) {
        ways.push(Way::of(ROOTLESS_PROXY, &rootless, PORT, [0.9, 0.0]));
        ways.push(Way::of("direct, rootless", &rootless, DIRECT, [0.95; 2]));
    }
    ways.extend(pasta(bench));
    if let Some(podman) = rootless_podman(bench) {
        let options = format!("--network slirp4netns:port_handler=rootlesskit {PORT}");
        ways.push(Way::of(ROOTLESSPORT, &podman, &options, [0.0; 2]));
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
    measure: impl Fn(&Way, u16) -> Outcome<f64>,
) -> Outcome<Figures> {
    let mut servers = Vec::new();
    for way in ways {
        let port = match way.start.contains("PORT:") {
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
            match server.map(|port| measure(way, port)) {
                Some(Ok(figure)) => figures.push(figure),
                Some(Err(error)) => eprintln!("not measured: {}: {error}", way.name),
                None => {}
            }
        }
    }
    for (way, port) in ways.iter().zip(servers) {
        if let Some(port) = port {
            bench.sh(&way.filled(&way.stop, (image, inside, port)))?;
        }
    }
    let complete = |figures: Vec<f64>| (figures.len() == ROUNDS).then_some(figures);
    Ok(figures.into_iter().map(complete).collect())
}

fn start(bench: &Bench, way: &Way, server: (&str, u16, u16)) -> Outcome {
    bench.sh(&way.filled(&way.start, server)).map(drop)
}

/// 10,000 connections at once: errors, and the memory of what leads them in.
fn held(bench: &Bench, address: &str, ways: &[Way]) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for way in ways
        .iter()
        .filter(|way| !way.engine.is_empty() && way.start.contains("PORT:"))
    {
        let port = free_port()?;
        start(bench, way, ("pages", 8080, port))?;
        let text = bench.sh(&format!(
            "ulimit -n 20000; wrk -t2 -c10000 -d5s --timeout 30 http://{address}:{port}/ & sleep 4; \
             {0} inspect box{port} --format 'Pid: {{{{.State.Pid}}}}'; wait",
            way.engine
        ))?;
        let pss = said(&text, "Pid:").map_or(0.0, supervisors_memory);
        bench.sh(&way.filled(&way.stop, ("pages", 8080, port)))?;
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

/// The beginning of a shell command of the ordinary user's who may open the tunnel device, and finds the programs
/// and what images of them are built from below `/tmp`.
fn with_tunnel(bench: &Bench) -> Option<String> {
    let user = as_user(bench)?;
    let (_, command) = user.split_once("&& ")?;
    let script = bench.path("tunnel");
    super::write(&script, TUNNEL.as_bytes()).ok()?;
    bench
        .sh(&format!("chmod 700 /tmp/{USER} && rm -rf /tmp/{USER}-images && mkdir /tmp/{USER}-images && cp -r pages sourced /tmp/{USER}-images"))
        .ok()?;
    Some(format!("unshare --mount sh {} {command}", script.display()))
}

/// pasta around a server, without an engine.
fn pasta(bench: &Bench) -> Option<Way> {
    if !tool::found("pasta") {
        return None;
    }
    let user = with_tunnel(bench)?;
    let pid = bench.path("pasta-PORT");
    let pid = pid.display();
    Some(Way {
        name: PASTA,
        engine: String::new(),
        start: format!(
            "{user} pasta -f --config-net -t PORT:INSIDE -u none -T none -U none -- PROGRAM \
             > /dev/null 2>&1 & echo $! > {pid}; sleep 1"
        ),
        stop: format!("pid=$(cat {pid}); kill -9 $(cat /proc/$pid/task/$pid/children) $pid"),
        goals: [0.0; 2],
    })
}

/// Podman as an ordinary user, with the images built: a shell command's beginning.
fn rootless_podman(bench: &Bench) -> Option<String> {
    if !tool::found("podman") {
        return None;
    }
    let podman = format!("{} podman --cgroup-manager cgroupfs", with_tunnel(bench)?);
    let build = |name, dir| format!("{podman} build -q -t {name} /tmp/{USER}-images/{dir}");
    let (pages, source) = (build("pages", "pages"), build("source", "sourced"));
    // Its containers begin where an earlier podman left a process.
    bench
        .sh(&format!("{podman} system migrate && {pages} && {source}"))
        .map_err(|error| eprintln!("not measured: {ROOTLESSPORT}: {error}"))
        .ok()?;
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
