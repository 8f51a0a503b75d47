//! What keeps a program from being executed.

use std::io::ErrorKind;

use smidge_image::Tree;
use smidge_run::RunError;
use smidge_trim::{Fault, Program};

use super::Finding;
use super::files::Files;
use crate::Snippet;
use crate::container::record::Record;

/// Says why the program of a container could not be executed.
pub(super) fn examine(record: &Record, fault: &RunError, files: &Files<'_>) -> Option<Finding> {
    let source = match fault {
        RunError::WorkingDirectory { path, source } => {
            return working_directory(record, path, source.kind(), files);
        }
        RunError::Exec { source, .. } => Some(source.kind()),
        _ => None,
    };
    if let Some(fault) = proven(record, files.tree) {
        return Some(finding(&fault, Some(files)));
    }
    match (fault, source) {
        (RunError::Exec { program, .. }, Some(ErrorKind::PermissionDenied)) => {
            files.forbidden(program, &record.spec.user)
        }
        _ => None,
    }
}

/// What the proof says against the program.
pub(super) fn proven(record: &Record, tree: &dyn Tree) -> Option<Fault> {
    let spec = &record.spec;
    let is_shell = |path: &String| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| name.ends_with("sh"))
    };
    let shell_form =
        spec.args.len() > 2 && spec.args.first().is_some_and(is_shell) && spec.args[1] == "-c";
    let program = Program {
        env: spec.env.clone(),
        working_dir: spec.cwd.clone(),
        shell_form,
        ..Program::new(spec.args.clone(), &record.architecture)
    };
    smidge_trim::prove(tree, &program)
        .err()
        .filter(|fault| !matches!(fault, Fault::Undetermined { .. } | Fault::Io { .. }))
}

/// A fault with its word, and what helps.
pub(super) fn finding(fault: &Fault, files: Option<&Files<'_>>) -> Finding {
    let (cause, brief) = word(fault);
    let mut finding = Finding::new(cause, brief, fault.to_string());
    finding.code = fault.exit_code();
    let label = fault.label();
    match (fault.span(), label) {
        (Some(span), label) => {
            finding.snippet = Some(Snippet {
                file: span.path.clone(),
                line: 1,
                column: span.column,
                source_line: span.source_line.clone(),
                length: span.length,
                label,
            });
        }
        // Without a place, only a label that says more than the first line is worth a line.
        (None, Some(label)) if says_more(fault) => finding = finding.fact(label),
        (None, _) => (),
    }
    let finding = fault.facts().into_iter().fold(finding, Finding::fact);
    advised(finding, innermost(fault), files)
}

/// The fault at the end of a chain of interpreters.
fn innermost(fault: &Fault) -> &Fault {
    match fault {
        Fault::Interpreter { source, .. } => innermost(source),
        fault => fault,
    }
}

/// Says what helps against a fault.
fn advised(finding: Finding, fault: &Fault, files: Option<&Files<'_>>) -> Finding {
    const WITH_LIBRARIES: &str =
        "build it with its loader and libraries: `smidge build --with-libs PATH`";
    match fault {
        Fault::NoLoader { loader, .. } => match files.and_then(|files| files.other_libc(loader)) {
            Some(other) => finding.fact(other),
            None => finding,
        }
        .hint(WITH_LIBRARIES)
        .hint("or link it statically"),
        Fault::NoLibraries { libraries, .. } => {
            let package = libraries
                .iter()
                .find_map(|library| files?.package_of(&library.name));
            package.into_iter().fold(
                finding.hint(WITH_LIBRARIES).hint("or link it statically"),
                Finding::hint,
            )
        }
        Fault::NoVersions { versions, .. } => versions
            .iter()
            .find_map(|missing| newer_libc(&missing.version))
            .into_iter()
            .fold(finding, Finding::hint),
        Fault::NoShell { .. } => finding.hint(
            "write the command as a list, which needs no shell: `CMD [\"program\", \"argument\"]`",
        ),
        Fault::NotExecutable { program, .. } => {
            finding.hint(format!("make it executable: `chmod +x {program}`"))
        }
        _ => finding,
    }
}

