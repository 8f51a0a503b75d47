//! What a build is asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use smidge_image::{Platform, Reference};

use crate::registry::Connection;

/// A build, as it was asked for.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The program or source file, or the directory of a Dockerfile, Cargo package or Go package.
    pub path: PathBuf,
    /// The Dockerfile, if it is not `PATH/Dockerfile`.
    pub file: Option<PathBuf>,
    /// What the path is, if that is not to be found out.
    pub kind: Option<SourceKind>,
    /// The image's names.
    pub tags: Vec<Reference>,
    /// How to run the image, over what the source says.
    pub config: ConfigOptions,
    /// Arguments after `--`: they become the image's command, after the entrypoint.
    pub args: Vec<String>,
    /// Files to add to the program.
    pub includes: Vec<Include>,
    /// How to call Cargo.
    pub cargo: CargoOptions,
    /// `--build-arg`: values for a Dockerfile's `ARG`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: the Dockerfile's stage to build, if not the last.
    pub target: Option<String>,
    /// Whether to strip programs; by default those that are packed alone, but not a Dockerfile's.
    pub strip: Option<bool>,
    /// Whether to add the loader and libraries of dynamic programs.
    pub with_libs: bool,
    /// Whether to prove that the image can start. On by default.
    pub prove: bool,
    /// The machines to build for, if not this one: an image for each.
    pub platforms: Vec<Platform>,
    /// Where the image goes.
    pub output: Output,
    /// What only Dockerfiles know.
    pub dockerfile: DockerfileOptions,
}

/// Options of builds from a Dockerfile.
#[derive(Clone, Debug, Default)]
pub struct DockerfileOptions {
    /// `--pull`: look for newer base images.
    pub pull: bool,
    /// How to talk to registries.
    pub connection: Connection,
    /// `--no-cache`: carry every step out.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages whose steps are all carried out.
    pub no_cache_filter: Vec<String>,
    /// `--cache-from`, as it was written.
    pub cache_from: Vec<String>,
    /// `--cache-to`, as it was written.
    pub cache_to: Vec<String>,
    /// `--secret id=ID[,src=PATH|,env=NAME]`, as it was written.
    pub secrets: Vec<String>,
    /// `--ssh default|ID[=SOCKET]`, as it was written.
    pub ssh: Vec<String>,
    /// `--shm-size`: bytes of `/dev/shm` in a `RUN`.
    pub shm_size: Option<u64>,
    /// `--ulimit NAME=SOFT[:HARD]`, as it was written.
    pub ulimits: Vec<String>,
    /// `--add-host NAME:ADDRESS`, as it was written.
    pub add_hosts: Vec<String>,
    /// `--network`: the network of every `RUN` that does not say otherwise.
    pub network: Option<String>,
    /// `--build-context NAME=VALUE`, as it was written.
    pub build_contexts: Vec<String>,
    /// `--allow`: `security.insecure`, `network.host`.
    pub allow: Vec<String>,
    /// `--debug-shell`: a program to start where a `RUN` has failed.
    pub debug_shell: Option<String>,
    /// `--squash`: make one layer of all that the build made.
    pub squash: bool,
    /// `--slim-final`: leave out what the final stage does not need to run.
    pub slim_final: bool,
    /// `--keep PATH`: what is not to be left out, as it was written; wildcards as in `COPY`.
    pub keep: Vec<String>,
}

impl BuildRequest {
    /// A build of a path with every option at its default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            file: None,
            kind: None,
            tags: Vec::new(),
            config: ConfigOptions::default(),
            args: Vec::new(),
            includes: Vec::new(),
            cargo: CargoOptions::default(),
            build_args: BTreeMap::new(),
            target: None,
            strip: None,
            with_libs: false,
            prove: true,
            platforms: Vec::new(),
            output: Output::Store,
            dockerfile: DockerfileOptions::default(),
        }
    }

    /// The machine to build for, if one was named. Builds for several are taken apart first.
    pub(super) fn platform(&self) -> Option<&Platform> {
        self.platforms.first()
    }

    /// The same for each machine alone, in the order in which they were asked for.
    pub(super) fn each(&self) -> Vec<Self> {
        if self.platforms.is_empty() {
            return vec![self.clone()];
        }
        let mut each: Vec<Self> = Vec::new();
        for platform in &self.platforms {
            let platforms = vec![platform.clone()];
            if each.iter().all(|one| one.platforms != platforms) {
                each.push(Self {
                    platforms,
                    ..self.clone()
                });
            }
        }
        each
    }
}

