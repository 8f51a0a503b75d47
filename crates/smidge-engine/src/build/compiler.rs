//! Running the user's own compilers.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Host, Kind, Progress, Result};

/// A compiler of the user's, and how it is started: in the user's environment, not in smidge's.
pub(super) struct Compiler<'h> {
    path: PathBuf,
    name: String,
    host: &'h Host,
}

impl<'h> Compiler<'h> {
    /// Finds a compiler on the `PATH`.
    pub(super) fn find(name: &str, source: &str, host: &'h Host) -> Result<Self> {
        Self::look_for(name, host).ok_or_else(|| {
            let message = format!("cannot compile the {source}: there is no `{name}` on the PATH");
            Error::new(Kind::NotFound, message).with_hint(format!(
                "install {name}, or compile elsewhere and name the program: `smidge build ./PROGRAM`"
            ))
        })
    }

    /// The compiler, if it is on the `PATH`.
    pub(super) fn look_for(name: &str, host: &'h Host) -> Option<Self> {
        let path = host.find_program(name)?;
        let name = name.to_owned();
        Some(Self { path, name, host })
    }

    /// The surroundings that it is started in.
    pub(super) fn host(&self) -> &'h Host {
        self.host
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A command line of it, in a directory.
    pub(super) fn command<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).current_dir(directory);
        command
            .env_clear()
            .envs(&self.host.env)
            .env("PATH", &self.host.path);
        command.stdin(Stdio::null());
        smidge_run::end_with_caller(&mut command);
        command
    }

    /// Asks it something, and returns what it prints; `None` if it fails.
    pub(super) fn ask(&self, mut command: Command) -> Result<Option<String>> {
        let output = command
            .stderr(Stdio::null())
            .output()
            .map_err(|e| self.not_started(e))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(text))
    }

    /// Runs it. Its errors and warnings go to the user as they are; `line` gets what it prints.
    pub(super) fn run(
        &self,
        mut command: Command,
        progress: &dyn Progress,
        mut line: impl FnMut(&str),
    ) -> Result<()> {
        command.stdout(Stdio::piped());
        command.stderr(if progress.inherit_stderr() {
            Stdio::inherit()
        } else {
            Stdio::piped()
        });
        let mut child = command.spawn().map_err(|e| self.not_started(e))?;
        let status = std::thread::scope(|scope| {
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            scope.spawn(move || each_line(stderr, |text| progress.line(text)));
            each_line(stdout, &mut line);
            child.wait()
        });
        let status = status.map_err(|e| self.not_started(e))?;
        if status.success() {
            return Ok(());
        }
        let message = format!("`{}` failed; its messages are above", self.name);
        Err(Error::new(Kind::Compile, message).with_fact(status.to_string()))
    }

    fn not_started(&self, source: std::io::Error) -> Error {
        Error::io(format!("cannot run `{}`", self.path.display()), source)
    }
}

/// Hands on what comes, line by line, to its end: a compiler that nobody listens to any more is killed.
/// What is no UTF-8, such as a source that it quotes, is replaced.
fn each_line(pipe: Option<impl Read>, mut line: impl FnMut(&str)) {
    let lines = pipe
        .into_iter()
        .flat_map(|pipe| BufReader::new(pipe).split(b'\n'));
    for bytes in lines.map_while(std::result::Result::ok) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        line(&String::from_utf8_lossy(bytes));
    }
}

/// A command line as one could type it, with what the environment has to say.
pub(super) fn shown_with(environment: &[(&str, String)], command: &Command) -> String {
    let variables = environment
        .iter()
        .map(|(name, value)| format!("{name}={value} "));
    variables.chain([shown(command)]).collect()
}

/// A command line as one could type it.
pub(super) fn shown(command: &Command) -> String {
    let word = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    std::iter::once(program)
        .chain(command.get_args())
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Silent, Task};

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Progress for Lines {
        fn task(&self, _: &str, _: Option<u64>) -> Box<dyn Task + '_> {
            Box::new(Silent)
        }
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn inherit_stderr(&self) -> bool {
            false
        }
    }

    #[test]
    fn messages_pass_through_and_failure_is_the_users() {
        let host = crate::host::test_host("/".as_ref());
        let sh = Compiler::find("sh", "test", &host).unwrap();
        let lines = Lines::default();
        let mut printed = Vec::new();
        let script = "echo out; echo 'error: no' >&2; echo more; exit 4";
        let command = sh.command("/".as_ref(), ["-c", script]);
        assert_eq!(
            shown(&command),
            "sh -c 'echo out; echo '\\''error: no'\\'' >&2; echo more; exit 4'"
        );
        let error = sh
            .run(command, &lines, |line| printed.push(line.to_owned()))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Compile);
        assert_eq!(error.facts(), ["exit status: 4"]);
        assert_eq!(printed, ["out", "more"]);
        assert_eq!(*lines.0.lock().unwrap(), ["error: no"]);
    }

    #[test]
    fn messages_need_not_be_utf_8() {
        let host = crate::host::test_host("/".as_ref());
        let sh = Compiler::find("sh", "test", &host).unwrap();
        let lines = Lines::default();
        let script = r"printf 'caf\351\r\nmore\n' >&2; printf '\351\n'";
        let mut printed = Vec::new();
        let command = sh.command("/".as_ref(), ["-c", script]);
        sh.run(command, &lines, |line| printed.push(line.to_owned()))
            .unwrap();
        assert_eq!(*lines.0.lock().unwrap(), ["caf\u{fffd}", "more"]);
        assert_eq!(printed, ["\u{fffd}"]);
    }

    #[test]
    fn a_missing_compiler_is_named() {
        let mut host = crate::host::test_host("/".as_ref());
        host.path = "/nowhere".into();
        let error = Compiler::find("cargo", "Cargo package", &host)
            .err()
            .unwrap();
        assert_eq!(
            error.message(),
            "cannot compile the Cargo package: there is no `cargo` on the PATH"
        );
    }
}
