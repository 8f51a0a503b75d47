//! From image to running process, and what a running container costs.

use super::timing::{Goal, medians, row, timed, verdict};
use super::{Bench, Row, docker};
use crate::tool::{self, Outcome};

/// A program that ends at once.
pub(super) const EXIT: &str = "int main(void) { return 0; }\n";
/// A program that waits.
pub(super) const PAUSE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

/// Podman's own limits are more than root may have on some machines.
const LIMITS: &str = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024";

/// Start to exit of a static program that does nothing, and the memory of an idle supervisor.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    let exit = bench.compile("exit0", EXIT)?;
    bench.smidge(&["build", "-q", "-t", "exit0", &exit.display().to_string()])?;
    let mut rows = as_root(bench)?;
    rows.extend(rootless(bench)?);
    rows.push(memory(bench)?);
    Ok(rows)
}

fn as_root(bench: &Bench) -> Outcome<Vec<Row>> {
    bundle(bench)?;
    bench
        .sh("mkdir -p start && cp exit0 start/exit0 && printf 'FROM scratch\\nCOPY exit0 /exit0\\nCMD [\"/exit0\"]\\n' > start/Dockerfile")?;
    let mut commands = vec![
        timed("smidge", format!("{} run --rm exit0", bench.shell())),
        timed("crun", "crun run --bundle bundle bench".to_owned()),
        timed(
            "unshare",
            "unshare --pid --fork --mount --uts --ipc --net --cgroup chroot bundle/rootfs /exit0"
                .to_owned(),
        ),
    ];
    let podman = "podman --cgroup-manager cgroupfs";
    bench.sh(&format!("{podman} build -q -t exit0 start"))?;
    commands.push(timed(
        "podman",
        format!("{podman} run --rm --network none {LIMITS} exit0"),
    ));
    if docker::answers() {
        bench.sh("docker build -q -t exit0 start")?;
        commands.push(timed("docker", "docker run --rm exit0".to_owned()));
    }
    let times = medians(bench, &commands, &["--runs=40"])?;
    let Some(smidge) = times[0] else {
        return Err("smidge could not be timed".to_owned());
    };
    let mut rows = Vec::new();
    for (command, time) in commands.iter().zip(times).skip(1) {
        let Some(time) = time else { continue };
        let goal = match command.name {
            "crun" => Goal::AtMost(0.6),
            "unshare" => Goal::AtMost(2.5),
            "podman" => Goal::Faster(20.0),
            "docker" => Goal::Faster(40.0),
            _ => Goal::Shown,
        };
        rows.push(row(
            "start to exit of a static no-op",
            smidge,
            (command.name, time),
            &goal,
        ));
    }
    Ok(rows)
}

/// A bundle of the same program with crun's own default specification, without its terminal.
fn bundle(bench: &Bench) -> Outcome {
    bench.sh(
        "mkdir -p bundle/rootfs && cp exit0 bundle/rootfs/ && cd bundle && rm -f config.json && crun spec && \
         sed -i 's/\"terminal\": true/\"terminal\": false/; s|\"sh\"|\"/exit0\"|' config.json",
    )?;
    Ok(())
}

fn rootless(bench: &Bench) -> Outcome<Vec<Row>> {
    let user = "smidge-ranges";
    if !tool::is_superuser() || tool::read("id", ["-u", user]).is_err() {
        return Ok(Vec::new());
    }
    let dir = format!("/tmp/smidge-bench-{}", std::process::id());
    bench.sh(&format!(
        "mkdir -p {dir} && cp exit0 {} {dir}/ && chown -R {user} {dir} && chmod 755 {dir}",
        bench.smidge.display()
    ))?;
    let smidge = format!(
        "setpriv --reuid={user} --regid={user} --clear-groups {dir}/smidge --root {dir}/store"
    );
    bench.sh(&format!("{smidge} build -q -t exit0 {dir}/exit0"))?;
    let times = medians(
        bench,
        &[
            timed("rootless", format!("{smidge} run --rm exit0")),
            timed(
                "root",
                format!("setpriv --clear-groups {} run --rm exit0", bench.shell()),
            ),
        ],
        &["--runs=60"],
    )?;
    bench.sh(&format!("rm -rf {dir}"))?;
    match times[..] {
        [Some(rootless), Some(root)] => Ok(vec![row(
            "the same, rootless",
            rootless,
            ("as root", root),
            &Goal::AtMost(1.5),
        )]),
        _ => Ok(Vec::new()),
    }
}

fn memory(bench: &Bench) -> Outcome<Row> {
    let pause = bench.compile("pause", PAUSE)?;
    bench.smidge(&["build", "-q", "-t", "pause", &pause.display().to_string()])?;
    bench.smidge(&["run", "-d", "--name", "idle", "pause"])?;
    let pid = bench.smidge(&["inspect", "-f", "{{.State.Pid}}", "idle"])?;
    let supervisor = bench.sh(&format!("awk '/^PPid:/{{print $2}}' /proc/{pid}/status"))?;
    // What the start has used is given back when the program has run for a moment.
    let pss = bench.sh(&format!(
        "sleep 1; awk '/^Pss:/{{print $2}}' /proc/{supervisor}/smaps_rollup"
    ))?;
    bench.smidge(&["rm", "-f", "idle"])?;
    let kilobytes: u64 = pss.parse().map_err(|_| format!("`{pss}` is not a size"))?;
    Ok(Row {
        what: "supervisor of an idle container, PSS".to_owned(),
        smidge: format!("{kilobytes} kB"),
        peer: String::new(),
        goal: verdict(kilobytes <= 1536, "≤ 1536 kB"),
    })
}
