//! Dockerfiles: steps, rebuilds with nothing changed, large contexts, small changes to large images.

use std::time::Instant;

use super::timing::{Goal, Timed, medians, milliseconds, row, timed, verdict};
use super::{Bench, Row, docker, write};
use crate::tool::{self, Outcome};

/// Builds with smidge, buildah and, where a daemon answers, docker.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    base(bench)?;
    let mut rows = steps(bench)?;
    rows.extend(rebuild(bench)?);
    rows.extend(large_file(bench)?);
    rows.extend(many_files(bench)?);
    rows.extend(large_base(bench)?);
    bench.sh("rm -rf dockerfile buildah-root buildah-run")?;
    Ok(rows)
}

/// A builder: its name in the table, and its command without a context.
struct Builder {
    name: &'static str,
    command: String,
}

/// smidge first; then those that are found.
fn builders(bench: &Bench) -> Vec<Builder> {
    let mut all = vec![Builder {
        name: "smidge",
        command: format!("{} build -q --no-prove", bench.shell()),
    }];
    if tool::found("buildah") {
        all.push(Builder {
            name: "buildah",
            command: format!("{} bud -q --layers --isolation chroot", buildah(bench)),
        });
    }
    if docker::answers() {
        for (name, buildkit) in [("docker build (legacy)", 0), ("docker build (BuildKit)", 1)] {
            let command = format!("env DOCKER_BUILDKIT={buildkit} docker build -q");
            if buildkit == 0 || tool::read("docker", ["buildx", "version"]).is_ok() {
                all.push(Builder { name, command });
            }
        }
    }
    all
}

/// buildah with a storage of the bench's own, in its directory.
fn buildah(bench: &Bench) -> String {
    let path = |name: &str| bench.path(name).display().to_string();
    let (root, run) = (path("buildah-root"), path("buildah-run"));
    format!("buildah --root {root} --runroot {run} --storage-driver overlay")
}

/// Gives every builder an image `localhost/NAME` made of a tar archive.
fn import(bench: &Bench, archive: &str, name: &str) -> Outcome {
    bench.smidge(&["import", &bench.path(archive).display().to_string(), name])?;
    bench.sh(&format!(
        "mkdir -p dockerfile/import && ln -f {archive} dockerfile/import/base.tar && \
         printf 'FROM scratch\\nADD base.tar /\\n' > dockerfile/import/Dockerfile"
    ))?;
    if tool::found("buildah") {
        bench.sh(&format!(
            "{} bud -q -t {name} dockerfile/import",
            buildah(bench)
        ))?;
    }
    if docker::answers() {
        bench.sh(&format!("docker import {archive} {name}"))?;
    }
    Ok(())
}

fn base(bench: &Bench) -> Outcome {
    bench.sh(
        "rm -rf dockerfile && mkdir -p dockerfile/root/bin dockerfile/root/etc dockerfile/root/tmp && \
         cp /bin/busybox dockerfile/root/bin && \
         for a in sh echo touch true rm; do ln -s busybox dockerfile/root/bin/$a; done && \
         tar -C dockerfile/root -cf base.tar .",
    )?;
    import(bench, "base.tar", "localhost/base")
}

/// Twenty small steps, each of which writes a file.
fn steps(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.sh("mkdir -p dockerfile/steps")?;
    let text = (1..=20).fold("FROM localhost/base\n".to_owned(), |text, number| {
        text + &format!("RUN echo {number} > /tmp/{number}\n")
    });
    write(&bench.path("dockerfile/steps/Dockerfile"), text.as_bytes())?;
    let all = builders(bench);
    let mut figures = Vec::new();
    for builder in &all {
        let command = format!("{} --no-cache -t steps dockerfile/steps", builder.command);
        // Once unmeasured: the base is unpacked at its first use.
        figures.push(cost(bench, &command, 1).and_then(|_| cost(bench, &command, 5)));
    }
    let ours = figures[0].as_ref().map_err(Clone::clone)?;
    let mut rows = Vec::new();
    for (builder, figure) in all.iter().zip(&figures).skip(1) {
        match figure {
            Ok((time, processor)) => {
                let peer = |value| (builder.name, value);
                let goal = Goal::Faster(10.0);
                rows.push(row("20 small RUN steps", ours.0, peer(*time), &goal));
                rows.push(row(
                    "the same: processor time",
                    ours.1,
                    peer(*processor),
                    &goal,
                ));
            }
            Err(error) => eprintln!("not measured: {}: {error}", builder.name),
        }
    }
    Ok(rows)
}

