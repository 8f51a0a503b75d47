//! Conformance: what the OCI distribution specification asks of a registry, case by case, asked of
//! `smidge registry serve` and, so that a wrong case is caught, of Debian's docker-registry.
//!
//! Prints the table of cases. Arguments pick cases by parts of their names.
//!
//! Specification: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>.

#![allow(missing_docs, reason = "cases explain themselves by their names")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the table of cases is the whole output"
)]

mod case;
mod client;
mod content;
mod discovery;
mod hostile;
mod management;
mod pull;
mod push_blob;
mod push_manifest;
mod server;
mod whole;

use std::process::ExitCode;

use case::{Case, Outcome};
use server::Server;

/// The categories of the specification, and what it takes beside them.
const CATEGORIES: [(&str, &[Case]); 7] = [
    ("pull", pull::CASES),
    ("push: blobs", push_blob::CASES),
    ("push: manifests", push_manifest::CASES),
    ("content discovery", discovery::CASES),
    ("content management", management::CASES),
    ("hostile", hostile::CASES),
    ("the server", whole::CASES),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let (smidge, debian) = (Server::smidge(&[]), Server::debian());
    if debian.is_none() {
        println!("skipped: `docker-registry` is not on PATH: smidge alone is asked");
    }
    let (mut passed, mut failed) = (0, 0);
    for (category, cases) in CATEGORIES {
        println!("\n{category:<86}{:<8}docker-registry", "smidge");
        for case in cases {
            let name = format!("{category} {} {}", case.endpoint, case.name);
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(&***filter)) {
                continue;
            }
            let ours = case.ask(&smidge);
            let theirs = debian
                .as_ref()
                .map_or(Outcome::NotAsked, |debian| case.ask(debian));
            show(case, &ours, &theirs);
            let sound =
                !matches!(ours, Outcome::Failed(_)) && !matches!(theirs, Outcome::Failed(_));
            match sound {
                true => passed += 1,
                false => failed += 1,
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn show(case: &Case, ours: &Outcome, theirs: &Outcome) {
    let known = match theirs {
        Outcome::Differs(how) => format!(": {how}"),
        Outcome::DiffersNoMore => ", though it was said to differ".to_owned(),
        Outcome::Passed | Outcome::Failed(_) | Outcome::NotAsked => String::new(),
    };
    let Case { endpoint, name, .. } = case;
    let (ours_word, theirs_word) = (ours.word(), theirs.word());
    println!("  {endpoint:<10}{name:<74}{ours_word:<8}{theirs_word}{known}");
    for (whose, outcome) in [("smidge", ours), ("docker-registry", theirs)] {
        if let Outcome::Failed(why) = outcome {
            println!("            {whose}: {why}");
        }
    }
}
