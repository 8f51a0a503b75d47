//! `debug`: tools beside a container that has none.
//!
//! ```text
//! cache/tools/dressing/        the places where the container is seen, over every kind of tools
//! cache/tools/busybox-…/bin/   this machine's busybox under all its names
//! ```

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_run::{Attach, Mount, MountKind, Network, Spec, Status, TARGET, User};
use smidge_store::DirTree;

use super::control::refuse_paused;
use super::create::CreateRequest;
use super::env;
use super::exec::Execution;
use super::record::Known;
use super::start::{Running, Streams};
use super::{Lifetime, exec};
use crate::network::NetworkMode;
use crate::{Engine, Error, Kind, Result};

/// `CAP_SYS_PTRACE` (capabilities(7)): to look into the container's processes.
const TRACE: u64 = 1 << 19;

/// Where programs are looked for among the tools.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the tools come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tools {
    /// This machine's busybox.
    #[default]
    Busybox,
    /// Another image, by its name.
    Image(String),
    /// A directory of this machine, as a root file system.
    Directory(PathBuf),
}

/// What is to be run beside a container.
#[derive(Clone, Debug, Default)]
pub struct DebugRequest {
    /// The tools.
    pub tools: Tools,
    /// The program and its arguments; a shell if there are none.
    pub args: Vec<String>,
    /// `--env`.
    pub env: Vec<String>,
    /// `--workdir`; the container's root as it is seen otherwise.
    pub workdir: Option<String>,
    /// `--user UID[:GID]`; root otherwise.
    pub user: Option<String>,
    /// Whether the program has a terminal.
    pub tty: bool,
    /// Whether its standard input is kept open.
    pub stdin: bool,
    /// Every capability.
    pub privileged: bool,
}

/// A program that runs beside a container's files.
#[derive(Debug)]
pub enum Session {
    /// Beside its program.
    Beside(Execution),
    /// By itself.
    Apart(Running),
}

impl Engine {
    /// Starts a program among tools of its own: beside the program of a container that runs, in its
    /// namespaces, or else where the files of a container or an image are shown, read-only. The caller must
    /// have one thread only.
    ///
    /// # Errors
    /// When there are no such tools, no such container or image, or the program cannot be started.
    pub fn debug(
        &self,
        name: &str,
        request: &DebugRequest,
        streams: Option<Streams>,
    ) -> Result<Session> {
        match self.store.container(name) {
            Ok(container) => {
                let known = self.known(container)?;
                match known.state.status {
                    Status::Running => self.debug_beside(&known, request, streams),
                    Status::Restarting => Err(exec::not_running(&known)),
                    Status::Created | Status::Exited => {
                        let id = known.record.image_id.to_string();
                        self.debug_apart(&id, Some(&known), request, streams)
                    }
                }
            }
            Err(fault) => match self.store.image(name) {
                Ok(_) => self.debug_apart(name, None, request, streams),
                Err(_) => Err(Error::from(fault).with_hint(format!(
                    "there is no image of that name either: `smidge pull {name}`"
                ))),
            },
        }
    }

    fn debug_beside(
        &self,
        known: &Known,
        request: &DebugRequest,
        streams: Option<Streams>,
    ) -> Result<Session> {
        refuse_paused(known, "run anything beside")?;
        let tools = self.tools(&request.tools)?;
        self.lead_out(known)?;
        let spec = Spec {
            // It is nothing that happens to the container.
            journal: None,
            ..self.debug_spec(&known.record.spec, request)?
        };
        let attach = streams.map(Attach::from);
        let started = smidge_run::visit_beside(&spec, &tools, attach);
        let started = started.map_err(|fault| match exec::explain(known, fault) {
            fault if matches!(fault.kind(), Kind::CannotRun(_)) => fault.with_hint(format!(
                "it is looked for among the tools; the container's files are below `{TARGET}`"
            )),
            fault => fault,
        })?;
        Ok(Session::Beside(Execution {
            started,
            farewell: None,
        }))
    }