/// Medians of a command's time and processor time in seconds; of docker's, the whole machine's.
fn cost(bench: &Bench, command: &str, rounds: usize) -> Outcome<(f64, f64)> {
    let (mut times, mut processor) = (Vec::new(), Vec::new());
    let in_daemon = command.contains("docker build");
    for _ in 0..rounds {
        let (before, start) = (busy()?, Instant::now());
        let used = outside_cgroups(
            bench,
            &format!("/usr/bin/time -f %U+%S {command} 2>&1 >/dev/null"),
        )?;
        times.push(start.elapsed().as_secs_f64());
        let own = used.lines().last().unwrap_or_default();
        let own = own
            .split('+')
            .filter_map(|part| part.parse::<f64>().ok())
            .sum();
        processor.push(if in_daemon { busy()? - before } else { own });
    }
    Ok((median(times), median(processor)))
}

/// Runs a shell command where buildah's and docker's peers do not see the v2 half of a hybrid cgroup layout.
fn outside_cgroups(bench: &Bench, script: &str) -> Outcome<String> {
    if !tool::is_superuser() || script.contains("docker build") {
        return bench.sh(script);
    }
    let script = format!("umount /sys/fs/cgroup/unified 2>/dev/null; {script}");
    tool::read_from(
        tool::command("unshare")
            .args(["--mount", "sh", "-c", &script])
            .current_dir(&bench.dir),
    )
}

