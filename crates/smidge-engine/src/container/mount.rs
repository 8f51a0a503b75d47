//! What is mounted in a container: `--volume`, `--mount`, `--tmpfs`, `--volumes-from`, the image's volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use smidge_image::{Digest, RunConfig, Tree};
use smidge_run::{Allowed, IdMap, Manner, Mount, MountKind};
use smidge_store::{LayeredTree, VolumeRecord};

use super::create::CreateRequest;
use super::mount_option::{MountOption, MountType, parse_mount, parse_tmpfs};
use super::record::MountPoint;
use super::volume::{VolumeSource, clean_destination, parse_volume};
use crate::{Engine, Error, Kind, Result};

/// Something that will be mounted, before the container has an id.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// What is shown.
    pub(crate) what: What,
    /// Where and how; its name and place on the host follow from the container.
    pub(crate) point: MountPoint,
    /// How it is mounted.
    pub(crate) manner: Manner,
    /// Labels of a volume that is made for it.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it is told among the container's mounts, as in Docker what `--tmpfs` makes is not.
    pub(crate) told: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file, a directory or a volume.
    Volume(VolumeSource),
    /// Memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
    /// An image's files: its layers, top-most first.
    Image(Vec<PathBuf>),
}

impl Planned {
    fn new(what: What, destination: String) -> Self {
        Self {
            what,
            point: MountPoint {
                destination,
                ..MountPoint::default()
            },
            manner: Manner::default(),
            labels: BTreeMap::new(),
            told: true,
        }
    }

    /// A volume that the image asks for.
    fn of_image(destination: String) -> Self {
        let mut planned = Self::new(What::Volume(VolumeSource::Anonymous), destination);
        planned.point.anonymous = true;
        planned.point.seeded = true;
        planned
    }
}

impl Engine {
    /// What options ask for, and the image where no option covers it, in the order of mounting: what is
    /// mounted within another mount comes after it.
    pub(super) fn mounts(
        &self,
        request: &CreateRequest,
        config: &RunConfig,
        tree: &dyn Tree,
    ) -> Result<Vec<Planned>> {
        let (mut mounts, bare) = self.asked_for(request)?;
        let mut taken = BTreeSet::new();
        for planned in &mounts {
            let destination = &planned.point.destination;
            check_place(destination)?;
            if !taken.insert(destination.clone()) {
                let fault = format!("Duplicate mount point: {destination}");
                return Err(Error::new(Kind::Input, fault));
            }
        }
        for planned in self.borrowed(request)? {
            if taken.insert(planned.point.destination.clone()) {
                mounts.push(planned);
            }
        }
        let of_image = config.volumes.keys().map(|destination| {
            clean_destination(destination)
                .map_err(|why| Error::new(Kind::Input, format!("volume of the image: {why}")))
        });
        for destination in bare.into_iter().map(Ok).chain(of_image) {
            let destination = destination?;
            // A symbolic link in the image may lead two names to one place.
            let resolved = tree.resolve(destination.as_bytes()).ok().flatten();
            let place = resolved.map_or_else(|| destination.clone(), |(path, _)| path.to_string());
            check_place(&place)?;
            if !taken.contains(&place) && taken.insert(destination.clone()) {
                mounts.push(Planned::of_image(destination));
            }
        }
        mounts.sort_by_key(|planned| depth(&planned.point.destination));
        Ok(mounts)
    }

