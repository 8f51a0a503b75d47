//! What is to run, and how far it is shut in: a value that can be printed, stored and compared.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Resources;
use crate::idmap::IdMap;
use crate::isolation::{Isolation, Processes};
use crate::journal::Journal;
use crate::lifetime::Lifetime;
use crate::limit::Limit;
use crate::network::Attachment;

/// Everything that the sandbox has to know to start one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The container's id; names nothing in the kernel, but messages and the log carry it.
    pub id: String,
    /// The container's own directory: `upper/` and `work/` of its root file system, `state.json`,
    /// the log, `attach.sock`. It must exist.
    pub dir: PathBuf,
    /// The root file system's read-only directories, top-most first; none means an empty one.
    pub layers: Vec<PathBuf>,
    /// The program and its arguments; the program is looked up in the container's `PATH` if it has
    /// no slash.
    pub args: Vec<String>,
    /// The program's whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// The working directory inside; created if it is missing. Empty means `/`.
    pub cwd: String,
    /// Whom the program runs as, in the container's own numbers.
    pub user: User,
    /// The name that the container's UTS namespace gets.
    pub hostname: String,
    /// What is mounted over the root file system, in this order.
    pub mounts: Vec<Mount>,
    /// Whether the root file system can be written to.
    pub read_only: bool,
    /// Whether the program gets a terminal of its own.
    pub tty: bool,
    /// Whether the program's standard input is kept open when nobody is attached.
    pub stdin: bool,
    /// Whether PID 1 is a tiny process that reaps orphans and forwards signals to the program.
    pub init: bool,
    /// Which network the program sees.
    pub network: Network,
    /// The networks that the container is on, beside its own loopback device; only with
    /// [`Network::Private`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The `pasta` of the host's that leads out of the container's own network namespace, if one does. Only
    /// for others than root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<PathBuf>,
    /// When the container gets what leads out of its own network namespace.
    #[serde(default, skip_serializing_if = "WayOut::is_as_said")]
    pub way_out: WayOut,
    /// Ports of the host that lead inside.
    pub ports: Vec<Port>,
    /// How they lead inside.
    #[serde(default, skip_serializing_if = "Publish::is_auto")]
    pub publish: Publish,
    /// How the container's user and group ids appear on the host.
    pub id_map: IdMap,
    /// Capabilities that the program may hold, one bit each ([`crate::capability`]).
    pub capabilities: u64,
    /// Whether the system call filter is installed.
    pub seccomp: bool,
    /// Whether set-user-ID programs and file capabilities lose their effect.
    pub no_new_privileges: bool,
    /// What is removed from the host when the container has exited (`--rm`). A container that is
    /// thrown away also need not survive a power cut, which makes its root file system faster.
    pub cleanup: Vec<PathBuf>,
    /// Whether the program's output is kept for `logs`.
    pub log: bool,
    /// How much of it is kept; all of it if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_limit: Option<LogLimit>,
    /// What runs the program if it is for another machine than this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator: Option<Emulator>,
    /// Whether ids are emulated: only with a single-id map of root. [`Spec::user`] is then whom the
    /// program believes to be.
    #[serde(default)]
    pub pretend: bool,
    /// The most that `/dev/shm` may hold, in bytes; 64 MiB if it is not given, as in Docker.
    #[serde(default)]
    pub shm_size: Option<u64>,
    /// What the program may use at most.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Whether the program is hardly shut in: every capability that the caller has, no system call
    /// filter, nothing of `/proc` and `/sys` hidden or read-only (`RUN --security=insecure`).
    #[serde(default)]
    pub insecure: bool,
    /// Where what happens to the container is written down, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// What else differs from how containers are shut in by default.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// How it lives.
    #[serde(default, skip_serializing_if = "Lifetime::is_default")]
    pub lifetime: Lifetime,
    /// What the container may use.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

impl Spec {
    /// Whether somebody can be told when the program asks for its network first. Its calls have one listener
    /// at most, and lose it with their supervisor.
    #[must_use]
    pub fn can_ask_for_network(&self) -> bool {
        self.seccomp
            && !self.insecure
            && !self.pretend
            && self.isolation.processes == Processes::Own
            && !self.is_direct()
    }

    /// Whether the program gets the host's sockets for its published ports.
    pub(crate) fn is_direct(&self) -> bool {
        self.publish == Publish::Direct
            && self.network == Network::Private
            && !self.ports.is_empty()
            && !self.pretend
    }

    /// Whether the process inside has to wait until its networks are there.
    pub(crate) fn waits_for_networks(&self) -> bool {
        !self.attachments.is_empty() || self.uplink.is_some()
    }
}

/// How much of a program's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimit {
    /// When a file of the log holds as many bytes, the next one is begun.
    pub size: u64,
    /// How many files there are at most; the oldest one goes.
    pub files: u32,
}