    /// Shows the files of an image, or of a container that does not run, in a container of their own.
    fn debug_apart(
        &self,
        image: &str,
        stopped: Option<&Known>,
        request: &DebugRequest,
        streams: Option<Streams>,
    ) -> Result<Session> {
        let tools = self.tools(&request.tools)?;
        let mut known = self.create(&CreateRequest {
            image: image.to_owned(),
            args: shell_or(&request.args),
            entrypoint: Some(String::new()),
            user: Some("0".to_owned()),
            workdir: Some("/".to_owned()),
            remove: true,
            tty: request.tty,
            stdin: request.stdin,
            attached: streams.is_some(),
            network: NetworkMode::default(),
            lifetime: Lifetime::default(),
            ..CreateRequest::default()
        })?;
        let spec = &mut known.record.spec;
        let mut seen = std::mem::replace(&mut spec.layers, tools);
        // What the image declares as volumes is not the tools'.
        let own = spec.dir.clone();
        spec.mounts.retain(|mount| mount.source.starts_with(&own));
        let mut mounts = Vec::new();
        if let Some(Known { record, .. }) = stopped {
            let theirs = &record.spec;
            let upper = theirs.dir.join("upper");
            if upper.is_dir() {
                mounts.extend(theirs.mounts.iter().filter_map(shown));
            }
            let changed = Some(upper).filter(|upper| upper.is_dir()).into_iter();
            seen = match smidge_run::copied_root(&theirs.dir) {
                Some(copy) => vec![copy],
                None => changed.chain(theirs.layers.clone()).collect(),
            };
            spec.id_map.clone_from(&theirs.id_map);
            spec.isolation.shifted = theirs.isolation.shifted;
            for mount in &mut spec.mounts {
                mount.manner.own_ids = theirs.isolation.shifted;
            }
            spec.hostname.clone_from(&theirs.hostname);
        }
        let target = Mount {
            source: PathBuf::new(),
            destination: TARGET.to_owned(),
            read_only: true,
            kind: MountKind::Layers(seen),
            manner: smidge_run::Manner::default(),
        };
        spec.mounts.insert(0, target);
        spec.mounts.extend(mounts);
        spec.lifetime = smidge_run::Lifetime::default();
        spec.emulator = None;
        spec.network = Network::Private;
        *spec = self.debug_spec(spec, request)?;
        known.record.architecture = self.host.architecture().to_owned();
        self.launch(known, streams).map(Session::Apart)
    }

    /// A container's spec with what concerns the program among the tools.
    fn debug_spec(&self, spec: &Spec, request: &DebugRequest) -> Result<Spec> {
        let user = match &request.user {
            Some(user) => numbers(user)?,
            None => User::default(),
        };
        let asked = env::requested(&request.env, &[] as &[PathBuf], &self.host)?;
        let inherited = spec.env.iter().filter(|line| !line.starts_with("PATH="));
        let path = PATH.to_owned();
        let all: env::Environment = inherited.chain([&path]).chain(&asked).collect();
        let traced = spec.capabilities | TRACE;
        Ok(Spec {
            args: shell_or(&request.args),
            env: env::of_program(&all.into_pairs(), &spec.hostname, request.tty, "/root"),
            cwd: request.workdir.clone().unwrap_or_else(|| TARGET.to_owned()),
            user,
            tty: request.tty,
            stdin: request.stdin,
            init: false,
            capabilities: match request.privileged {
                true => smidge_run::capability::ALL,
                false => traced,
            },
            ..spec.clone()
        })
    }

    /// The directories that the tools are in, the top one first.
    fn tools(&self, tools: &Tools) -> Result<Vec<PathBuf>> {
        let place = self.store.root().join("cache/tools");
        let dressing = self.filled(&place.join("dressing"), &dress)?;
        let mut layers = match tools {
            Tools::Busybox => vec![self.busybox(&place)?],
            Tools::Image(name) => {
                let image = self.store.image(name).map_err(|fault| {
                    Error::from(fault).with_hint(format!("fetch it: `smidge pull {name}`"))
                })?;
                self.store.checkout(&image)?
            }
            Tools::Directory(path) => {
                let path = self.host.absolute(path);
                // Asks whether it is a directory that can be read.
                DirTree::open(&path).map_err(|source| {
                    Error::io(
                        format!("cannot use the tools in `{}`", path.display()),
                        source,
                    )
                })?;
                vec![path]
            }
        };
        layers.insert(0, dressing);
        Ok(layers)
    }