/// Which systems have a version of glibc.
pub(super) fn newer_libc(version: &str) -> Option<String> {
    /// The first release of each system with so new a glibc: 2.N.
    const SYSTEMS: [(u32, &str); 6] = [
        (31, "Debian 11, Ubuntu 20.04"),
        (34, "RHEL 9"),
        (35, "Ubuntu 22.04"),
        (36, "Debian 12"),
        (39, "Ubuntu 24.04, RHEL 10"),
        (41, "Debian 13"),
    ];
    let number = version.strip_prefix("GLIBC_2.")?;
    let minor: u32 = number.split('.').next()?.parse().ok()?;
    let systems: Vec<&str> = SYSTEMS
        .iter()
        .filter(|(has, _)| *has >= minor)
        .map(|(_, name)| *name)
        .collect();
    let names = match systems[..] {
        [] => String::new(),
        [first, ..] => format!(", such as that of {first}"),
    };
    Some(format!(
        "build it where it is to run, or start from an image with glibc 2.{minor} or newer{names}"
    ))
}

/// The word for a fault, and its few words.
fn word(fault: &Fault) -> (&'static str, String) {
    let simple = |cause: &'static str, brief: &str| (cause, brief.to_owned());
    match fault {
        Fault::NothingToRun => simple("nothing-to-run", "nothing to run"),
        Fault::NotFound { program, .. } => ("not-found", format!("no `{program}`")),
        Fault::NotInPath { program, .. } => ("not-in-path", format!("no `{program}` in $PATH")),
        Fault::NoShell { shell, .. } => ("no-shell", format!("no shell `{shell}`")),
        Fault::Directory { .. } => simple("directory", "the program is a directory"),
        Fault::NotAFile { .. } => simple("not-a-file", "the program is no file"),
        Fault::NotExecutable { .. } => simple("not-executable", "the program is not executable"),
        Fault::Empty { .. } => simple("empty", "the program is an empty file"),
        Fault::NoShebang { .. } => {
            simple("no-interpreter-named", "the script names no interpreter")
        }
        Fault::UnknownFormat { .. } => simple("unknown-format", "the program is none"),
        Fault::ShebangTooLong { .. } | Fault::ShebangTooDeep { .. } => {
            simple("bad-interpreter", "the script's interpreter is no use")
        }
        Fault::NoInterpreter { interpreter, .. } | Fault::NoEnvTarget { interpreter, .. } => (
            "no-interpreter",
            format!("no interpreter `{}`", interpreter.escape_debug()),
        ),
        Fault::Interpreter { source, .. } => word(source),
        Fault::WrongArchitecture { found, .. } => {
            ("wrong-architecture", format!("built for {found}"))
        }
        Fault::NotAProgram { .. } => simple("not-a-program", "the program is none"),
        Fault::Damaged { .. } => simple("damaged", "the program is damaged"),
        Fault::NoLoader { loader, .. } => ("no-loader", format!("no loader `{loader}`")),
        Fault::BadLoader { .. } => simple("bad-loader", "the loader is of no use"),
        Fault::NoLibraries { libraries, .. } => {
            let first = libraries.first().map_or("", |library| &library.name);
            let more = match libraries.len() {
                0 | 1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            ("no-library", format!("no library {first}{more}"))
        }
        Fault::NoVersions { versions, .. } => {
            let first = versions.first().map_or("", |missing| &missing.version);
            ("no-symbol-version", format!("a library lacks {first}"))
        }
        _ => simple("unknown", "it cannot be proved to start"),
    }
}

fn says_more(fault: &Fault) -> bool {
    !matches!(
        fault,
        Fault::NotFound { .. } | Fault::NotInPath { .. } | Fault::Directory { .. }
    )
}

fn working_directory(
    record: &Record,
    path: &str,
    kind: ErrorKind,
    files: &Files<'_>,
) -> Option<Finding> {
    let hint = "name another: `smidge run -w DIR IMAGE`";
    let finding =
        |brief: &str, message: String| Finding::new("working-directory", brief, message).hint(hint);
    match kind {
        ErrorKind::NotADirectory => Some(finding(
            "the working directory is a file",
            format!("the program cannot start: its working directory `{path}` is not a directory"),
        )),
        ErrorKind::PermissionDenied => {
            let user = record.spec.user.uid;
            let barred = files.barred(path, &record.spec.user);
            let barred = barred.unwrap_or_else(|| path.to_owned());
            let message = format!(
                "the program cannot start: user {user} may not enter `{barred}` on the way to its working directory"
            );
            Some(finding("the working directory is barred", message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::newer_libc;

    #[test]
    fn systems_are_named_that_are_new_enough() {
        let hint = |version| newer_libc(version).unwrap();
        assert!(hint("GLIBC_2.34").ends_with("2.34 or newer, such as that of RHEL 9"));
        assert!(hint("GLIBC_2.38").ends_with("such as that of Ubuntu 24.04, RHEL 10"));
        assert!(hint("GLIBC_2.99").ends_with("2.99 or newer"));
        assert_eq!(newer_libc("GLIBCXX_3.4.32"), None);
    }
}
