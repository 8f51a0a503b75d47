//! C programs of one file: built by the user's own compiler, static, small and the same every time.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::compiler::Compiler;
use super::draft::build_time;
use super::request::BuildRequest;
use super::scratch::Scratch;
use super::target::{Target, is_native};
use super::{program, zig};
use crate::{Engine, Error, Host, Kind, Progress, Result};

/// A build that is worked out: what would be run, and what it would make.
pub(super) struct Build<'h> {
    compiler: Compiler<'h>,
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
    let build = Build::new(file, scratch.path(), request, &engine.host)?;
    build.compiler.run(build.command, progress, |_| {})?;
    Ok(scratch.path().join(build.name))
}

impl<'h> Build<'h> {
    /// Works out how to build a file, with the program below a directory.
    pub(super) fn new(
        file: &Path,
        output: &Path,
        request: &BuildRequest,
        host: &'h Host,
    ) -> Result<Self> {
        let target = Target::wanted(request.platform(), host, "C")?;
        let name = stem(file)?;
        let compiler = find(&target, request, host)?;
        // Named from where it lies, so that `__FILE__` and messages are the same everywhere.
        let (directory, source) = parts(file);
        let mut args = if compiler.name() == zig::NAME {
            zig::c_options(&target)
        } else {
            options(&target)
        };
        args.push(format!("-ffile-prefix-map={}=.", directory.display()));
        args.extend(variable(host, "CFLAGS"));
        args.extend(["-o".to_owned(), output.join(&name).display().to_string()]);
        args.push(source);
        args.extend(variable(host, "LDFLAGS"));
        args.extend(variable(host, "LDLIBS"));
        args.push("-lm".to_owned());
        let mut command = compiler.command(directory, args);
        // What `__DATE__` and `__TIME__` say.
        command.env("SOURCE_DATE_EPOCH", build_time(host).to_string());
        Ok(Self {
            compiler,
            command,
            name,
        })
    }
}

/// A static program, optimised for size, without what nothing in it refers to. Without pages of its
/// own for each kind of segment it is up to three pages smaller, and as well protected: what is
/// executable is not writable all the same.
fn options(target: &Target) -> Vec<String> {
    let mut options = [
        "-static",
        "-Os",
        "-ffunction-sections",
        "-fdata-sections",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
    ]
    .map(str::to_owned)
    .to_vec();
    options.extend(target.cpu.map(|cpu| {
        let option = if cpu.starts_with("x86") {
            "arch"
        } else {
            "cpu"
        };
        format!("-m{option}={cpu}")
    }));
    options
}

/// Words of the user's for every compiler, as `make` passes them on.
fn variable(host: &Host, name: &str) -> Vec<String> {
    let words = host.env.get(name).map(String::as_str).unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

/// A compiler for the machine. Zig has everything for all of them; of the others, those with musl
/// make smaller programs.
fn find<'h>(target: &Target, request: &BuildRequest, host: &'h Host) -> Result<Compiler<'h>> {
    let native = is_native(request.platform(), host);
    let mut names = vec![zig::NAME.to_owned()];
    if native {
        names.extend(["musl-gcc", "cc", "gcc"].map(str::to_owned));
    } else {
        names.extend([format!("{}-gcc", target.zig), format!("{}-gcc", target.gnu)]);
    }
    let found: Vec<_> = names
        .iter()
        .filter_map(|name| Compiler::look_for(name, host))
        .collect();
    let mut incomplete = Vec::new();
    for compiler in found {
        if compiler.name() == zig::NAME || has_library(&compiler)? {
            return Ok(compiler);
        }
        incomplete.push(compiler.name().to_owned());
    }
    let path = request.path.display();
    let goal = match request.platform() {
        Some(platform) if !native => format!("`{path}` for `{platform}`"),
        _ => format!("`{path}`"),
    };
    let message = match incomplete.first() {
        None => format!("cannot compile {goal}: there is no C compiler for it on the PATH"),
        Some(name) => format!("cannot compile {goal}: `{name}` has no static C library"),
    };
    let error =
        Error::new(Kind::NotFound, message).with_fact(format!("looked for: {}", names.join(", ")));
    let error = if native {
        error.with_hint("install a small one: `apt install musl-tools`")
    } else {
        error.with_hint(format!("install it: `{}`", cross_packages(target)))
    };
    Err(error.with_hint(
        "or install Zig, which compiles for every machine: https://ziglang.org/download",
    ))
}

/// How Debian's compiler for another machine, and its C library, are installed.
pub(super) fn cross_packages(target: &Target) -> String {
    let compiler = target.gnu.replace('_', "-");
    format!(
        "apt install gcc-{compiler} libc6-dev-{}-cross",
        target.debian
    )
}

/// Whether a compiler has the library that static programs need. It answers with nothing but the name
/// that it was asked for if it has not.
pub(super) fn has_library(compiler: &Compiler<'_>) -> Result<bool> {
    let question = compiler.command(Path::new("/"), ["-print-file-name=libc.a"]);
    let answer = compiler.ask(question)?.unwrap_or_default();
    Ok(Path::new(answer.trim()).is_file())
}

/// Directory and name of a source file.
pub(super) fn parts(file: &Path) -> (&Path, String) {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let name = file.file_name().unwrap_or_default();
    (directory, name.to_string_lossy().into_owned())
}

/// The name of the program that a source file makes.
pub(super) fn stem(file: &Path) -> Result<String> {
    Ok(program::name(&file.with_extension(""))?.to_owned())
}