/// Seconds that the machine's processors have worked since it started (`/proc/stat`).
fn busy() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/stat").map_err(|error| error.to_string())?;
    let line = text.lines().next().unwrap_or_default();
    let ticks = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap_or(0.0));
    let ticks: Vec<f64> = ticks.collect();
    // user, nice, system, idle, iowait, irq, softirq: a hundredth of a second each.
    let worked = [0, 1, 2, 5, 6].map(|field| ticks.get(field).copied().unwrap_or(0.0));
    Ok(worked.iter().sum::<f64>() / 100.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The twenty steps once more, with nothing changed.
fn rebuild(bench: &Bench) -> Outcome<Vec<Row>> {
    let times = again(bench, "dockerfile/steps", "steps", 15)?;
    let ours = times[0].1;
    let mut rows: Vec<Row> = times[1..]
        .iter()
        .map(|(name, time)| {
            let goal = if name.starts_with("docker") {
                Goal::Faster(8.0)
            } else {
                Goal::Shown
            };
            row(
                "the same again, nothing changed",
                ours,
                (name, *time),
                &goal,
            )
        })
        .collect();
    rows.push(within("the same again", ours, 0.020));
    Ok(rows)
}

/// A row with a limit in seconds in place of a peer.
fn within(what: &str, seconds: f64, limit: f64) -> Row {
    Row {
        what: what.to_owned(),
        smidge: milliseconds(seconds),
        peer: String::new(),
        goal: verdict(seconds <= limit, &format!("≤ {}", milliseconds(limit))),
    }
}

/// Times of builds of a context that all builders have built before; smidge's first.
fn again(
    bench: &Bench,
    context: &str,
    name: &str,
    runs: usize,
) -> Outcome<Vec<(&'static str, f64)>> {
    let all = builders(bench);
    let commands: Vec<Timed> = all
        .iter()
        .map(|builder| {
            timed(
                builder.name,
                format!("{} -t {name} {context}", builder.command),
            )
        })
        .collect();
    // The warm-up builds; what is then measured finds everything done.
    let times = medians(bench, &commands, &["--warmup=2", &format!("--runs={runs}")])?;
    if times.first().copied().flatten().is_none() {
        return Err("smidge could not be timed".to_owned());
    }
    let found = all.iter().zip(times);
    Ok(found
        .filter_map(|(builder, time)| Some((builder.name, time?)))
        .collect())
}

/// A file of 1 GB in the context, which nobody touches.
fn large_file(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.sh(
        "mkdir -p dockerfile/large && head -c 1G /dev/urandom > dockerfile/large/large && \
         printf 'FROM localhost/base\\nCOPY large /large\\n' > dockerfile/large/Dockerfile",
    )?;
    let times = again(bench, "dockerfile/large", "large", 3)?;
    let ours = times[0].1;
    let what = "rebuild with an unchanged file of 1 GB";
    let mut rows: Vec<Row> = times[1..]
        .iter()
        .map(|(name, time)| row(what, ours, (name, *time), &Goal::Shown))
        .collect();
    rows.push(within(what, ours, 0.050));
    bench.sh("rm -rf dockerfile/large")?;
    Ok(rows)
}

/// 50,000 files, 1 GB in all, copied into an image.
fn many_files(bench: &Bench) -> Outcome<Vec<Row>> {
    write(
        &bench.path("many.py"),
        b"import os\n\
for d in range(500):\n\
\x20   os.makedirs(f'dockerfile/many/tree/{d}')\n\
\x20   for f in range(100): open(f'dockerfile/many/tree/{d}/{f}', 'wb').write(os.urandom(20000))\n\
open('dockerfile/many/Dockerfile', 'w').write('FROM localhost/base\\nCOPY tree /tree\\n')\n",
    )?;
    bench.sh("python3 many.py")?;
    let all = builders(bench);
    let what = "COPY of 50,000 files, 1 GB";
    let command =
        |builder: &Builder| format!("{} --no-cache -t many dockerfile/many", builder.command);
    let ours = cost(bench, &command(&all[0]), 3)?.0;
    let mut rows = Vec::new();
    for builder in &all[1..] {
        // Minutes each.
        match cost(bench, &command(builder), 1) {
            Ok((time, _)) => {
                let slow = matches!(builder.name, "buildah" | "docker build (BuildKit)");
                let goal = if slow { Goal::AtMost(1.0) } else { Goal::Shown };
                rows.push(row(what, ours, (builder.name, time), &goal));
            }
            Err(error) => eprintln!("not measured: {}: {error}", builder.name),
        }
    }
    let peak = bench.sh(&format!(
        "/usr/bin/time -f %M {} 2>&1 >/dev/null",
        command(&all[0])
    ))?;
    let kilobytes: u64 = peak
        .lines()
        .last()
        .unwrap_or_default()
        .parse()
        .unwrap_or(u64::MAX);
    rows.push(Row {
        what: "the same: memory at its peak".to_owned(),
        smidge: format!("{:.1} MB", kilobytes as f64 / 1024.0),
        peer: String::new(),
        goal: verdict(kilobytes <= 128 << 10, "≤ 128 MB"),
    });
    bench.sh("rm -rf dockerfile/many")?;
    Ok(rows)
}

/// One file changed by a RUN on an image of 2 GB: the cost follows the change.
fn large_base(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.sh(
        "mkdir -p dockerfile/two && for n in 1 2 3 4; do mkdir -p dockerfile/root/data/$n; \
         head -c 512M /dev/urandom | split -a 4 -b 1M - dockerfile/root/data/$n/; done && \
         tar -C dockerfile/root -cf two.tar . && rm -r dockerfile/root/data && \
         printf 'FROM localhost/two\\nRUN touch /tmp/one\\n' > dockerfile/two/Dockerfile",
    )?;
    import(bench, "two.tar", "localhost/two")?;
    let what = "RUN that touches one file of a 2 GB base";
    let (mut ours, mut rows) = (f64::NAN, Vec::new());
    for builder in builders(bench) {
        let command = format!("{} --no-cache -t two dockerfile/two", builder.command);
        match cost(bench, &command, 1).and_then(|_| cost(bench, &command, 5)) {
            Ok((time, _)) if builder.name == "smidge" => ours = time,
            Ok((time, _)) => rows.push(row(what, ours, (builder.name, time), &Goal::Shown)),
            Err(error) => eprintln!("not measured: {}: {error}", builder.name),
        }
    }
    rows.push(within(what, ours, 0.100));
    bench.sh("rm -f two.tar dockerfile/import/base.tar")?;
    Ok(rows)
}
