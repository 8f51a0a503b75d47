//! Go programs: built by the user's own `go`, static, small and the same every time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_image::Platform;

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
    command.envs(environment(request.platform(), host));
    if !modules && !host.env.contains_key("GO111MODULE") {
        command.env("GO111MODULE", "auto");
    }
    command
}

/// What tells Go the machine to compile for. Docker's `linux/arm` is version 7; Go's own idea of it
/// depends on where it runs.
pub(super) fn environment(platform: Option<&Platform>, host: &Host) -> Vec<(&'static str, String)> {
    let architecture =
        platform.map_or_else(|| host.architecture(), |platform| &platform.architecture);
    let variant = platform.and_then(|platform| platform.variant.as_deref());
    let level = match (architecture, variant) {
        ("arm", variant) => Some(("GOARM", variant.unwrap_or("v7").trim_start_matches('v'))),
        ("amd64", Some(variant)) => Some(("GOAMD64", variant)),
        _ => None,
    };
    [
        ("CGO_ENABLED", "0"),
        ("GOOS", "linux"),
        ("GOARCH", architecture),
    ]
    .into_iter()
    .chain(level)
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_told_in_gos_words() {
        let host = crate::host::test_host("/".as_ref());
        let told = |platform: &str| {
            let pairs = environment(Some(&platform.parse().unwrap()), &host);
            let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let common = "CGO_ENABLED=0 GOOS=linux";
        for (platform, expected) in [
            ("linux/amd64", "GOARCH=amd64"),
            ("linux/amd64/v3", "GOARCH=amd64 GOAMD64=v3"),
            ("linux/arm64", "GOARCH=arm64"),
            ("linux/arm64/v8", "GOARCH=arm64"),
            ("linux/arm/v6", "GOARCH=arm GOARM=6"),
            ("linux/arm", "GOARCH=arm GOARM=7"),
            ("linux/riscv64", "GOARCH=riscv64"),
        ] {
            assert_eq!(told(platform), format!("{common} {expected}"), "{platform}");
        }
        let here = environment(None, &host);
        assert_eq!(here[2].1, host.architecture());
    }
}
