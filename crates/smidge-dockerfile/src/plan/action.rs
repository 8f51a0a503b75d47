//! The steps of a plan, one type for each thing to do.

use crate::instruction::{Network, Security, Timing};
use crate::span::{Span, Word};

/// What a step does. Every text is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Copies files.
    Copy(Box<CopyAction>),
    /// Adds files, archives, URLs or repositories.
    Add(Box<AddAction>),
    /// Runs a program.
    Run(Box<RunAction>),
    /// Sets environment variables.
    Env(Vec<(String, String)>),
    /// Sets labels.
    Label(Vec<(String, String)>),
    /// Declares build arguments, with the values that they have.
    Arg(Vec<(String, Option<String>)>),
    /// Changes the working directory, which is made if it is missing; absolute.
    Workdir(String),
    /// Changes the user.
    User(String),
    /// Declares ports.
    Expose(Vec<Port>),
    /// Declares volumes.
    Volume(Vec<String>),
    /// Sets the signal that stops the program.
    StopSignal(String),
    /// Sets the shell of later shell forms.
    Shell(Vec<String>),
    /// Sets the entry point. A default command that comes from the base image is dropped, one
    /// that this stage has set stays.
    Entrypoint(CommandLine),
    /// Sets the default command or arguments.
    Cmd(CommandLine),
    /// Sets the health probe.
    Healthcheck(HealthAction),
    /// Keeps an instruction for those who build upon this image.
    OnBuild(String),
    /// Names the author.
    Maintainer(String),
}

/// A command line as it will be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments; in shell form the shell comes first.
    pub argv: Vec<String>,
    /// Whether it is in shell form.
    pub shell_form: bool,
    /// Where each argument of the exec form stands; in shell form the one span of the text.
    pub arguments: Vec<Span>,
}

/// Where `COPY` and mounts take files from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// The build context.
    #[default]
    Context,
    /// A stage: its place in the plan's stages.
    Stage(usize),
    /// An image.
    Image(String),
    /// A named build context.
    Named(String),
}

/// A file whose content stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inline {
    /// Its name.
    pub name: String,
    /// Its content, expanded unless the delimiter was quoted.
    pub content: String,
    /// Where the content stands.
    pub span: Span,
}

/// A source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or (for `ADD`) URL.
    Path(Word),
    /// A file in the Dockerfile.
    Inline(Inline),
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyAction {
    /// What to copy.
    pub sources: Vec<CopySource>,
    /// Where to, as written after expansion: may be relative to the step's working directory.
    pub destination: Word,
    /// Where from.
    pub from: From,
    /// Where `--from` stands.
    pub from_span: Option<Span>,
    /// Owner, `user[:group]`.
    pub chown: Option<Word>,
    /// Mode, octal or symbolic.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub excludes: Vec<String>,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddAction {
    /// What to add.
    pub sources: Vec<CopySource>,
    /// Where to, as written after expansion: may be relative to the step's working directory.
    pub destination: Word,
    /// Owner, `user[:group]`.
    pub chown: Option<Word>,
    /// Mode, octal or symbolic.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`; nothing said leaves it to the kind of source.
    pub unpack: Option<bool>,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAction {
    /// What to start.
    pub command: CommandLine,
    /// A script to put at `/dev/pipes/NAME` (mode 0755) for this step: a heredoc that begins with `#!`.
    pub script: Option<Inline>,
    /// Mounts.
    pub mounts: Vec<StepMount>,
    /// Network.
    pub network: Network,
    /// Restrictions.
    pub security: Security,
    /// Devices.
    pub devices: Vec<String>,
}

/// The type of a mount and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`: files of the context, a stage or an image.
    Bind {
        /// Where its files come from.
        from: From,
        /// Path in it; nothing is its root.
        source: Option<String>,
    },
    /// `type=cache`: a directory that outlives the build.
    Cache {
        /// Its identity; the target by default.
        id: String,
        /// What it starts from; nothing is an empty directory.
        from: Option<From>,
        /// Path in `from`.
        source: Option<String>,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Mode of a new directory, 0755 by default.
        mode: Option<u32>,
        /// Owner of a new directory.
        uid: Option<u32>,
        /// Group of a new directory.
        gid: Option<u32>,
    },
    /// `type=tmpfs`.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// `type=secret`.
    Secret {
        /// Its name for `--secret`; the target's base name by default.
        id: String,
        /// Environment variable to hold it, in place of or beside a file.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// Mode, 0400 by default.
        mode: Option<u32>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
    },
    /// `type=ssh`: an agent's socket.
    Ssh {
        /// Its name for `--ssh`.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// Mode, 0600 by default.
        mode: Option<u32>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
    },
}

/// `sharing=` of a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each user gets its own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount of a `RUN` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMount {
    /// The whole flag.
    pub span: Span,
    /// What is mounted; texts are expanded.
    pub kind: MountKind,
    /// Where, absolute; nothing for a secret that is an environment variable only, and for an
    /// agent's socket whose place is free.
    pub target: Option<String>,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthAction {
    /// `Test` of the image's config: `["NONE"]`, or `CMD` or `CMD-SHELL` and the command.
    pub test: Vec<String>,
    /// When and how often.
    pub timing: Timing,
}

/// One port of `EXPOSE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}
