//! The Dockerfile as it is written: instructions with their words, nothing expanded yet.

use std::time::Duration;

use crate::span::{Span, Spanned, Word};

/// A parsed Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at its top.
    pub directives: Directives,
    /// `ARG` instructions before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// The stages, in the order of the file.
    pub stages: Vec<StageSource>,
    /// Length of the text in bytes; the place of what is missing at the end.
    pub len: usize,
}

/// The parser directives: special comments at the very top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the front end that Docker would fetch. Accepted and not acted upon.
    pub syntax: Option<Word>,
    /// `# escape=`: the escape and continuation character, `\` or a backtick.
    pub escape: char,
    /// `# check=`: which build checks to skip, and whether they are errors.
    pub check: Check,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: Check::default(),
        }
    }
}

/// What `# check=skip=A,B;error=true` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Names of the checks to leave out; `all` leaves out every one.
    pub skip: Vec<String>,
    /// Names of the experimental checks to make; `all` makes every one.
    pub experimental: Vec<String>,
    /// Whether a warning fails the build.
    pub error: bool,
}

/// A stage: a `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSource {
    /// The `FROM` instruction.
    pub from: From,
    /// The instructions below it.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The whole instruction.
    pub span: Span,
    /// The keyword as it was written.
    pub keyword: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The base: an image, an earlier stage or `scratch`; variables not expanded.
    pub image: Word,
    /// The stage's name, in lower case.
    pub name: Option<Word>,
}

/// One instruction and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the end of the last line, without a heredoc's lines.
    pub span: Span,
    /// The keyword as it was written.
    pub keyword: Word,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ADD`.
    Add(Box<Add>),
    /// `ARG`, one or several.
    Arg(Vec<Argument>),
    /// `CMD`.
    Cmd(Command),
    /// `COPY`.
    Copy(Box<Copy>),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Box<Healthcheck>),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(Word),
    /// `ONBUILD`: the trigger's text and the instruction that it holds.
    OnBuild(Word, Box<Instruction>),
    /// `RUN`.
    Run(Box<Run>),
    /// `SHELL`.
    Shell(Vec<Word>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}

/// One `name[=default]` of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The variable's name.
    pub name: Word,
    /// Its default, if it has one.
    pub default: Option<Word>,
}

/// One `key=value` of an `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// Whether it was written in the old form, `ENV key value`.
    pub legacy: bool,
}

/// A command line in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`: started as it is.
    Exec(Spanned<Vec<Word>>),
    /// Anything else: handed to the shell as one string.
    Shell(Word),
}

impl Command {
    /// Returns where the command stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Exec(words) => words.span,
            Self::Shell(text) => text.span,
        }
    }
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes: the file's name in `COPY` and `ADD`.
    pub name: String,
    /// The lines, with their line ends; tabs already stripped for `<<-` in `COPY` and `ADD`.
    pub content: String,
    /// Whether variables in it are expanded (the delimiter was not quoted).
    pub expand: bool,
    /// Whether it began with `<<-`.
    pub strip_tabs: bool,
    /// Where the content stands.
    pub span: Span,
    /// Where `<<NAME` stands.
    pub marker: Span,
}

/// A source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path, pattern or URL.
    Path(Word),
    /// A file whose content is in the Dockerfile.
    Heredoc(Heredoc),
}

/// `COPY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// What to copy.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: Word,
    /// `--from`.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, repeatable.
    pub excludes: Vec<Word>,
}

/// `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Add {
    /// What to add.
    pub sources: Vec<Source>,
    /// Where to.
    pub destination: Word,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, repeatable.
    pub excludes: Vec<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`; nothing said leaves it to the kind of source.
    pub unpack: Option<bool>,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; with heredocs, the first line alone.
    pub command: Command,
    /// Its here-documents.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, repeatable.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`, repeatable.
    pub devices: Vec<Word>,
}

/// `RUN --network=…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The build's own network.
    #[default]
    Default,
    /// No network.
    None,
    /// The host's network.
    Host,
}

/// `RUN --security=…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// The usual restrictions.
    #[default]
    Sandbox,
    /// None of them.
    Insecure,
}

/// `RUN --mount=…`: its fields as written. What they mean is settled when they are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The value of the flag.
    pub span: Span,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

/// One `key[=value]` of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key, in lower case.
    pub key: String,
    /// What stands behind the `=`.
    pub value: Option<String>,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: forget the base image's.
    None,
    /// `CMD`.
    Check {
        /// The probe.
        command: Command,
        /// When and how often.
        timing: Timing,
    },
}

/// The options of `HEALTHCHECK`; zero or nothing leaves the choice to who runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// `--interval`.
    pub interval: Option<Duration>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--start-period`.
    pub start_period: Option<Duration>,
    /// `--start-interval`.
    pub start_interval: Option<Duration>,
    /// `--retries`.
    pub retries: Option<u32>,
}
