//! What `run` and `create` have in common: options about the container, and its making.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use smidge_engine::container::{CreateRequest, Known, Publish, PullPolicy};
use smidge_engine::{Engine, Error, Kind};
use smidge_image::Platform;

use super::isolation::IsolationArgs;
use super::lifetime::LifetimeArgs;
use super::mount::MountArgs;
use super::names::NamesArgs;
use super::network::NetworkArgs;
use super::refused::RefusedArgs;
use super::resource::ResourceArgs;
use crate::cli::connection::ConnectionArgs;
use crate::cli::provision::Needed;
use crate::cli::save::unwritten;
use crate::cli::session::Session;

/// Options of `run` and `create`.
#[derive(clap::Args)]
pub(in crate::cli) struct ContainerArgs {
    /// Name or id of the image
    pub(in crate::cli) image: String,
    /// Arguments in place of the image's own
    #[arg(value_name = "ARG")]
    args: Vec<String>,
    /// Pass standard input on
    #[arg(short, long)]
    pub(in crate::cli) interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// Name the container
    #[arg(long)]
    name: Option<String>,
    /// Remove the container when it has ended
    #[arg(long)]
    pub(in crate::cli) rm: bool,
    /// Lead a port of this machine into the container, or a range of them (8000-8009:80-89); repeatable
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Publish all exposed ports at random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// How ports lead inside: auto (the kernel for root's containers on a bridge, else a proxy), proxy, or direct
    /// (the program gets the host's sockets: fastest, and it sees who connects; but they reach what the host does)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    publish_mode: PublishMode,
    /// Expose a port; repeatable
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
    /// Set an environment variable, or pass yours on; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file; repeatable
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Label the container; repeatable
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file; repeatable
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Note something for other programs in what `inspect` shows; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Where its output is kept for `logs`: json-file, local (100 MB at most) or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// max-size=BYTES of a file of the log, max-file=COUNT of them; labels=NAME,… and env=NAME,… for
    /// `logs --details`; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, and group, to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program in place of the image's own
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Fetch the image: missing, never or always
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pull: Pull,
    /// The machine to run as, such as linux/arm64 [default: this one]
    #[arg(long)]
    platform: Option<Platform>,
    /// Say nothing about the image being fetched
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    mounts: MountArgs,
    #[command(flatten)]
    names: NamesArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    isolation: IsolationArgs,
    #[command(flatten)]
    refused: RefusedArgs,
    #[command(flatten)]
    lifetime: LifetimeArgs,
    #[command(flatten)]
    resources: ResourceArgs,
}

/// `--pull`.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Pull {
    #[default]
    Missing,
    Never,
    Always,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
            Pull::Always => Self::Always,
        }
    }
}

/// `--publish-mode`.
#[derive(Clone, Copy, ValueEnum)]
enum PublishMode {
    Auto,
    Proxy,
    Direct,
}

/// The file of `--cidfile`: nobody else's, and gone again if it gets no id.
struct IdFile {
    path: PathBuf,
    file: File,
    is_written: bool,
}

impl IdFile {
    fn new(path: PathBuf) -> Result<Self, Error> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self {
                path,
                file,
                is_written: false,
            }),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                let fault = format!("the container id file `{}` exists already", path.display());
                Err(Error::new(Kind::Conflict, fault)
                    .with_hint("remove it, if no container needs it"))
            }
            Err(source) => Err(unwritable(&path, source)),
        }
    }

    fn write(mut self, id: &str) -> Result<(), Error> {
        let written = self.file.write_all(id.as_bytes());
        self.is_written = written.is_ok();
        written.map_err(|source| unwritable(&self.path, source))
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn unwritable(path: &Path, source: std::io::Error) -> Error {
    let fault = format!("cannot write the container's id to `{}`", path.display());
    unwritten(fault, path, source)
}

impl ContainerArgs {
    /// Makes the container; `attached` says whether the caller will stay with it. `None` if the image
    /// could not be fetched: what went wrong was said.
    pub(in crate::cli) fn make(
        &self,
        session: &Session,
        engine: &Engine,
        attached: bool,
    ) -> Result<Option<Known>, Error> {
        let id_file = self.cidfile.as_deref();
        let id_file = id_file.map(|path| IdFile::new(session.host.absolute(path)));
        let id_file = id_file.transpose()?;
        let mut request = self.request(attached)?;
        request.name = request.name.filter(|name| !name.is_empty());
        let needed = Needed {
            image: &self.image,
            policy: self.pull.into(),
            platform: self.platform.as_ref(),
            quiet: self.quiet,
            connection: &self.connection,
        };
        match engine.look_for(needed.image, needed.policy, needed.platform) {
            Ok(found) => request.found = found,
            Err(_) if needed.fetch(session)? => (),
            Err(_) => return Ok(None),
        }
        let known = engine.create(&request)?;
        known.notes.iter().for_each(|note| session.note(note));
        if let Some(file) = id_file {
            file.write(&known.container.id)?;
        }
        Ok(Some(known))
    }

    /// Refuses `-t` for a caller who stays and has no terminal.
    pub(in crate::cli) fn check_terminal(&self) -> Result<(), Error> {
        if self.tty && self.interactive && !std::io::stdin().is_terminal() {
            return Err(Error::new(Kind::Input, "the input device is not a TTY")
                .with_hint("leave out `-t` where there is no terminal: `smidge run -i IMAGE`"));
        }
        Ok(())
    }

    fn request(&self, attached: bool) -> Result<CreateRequest, Error> {
        let mut request = CreateRequest {
            attached,
            ..self.general()
        };
        self.refused.check()?;
        self.mounts.apply(&mut request);
        self.names.apply(&mut request);
        self.network.apply(&mut request)?;
        self.isolation.apply(&mut request);
        self.lifetime.apply(&mut request)?;
        self.resources.apply(&mut request)?;
        Ok(request)
    }

    /// The container whose processes it is to share.
    pub(in crate::cli) fn shared_processes(&self) -> Option<&str> {
        self.isolation.shared_processes()
    }

    /// Whether its programs may look into others.
    pub(in crate::cli) fn may_trace(&self) -> bool {
        self.isolation.may_trace()
    }

    fn general(&self) -> CreateRequest {
        CreateRequest {
            image: self.image.clone(),
            args: self.args.clone(),
            name: self.name.clone(),
            platform: self.platform.clone(),
            pull: self.pull.into(),
            tty: self.tty,
            stdin: self.interactive,
            remove: self.rm,
            publish: self.publish.clone(),
            publish_all: self.publish_all,
            publish_mode: match self.publish_mode {
                PublishMode::Auto => Publish::Auto,
                PublishMode::Proxy => Publish::Proxy,
                PublishMode::Direct => Publish::Direct,
            },
            expose: self.expose.clone(),
            env: self.env.clone(),
            env_files: self.env_file.clone(),
            labels: self.label.clone(),
            label_files: self.label_file.clone(),
            annotations: self.annotation.clone(),
            log_driver: self.log_driver.clone(),
            log_options: self.log_opt.clone(),
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            entrypoint: self.entrypoint.clone(),
            ..CreateRequest::default()
        }
    }
}