    /// A directory that is filled once; complete or not there at all.
    fn filled(&self, path: &Path, fill: &dyn Fn(&Path) -> std::io::Result<()>) -> Result<PathBuf> {
        if path.is_dir() {
            return Ok(path.to_owned());
        }
        // What is left of it after a crash is removed by whoever makes the next workspace.
        let workspace = self.store.workspace()?;
        let draft = workspace.path().join("tools");
        let place = path.parent().unwrap_or(path);
        let made = fs::create_dir_all(place)
            .and_then(|()| sweep(place))
            .and_then(|()| fs::create_dir(&draft))
            .and_then(|()| fill(&draft))
            .and_then(|()| fs::rename(&draft, path));
        match made {
            // Somebody else may have been faster.
            Err(_) if path.is_dir() => Ok(path.to_owned()),
            Err(source) => {
                let what = format!("cannot make `{}`", path.display());
                Err(Error::io(what, source))
            }
            Ok(()) => Ok(path.to_owned()),
        }
    }

    /// This machine's busybox under all its names.
    fn busybox(&self, place: &Path) -> Result<PathBuf> {
        let advice = |fault: String| {
            Error::new(Kind::NotFound, fault)
                .with_hint("install a static one: `apt-get install busybox-static`, `apk add busybox-static`, `dnf install busybox`")
                .with_hint("or take the tools of an image: `smidge debug --image busybox NAME`")
                .with_hint("or of a directory with a root file system: `smidge debug --tools DIR NAME`")
        };
        let Some(program) = self.host.find_program("busybox") else {
            return Err(advice(
                "there are no tools: `busybox` is not on the PATH".to_owned(),
            ));
        };
        let unreadable = |source| Error::io(format!("cannot read `{}`", program.display()), source);
        let bytes = fs::read(&program).map_err(unreadable)?;
        let elf = smidge_trim::Elf::parse(&bytes);
        if elf.is_ok_and(|elf| elf.interpreter.is_some()) {
            let message = format!(
                "`{}` cannot run in a container: it is dynamically linked",
                program.display()
            );
            return Err(advice(message));
        }
        let stat = fs::metadata(&program).map_err(unreadable)?;
        let name = format!("busybox-{}-{}", stat.size(), stat.mtime());
        self.filled(&place.join(name), &|draft| {
            let bin = draft.join("bin");
            fs::create_dir_all(&bin)?;
            let copy = bin.join("busybox");
            fs::copy(&program, &copy)?;
            let listed = Command::new(&program).arg("--list").output()?;
            let names = String::from_utf8_lossy(&listed.stdout).into_owned();
            for name in names
                .lines()
                .filter(|name| !name.contains('/') && *name != "busybox")
            {
                symlink("busybox", bin.join(name))?;
            }
            Ok(())
        })
    }
}

/// Removes the drafts that earlier versions have left beside what they made: `busybox-….PID`.
fn sweep(place: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        let end = path.extension().unwrap_or_default().to_string_lossy();
        if end.parse::<u32>().is_ok() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// What lies over the tools: places to mount at, and the container's own names of hosts and users.
fn dress(draft: &Path) -> std::io::Result<()> {
    for name in ["dev", "etc", "proc", "root", "sys", "target", "tmp"] {
        fs::create_dir_all(draft.join(name))?;
    }
    for name in ["group", "hostname", "hosts", "passwd", "resolv.conf"] {
        symlink(format!("{TARGET}/etc/{name}"), draft.join("etc").join(name))?;
    }
    Ok(())
}

/// A mount of a stopped container where its files are seen; what is in memory is gone.
fn shown(mount: &Mount) -> Option<Mount> {
    let is_there = mount.kind != MountKind::Bind || mount.source.exists();
    (is_there && !matches!(mount.kind, MountKind::Tmpfs { .. })).then(|| Mount {
        destination: format!("{TARGET}{}", mount.destination),
        read_only: true,
        ..mount.clone()
    })
}

fn shell_or(args: &[String]) -> Vec<String> {
    match args {
        [] => vec!["sh".to_owned()],
        args => args.to_vec(),
    }
}

/// `UID[:GID]`: whose names would count among other people's tools?
fn numbers(text: &str) -> Result<User> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(User {
            uid,
            gid,
            groups: Vec::new(),
        }),
        _ => Err(Error::new(
            Kind::Input,
            format!("`{text}` is no user: write numbers, `UID` or `UID:GID`"),
        )),
    }
}