/// What a build starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A ready program.
    Elf,
    /// A Cargo package or workspace.
    Cargo,
    /// A Go module or package.
    Go,
    /// A file of C.
    C,
    /// A file of Zig.
    Zig,
    /// A directory with a Dockerfile.
    Dockerfile,
}

impl SourceKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Cargo,
        Self::Go,
        Self::C,
        Self::Zig,
        Self::Elf,
        Self::Dockerfile,
    ];

    /// The word that `--as` takes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Elf => "elf",
            Self::Cargo => "cargo",
            Self::Go => "go",
            Self::C => "c",
            Self::Zig => "zig",
            Self::Dockerfile => "dockerfile",
        }
    }
}

/// The parts of an image's config that options set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigOptions {
    /// `--entrypoint`: a JSON array, or words as a shell splits them.
    pub entrypoint: Option<String>,
    /// `--cmd`: the same, for the default arguments.
    pub cmd: Option<String>,
    /// `--env NAME=value`; a bare `NAME` takes the value of the caller's environment.
    pub env: Vec<String>,
    /// `--label KEY=value`.
    pub labels: Vec<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--expose PORT[/tcp|/udp]`, ranges allowed.
    pub expose: Vec<String>,
    /// `--volume PATH`.
    pub volumes: Vec<String>,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
}

/// `--include SRC:DST`: a file or directory of the machine and its place in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The file or directory.
    pub source: PathBuf,
    /// Absolute path in the image; a `/` at its end means "into this directory".
    pub destination: String,
}

impl FromStr for Include {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, OutputError> {
        match text.rsplit_once(':') {
            Some((source, destination)) if !source.is_empty() && destination.starts_with('/') => {
                Ok(Self {
                    source: source.into(),
                    destination: destination.to_owned(),
                })
            }
            _ => Err(OutputError::Include(text.to_owned())),
        }
    }
}

/// How to call Cargo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CargoOptions {
    /// `--bin`: which of several programs.
    pub bin: Option<String>,
    /// `--package`: which of several packages.
    pub package: Option<String>,
    /// `--features`, as Cargo takes them.
    pub features: Vec<String>,
    /// `--profile`; `release` if `None`.
    pub profile: Option<String>,
    /// `--small`: optimise for size alone.
    pub small: bool,
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into the store, under its names.
    Store,
    /// Out of smidge, and not into the store.
    Export {
        /// In which form.
        format: OutputFormat,
        /// To which place.
        sink: Sink,
    },
}

/// The forms an image can leave in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// The archive of `docker save`.
    DockerArchive,
    /// An OCI image layout in a tar archive.
    OciArchive,
    /// An OCI image layout in a directory.
    Oci,
    /// The image's files in a directory.
    Rootfs,
    /// The image's files in a tar archive.
    Tar,
}

/// A place to write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A file or directory.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// Why the text of an option is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// The type is none that smidge writes.
    #[error(
        "unknown output type `{0}`: expected docker-archive, oci-archive, oci, rootfs, tar or store"
    )]
    Type(String),
    /// A key other than `type` and `dest`.
    #[error("unknown key `{0}` in the output: expected `type=` and `dest=`")]
    Key(String),
    /// A form that needs a place has none.
    #[error("output type `{0}` needs a destination: `type={0},dest=PATH`")]
    NoDestination(String),
    /// What the output says of the image's name, which is said elsewhere.
    #[error("the output takes no `name=`: name the image with `-t {0}`")]
    Name(String),
    /// The output is a registry.
    #[error("an image is sent to its registry with `--push`")]
    Push,
    /// A directory cannot be written to standard output.
    #[error("output type `{0}` is a directory and cannot go to standard output")]
    DirectoryToStdout(String),
    /// Not `SRC:DST`.
    #[error("`{0}` is not an include: expected SRC:DST with an absolute DST")]
    Include(String),
}

impl FromStr for Output {
    type Err = OutputError;

    /// Reads `type=…,dest=…`. As in Docker, a bare path is a directory for the image's files and
    /// a bare `-` is a tar archive of them on standard output.
    fn from_str(text: &str) -> Result<Self, OutputError> {
        if text == "-" {
            return Ok(Self::Export {
                format: OutputFormat::Tar,
                sink: Sink::Stdout,
            });
        }
        if !text.contains('=') {
            let sink = Sink::Path(text.into());
            return Ok(Self::Export {
                format: OutputFormat::Rootfs,
                sink,
            });
        }
        let (mut kind, mut destination, mut tar) = (None, None, None);
        for pair in text.split(',') {
            match pair.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest", value)) => destination = Some(value).filter(|dest| !dest.is_empty()),
                Some(("tar", value @ ("true" | "false"))) => tar = Some(value == "true"),
                Some(("name", value)) => return Err(OutputError::Name(value.to_owned())),
                Some(("push", "true")) => return Err(OutputError::Push),
                Some(("push", "false")) => {}
                _ => return Err(OutputError::Key(pair.to_owned())),
            }
        }
        let kind = kind.unwrap_or("rootfs");
        // Docker writes an archive unless a directory is asked for.
        let archive = || {
            let named = destination.is_some_and(|dest| dest == "-" || dest.ends_with(".tar"));
            tar.unwrap_or(named)
        };
        let format = match kind {
            "store" | "image" => return Ok(Self::Store),
            "docker" if destination.is_none() => return Ok(Self::Store),
            "registry" => return Err(OutputError::Push),
            "docker-archive" | "docker" => OutputFormat::DockerArchive,
            "oci-archive" => OutputFormat::OciArchive,
            "oci" if archive() => OutputFormat::OciArchive,
            "oci" => OutputFormat::Oci,
            "rootfs" | "local" => OutputFormat::Rootfs,
            "tar" => OutputFormat::Tar,
            other => return Err(OutputError::Type(other.to_owned())),
        };
        let is_directory = matches!(format, OutputFormat::Oci | OutputFormat::Rootfs);
        let sink = match destination {
            None => return Err(OutputError::NoDestination(kind.to_owned())),
            Some("-") if is_directory => {
                return Err(OutputError::DirectoryToStdout(kind.to_owned()));
            }
            Some("-") => Sink::Stdout,
            Some(path) => Sink::Path(path.into()),
        };
        Ok(Self::Export { format, sink })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_docker_writes_them() {
        let export = |format, sink| Ok(Output::Export { format, sink });
        let path = |path: &str| Sink::Path(path.into());
        let cases = [
            ("-", export(OutputFormat::Tar, Sink::Stdout)),
            ("out", export(OutputFormat::Rootfs, path("out"))),
            ("type=store", Ok(Output::Store)),
            (
                "type=docker,dest=a.tar",
                export(OutputFormat::DockerArchive, path("a.tar")),
            ),
            (
                "dest=a.tar,type=oci-archive",
                export(OutputFormat::OciArchive, path("a.tar")),
            ),
            ("type=tar,dest=-", export(OutputFormat::Tar, Sink::Stdout)),
            (
                "type=oci,dest=-",
                export(OutputFormat::OciArchive, Sink::Stdout),
            ),
            (
                "type=oci,tar=false,dest=-",
                Err(OutputError::DirectoryToStdout("oci".into())),
            ),
            ("type=oci,dest=a", export(OutputFormat::Oci, path("a"))),
            (
                "type=oci,dest=a.tar",
                export(OutputFormat::OciArchive, path("a.tar")),
            ),
            (
                "type=oci,tar=true,dest=a",
                export(OutputFormat::OciArchive, path("a")),
            ),
            ("type=image", Ok(Output::Store)),
            ("type=docker", Ok(Output::Store)),
            ("type=image,push=true", Err(OutputError::Push)),
            ("type=registry", Err(OutputError::Push)),
            ("type=image,name=a", Err(OutputError::Name("a".into()))),
            ("type=oci", Err(OutputError::NoDestination("oci".into()))),
            ("type=zip,dest=a", Err(OutputError::Type("zip".into()))),
            ("type=tar,to=a", Err(OutputError::Key("to=a".into()))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Output>(), expected, "{text}");
        }
    }

    #[test]
    fn includes_split_at_the_last_colon() {
        let include: Include = "a:b:/c".parse().unwrap();
        assert_eq!(
            include,
            Include {
                source: "a:b".into(),
                destination: "/c".into()
            }
        );
        for bad in ["a", ":/c", "a:c", "a:"] {
            assert_eq!(
                bad.parse::<Include>(),
                Err(OutputError::Include(bad.into()))
            );
        }
    }
}
