//! A corpus of Dockerfiles, each built by smidge and by Debian's buildah, and the two images compared:
//! every file, and every field of the config. Then the same as users who are not root, which must give
//! the same ids; Dockerfiles that are broken; packages installed by a RUN; and a day with containers.
//!
//! Prints a row a case. Arguments pick cases by parts of their names; `--peer` leaves smidge out, to try
//! the corpus itself.

#![allow(missing_docs, reason = "cases explain themselves by their names")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the table of cases is the whole output"
)]

mod apt;
mod bad;
mod base;
mod builder;
mod case;
mod compare;
#[path = "../e2e/context.rs"]
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
mod context;
mod corpus;
mod day;
mod expected;
mod image;
mod known;
mod serve;
mod tree;
mod words;

use std::process::ExitCode;

/// What came of a row of the table.
pub(crate) enum Outcome {
    Passed,
    /// Why it was not tried.
    Skipped(String),
    /// All that is wrong.
    Failed(Vec<String>),
}

/// Rows that passed and failed, and the words of the command line.
pub(crate) struct Report {
    filters: Vec<String>,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Whether the command line asks for something of this name.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Prints a row.
    pub(crate) fn row(&mut self, name: &str, outcome: &Outcome, notes: &[String]) {
        let notes = notes.join("; ");
        match outcome {
            Outcome::Passed => {
                self.passed += 1;
                println!("  {name:<40}ok      {notes}");
            }
            Outcome::Skipped(why) => println!("  {name:<40}-       skipped: {why}"),
            Outcome::Failed(why) => {
                self.failed += 1;
                println!("  {name:<40}FAILED  {notes}");
                for line in why.iter().flat_map(|why| why.lines()) {
                    println!("      {line}");
                }
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut report = Report {
        filters: arguments
            .iter()
            .filter(|a| !a.starts_with('-'))
            .cloned()
            .collect(),
        passed: 0,
        failed: 0,
    };
    if !std::path::Path::new(base::BUSYBOX).exists() {
        println!("skipped: `{}` is not there", base::BUSYBOX);
        return ExitCode::SUCCESS;
    }
    let peer_only = arguments.iter().any(|argument| argument == "--peer");
    corpus::run(&mut report, peer_only);
    if !peer_only {
        bad::run(&mut report);
        apt::run(&mut report);
        day::run(&mut report);
    }
    let Report { passed, failed, .. } = report;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
