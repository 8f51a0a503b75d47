use std::io;

use thiserror::Error;

use crate::{ElfError, MissingVersion};

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
    #[error("`{program}` cannot start: it is not in the image")]
    NotFound {
        /// The program as it was given.
        program: String,
        /// The symbolic link that leads to nothing, and its target.
        dangling: Option<(String, String)>,
    },
    /// The program is in none of the directories of `$PATH`.
    #[error("`{program}` cannot start: it is in no directory of $PATH")]
    NotInPath {
        /// The program as it was given.
        program: String,
        /// The directories.
        searched: Vec<String>,
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
    #[error("`{program}` cannot start: it is not executable")]
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
        line: ScriptSpan,
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
    #[error("`{script}` cannot start: its interpreter `{}` is not in the image", .interpreter.escape_default())]
    NoInterpreter {
        /// Path of the script.
        script: String,
        /// The interpreter as the kernel reads it: a line end of Windows stays part of it.
        interpreter: String,
        /// Where the script names it.
        span: ScriptSpan,
    },
    /// A script asks `env` for an interpreter that is in no directory of `$PATH`.
    #[error("`{script}` cannot start: its interpreter `{}` is in no directory of $PATH", .interpreter.escape_default())]
    NoEnvTarget {
        /// Path of the script.
        script: String,
        /// The interpreter as `env` reads it.
        interpreter: String,
        /// The directories.
        searched: Vec<String>,
        /// Where the script names it.
        span: ScriptSpan,
    },
    /// The interpreter is there, but cannot start itself.
    #[error("`{script}` cannot start: its interpreter cannot")]
    Interpreter {
        /// Path of the script.
        script: String,
        /// Where the script names it.
        span: ScriptSpan,
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
        source: ElfError,
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
    #[error("`{program}` cannot start: its loader `{loader}` {problem}")]
    BadLoader {
        /// Path of the program.
        program: String,
        /// The loader that it names.
        loader: String,
        /// What is wrong with it: `is not executable`.
        problem: String,
    },
    /// Libraries are not in the image, or cannot be loaded.
    #[error("`{program}` cannot start: {} not in the image", libraries_are(.libraries))]
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
        unimplemented!()
    }

    /// What is known about the fault, one line each.
    pub fn facts(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Text for the caret that points at the instruction, or at the script if there is a [`Fault::span`].
    pub fn label(&self) -> Option<String> {
        unimplemented!()
    }

    /// The place in a script that is at fault, if it is one.
    pub fn span(&self) -> Option<&ScriptSpan> {
        unimplemented!()
    }
}

fn libraries_are(libraries: &[MissingLibrary]) -> String {
    match libraries {
        [one] => format!("its library `{}` is", one.name),
        many => format!("{} of its libraries are", many.len()),
    }
}