/// A program of the host that runs programs of another machine: one of `qemu-user`, version 6 or later.
///
/// In a user namespace, on Linux 6.7 or later, it is made known to the namespace (`binfmt_misc`), so
/// that whatever the program starts is run by it as well. Elsewhere it is started in the program's
/// place, and children are for the host's kernel to understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// Where it is on the host: no link, and linked statically.
    pub path: PathBuf,
    /// The first bytes of the programs that it is for.
    pub magic: Vec<u8>,
    /// Which of their bits count.
    pub mask: Vec<u8>,
}

/// Whom a program runs as, in the container's own numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Supplementary group ids. Not applied when the id map holds a single id: the kernel forbids it.
    pub groups: Vec<u32>,
}

/// Something mounted over the container's root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The file or directory on the host; used by a [`MountKind::Bind`] alone.
    pub source: PathBuf,
    /// Where it appears inside; made if missing. Symbolic links are followed inside the container's root.
    pub destination: String,
    /// Whether it, and everything mounted below it, is read-only inside.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// How it is mounted, where that is not as usual.
    #[serde(default, skip_serializing_if = "Manner::is_usual")]
    pub manner: Manner,
}

impl Spec {
    /// How the ids that the container's own files have on the disk differ from those that it knows.
    #[must_use]
    pub fn disk_map(&self) -> &IdMap {
        match self.isolation.shifted {
            true => &IdMap::None,
            false => &self.id_map,
        }
    }
}

impl Mount {
    /// A file or directory of the host.
    #[must_use]
    pub fn bind(source: PathBuf, destination: String, read_only: bool) -> Self {
        Self {
            source,
            destination,
            read_only,
            kind: MountKind::Bind,
            manner: Manner::default(),
        }
    }

    /// An empty file system in memory; `size` in bytes.
    #[must_use]
    pub fn tmpfs(destination: String, size: Option<u64>, mode: u32) -> Self {
        Self {
            source: PathBuf::new(),
            destination,
            read_only: false,
            kind: MountKind::Tmpfs { size, mode },
            manner: Manner::default(),
        }
    }
}

/// What a [`Mount`] brings in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A file or directory of the host, with what is mounted below it.
    Bind,
    /// An empty file system in memory, gone with the container.
    Tmpfs {
        /// The most it may hold, in bytes; the kernel's default is half of the memory.
        size: Option<u64>,
        /// The permission bits of its root.
        mode: u32,
    },
    /// Directories that are joined as layers are, top-most first; it cannot be written to.
    Layers(Vec<PathBuf>),
}

/// How a [`Mount`] is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manner {
    /// The part of the source that is shown: a path that is followed inside of it, links included.
    pub subpath: String,
    /// Whether what is mounted below the source stays out.
    pub flat: bool,
    /// Whether what is mounted below a read-only source can be written to.
    pub writable_below: bool,
    /// Whether mounts that are made later, there or inside, appear on the other side.
    pub propagation: Propagation,
    /// Whether the source's files have the ids on the disk that the container knows, as those of volumes,
    /// whatever its id map.
    pub own_ids: bool,
    /// What a file system in memory allows, though usually none does.
    pub allowed: Vec<Allowed>,
    /// Further settings of a file system in memory (`tmpfs(5)`).
    pub settings: Vec<(String, String)>,
}

impl Manner {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that a file system in memory may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    /// Programs.
    Exec,
    /// Set-user-ID bits.
    Suid,
    /// Devices.
    Dev,
}

/// Whether mounts that are made later below a source or below its mount appear on the other side
/// (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// On no side.
    #[default]
    Private,
    /// Those of the host appear inside.
    Slave,
    /// On both sides.
    Shared,
}

/// Which network a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace of its own, with the loopback device up; published ports lead into it.
    #[default]
    Private,
    /// The host's.
    Host,
    /// A network namespace of its own that nothing leads into.
    None,
    /// Another container's: see [`Isolation::joined`].
    Joined,
}

impl Network {
    /// Whether the container has a network namespace of its own.
    #[must_use]
    pub fn is_own(self) -> bool {
        matches!(self, Self::Private | Self::None)
    }
}

/// When a container gets what leads out of its own network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WayOut {
    /// Before the program starts, which it does not do without.
    #[default]
    AsSaid,
    /// Before the program starts, if it can be had.
    IfPossible,
    /// When the program asks for a socket first by which it could see a network. Until then there is none,
    /// and nothing of it costs anything. Only if [`Spec::can_ask_for_network`].
    OnDemand,
}

impl WayOut {
    fn is_as_said(&self) -> bool {
        *self == Self::AsSaid
    }
}

/// How ports of the host lead into the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    /// Through the kernel where that is possible, else through a process.
    #[default]
    Auto,
    /// Through a process that passes everything on.
    Proxy,
    /// The program itself gets the host's socket when it asks for the port inside.
    Direct,
}

impl Publish {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// A port of the host that leads into the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// The host's address to listen on.
    pub host_ip: IpAddr,
    /// The host's port; 0 lets the kernel choose one.
    pub host_port: u16,
    /// The last port of a range that begins with [`host_port`](Self::host_port), the first free one of which is
    /// taken; 0 if there is no choice.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_host_port: u16,
    /// The port that the program listens on.
    pub container_port: u16,
    /// The transport.
    pub protocol: Protocol,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A transport that ports can be published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
