//! What a store with many containers costs: a start, a list, and what they take while they run.

use std::time::Instant;

use super::timing::{Goal, medians, milliseconds, row, timed, verdict};
use super::{Bench, Row, start};
use crate::tool::Outcome;

/// Containers that have ended, and that run.
const STOPPED: usize = 1000;
const RUNNING: usize = 200;

/// Seconds in which so many containers are to be started.
const PATIENCE: f64 = 10.0;

/// Milliseconds that a list of all of them may take.
const LIST: f64 = 50.0;

/// A store with 1,000 containers that have ended and 200 that run, beside an empty one.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    for (name, source) in [("exit0", start::EXIT), ("pause", start::PAUSE)] {
        let program = bench.compile(name, source)?;
        for store in ["few", "many"] {
            bench.sh(&format!(
                "{} build -q -t {name} {}",
                smidge(bench, store),
                program.display()
            ))?;
        }
    }
    let many = smidge(bench, "many");
    bench.sh(&format!(
        "seq {STOPPED} | xargs -P4 -I@ {many} run --name ended@ exit0"
    ))?;
    let begin = Instant::now();
    bench.sh(&format!(
        "seq {RUNNING} | xargs -P2 -I@ {many} run -d --name runs@ pause > /dev/null"
    ))?;
    let started = begin.elapsed().as_secs_f64();
    let mut rows = vec![Row {
        what: format!("{RUNNING} containers started"),
        smidge: format!("{started:.2} s"),
        peer: String::new(),
        goal: verdict(started <= PATIENCE, &format!("≤ {PATIENCE} s")),
    }];
    let measured = measure(bench, &many);
    let ids = format!("{many} ps -q | xargs {many} rm -f > /dev/null");
    bench.sh(&ids)?;
    rows.extend(measured?);
    Ok(rows)
}

fn smidge(bench: &Bench, store: &str) -> String {
    let store = bench.path(store);
    format!("{} --root {}", bench.smidge.display(), store.display())
}

fn measure(bench: &Bench, many: &str) -> Outcome<Vec<Row>> {
    let commands = [
        timed("a store with 1,200", format!("{many} run --rm exit0")),
        timed(
            "an empty store",
            format!("{} run --rm exit0", smidge(bench, "few")),
        ),
        timed("ps -a", format!("{many} ps -a")),
        timed("ps", format!("{many} ps")),
        timed("system df", format!("{many} system df")),
        timed("system prune", format!("{many} image prune -f")),
    ];
    let times = medians(bench, &commands, &["--runs=40"])?;
    let [
        Some(start),
        Some(empty),
        Some(all),
        Some(running),
        Some(usage),
        Some(prune),
    ] = times[..]
    else {
        return Err("not all commands could be timed".to_owned());
    };
    let goal = Goal::AtMost(1.2);
    let mut rows = vec![row(
        "the same with 1,200 containers in the store",
        start,
        ("empty store", empty),
        &goal,
    )];
    rows.push(Row {
        what: "`ps -a` of 1,200 containers".to_owned(),
        smidge: milliseconds(all),
        peer: format!("`ps` {}", milliseconds(running)),
        goal: verdict(all * 1000.0 <= LIST, &format!("≤ {LIST} ms")),
    });
    rows.push(Row {
        what: "`system df` of them".to_owned(),
        smidge: milliseconds(usage),
        peer: format!("`image prune` {}", milliseconds(prune)),
        goal: String::new(),
    });
    rows.push(memory(bench)?);
    Ok(rows)
}

/// What the supervisors take, with what they share counted once.
fn memory(bench: &Bench) -> Outcome<Row> {
    let sum = "for pid in $(pgrep -x smidge-super); do cat /proc/$pid/smaps_rollup; done | \
               awk '/^Pss:/{sum += $2; n++} END {print n, int(sum / n)}'";
    let text = bench.sh(sum)?;
    let (count, mean) = text.split_once(' ').unwrap_or_default();
    let kilobytes: u64 = mean
        .parse()
        .map_err(|_| format!("`{mean}` is not a size"))?;
    Ok(Row {
        what: format!("supervisor of an idle container, PSS, mean of {count}"),
        smidge: format!("{kilobytes} kB"),
        peer: String::new(),
        goal: verdict(kilobytes <= 1536, "≤ 1536 kB"),
    })
}
