//! Zig programs of one file: built by the user's own `zig`, static, small and the same every time.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::c::{parts, stem};
use super::compiler::Compiler;
use super::request::BuildRequest;
use super::scratch::Scratch;
use super::target::Target;
use crate::{Engine, Error, Progress, Result};

/// What the compiler is called.
pub(super) const NAME: &str = "zig";

/// A build that is worked out: what would be run, and what it would make.
pub(super) struct Build<'h> {
    zig: Compiler<'h>,
    /// The command line.
    pub(super) command: Command,
    /// The program's name.
    pub(super) name: String,
}

/// Compiles the program, and returns where it is.
pub(super) fn compile(
    file: &Path,
    request: &BuildRequest,
    engine: &Engine,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let build = Build::new(file, scratch.path(), request, engine)?;
    build.zig.run(build.command, progress, |_| {})?;
    Ok(scratch.path().join(build.name))
}

impl<'h> Build<'h> {
    /// Works out how to build a file, with the program below a directory.
    pub(super) fn new(
        file: &Path,
        output: &Path,
        request: &BuildRequest,
        engine: &'h Engine,
    ) -> Result<Self> {
        let host = &engine.host;
        let target = Target::wanted(request.platform(), host, "Zig")?;
        let zig = Compiler::find(NAME, "Zig program", host)?;
        let name = stem(file)?;
        let (directory, source) = parts(file);
        let mut args = vec!["build-exe".to_owned(), source];
        args.extend(machine(&target));
        args.extend(["-O", "ReleaseSmall", "-static"].map(str::to_owned));
        if needs_libc(file)? {
            args.push("-lc".to_owned());
        }
        let program = output.join(&name);
        let cache = engine.store.root().join("cache/zig");
        args.extend([
            format!("-femit-bin={}", program.display()),
            "--name".to_owned(),
            name.clone(),
            "--cache-dir".to_owned(),
            cache.display().to_string(),
        ]);
        let command = zig.command(directory, args);
        Ok(Self { zig, command, name })
    }
}

/// Arguments for Zig as a compiler of C.
pub(super) fn c_options(target: &Target) -> Vec<String> {
    let mut options = vec!["cc".to_owned()];
    options.extend(machine(target));
    options.extend(
        [
            "-static",
            "-Os",
            "-ffunction-sections",
            "-fdata-sections",
            "-Wl,--gc-sections",
        ]
        .map(str::to_owned),
    );
    options
}

/// The machine in Zig's words; its processors have underscores in their names.
fn machine(target: &Target) -> Vec<String> {
    let cpu = target
        .cpu
        .map(|cpu| format!("-mcpu={}", cpu.replace('-', "_")));
    ["-target".to_owned(), target.zig.to_owned()]
        .into_iter()
        .chain(cpu)
        .collect()
}

/// Whether a program says that it uses C: Zig wants to be told.
fn needs_libc(file: &Path) -> Result<bool> {
    let text = std::fs::read(file)
        .map_err(|source| Error::io(format!("cannot read `{}`", file.display()), source))?;
    let text = String::from_utf8_lossy(&text);
    let marks = ["@cImport", "std.c.", "c_allocator", "extern \"c\""];
    Ok(marks.iter().any(|mark| text.contains(mark)))
}
