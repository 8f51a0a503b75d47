//! hyperfine, and what its figures mean.

use super::{Bench, Row};
use crate::tool::{self, Outcome};

/// A command to time, and how to call it in the table.
pub struct Timed {
    /// The name in the table.
    pub name: &'static str,
    /// A shell command.
    pub command: String,
}

/// Shorthand for [`Timed`].
pub fn timed(name: &'static str, command: String) -> Timed {
    Timed { name, command }
}

/// Medians in seconds, in the order of the commands; a command that fails has none.
pub fn medians(bench: &Bench, commands: &[Timed], options: &[&str]) -> Outcome<Vec<Option<f64>>> {
    commands
        .iter()
        .map(|timed| median(bench, timed, options))
        .collect()
}

fn median(bench: &Bench, timed: &Timed, options: &[&str]) -> Outcome<Option<f64>> {
    let csv = bench.path("hyperfine.csv");
    let mut hyperfine = without_hybrid_cgroups();
    hyperfine
        .current_dir(&bench.dir)
        .args(["--shell=none", "--style=none"]);
    if !options.iter().any(|option| option.starts_with("--warmup")) {
        hyperfine.arg("--warmup=3");
    }
    hyperfine
        .arg("--export-csv")
        .arg(&csv)
        .args(options)
        .arg(&timed.command);
    if let Err(error) = tool::read_from(&mut hyperfine) {
        eprintln!("not measured: {}: {error}", timed.name);
        return Ok(None);
    }
    let text = std::fs::read_to_string(&csv).map_err(|error| error.to_string())?;
    // command,mean,stddev,median,user,system,min,max; the command may hold commas itself.
    let line = text.lines().nth(1).unwrap_or_default();
    Ok(line
        .rsplit(',')
        .nth(4)
        .and_then(|median| median.parse().ok()))
}

/// hyperfine, in a mount namespace without the v2 half of a hybrid cgroup layout: crun and podman
/// refuse to run anything where they see it.
fn without_hybrid_cgroups() -> std::process::Command {
    if !tool::is_superuser() {
        return tool::command("hyperfine");
    }
    let mut command = tool::command("unshare");
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec hyperfine \"$@\"";
    command.args(["--mount", "sh", "-c", script, "hyperfine"]);
    command
}

/// What smidge's figure must be in relation to a peer's.
pub enum Goal {
    /// At most this many times the peer's.
    AtMost(f64),
    /// At least this many times faster.
    Faster(f64),
    /// Shown for comparison only.
    Shown,
}

/// A row that compares smidge's time with a peer's.
pub fn row(what: &str, smidge: f64, peer: (&str, f64), goal: &Goal) -> Row {
    let ratio = smidge / peer.1;
    let (goal, ratio) = match goal {
        Goal::AtMost(limit) => (
            verdict(ratio <= *limit, &format!("≤ {limit} ×")),
            times(ratio),
        ),
        Goal::Faster(factor) => {
            let faster = peer.1 / smidge;
            (
                verdict(faster >= *factor, &format!("≥ {factor} × faster")),
                format!("{} faster", times(faster)),
            )
        }
        Goal::Shown => (String::new(), times(ratio)),
    };
    Row {
        what: what.to_owned(),
        smidge: milliseconds(smidge),
        peer: format!("{} {}: {ratio}", peer.0, milliseconds(peer.1)),
        goal,
    }
}

/// A goal with its outcome.
pub fn verdict(reached: bool, goal: &str) -> String {
    format!("{goal} {}", if reached { "✓" } else { "✗" })
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 {
        format!("{ratio:.0} ×")
    } else {
        format!("{ratio:.2} ×")
    }
}

/// Seconds as milliseconds with three significant digits.
pub fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1000.0;
    match ms {
        _ if ms >= 100.0 => format!("{ms:.0} ms"),
        _ if ms >= 10.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.2} ms"),
    }
}
