//! From a ready program to a stored, tagged image.

use super::timing::{Goal, medians, row, timed, verdict};
use super::{Bench, Row, docker, write};
use crate::tool::Outcome;

/// Packs a program of 10 MB and one of 1 GB.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    bench.compile("base", "int main(void) { return 0; }\n")?;
    pad(bench, "ten", 10 << 20)?;
    pad(bench, "huge", 1 << 30)?;
    bench.sh("mkdir -p context && cp ten context/ten && printf 'FROM scratch\\nCOPY ten /ten\\nCMD [\"/ten\"]\\n' > context/Dockerfile")?;
    let mut rows = ten_megabytes(bench)?;
    rows.extend(one_gigabyte(bench)?);
    Ok(rows)
}

/// An executable whose one more segment is random bytes: incompressible, and not cut by strip.
fn pad(bench: &Bench, name: &str, size: usize) -> Outcome {
    write(
        &bench.path("pad.py"),
        b"import os, sys\n\
name, size = sys.argv[1], int(sys.argv[2])\n\
data = bytearray(open('base', 'rb').read())\n\
out = open(name, 'wb')\n\
out.write(data)\n\
while (left := size - out.tell()) > 0: out.write(os.urandom(min(left, 1 << 20)))\n\
os.chmod(name, 0o755)\n",
    )?;
    bench.sh(&format!("python3 pad.py {name} {size}"))?;
    Ok(())
}

fn ten_megabytes(bench: &Bench) -> Outcome<Vec<Row>> {
    let mut commands = vec![
        timed(
            "smidge",
            format!("{} build -q --no-strip -t ten ten", bench.shell()),
        ),
        timed("openssl sha256", "openssl dgst -sha256 ten".to_owned()),
        timed(
            "buildah",
            "buildah build -q --storage-driver vfs -t ten context".to_owned(),
        ),
    ];
    if docker::answers() {
        commands.push(timed(
            "docker build",
            "docker build -q --no-cache -t ten context".to_owned(),
        ));
        commands.push(timed(
            "docker import",
            "sh -c 'tar -c ten | docker import - ten'".to_owned(),
        ));
    }
    // Each round stores the image anew: what is there already costs nothing to keep.
    let forget = format!("rm -rf {}", bench.store().display());
    let times = medians(bench, &commands, &["--runs=15", "--prepare", &forget])?;
    let Some(smidge) = times[0] else {
        return Err("smidge could not be timed".to_owned());
    };
    let goal = |name: &str| match name {
        "openssl sha256" => Goal::AtMost(2.0),
        "buildah" => Goal::Faster(10.0),
        "docker build" => Goal::Faster(12.0),
        _ => Goal::Shown,
    };
    let peers = commands.iter().zip(times).skip(1);
    Ok(peers
        .filter_map(|(c, time)| {
            Some(row(
                "pack a 10 MB program",
                smidge,
                (c.name, time?),
                &goal(c.name),
            ))
        })
        .collect())
}

fn one_gigabyte(bench: &Bench) -> Outcome<Vec<Row>> {
    let forget = format!("rm -rf {} copy", bench.store().display());
    let commands = [
        timed(
            "smidge",
            format!("{} build -q --no-strip -t huge huge", bench.shell()),
        ),
        timed(
            "cp + sha256",
            "sh -c 'cp huge copy && openssl dgst -sha256 huge'".to_owned(),
        ),
    ];
    let times = medians(bench, &commands, &["--runs=3", "--prepare", &forget])?;
    bench.sh(&forget)?;
    let peak = bench.sh(&format!(
        "/usr/bin/time -f %M {} build -q --no-strip -t huge huge 2>&1 >/dev/null",
        bench.shell()
    ))?;
    let kilobytes: u64 = peak
        .lines()
        .last()
        .unwrap_or_default()
        .parse()
        .unwrap_or(u64::MAX);
    bench.sh(&format!("{forget} huge"))?;
    let mut rows = vec![Row {
        what: "the same: memory at its peak".to_owned(),
        smidge: format!("{:.1} MB", kilobytes as f64 / 1024.0),
        peer: String::new(),
        goal: verdict(kilobytes <= 64 << 10, "≤ 64 MB"),
    }];
    if let [Some(smidge), Some(copy)] = times[..] {
        rows.insert(
            0,
            row(
                "pack a 1 GB program",
                smidge,
                ("cp + sha256", copy),
                &Goal::AtMost(2.0),
            ),
        );
    }
    Ok(rows)
}
