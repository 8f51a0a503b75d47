//! Go programs: built by the user's own `go`, static, small and the same every time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::compiler::Compiler;
use super::request::BuildRequest;
use super::scratch::Scratch;
use crate::{Engine, Error, Host, Kind, Progress, Result};

/// Compiles the program, and returns where it is. Go itself decides what it is called.
pub(super) fn compile(
    directory: &Path,
    request: &BuildRequest,
    engine: &Engine,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let go = Compiler::find("go", "Go package", &engine.host)?;
    let output = scratch.path().join("go");
    fs::create_dir_all(&output)
        .map_err(|source| Error::io(format!("cannot make `{}`", output.display()), source))?;
    go.run(
        command(&go, directory, &output, request, &engine.host),
        progress,
        |_| {},
    )?;
    let failed = |source| Error::io(format!("cannot read `{}`", output.display()), source);
    let program = fs::read_dir(&output)
        .map_err(failed)?
        .next()
        .transpose()
        .map_err(failed)?;
    match program {
        Some(program) => Ok(program.path()),
        None => {
            let message = format!(
                "`{}` has no program: it is a library",
                request.path.display()
            );
            Err(Error::new(Kind::Input, message)
                .with_hint("name the directory whose files say `package main`"))
        }
    }
}

/// What is run: a static program without cgo, without symbols, without the paths of this machine,
/// without a build id and without the state of version control.
pub(super) fn command(
    go: &Compiler<'_>,
    directory: &Path,
    output: &Path,
    request: &BuildRequest,
    host: &Host,
) -> Command {
    // With a `/` at its end, `-o` is a directory, and the file's name is Go's choice.
    let output = format!("{}/", output.display());
    let ldflags = "-ldflags=-s -w -buildid=";
    let mut args = vec![
        "build",
        "-trimpath",
        "-buildvcs=false",
        ldflags,
        "-o",
        &output,
    ];
    let modules = in_module(directory);
    let files = if modules {
        vec![".".to_owned()]
    } else {
        sources(directory)
    };
    args.extend(files.iter().map(String::as_str));
    let mut command = go.command(directory, args);
    command.env("CGO_ENABLED", "0").env("GOOS", "linux");
    let architecture = match &request.platform {
        Some(platform) => platform.architecture.as_str(),
        None => host.architecture(),
    };
    command.env("GOARCH", architecture);
    if let Some(variant) = request
        .platform
        .as_ref()
        .and_then(|platform| platform.variant.as_ref())
        && architecture == "arm"
    {
        command.env("GOARM", variant.trim_start_matches('v'));
    }
    if !modules && !host.env.contains_key("GO111MODULE") {
        command.env("GO111MODULE", "auto");
    }
    command
}

/// Whether a module begins in the directory or above.
fn in_module(directory: &Path) -> bool {
    directory
        .ancestors()
        .any(|directory| directory.join("go.mod").is_file())
}

/// The Go files of a directory that is no module, as in the days of GOPATH: given one by one, they
/// need none.
fn sources(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".go") && !name.ends_with("_test.go"))
        .collect();
    names.sort();
    names
}
