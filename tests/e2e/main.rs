//! End-to-end tests: the real binary, a real store, real peers.
//!
//! One binary, one module a topic. Container tests run once for every [`context::Identity`] the
//! machine offers: root, a user with subordinate ids, a user without. A test that cannot run
//! here prints `skipped:` and why.

#![allow(missing_docs, reason = "tests explain themselves by their names")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says what it skips"
)]

mod binary;
mod build_bad;
mod build_cache;
mod build_cancel;
mod build_flags;
mod build_git;
mod build_share;
mod certificate;
mod context;
mod copy;
mod cp;
mod craft;
mod crash;
mod crash_container;
mod debug;
mod detach;
mod disk;
mod docker_like;
mod events;
mod exchange;
mod exec;
mod fault;
mod final_stage;
mod fixture;
mod health;
mod hostile;
mod http;
mod isolation;
mod leftover;
mod limits;
mod login;
mod many;
mod modes;
mod mounts;
mod nested;
mod network;
mod network_outside;
mod network_rules;
mod oci;
mod oci_peers;
mod outlet;
mod owners;
mod parity;
mod peers;
mod platform;
mod port;
mod process;
mod program;
mod progress;
mod promise;
mod proxy;
mod pull;
mod push;
mod registry;
mod registry_server;
mod relay;
mod rename;
mod restart;
mod run_flags;
mod seeds;
mod settings;
mod small_disk;
mod store;
mod suites;
mod tls;
mod token;
mod tool;
mod turn;
mod volume;
mod why;
mod wire;

/// A module that was written but not declared would silently not run.
#[test]
fn every_file_is_a_module() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    let main = std::fs::read_to_string(dir.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(
                main.contains(&format!("mod {module};")),
                "`{name}` is not declared in main.rs"
            );
        }
    }
}
