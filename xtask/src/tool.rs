//! Running other programs, and knowing where things are.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use smidge_tests::processes;

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

/// How long a command that is watched may say nothing: many times what it takes to compile a crate or to run
/// a test.
const SILENCE: Duration = Duration::from_mins(15);

/// Runs a command, copying what it says to our standard output and error; gives what went to the former, and
/// whether it succeeded. When it says nothing for too long, it is told what its processes do, and they and
/// whatever they have started are killed.
pub fn read_tee(command: &mut Command) -> Outcome<(String, bool)> {
    read_tee_within(command, SILENCE)
}

fn read_tee_within(command: &mut Command, silence: Duration) -> Outcome<(String, bool)> {
    let shown = shown(command);
    let failed = |error: std::io::Error| format!("cannot run `{shown}`: {error}");
    // Found again by it, wherever they have gone.
    let mark = format!("{}.{:p}", std::process::id(), &raw const silence);
    let piped = command.stdin(Stdio::null()).env("SMIDGE_SUITE", &mark);
    let piped = piped.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(failed)?;
    let (said, heard) = mpsc::channel();
    // What a line was printed to does not matter to whoever waits for one.
    let text = Arc::new(Mutex::new(String::new()));
    if let Some(stdout) = child.stdout.take() {
        let text = Arc::clone(&text);
        pass_on(stdout, said.clone(), move |line| {
            print!("{line}");
            text.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(line);
        });
    }
    if let Some(stderr) = child.stderr.take() {
        pass_on(stderr, said, |line| eprint!("{line}"));
    }
    loop {
        match heard.recv_timeout(silence) {
            Ok(()) => (),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let table = processes::Table::now();
                let all = table.with_variable(&format!("SMIDGE_SUITE={mark}"));
                eprintln!("{}", table.show(&all));
                processes::kill(&all);
                let silence = silence.as_secs();
                return Err(format!("`{shown}` has said nothing for {silence} s"));
            }
        }
    }
    let status = child.wait().map_err(failed)?;
    let text = std::mem::take(&mut *text.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((text, status.success()))
}

/// Passes lines on as they come, and lets somebody know.
fn pass_on(
    from: impl Read + Send + 'static,
    to: mpsc::Sender<()>,
    mut show: impl FnMut(&str) + Send + 'static,
) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
            show(&String::from_utf8_lossy(&line));
            line.clear();
            if to.send(()).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = command("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn who_says_nothing_is_ended_with_all_that_it_has_started() {
        let script = "setsid sleep 98765 & echo $!; wait";
        let silence = Duration::from_millis(500);
        let error = read_tee_within(&mut shell(script), silence).unwrap_err();
        assert!(error.contains("has said nothing"), "{error}");
        smidge_tests::until("its end", || read("pgrep", ["-f", "sleep 98765"]).is_err());
    }

    #[test]
    fn what_is_said_is_given_back() {
        let (text, succeeded) = read_tee(&mut shell("echo one; echo two; exit 3")).unwrap();
        assert_eq!((text.as_str(), succeeded), ("one\ntwo\n", false));
    }
}
