//! `smidge`: from any program to the smallest container that runs it.
//!
//! Parse, run, report. The verbs are `smidge-engine`'s; here is what only a command line needs: its
//! grammar (`cli/`) and its looks (`render/`). Called through a symbolic link named `docker`, it
//! behaves the same and calls itself `docker`.
//!
//! **Invariants**: the environment is read here and nowhere else; standard output carries data,
//! standard error everything else; no thread is started before a container's supervisor is forked.

mod cli;
mod render;
mod surroundings;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    smidge_engine::fail_at_file_size_limit();
    let argv = surroundings::spelled_out(std::env::args_os().collect());
    let called = surroundings::called(argv.first());
    match cli::main(argv, called) {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let text = render::error::error(&failure.error, called);
            // If standard error is gone too, there is nobody left to tell.
            let _ = anstream::stderr().write_all(text.as_bytes());
            ExitCode::from(failure.exit_code)
        }
    }
}