    /// What `--volume`, `--mount` and `--tmpfs` ask for; and the places that `--volume` names alone, which become
    /// volumes, as the image's do, where nothing else is mounted.
    fn asked_for(&self, request: &CreateRequest) -> Result<(Vec<Planned>, Vec<String>)> {
        let (mut mounts, mut bare) = (Vec::new(), Vec::new());
        for text in &request.volumes {
            let volume = parse_volume(text, &self.host)?;
            if volume.source == VolumeSource::Anonymous {
                bare.push(volume.destination);
                continue;
            }
            let mut planned = Planned::new(What::Volume(volume.source), volume.destination);
            planned.point.read_only = volume.read_only;
            planned.point.seeded = volume.seeded;
            planned.manner.propagation = volume.propagation;
            mounts.push(planned);
        }
        for text in &request.mounts {
            mounts.push(self.mount(parse_mount(text, &self.host)?)?);
        }
        for text in &request.tmpfs {
            let tmpfs = parse_tmpfs(text)?;
            let what = What::Tmpfs {
                size: tmpfs.size,
                mode: tmpfs.mode,
            };
            let mut planned = Planned::new(what, tmpfs.destination);
            planned.point.read_only = tmpfs.read_only;
            planned.manner = tmpfs.manner;
            planned.told = false;
            mounts.push(planned);
        }
        Ok((mounts, bare))
    }

    /// What one `--mount` asks for.
    fn mount(&self, option: MountOption) -> Result<Planned> {
        let mut anonymous = false;
        let what = match option.kind {
            MountType::Bind { source, create } => {
                if !create && source.symlink_metadata().is_err() {
                    let shown = source.display();
                    let fault = format!("bind source path does not exist: `{shown}`");
                    return Err(Error::new(Kind::Input, fault).with_hint(format!(
                        "make it, or let it be made: `-v {shown}:{}`",
                        option.destination
                    )));
                }
                What::Volume(VolumeSource::Bind(source))
            }
            MountType::Volume(Some(name)) => What::Volume(VolumeSource::Named(name)),
            MountType::Volume(None) => {
                anonymous = true;
                What::Volume(VolumeSource::Anonymous)
            }
            MountType::Tmpfs { size, mode } => What::Tmpfs { size, mode },
            MountType::Image(name) => {
                let image = self.store.image_for(&name, None)?;
                What::Image(self.store.checkout(&image)?)
            }
        };
        let mut planned = Planned::new(what, option.destination);
        planned.point.read_only = option.read_only;
        planned.point.anonymous = anonymous;
        planned.point.seeded = option.seeded;
        planned.manner = option.manner;
        planned.labels = option.labels;
        Ok(planned)
    }

    /// What `--volumes-from` asks for: the volumes and directories of other containers.
    fn borrowed(&self, request: &CreateRequest) -> Result<Vec<Planned>> {
        let mut mounts = Vec::new();
        for text in &request.volumes_from {
            let (name, mode) = text.split_once(':').unwrap_or((text, ""));
            let modes = || mode.split(',');
            if modes().any(|mode| !["", "rw", "ro", "z", "Z"].contains(&mode)) {
                let fault = format!("invalid mode for volumes-from: {mode}");
                return Err(Error::new(Kind::Input, fault).with_hint("expected ro or rw"));
            }
            let read_only = modes().any(|mode| mode == "ro");
            if read_only && modes().any(|mode| mode == "rw") {
                let fault = format!("invalid mode for volumes-from: {mode}: it is both ro and rw");
                return Err(Error::new(Kind::Input, fault));
            }
            let lender = self.container(name)?;
            for point in &lender.record.mounts {
                if !point.kind.is_empty() {
                    continue;
                }
                if point.anonymous && lender.record.host.auto_remove {
                    let fault = format!(
                        "the volume at `{}` of container `{name}` goes with that container, which removes itself at its end",
                        point.destination
                    );
                    return Err(Error::new(Kind::Conflict, fault).with_hint(format!(
                        "give it a name: `smidge run --rm -v NAME:{} …`",
                        point.destination
                    )));
                }
                let source = match point.name.as_str() {
                    "" => VolumeSource::Bind(point.source.clone()),
                    volume => VolumeSource::Named(volume.to_owned()),
                };
                let mut planned = Planned::new(What::Volume(source), point.destination.clone());
                planned.point.read_only = read_only || point.read_only;
                planned.point.borrowed = point.anonymous || point.borrowed;
                planned.manner = point.manner.clone();
                mounts.push(planned);
            }
        }
        Ok(mounts)
    }

