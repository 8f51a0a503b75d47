use std::fmt;
use std::io;

use thiserror::Error;

use crate::{ClosureError, ElfError, MissingVersion};

/// A place in the first line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptSpan {
    /// Path of the script in the image.
    pub path: String,
    /// The line, which is always the first, without its end.
    pub source_line: String,
    /// Where the span begins: a 1-based column, in characters.
    pub column: usize,
    /// Length of the span in characters.
    pub length: usize,
}

/// A library that is missing, and who needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLibrary {
    /// Name of the library: `libm.so.6`.
    pub name: String,
    /// Paths of the files that need it.
    pub needed_by: Vec<String>,
    /// Why the file that was found cannot be loaded, if one was found.
    pub unusable: Option<String>,
}

/// Why a program cannot start. The text is the first line of the message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Neither an entry point nor a command is set.
    #[error("nothing to run: the image has neither an entry point nor a command")]
    NothingToRun,
    /// The program is not in the image.
    #[error("`{program}` cannot start: no such file or directory in the image")]
    NotFound {
        /// The program as it was given.
        program: String,
        /// The symbolic link that leads to nothing, and its target.
        dangling: Option<(String, String)>,
    },
    /// The program is in none of the directories of `$PATH`.
    #[error("`{program}` cannot start: executable file not found in $PATH")]
    NotInPath {
        /// The program as it was given.
        program: String,
        /// The directories.
        searched: Vec<String>,
        /// Files that may have been meant, each with why it is not taken.
        near_misses: Vec<String>,
    },
    /// The shell form is used, but the image has no shell.
    #[error("`{command}` cannot start: the shell form needs `{shell}`, which is not in the image")]
    NoShell {
        /// The shell.
        shell: String,
        /// What the shell should run.
        command: String,
    },
    /// The program is a directory.
    #[error("`{program}` cannot start: it is a directory")]
    Directory {
        /// Path of the program.
        program: String,
    },
    /// The program is a device, a pipe or a socket.
    #[error("`{program}` cannot start: it is not a regular file")]
    NotAFile {
        /// Path of the program.
        program: String,
    },
    /// Nobody may execute the program.
    #[error("`{program}` cannot start: permission denied: it is not executable")]
    NotExecutable {
        /// Path of the program.
        program: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The program has no content.
    #[error("`{program}` cannot start: it is an empty file")]
    Empty {
        /// Path of the program.
        program: String,
    },
    /// The program is text, but its first line names no interpreter.
    #[error(
        "`{program}` cannot start: it is a text file whose first line is not `#!` and an interpreter"
    )]
    NoShebang {
        /// Path of the program.
        program: String,
        /// Its first line, or the beginning of it.
        line: Box<ScriptSpan>,
    },
    /// The program is neither an ELF file nor a script.
    #[error("`{program}` cannot start: it is neither a program nor a script")]
    UnknownFormat {
        /// Path of the program.
        program: String,
    },
    /// The script's first line is longer than the kernel reads.
    #[error(
        "`{script}` cannot start: the interpreter's name does not fit in the {limit} bytes that the kernel reads"
    )]
    ShebangTooLong {
        /// Path of the script.
        script: String,
        /// Bytes that the kernel reads.
        limit: usize,
    },
    /// Interpreters are scripts themselves, too often.
    #[error(
        "`{script}` cannot start: its interpreters are scripts themselves, more than {limit} deep"
    )]
    ShebangTooDeep {
        /// Path of the first script.
        script: String,
        /// How many the kernel follows.
        limit: usize,
    },
    /// The interpreter that a script names is not in the image.
    #[error("`{script}` cannot start: its interpreter `{}` is not in the image", .interpreter.escape_debug())]
    NoInterpreter {
        /// Path of the script.
        script: String,
        /// The interpreter as the kernel reads it: a line end of Windows stays part of it.
        interpreter: String,
        /// Where the script names it.
        span: Box<ScriptSpan>,
    },
    /// A script asks `env` for an interpreter that is in no directory of `$PATH`.
    #[error("`{script}` cannot start: its interpreter `{}` is in no directory of $PATH", .interpreter.escape_debug())]
    NoEnvTarget {
        /// Path of the script.
        script: String,
        /// The interpreter as `env` reads it.
        interpreter: String,
        /// The directories.
        searched: Vec<String>,
        /// Where the script names it.
        span: Box<ScriptSpan>,
    },
    /// The interpreter is there, but cannot start itself.
    #[error("`{script}` cannot start: its interpreter `{interpreter}` cannot start either")]
    Interpreter {
        /// Path of the script.
        script: String,
        /// Path of the interpreter.
        interpreter: String,
        /// Where the script names it.
        span: Box<ScriptSpan>,
        /// Why.
        source: Box<Fault>,
    },
    /// The program is for another machine.
    #[error(
        "`{program}` cannot start: it is built for another machine than the image's `{wanted}`"
    )]
    WrongArchitecture {
        /// Path of the program.
        program: String,
        /// Its machine: `ELF aarch64`.
        found: String,
        /// The image's architecture as OCI names it.
        wanted: String,
    },
    /// The program is an ELF file, but no program: an object file or a core dump.
    #[error("`{program}` cannot start: it is {found}, not a program")]
    NotAProgram {
        /// Path of the program.
        program: String,
        /// What it is: `an object file`.
        found: &'static str,
    },
    /// The program is a damaged ELF file.
    #[error("`{program}` cannot start: it is damaged")]
    Damaged {
        /// Path of the program.
        program: String,
        /// What is wrong with it.
        problem: ElfError,
    },
    /// The loader that the program names is not in the image.
    #[error(
        "`{program}` cannot start: it is dynamically linked, but its loader is not in the image"
    )]
    NoLoader {
        /// Path of the program.
        program: String,
        /// Its machine: `ELF x86-64`.
        machine: String,
        /// The loader that it names.
        loader: String,
        /// The libraries that are missing as well.
        libraries: Vec<MissingLibrary>,
    },
    /// The loader is there, but cannot be started.
    #[error("`{program}` cannot start: its loader `{loader}` is of no use: {problem}")]
    BadLoader {
        /// Path of the program.
        program: String,
        /// The loader that it names.
        loader: String,
        /// What is wrong with it: `it is not executable`.
        problem: String,
    },
    /// Libraries are not in the image, or cannot be loaded.
    #[error("`{program}` cannot start: {}", libraries_are(.libraries))]
    NoLibraries {
        /// Path of the program.
        program: String,
        /// Its machine: `ELF x86-64`.
        machine: String,
        /// The libraries.
        libraries: Vec<MissingLibrary>,
    },
    /// The libraries are there, but too old.
    #[error("`{program}` cannot start: a library in the image is too old for it")]
    NoVersions {
        /// Path of the program.
        program: String,
        /// Its machine: `ELF x86-64`.
        machine: String,
        /// The versions that are missing.
        versions: Vec<MissingVersion>,
    },
    /// What the program needs cannot be determined.
    #[error("`{program}` cannot be proved to start")]
    Undetermined {
        /// Path of the program.
        program: String,
        /// Why.
        source: ClosureError,
    },
    /// The tree could not be read.
    #[error("cannot read `{path}`")]
    Io {
        /// Path of what was read.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Fault {
    /// The status with which Docker reports the fault: 127 for what is not there, 126 for what is
    /// there and cannot be executed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NothingToRun
            | Self::NotFound { .. }
            | Self::NotInPath { .. }
            | Self::NoShell { .. }
            | Self::NoInterpreter { .. }
            | Self::NoEnvTarget { .. }
            | Self::NoLoader { .. }
            | Self::NoLibraries { .. }
            | Self::NoVersions { .. } => 127,
            Self::Interpreter { source, .. } => source.exit_code(),
            Self::Directory { .. }
            | Self::NotAFile { .. }
            | Self::NotExecutable { .. }
            | Self::Empty { .. }
            | Self::NoShebang { .. }
            | Self::UnknownFormat { .. }
            | Self::ShebangTooLong { .. }
            | Self::ShebangTooDeep { .. }
            | Self::WrongArchitecture { .. }
            | Self::NotAProgram { .. }
            | Self::Damaged { .. }
            | Self::BadLoader { .. }
            | Self::Undetermined { .. }
            | Self::Io { .. } => 126,
        }
    }

    /// What is known about the fault beyond its text and label, one line each.
    pub fn facts(&self) -> Vec<String> {
        match self {
            Self::NotInPath {
                searched,
                near_misses,
                ..
            } => [vec![path_is(searched)], near_misses.clone()].concat(),
            Self::NoEnvTarget { searched, .. } => vec![path_is(searched)],
            Self::NoLoader {
                program, libraries, ..
            }
            | Self::NoLibraries {
                program, libraries, ..
            } => {
                // What the program itself needs is in the label.
                let is_plain = |library: &&MissingLibrary| {
                    library.unusable.is_none() && library.needed_by == [program.as_str()]
                };
                let notable = libraries.iter().filter(|library| !is_plain(library));
                notable.map(MissingLibrary::to_string).collect()
            }
            Self::NoVersions { versions, .. } => {
                versions.iter().map(MissingVersion::to_string).collect()
            }
            Self::Interpreter { source, .. } => source.facts(),
            _ => Vec::new(),
        }
    }

    /// Text for the caret that points at the instruction, or at the script if there is a
    /// [`Fault::span`].
    pub fn label(&self) -> Option<String> {
        Some(match self {
            Self::NothingToRun | Self::Undetermined { .. } | Self::Io { .. } => return None,
            Self::NotFound { dangling: Some((link, target)), .. } => {
                format!("`{link}` is a symbolic link to `{target}`, which is not in the image")
            }
            Self::NotFound { .. } => "no such file in the image".to_owned(),
            Self::NotInPath { .. } => "no such file in $PATH".to_owned(),
            Self::NoShell { shell, .. } => format!("runs as `{shell} -c …`"),
            Self::Directory { .. } => "a directory".to_owned(),
            Self::NotAFile { .. } => "a device, pipe or socket".to_owned(),
            Self::NotExecutable { mode, .. } => format!("its mode is {mode:04o}, without any `x`"),
            Self::Empty { .. } => "0 bytes".to_owned(),
            Self::NoShebang { line, .. } if line.source_line.starts_with("\u{feff}#!") => {
                "a byte order mark stands before `#!`".to_owned()
            }
            Self::NoShebang { .. } => "no interpreter, such as `#!/bin/sh`".to_owned(),
            Self::UnknownFormat { .. } => "neither ELF nor `#!`".to_owned(),
            Self::ShebangTooLong { limit, .. } => format!("longer than {limit} bytes"),
            Self::ShebangTooDeep { .. } => "a script for a script for a script …".to_owned(),
            Self::NoInterpreter { interpreter, .. } | Self::NoEnvTarget { interpreter, .. }
                if interpreter.ends_with('\r') =>
            {
                "the line ends with a carriage return, as on Windows, which counts as part of the name"
                    .to_owned()
            }
            Self::NoEnvTarget { interpreter, .. } if interpreter.contains([' ', '\t']) => {
                "`env` takes all of this as one name: `env -S` splits it".to_owned()
            }
            Self::NoInterpreter { .. } => "no such file in the image".to_owned(),
            Self::NoEnvTarget { .. } => "no such file in $PATH".to_owned(),
            Self::Interpreter { source, .. } => return source.label(),
            Self::WrongArchitecture { found, wanted, .. } => {
                format!("{found}, in an image for {wanted}")
            }
            Self::NotAProgram { found, .. } => (*found).to_owned(),
            Self::Damaged { problem, .. } => problem.to_string(),
            Self::NoLoader { machine, loader, libraries, .. } if libraries.is_empty() => {
                format!("{machine}, wants `{loader}`")
            }
            Self::NoLoader { machine, loader, libraries, .. } => {
                format!("{machine}, wants `{loader}` and {}", names(libraries))
            }
            Self::BadLoader { loader, .. } => format!("wants `{loader}`"),
            Self::NoLibraries { machine, libraries, .. } => {
                format!("{machine}, wants {}", names(libraries))
            }
            Self::NoVersions { machine, versions, .. } => {
                let names: Vec<_> = versions.iter().map(|missing| missing.version.as_str()).collect();
                format!("{machine}, wants {}", names.join(", "))
            }
        })
    }

    /// The place in a script that is at fault, if it is one.
    pub fn span(&self) -> Option<&ScriptSpan> {
        match self {
            Self::NoInterpreter { span, .. }
            | Self::NoEnvTarget { span, .. }
            | Self::Interpreter { span, .. }
            | Self::NoShebang { line: span, .. } => Some(span),
            _ => None,
        }
    }

    /// Makes the fault of an interpreter one of the script that names it.
    pub(super) fn of_interpreter(
        self,
        script: &str,
        interpreter: String,
        span: Box<ScriptSpan>,
    ) -> Self {
        match self {
            // The kernel counts from the first script, whichever it was.
            Self::ShebangTooDeep { limit, .. } => Self::ShebangTooDeep {
                script: script.to_owned(),
                limit,
            },
            fault => Self::Interpreter {
                script: script.to_owned(),
                interpreter,
                span,
                source: Box::new(fault),
            },
        }
    }

    /// The text without the program's name: `it is a directory`.
    pub(super) fn problem(&self) -> String {
        let text = self.to_string();
        match text.split_once(" cannot start: ") {
            Some((_, problem)) => problem.to_owned(),
            None => text,
        }
    }
}

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self
            .needed_by
            .iter()
            .map(|user| format!("`{user}`"))
            .collect();
        write!(f, "{}: needed by {}", self.name, users.join(", "))?;
        match &self.unusable {
            Some(why) => write!(f, "; the file found is unusable: {why}"),
            None => Ok(()),
        }
    }
}

fn path_is(directories: &[String]) -> String {
    format!("$PATH: {}", directories.join(":"))
}

fn names(libraries: &[MissingLibrary]) -> String {
    let names: Vec<_> = libraries
        .iter()
        .map(|library| library.name.as_str())
        .collect();
    names.join(", ")
}

fn libraries_are(libraries: &[MissingLibrary]) -> String {
    let unusable = libraries.iter().any(|library| library.unusable.is_some());
    match (libraries, unusable) {
        ([one], false) => format!("its library `{}` is not in the image", one.name),
        ([one], true) => format!("its library `{}` cannot be loaded", one.name),
        (many, false) => format!("{} of its libraries are not in the image", many.len()),
        (many, true) => format!(
            "{} of its libraries are missing or cannot be loaded",
            many.len()
        ),
    }
}
