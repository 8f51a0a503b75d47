//! Running other programs, and knowing where things are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a task gives: nothing, or the one message to print.
pub type Outcome<T = ()> = Result<T, String>;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lives in the repository")
}

/// Whether this process may install packages and make users.
pub fn is_superuser() -> bool {
    read("id", ["-u"]).is_ok_and(|uid| uid.trim() == "0")
}

/// The environment is read in this one place.
#[expect(clippy::disallowed_methods, reason = "xtask is a program of its own")]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// Whether a program can be found on PATH.
pub fn found(program: &str) -> bool {
    let path = variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A command that runs in the repository's root.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs a command to its end, its output going where ours goes.
pub fn run(command: &mut Command) -> Outcome {
    let shown = shown(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed: {status}")),
        Err(error) => Err(format!("cannot run `{shown}`: {error}")),
    }
}

/// Runs a program and gives what it printed.
pub fn read<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: &str, args: I) -> Outcome<String> {
    read_from(command(program).args(args))
}

/// Runs a command and gives what it printed to standard output.
pub fn read_from(command: &mut Command) -> Outcome<String> {
    let shown = shown(command);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()),
        Ok(output) => Err(format!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )),
        Err(error) => Err(format!("cannot run `{shown}`: {error}")),
    }
}

/// Builds the release binary and gives its path.
pub fn smidge() -> Outcome<PathBuf> {
    let cargo = env!("CARGO");
    run(command(cargo).args(["build", "--release", "--locked", "--package", "smidge"]))?;
    let host = read("rustc", ["--print", "host-tuple"])?;
    Ok(target_dir().join(host).join("release/smidge"))
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Runs a command, copying its standard output to ours; gives the text and whether it succeeded.
pub fn read_tee(command: &mut Command) -> Outcome<(String, bool)> {
    use std::io::{BufRead, BufReader};
    let shown = shown(command);
    let failed = |error: std::io::Error| format!("cannot run `{shown}`: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(failed)?;
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    let status = child.wait().map_err(failed)?;
    Ok((text, status.success()))
}
