//! From an image and options to a container that can be started.

use std::path::{Path, PathBuf};

use smidge_image::{Empty, Platform, RunConfig};
use smidge_run::{Emulator, IdMap, Mount, Network, Port, Publish, Resources, Spec, State};
use smidge_store::{Container, Image, LayeredTree};

use super::asked::asked;
use super::emulation;
use super::env::{self, Environment};
use super::isolation::{Isolation, Settled};
use super::lifetime::Lifetime;
use super::log_option::{Log, log};
use super::mount::{self, Planned};
use super::names::{Files, Names, hostname};
use super::port::{parse_exposed, parse_publish};
use super::record::{HostOptions, Known, MountPoint, Record};
use super::resource;
use super::sharing::Shares;
use super::user::{self, Account};
use super::userns::Ids;
use crate::image::similar_names;
use crate::network::NetworkMode;
use crate::{Engine, Error, Kind, Note, Result};

/// A container, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    /// The image's name or id.
    pub image: String,
    /// The image itself, where somebody has found it before.
    pub found: Option<Image>,
    /// Arguments in place of the image's own.
    pub args: Vec<String>,
    /// `--name`; a random one otherwise.
    pub name: Option<String>,
    /// `--platform`; this machine's, or the only one there is, otherwise.
    pub platform: Option<Platform>,
    /// `--pull`: what was allowed. The image is looked for in the store alone; whoever asks fetches it
    /// before, where [`Engine::look_for`] says so.
    pub pull: PullPolicy,
    /// Whether the program has a terminal.
    pub tty: bool,
    /// Whether its standard input is kept open.
    pub stdin: bool,
    /// Whether the caller stays with it.
    pub attached: bool,
    /// Whether it is removed when it has exited.
    pub remove: bool,
    /// `--publish`.
    pub publish: Vec<String>,
    /// `--publish-all`.
    pub publish_all: bool,
    /// `--publish-mode`.
    pub publish_mode: Publish,
    /// `--expose`.
    pub expose: Vec<String>,
    /// `--volume`.
    pub volumes: Vec<String>,
    /// `--tmpfs PATH[:OPTIONS]`.
    pub tmpfs: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<String>,
    /// `--volumes-from`.
    pub volumes_from: Vec<String>,
    /// `--env`.
    pub env: Vec<String>,
    /// `--env-file`.
    pub env_files: Vec<PathBuf>,
    /// `--label`.
    pub labels: Vec<String>,
    /// `--label-file`.
    pub label_files: Vec<PathBuf>,
    /// `--annotation`.
    pub annotations: Vec<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--entrypoint`; the empty text means none.
    pub entrypoint: Option<String>,
    /// How it calls itself and others.
    pub names: Names,
    /// `--network`.
    pub network: NetworkMode,
    /// `--log-driver`.
    pub log_driver: Option<String>,
    /// `--log-opt`.
    pub log_options: Vec<String>,
    /// How far it is shut in.
    pub isolation: Isolation,
    /// How it lives and ends.
    pub lifetime: Lifetime,
    /// What it may use.
    pub resources: Resources,
}

/// When to look for an image elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if it is not in the store.
    #[default]
    Missing,
    /// Never.
    Never,
    /// Every time.
    Always,
}

/// What is settled about a container before it has an id.
struct Draft<'r> {
    request: &'r CreateRequest,
    image: Image,
    /// The image's layers as they are unpacked, the top one first.
    files: Vec<PathBuf>,
    /// Those that the container's file system is made of.
    layers: Vec<PathBuf>,
    tree: LayeredTree,
    config: RunConfig,
    argv: Vec<String>,
    account: Account,
    ports: Vec<Port>,
    mounts: Vec<Planned>,
    settled: Settled,
    log: Log,
    ids: Ids,
    shares: Shares,
    emulator: Option<Emulator>,
    lifetime: smidge_run::Lifetime,
    network: NetworkMode,
}

impl Engine {
    /// Makes a container. Nothing is left behind when that fails.
    ///
    /// # Errors
    /// When the image is not there, when an option cannot be understood or met, when the name is
    /// taken.
    pub fn create(&self, request: &CreateRequest) -> Result<Known> {
        let image = self.image_to_run(request)?;
        let draft = self.draft(request, image)?;
        let created = smidge_run::now();
        let container =
            self.store
                .create_container_of(&draft.image, request.name.as_deref(), &|id, _| {
                    self.record(&draft, id, &created)
                })?;
        // What was just written need not be read.
        let record = self.record(&draft, &container.id, &created);
        if let Err(fault) = self.furnish(&container, &record, &draft) {
            // The first fault is the one worth telling.
            let _ = self.discard_volumes(&container, &record);
            let _ = self.store.remove_container(&container);
            return Err(fault);
        }
        let wanted = request.platform.as_ref();
        let note = emulation::unasked(&draft.image.config.platform(), wanted, &self.host);
        let notes = [note, discarded_ports(request), open_devices(&record)];
        let known = Known {
            container,
            record,
            state: State::default(),
            notes: notes.into_iter().flatten().collect(),
        };
        self.note_container(&known, "create", &[]);
        Ok(known)
    }

    fn image_to_run(&self, request: &CreateRequest) -> Result<Image> {
        if let Some(image) = &request.found {
            return Ok(image.clone());
        }
        self.store
            .image_for(&request.image, request.platform.as_ref())
            .map_err(|fault| match fault {
                smidge_store::Error::NoSuchImage(name) => self.no_image(request, &name),
                other => other.into(),
            })
    }

    fn no_image(&self, request: &CreateRequest, name: &str) -> Error {
        let mut error = Error::new(Kind::NotFound, format!("No such image: {name}"));
        let similar = similar_names(self, name);
        if !similar.is_empty() {
            error = error.with_hint(format!("there is {}", similar.join(", ")));
        }
        if request.pull == PullPolicy::Never {
            error = error.with_hint(format!("fetch it: `smidge pull {name}`"));
        }
        error.with_hint("make it from a program: `smidge build -t NAME PATH`")
    }

    fn draft<'r>(&self, request: &'r CreateRequest, image: Image) -> Result<Draft<'r>> {
        resource::check(&request.resources)?;
        let network = self.resolve(&request.network)?;
        let files = self.store.checkout(&image)?;
        let tree = self.store.tree(&image)?;
        let mut config = merged(&image.config.config, request, &self.host)?;
        let argv = argv(&config, request)?;
        let mut account = user::find(&tree, &config.user)?;
        user::add_groups(&tree, &mut account, &request.isolation.groups)?;
        let settled = request
            .isolation
            .settle(request.network.namespace(), &self.host)?;
        let emulator = emulation::emulator(&image.config.platform(), &self.host);
        let shares = self.shares(request)?;
        let ids = self.ids(request, &account.user, &shares, emulator.as_ref())?;
        let mut layers = self.with_owners(files.clone(), &ids.map)?;
        let skeleton = self.store.root().join("skeleton");
        // Without it the container makes its mount points itself, which only takes longer.
        if smidge_run::make_skeleton(&skeleton).is_ok() {
            layers.push(skeleton);
        }
        if matches!(ids.map, IdMap::Single { .. }) && !request.isolation.groups.is_empty() {
            let fault = "cannot add groups: this user may map a single id, and no groups beside it";
            return Err(Error::new(Kind::Input, fault)
                .with_hint("give the user ranges of ids in `/etc/subuid` and `/etc/subgid`"));
        }
        let asked = env::requested(&request.env, &request.env_files, &self.host)?;
        let image_env = std::mem::take(&mut config.env);
        let env: Environment = image_env.into_iter().chain(asked).collect();
        config.env = env.into_pairs();
        let ports = ports(request, &mut config)?;
        if !ports.is_empty() && settled.capabilities & NET_ADMIN != 0 && ids.map == IdMap::None {
            check_publish(request.publish_mode)?;
        }
        let lifetime = request.lifetime.settled(request.remove, &mut config)?;
        let mounts = self.mounts(request, &config, &tree)?;
        Ok(Draft {
            request,
            image,
            files,
            layers,
            tree,
            config,
            argv,
            account,
            ports,
            mounts,
            settled,
            log: log(request.log_driver.as_deref(), &request.log_options)?,
            ids,
            shares,
            emulator,
            lifetime,
            network,
        })
    }

    /// The record of a container whose id is known.
    fn record(&self, draft: &Draft<'_>, id: &str, created: &str) -> Record {
        let request = draft.request;
        let hostname = match &draft.shares.network {
            Some(other) => other.record.spec.hostname.clone(),
            None => hostname(request, id, &self.host),
        };
        let mut config = draft.config.clone();
        config
            .extra
            .insert("Hostname".to_owned(), hostname.clone().into());
        // As in Docker, what `-v` names alone is told among the volumes that the image asks for.
        let (bare, binds): (Vec<_>, Vec<_>) =
            (request.volumes.iter().cloned()).partition(|text| !text.contains(':'));
        let bare = bare.into_iter().map(|place| (place, Empty {}));
        config.volumes.extend(bare);
        let placed = |planned: &Planned| self.placed(id, planned);
        let mounts: Vec<MountPoint> = draft.mounts.iter().map(placed).collect();
        let mut fields = asked(request, &draft.settled, &self.host);
        let words = draft.shares.words.iter();
        fields.extend(words.map(|(field, word)| ((*field).to_owned(), word.as_str().into())));
        let host = HostOptions {
            binds,
            ports: draft.ports.clone(),
            publish_all: request.publish_all,
            auto_remove: request.remove,
            stop_timeout: request.lifetime.stop_timeout,
            attached: request.attached,
            network: draft.shares.network_mode(&draft.network),
            asked: fields,
        };
        let mut spec = self.spec(draft, id, &hostname, &mounts);
        if request.remove {
            spec.cleanup = leavings(&spec.dir, &mounts);
        }
        Record {
            created: created.to_owned(),
            image: request.image.clone(),
            image_id: draft.image.id,
            architecture: draft.image.config.architecture.clone(),
            variant: draft.image.config.variant.clone(),
            config,
            host,
            mounts: told_mounts(draft, mounts),
            spec,
        }
    }

    fn spec(&self, draft: &Draft<'_>, id: &str, hostname: &str, mounts: &[MountPoint]) -> Spec {
        let request = draft.request;
        let dir = self.store.root().join("containers").join(id);
        let all = all_mounts(draft, &dir, mounts);
        let Settled {
            capabilities,
            seccomp,
            no_new_privileges,
            limits,
            isolation,
        } = draft.settled.clone();
        Spec {
            id: id.to_owned(),
            layers: draft.layers.clone(),
            args: draft.argv.clone(),
            env: env::of_program(
                &draft.config.env,
                hostname,
                request.tty,
                &draft.account.home,
            ),
            cwd: match draft.config.working_dir.as_str() {
                "" => "/".to_owned(),
                dir => dir.to_owned(),
            },
            user: draft.account.user.clone(),
            hostname: hostname.to_owned(),
            mounts: all,
            read_only: request.isolation.read_only,
            tty: request.tty,
            stdin: request.stdin,
            init: request.lifetime.init == Some(true),
            network: request.network.namespace(),
            attachments: Vec::new(),
            ports: draft.ports.clone(),
            publish: request.publish_mode,
            uplink: self.uplink(&request.network),
            id_map: draft.ids.map.clone(),
            capabilities,
            seccomp,
            no_new_privileges,
            log: draft.log.kept,
            log_limit: draft.log.limit,
            dir,
            emulator: draft.emulator.clone(),
            shm_size: request.isolation.shm_size,
            limits,
            insecure: request.isolation.privileged,
            journal: Some(self.journal(&request.image, &draft.config.labels)),
            isolation: smidge_run::Isolation {
                domainname: request.names.domainname.clone().unwrap_or_default(),
                joined: draft.shares.joined.clone(),
                shifted: draft.ids.shifted,
                ..isolation
            },
            lifetime: draft.lifetime.clone(),
            resources: request.resources.clone(),
            ..Spec::default()
        }
    }

    /// Makes what the container's mounts lead to, and the files that every container has in `/etc`.
    fn furnish(&self, container: &Container, record: &Record, draft: &Draft<'_>) -> Result<()> {
        let asks = |entry: &String| entry.ends_with("host-gateway");
        let gateway = match draft.request.names.hosts.iter().any(asks) {
            true => self.host_gateway(&draft.network)?,
            false => None,
        };
        // What cannot be understood is told before anything is made.
        let texts = Files::new(
            draft.request,
            &record.spec.hostname,
            (self.host.uid == 0, gateway),
        )?;
        for planned in &draft.mounts {
            let files = (&draft.tree, draft.files.as_slice());
            self.make_source((planned, &container.id), files, &draft.ids.map)?;
        }
        texts.write(container)
    }
}

/// Everything that a container leaves on the disk.
fn leavings(dir: &Path, mounts: &[MountPoint]) -> Vec<PathBuf> {
    let volumes = mounts.iter().filter(|mount| mount.anonymous);
    volumes
        .filter_map(|mount| mount.source.parent().map(Path::to_path_buf))
        .chain([dir.to_path_buf()])
        .collect()
}

/// The image's config with what the options change, environment aside.
fn merged(image: &RunConfig, request: &CreateRequest, host: &crate::Host) -> Result<RunConfig> {
    let mut config = image.clone();
    // What is to happen to images that are built upon this one is no part of a container, nor of what it becomes.
    config.on_build = None;
    if let Some(user) = &request.user {
        config.user.clone_from(user);
    }
    if let Some(dir) = request.workdir.as_ref().filter(|dir| !dir.is_empty()) {
        if !dir.starts_with('/') {
            let fault = format!(
                "the working directory '{dir}' is invalid, it needs to be an absolute path"
            );
            return Err(Error::new(Kind::Input, fault));
        }
        config.working_dir.clone_from(dir);
    }
    if let Some(signal) = &request.lifetime.stop_signal {
        super::lifecycle::signal_number(signal)?;
        config.stop_signal = Some(signal.clone());
    }
    if let Some(entrypoint) = &request.entrypoint {
        config.entrypoint = (!entrypoint.is_empty()).then(|| vec![entrypoint.clone()]);
        // The image's arguments were meant for the image's entry point.
        config.cmd = None;
    }
    if !request.args.is_empty() {
        config.cmd = Some(request.args.clone());
    }
    let from_files = env::label_files(&request.label_files, host)?;
    config.labels.extend(env::labels(&from_files)?);
    config.labels.extend(env::labels(&request.labels)?);
    Ok(config)
}

/// What is mounted: what was asked for, and the files that every container has in `/etc`, its own in `dir`
/// or those of whose network it has.
fn all_mounts(draft: &Draft<'_>, dir: &Path, mounts: &[MountPoint]) -> Vec<Mount> {
    let supplied = ["hosts", "hostname", "resolv.conf"].map(|name| {
        let destination = format!("/etc/{name}");
        let theirs = draft.shares.supplied(&destination);
        let read_only = draft.request.isolation.read_only;
        theirs.unwrap_or_else(|| Mount::bind(dir.join("etc").join(name), destination, read_only))
    });
    let asked = draft.mounts.iter().zip(mounts);
    let asked = asked.map(|(planned, point)| match point.name.as_str() {
        "" => mount::told(planned, point),
        _ => own(mount::told(planned, point), draft),
    });
    let supplied = supplied.into_iter().map(|mount| own(mount, draft));
    let mut all: Vec<Mount> = supplied.chain(asked).collect();
    // What lies within another mount comes after it.
    all.sort_by_key(|mount| mount::depth(&mount.destination));
    all
}

/// What is the container's own has the ids on the disk that the container knows.
fn own(mut mount: Mount, draft: &Draft<'_>) -> Mount {
    mount.manner.own_ids = draft.ids.shifted;
    mount
}

/// The mounts that `inspect` tells of.
fn told_mounts(draft: &Draft<'_>, mounts: Vec<MountPoint>) -> Vec<MountPoint> {
    let told = draft.mounts.iter().zip(mounts);
    told.filter_map(|(planned, point)| planned.told.then_some(point))
        .collect()
}

/// `CAP_NET_ADMIN` (`capabilities(7)`).
const NET_ADMIN: u64 = 1 << 12;

/// Refuses sockets of the host's network for a program that may administer networks: without a user namespace
/// of its own it would administer the host's by way of them (`netdevice(7)`).
fn check_publish(mode: Publish) -> Result<()> {
    if mode != Publish::Direct {
        return Ok(());
    }
    let fault = "`--publish-mode direct` would let the program administer this machine's network: it has \
                 the capability NET_ADMIN, and no user namespace";
    Err(Error::new(Kind::Input, fault)
        .with_hint("without the capability: `--cap-drop NET_ADMIN`")
        .with_hint("with ids of its own: `--userns auto`")
        .with_hint("through a process: `--publish-mode proxy`"))
}

fn argv(config: &RunConfig, request: &CreateRequest) -> Result<Vec<String>> {
    let parts = [&config.entrypoint, &config.cmd];
    let argv: Vec<String> = parts.into_iter().flatten().flatten().cloned().collect();
    if argv.is_empty() {
        return Err(Error::new(
            Kind::Input,
            format!(
                "no command specified: the image `{0}` has none of its own",
                request.image
            ),
        )
        .with_hint(format!(
            "name the program: `smidge run {0} /PROGRAM`",
            request.image
        )));
    }
    Ok(argv)
}

fn ports(request: &CreateRequest, config: &mut RunConfig) -> Result<Vec<Port>> {
    for text in &request.expose {
        let (range, protocol) = parse_exposed(text).ok_or_else(|| {
            Error::new(
                Kind::Input,
                format!("invalid range format for --expose: {text}"),
            )
            .with_hint("write a port, or a port and its protocol: `--expose 8080/udp`")
        })?;
        for port in range {
            config
                .exposed_ports
                .insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    let mut ports: Vec<Port> = Vec::new();
    for text in &request.publish {
        ports.extend(parse_publish(text)?);
    }
    if request.publish_all {
        for text in config.exposed_ports.keys() {
            ports.extend(parse_publish(text)?);
        }
    }
    for port in &ports {
        let exposed = format!("{}/{}", port.container_port, port.protocol);
        config.exposed_ports.insert(exposed, Empty {});
    }
    let published = !ports.is_empty();
    if published && request.network.namespace() == Network::None {
        return Err(Error::new(
            Kind::Input,
            "no port can be published with `--network none`",
        ));
    }
    // On the host's network, the program's own ports are the host's.
    Ok(if request.network == NetworkMode::Host {
        Vec::new()
    } else {
        ports
    })
}

/// Tells of a container of root's that nothing keeps from the host's devices.
fn open_devices(record: &Record) -> Option<Note> {
    let lack = smidge_run::unshut(&record.spec)?;
    Some(Note::new(format!(
        "the container can open every device of the host: {lack}"
    )))
}

/// That ports are not published on the machine's own network, as Docker warns.
fn discarded_ports(request: &CreateRequest) -> Option<Note> {
    let is_asked = !request.publish.is_empty() || request.publish_all;
    let discards = request.network == NetworkMode::Host && is_asked;
    discards.then(|| Note::new("published ports are discarded when using host network mode"))
}
