//! What the workspace's tests have in common: none of them waits without limit, and what takes too long is
//! explained and ended.
//!
//! The end-to-end tests live in `e2e/`, `dockerfiles/` and `conformance/`.

pub mod processes;

mod executable;
mod limit;

use std::path::{Path, PathBuf};

pub use executable::{free_ports, write_program};
pub use limit::{InTime, Limit, PATIENCE, connect, incoming, until};

/// An example of the package under test. Cargo builds them beside the tests, unless it is told to build one
/// test only: `target/…/deps/TEST`, `target/…/examples/NAME`.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let built = test.parent().and_then(Path::parent).expect("`deps/TEST`");
    let path = built.join("examples").join(name);
    assert!(
        path.exists(),
        "not built: `cargo build -p smidge-run --examples`"
    );
    path
}
