//! Formatting, lints, licences: what needs no container.

use crate::tool::{self, Outcome};

/// Runs rustfmt, clippy and cargo-deny over everything.
///
/// # Errors
/// The first of them that is not content.
pub fn run() -> Outcome {
    let cargo = env!("CARGO");
    tool::run(tool::command(cargo).args(["fmt", "--all", "--check"]))?;
    tool::run(tool::command(cargo).args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny=warnings",
    ]))?;
    let deny = tool::target_dir().join("tools/bin/cargo-deny");
    if !deny.exists() {
        let root = tool::target_dir().join("tools");
        // Installed from outside the workspace: our static target does not concern it.
        tool::run(
            tool::command(cargo)
                .current_dir("/")
                .args([
                    "install",
                    "--quiet",
                    "--locked",
                    "cargo-deny@0.20.2",
                    "--root",
                ])
                .arg(root),
        )?;
    }
    tool::run(tool::command(deny).args([
        "--log-level=error",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}
