//! smidge beside the container tools found on PATH, measured in one run.
//!
//! Every figure is a median of hyperfine's or of several rounds, every comparison a ratio: machines
//! are noisy, and a ratio taken within one run is less so. A figure is never a test's verdict.

mod answer;
mod docker;
mod dockerfile;
mod many;
mod pack;
mod port;
mod registry;
mod size;
mod start;
mod timing;

use std::path::{Path, PathBuf};

use crate::packages;
use crate::tool::{self, Outcome};

/// One line of the results.
pub struct Row {
    /// What was measured.
    what: String,
    /// smidge's figure.
    smidge: String,
    /// What it is compared with: name, figure and ratio.
    peer: String,
    /// The goal, and whether it was reached.
    goal: String,
}

/// What the benchmarks share: binaries, a directory of their own, and the peers that answer.
pub struct Bench {
    smidge: PathBuf,
    dir: PathBuf,
}

/// A group of measurements.
type Group = fn(&Bench) -> Outcome<Vec<Row>>;

const GROUPS: [(&str, Group); 8] = [
    ("start", start::run),
    ("many", many::run),
    ("answer", answer::run),
    ("pack", pack::run),
    ("size", size::run),
    ("port", port::run),
    ("registry", registry::run),
    ("dockerfile", dockerfile::run),
];

/// Measures all groups, or those named, and prints one table.
///
/// # Errors
/// What could not be installed, built or measured.
pub fn run(only: &[&str]) -> Outcome {
    packages::ensure(packages::TESTS)?;
    packages::ensure(packages::BENCH)?;
    let smidge = tool::smidge()?;
    let dir = tool::target_dir().join("bench");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)
        .map_err(|error| format!("cannot make `{}`: {error}", dir.display()))?;
    let _docker = docker::Daemon::start(&dir);
    let bench = Bench { smidge, dir };
    let mut rows = Vec::new();
    for (name, group) in GROUPS {
        if only.is_empty() || only.contains(&name) {
            eprintln!("measuring: {name}");
            rows.extend(group(&bench)?);
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut text = "| | smidge | beside | goal |\n|---|---|---|---|\n".to_owned();
    for Row {
        what,
        smidge,
        peer,
        goal,
    } in rows
    {
        text += &format!("| {what} | {smidge} | {peer} | {goal} |\n");
    }
    text
}

impl Drop for Bench {
    /// Leaves no bridge behind.
    fn drop(&mut self) {
        if self.store().join("networks").exists() {
            let _ = self.smidge(&["network", "prune", "-f"]);
        }
    }
}

impl Bench {
    /// The store that measurements use.
    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `smidge --root STORE`, as the start of a shell command.
    fn shell(&self) -> String {
        format!(
            "{} --root {}",
            self.smidge.display(),
            self.store().display()
        )
    }

    /// Runs smidge, and gives its standard output.
    fn smidge(&self, args: &[&str]) -> Outcome<String> {
        tool::read_from(
            tool::command(&self.smidge)
                .arg("--root")
                .arg(self.store())
                .args(args),
        )
    }

    /// Runs a shell command in the bench's directory, and gives its standard output.
    fn sh(&self, script: &str) -> Outcome<String> {
        tool::read_from(
            tool::command("sh")
                .args(["-c", script])
                .current_dir(&self.dir),
        )
    }

    /// Compiles a C program, statically.
    fn compile(&self, name: &str, source: &str) -> Outcome<PathBuf> {
        let code = self.path(&format!("{name}.c"));
        write(&code, source.as_bytes())?;
        let binary = self.path(name);
        let mut gcc = tool::command("gcc");
        tool::run(
            gcc.args(["-Os", "-s", "-static", "-o"])
                .arg(&binary)
                .arg(&code),
        )?;
        Ok(binary)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    std::fs::write(path, bytes)
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}
