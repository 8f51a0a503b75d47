//! Link options that make the release binary smaller than rustc makes it by itself.

use std::env;

/// Drops what only unwinding needs: the release profile aborts on panic.
const WITHOUT_UNWINDING: &str = "no-unwind.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={WITHOUT_UNWINDING}");
    let is = |name: &str, value: &str| read(name).is_some_and(|found| found == value);
    if !is("PROFILE", "release") || !is("TARGET", "x86_64-unknown-linux-gnu") {
        return;
    }
    let directory = read("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/{WITHOUT_UNWINDING}");
    // Rust's own linker for this target, lld, finds the functions that were made twice.
    println!("cargo::rustc-link-arg-bins=-Wl,--icf=all,--build-id=none,-z,noseparate-code");
    // smidge-run has a function of its own in place of one of libgcc's.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,muldefs");
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]
fn read(name: &str) -> Option<String> {
    env::var(name).ok()
}
