//! What images weigh on their way: config, manifest and compressed layers, in bytes.

use super::timing::verdict;
use super::{Bench, Row, docker};
use crate::tool::{self, Outcome};

/// The example images, and the Go ones beside what Docker would push.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, options, limit) in [
        ("helloworld", &["--small"][..], 600_000),
        ("argserver", &["--small", "--as", "cargo"], 600_000),
        ("tiny", &[], 1_400),
    ] {
        let size = transfer(bench, name, options)?;
        rows.push(Row {
            what: format!("`examples/{name}`, to transfer"),
            smidge: format!("{size} bytes"),
            peer: String::new(),
            goal: verdict(size <= limit, &format!("≤ {limit}")),
        });
    }
    for name in ["go/helloworld", "go/argserver"] {
        let size = transfer(bench, name, &["--as", "go"])?;
        let peer = docker_push(bench, name)?;
        let (shown, goal) = match peer {
            None => (String::new(), String::new()),
            Some(peer) => (
                format!(
                    "docker build + push {peer} bytes: {:.3} ×",
                    size as f64 / peer as f64
                ),
                verdict(size as f64 <= 0.95 * peer as f64, "≤ 0.95 ×"),
            ),
        };
        rows.push(Row {
            what: format!("`examples/{name}`, to transfer"),
            smidge: format!("{size} bytes"),
            peer: shown,
            goal,
        });
    }
    Ok(rows)
}

/// Builds an example, saves it as an OCI layout, and adds up its blobs.
fn transfer(bench: &Bench, example: &str, options: &[&str]) -> Outcome<u64> {
    let source = tool::root()
        .join("examples")
        .join(example)
        .display()
        .to_string();
    let layout = bench.path("layout");
    let _ = std::fs::remove_dir_all(&layout);
    let output = format!("type=oci,dest={}", layout.display());
    let mut args = vec!["build", "-q", "--output", &output];
    args.extend(options);
    args.push(&source);
    bench.smidge(&args)?;
    sum(bench, "layout/blobs/sha256")
}

fn sum(bench: &Bench, dir: &str) -> Outcome<u64> {
    let sizes = bench.sh(&format!("stat -c %s {dir}/*"))?;
    Ok(sizes
        .lines()
        .filter_map(|size| size.parse::<u64>().ok())
        .sum())
}

/// What Docker sends for the same program, compiled statically and stripped as its users do:
/// the blobs that a registry receives.
fn docker_push(bench: &Bench, example: &str) -> Outcome<Option<u64>> {
    if !docker::answers() || !tool::found("docker-registry") {
        return Ok(None);
    }
    let source = tool::root().join("examples").join(example);
    let script = format!(
        "set -e; rm -rf pushed registry; mkdir -p pushed registry
         (cd {} && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -buildid=' -o {}/pushed/program .)
         printf 'FROM scratch\\nCOPY program /program\\nCMD [\"/program\"]\\n' > pushed/Dockerfile
         printf 'version: 0.1\\nstorage: {{filesystem: {{rootdirectory: registry}}}}\\nhttp: {{addr: 127.0.0.1:5987}}\\n' > registry.yml
         docker-registry serve registry.yml >/dev/null 2>&1 & registry=$!
         trap 'kill $registry' EXIT
         docker build -q -t 127.0.0.1:5987/pushed pushed >/dev/null
         for n in 1 2 3 4 5 6 7 8 9; do curl -s http://127.0.0.1:5987/v2/ >/dev/null && break; sleep 0.3; done
         docker push -q 127.0.0.1:5987/pushed >/dev/null",
        source.display(),
        bench.dir.display()
    );
    bench.sh(&script)?;
    let sizes = bench.sh("stat -c %s registry/docker/registry/v2/blobs/sha256/*/*/data")?;
    Ok(Some(
        sizes
            .lines()
            .filter_map(|size| size.parse::<u64>().ok())
            .sum(),
    ))
}
