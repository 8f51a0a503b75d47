//! The project's own chores: `cargo xtask demo|test|check|bench`.
//!
//! Each is safe to run twice. What they need beyond Rust and gcc they get from Debian's package
//! manager when they may, and otherwise name.

mod bench;
mod check;
mod demo;
mod packages;
mod suite;
mod tool;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <TASK>

  demo    build smidge and two web servers, run them as containers, fetch their pages
  test    run every test, or those whose names contain one of the words given
  check   formatting, lints, licences
  bench   measure smidge beside the container tools found on PATH
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["demo"] => demo::run(),
        ["test", ref filters @ ..] => suite::run(filters),
        ["check"] => check::run(),
        ["bench", ref only @ ..] => bench::run(only),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("no such task\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