    /// A mount with its place on the host. The name of an anonymous volume follows from the container.
    pub(super) fn placed(&self, id: &str, planned: &Planned) -> MountPoint {
        let mut kind = String::new();
        let (name, source) = match &planned.what {
            What::Volume(VolumeSource::Bind(path)) => (String::new(), path.clone()),
            What::Volume(VolumeSource::Named(name)) => (name.clone(), self.volume_path(name)),
            What::Volume(VolumeSource::Anonymous) => {
                let text = format!("{id}{}", planned.point.destination);
                let name = Digest::of(text.as_bytes()).hex();
                let path = self.volume_path(&name);
                (name, path)
            }
            What::Tmpfs { .. } => {
                "tmpfs".clone_into(&mut kind);
                (String::new(), PathBuf::new())
            }
            What::Image(_) => {
                "image".clone_into(&mut kind);
                (String::new(), PathBuf::new())
            }
        };
        MountPoint {
            name,
            source,
            kind,
            manner: planned.manner.clone(),
            ..planned.point.clone()
        }
    }

    fn volume_path(&self, name: &str) -> PathBuf {
        self.store.root().join("volumes").join(name).join("_data")
    }

    /// Makes what a mount leads to: volumes, and missing directories of the host.
    pub(super) fn make_source(
        &self,
        (planned, id): (&Planned, &str),
        files: (&LayeredTree, &[PathBuf]),
        map: &IdMap,
    ) -> Result<()> {
        let point = self.placed(id, planned);
        match &planned.what {
            What::Volume(VolumeSource::Bind(path)) => make_directory(path),
            What::Volume(_) => {
                let is_new = self.store.find_volume(&point.name)?.is_none();
                if !planned.labels.is_empty() {
                    let record = VolumeRecord {
                        labels: planned.labels.clone(),
                    };
                    self.store.create_volume(Some(&point.name), &record)?;
                }
                let volume = self.store.volume(&point.name)?;
                if is_new {
                    self.note_volume("create", &point.name);
                }
                if point.seeded {
                    self.seed_volume(files, (&point.destination, &volume), map)?;
                }
                Ok(())
            }
            What::Tmpfs { .. } | What::Image(_) => Ok(()),
        }
    }
}

/// A mount as the sandbox is told it.
pub(super) fn told(planned: &Planned, point: &MountPoint) -> Mount {
    let kind = match &planned.what {
        What::Volume(_) => MountKind::Bind,
        What::Tmpfs { size, mode } => MountKind::Tmpfs {
            size: *size,
            mode: *mode,
        },
        What::Image(layers) => MountKind::Layers(layers.clone()),
    };
    Mount {
        source: point.source.clone(),
        destination: point.destination.clone(),
        read_only: point.read_only,
        kind,
        manner: planned.manner.clone(),
    }
}

/// Files of `/proc` that may be covered, as runc has it: what tells of the machine's use, not of its control.
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Refuses to cover what guards a container.
fn check_place(destination: &str) -> Result<()> {
    if !destination.starts_with("/proc/") || COVERABLE.contains(&destination) {
        return Ok(());
    }
    let fault = format!("`{destination}` cannot be mounted because it is inside /proc");
    Err(Error::new(Kind::Input, fault))
}

/// How many directories a path leads through.
pub(super) fn depth(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

/// As Docker does for `--volume`: a directory that is missing is made.
fn make_directory(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(|source| {
        Error::io(
            format!("cannot create `{}`, to be mounted", path.display()),
            source,
        )
    })
}

/// `tmpfs` settings by their names in `--tmpfs` and `mount(8)`.
pub(super) const ALLOWANCES: [(&str, &str, Allowed); 3] = [
    ("exec", "noexec", Allowed::Exec),
    ("suid", "nosuid", Allowed::Suid),
    ("dev", "nodev", Allowed::Dev),
];
