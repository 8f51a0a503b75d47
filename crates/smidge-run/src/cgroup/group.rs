//! A container's group: made, filled, limited, removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::controller::Controller;
use super::directory::{make_v1, make_v2, remove_directory, write, write_all};
use super::hierarchy::{Hierarchies, words};
use super::lack::Lack;
use super::resources::Resources;
use super::setting;
use super::shut::Shut;
use super::{freeze, process};
use crate::error::RunError;
use crate::message::Request;
use crate::session;
use crate::state;

/// Where a container's group is written down, in its directory.
const RECORD: &str = "cgroup.json";

/// A container's group: a directory in each hierarchy that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    /// In hierarchies of version 1, by controller.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) v1: BTreeMap<String, PathBuf>,
    /// In that of version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) v2: Option<PathBuf>,
    /// The directory that goes with the last group in it, if it is ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ours: Vec<PathBuf>,
    /// What the container may use, if that was changed while it ran: a program that is started again
    /// is to have it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Resources>,
}

/// A controller, and the option that asks for it.
pub(super) type Wanted = (Controller, &'static str);

impl Group {
    /// Makes the group that `resources` and `shut` take for the container in `dir`, limits set; none if
    /// they take none.
    ///
    /// # Errors
    /// When a controller cannot be had, or does not take what it is told. Nothing is left then.
    pub(crate) fn create(
        dir: &Path,
        resources: &Resources,
        shut: &Shut<'_>,
    ) -> Result<Option<Self>, RunError> {
        let mut group = Self::default();
        if let Some(before) = Self::load(dir) {
            // Of a run before: what it counted is another's.
            before.remove(dir);
            group.changed = before.changed;
        }
        let changed = group.changed.clone();
        let resources = changed.as_ref().unwrap_or(resources);
        let mut wanted = setting::controllers(resources);
        if wanted.is_empty() && resources.cgroup_parent.is_empty() && !shut.takes_group() {
            return Ok(None);
        }
        let hierarchies = Hierarchies::of_host()?;
        if !resources.cgroup_parent.is_empty() {
            // What the parent limits, it limits for whoever is in it.
            let all = [Controller::Memory, Controller::Cpu, Controller::Pids];
            let there = all
                .into_iter()
                .filter(|one| hierarchies.with(*one).is_some());
            wanted.extend(
                there
                    .chain([Controller::Freezer])
                    .map(|one| (one, "--cgroup-parent")),
            );
        }
        wanted.extend(shut.wanted(&hierarchies));
        if wanted.is_empty() {
            return Ok(None);
        }
        let made = group
            .grow(dir, resources, &wanted, &hierarchies)
            .and_then(|()| group.limit(resources))
            .and_then(|()| shut.apply(&group));
        match made {
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                group.remove(dir);
                Err(error)
            }
        }
    }

    /// The group of the container in `dir`, if it has one.
    pub(crate) fn load(dir: &Path) -> Option<Self> {
        let group: Self = serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()?;
        // Whatever a file says: no other group than the container's is touched.
        let id = dir.file_name();
        let is_own = group.directories().all(|group| group.file_name() == id);
        is_own.then_some(group)
    }

    /// Adds what it takes to have the controllers `wanted`, and makes it.
    pub(super) fn grow(
        &mut self,
        dir: &Path,
        resources: &Resources,
        wanted: &[Wanted],
        hierarchies: &Hierarchies,
    ) -> Result<(), RunError> {
        let parent = resources.cgroup_parent.as_str();
        let id = state::id(dir);
        let mut places = Vec::new();
        for (controller, option) in wanted {
            let lacking = |why: Lack| RunError::NoController {
                option: (*option).to_owned(),
                controller: controller.to_string(),
                why,
            };
            let (hierarchy, version) = hierarchies
                .with(*controller)
                .ok_or_else(|| lacking(Lack::Missing))?;
            let place = hierarchy.place(parent).map_err(lacking)?;
            let path = place.directory.join(&id);
            if parent.is_empty() && !self.ours.contains(&place.directory) {
                self.ours.push(place.directory.clone());
            }
            match version {
                1 => drop(self.v1.insert(controller.v1().to_owned(), path.clone())),
                _ => self.v2 = Some(path.clone()),
            }
            places.push((*controller, *option, version, place, path));
        }
        // Before anything is made: what is written down can be found and removed.
        self.write(dir)?;
        for (controller, option, version, place, path) in &places {
            match (version, controller.v2()) {
                (1, _) => make_v1(*controller, place, path),
                (_, name) => make_v2(name, place, path),
            }
            .map_err(|fault| fault.of(option, *controller))?;
        }
        Ok(())
    }

    fn write(&self, dir: &Path) -> Result<(), RunError> {
        let path = dir.join(RECORD);
        let temporary = dir.join(format!("{RECORD}.{}", std::process::id()));
        let write = || {
            fs::write(&temporary, serde_json::to_vec(self)?)?;
            fs::rename(&temporary, &path)
        };
        write()
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .map_err(RunError::record(&path))
    }

    /// Sets limits.
    ///
    /// # Errors
    /// When the kernel does not take one.
    pub(super) fn limit(&self, resources: &Resources) -> Result<(), RunError> {
        for (controller, _) in setting::controllers(resources) {
            if let Some(path) = self.v1.get(controller.v1()) {
                write_all(controller, path, &setting::v1(resources, controller))?;
            } else if let Some(path) = &self.v2 {
                write_all(controller, path, &setting::v2(resources, controller)?)?;
            }
        }
        Ok(())
    }

    /// Where it is in the hierarchy of version 2, open for a process to be cloned into.
    pub(crate) fn open_v2(&self) -> io::Result<Option<OwnedFd>> {
        let open = |path| File::open(path).map(OwnedFd::from);
        self.v2.as_ref().map(open).transpose()
    }

    /// Moves a process into the hierarchies of version 1.
    pub(crate) fn enter_v1(&self, pid: u32) -> Result<(), RunError> {
        self.v1.values().try_for_each(|path| enter(path, pid))
    }

    /// Moves a process in, wherever it is.
    pub(crate) fn enter(&self, pid: u32) -> Result<(), RunError> {
        self.enter_v1(pid)?;
        self.v2.iter().try_for_each(|path| enter(path, pid))
    }

    /// Moves a process in beside another of the container's: where version 2 lets nobody in any more, because
    /// what is inside has handed controllers on, into the other's own group.
    pub(crate) fn enter_beside(&self, pid: u32, other: u32) -> Result<(), RunError> {
        let Some(path) = &self.v2 else {
            return self.enter_v1(pid);
        };
        self.enter_v1(pid)?;
        match enter(path, pid) {
            Err(error) if error.errno() == Some(libc::EBUSY) => {
                let own = Hierarchies::of_process(other)?.v2.map(|one| one.own);
                match own.filter(|own| own.starts_with(path)) {
                    Some(own) => enter(&own, pid),
                    None => Err(error),
                }
            }
            entered => entered,
        }
    }

    /// Its directories.
    pub(super) fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.values().chain(&self.v2)
    }

    /// Where it is in version 1's hierarchy of a controller.
    pub(super) fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.get(controller).map(PathBuf::as_path)
    }

    /// Where it is in the hierarchy of version 2.
    pub(super) fn v2(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// The controllers that it has in version 1.
    pub(super) fn v1_names(&self) -> impl Iterator<Item = &String> {
        self.v1.keys()
    }

    /// Whether one of its processes was killed because there was no memory left for it.
    pub(crate) fn was_short_of_memory(&self) -> bool {
        let v1 = self
            .v1("memory")
            .map(|path| path.join("memory.oom_control"));
        let v2 = self.v2().map(|path| path.join("memory.events"));
        v1.into_iter().chain(v2).any(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let mut counts = text
                .lines()
                .filter_map(|line| line.strip_prefix("oom_kill "));
            counts.any(|count| count.trim() != "0")
        })
    }

    /// Kills whatever is left in it, and removes it, the record last.
    pub(crate) fn remove(&self, dir: &Path) {
        if self.destroy() {
            let _ = fs::remove_file(dir.join(RECORD));
        }
    }

    /// Kills whatever is left in it, and removes it. Whether it is gone.
    pub(crate) fn destroy(&self) -> bool {
        freeze::thaw(self);
        let mut removed = true;
        for path in self.directories() {
            removed &= remove_directory(path);
        }
        for path in &self.ours {
            // Stays if another container has a group there.
            let _ = fs::remove_dir(path);
        }
        removed
    }
}

/// Removes the group of the container in `dir`, if it has one, and kills what is left in it.
pub fn remove_group(dir: &Path) {
    if let Some(group) = Group::load(dir) {
        group.remove(dir);
    }
}

/// Changes the limits of the running container in `dir`: `all` is everything that it is to have,
/// `changed` what is new. It gets a group if it has none.
///
/// # Errors
/// When it does not run, or a limit cannot be had.
pub fn update(dir: &Path, all: &Resources, changed: &Resources) -> Result<(), RunError> {
    let wanted = setting::controllers(changed);
    if wanted.is_empty() {
        return Ok(());
    }
    let mut group = surround(dir, all, &wanted)?;
    group.limit(&setting::completed(changed, all))?;
    group.changed = Some(all.clone());
    group.write(dir)
}

/// Lets the program of the container in `dir`, which has ended, have the limits `all` when its supervisor starts it
/// again. One that runs by now is to be told by [`update`], too.
///
/// # Errors
/// When nobody watches over it any more.
pub fn update_next(dir: &Path, all: &Resources) -> Result<(), RunError> {
    session::ask(dir, &Request::Limit(Box::new(all.clone())))
}

/// Forgets what was changed while the program of the container in `dir` ran.
pub(crate) fn forget_changes(dir: &Path) -> Result<(), RunError> {
    let changed = Group::load(dir).filter(|group| group.changed.is_some());
    changed.map_or(Ok(()), |group| {
        let changed = None;
        Group { changed, ..group }.write(dir)
    })
}

/// The group of the running container in `dir`, with the controllers `wanted`: made, and the
/// container's processes moved in, where it is missing.
pub(super) fn surround(
    dir: &Path,
    resources: &Resources,
    wanted: &[Wanted],
) -> Result<Group, RunError> {
    let hierarchies = Hierarchies::of_host()?;
    let program = process::program(dir)?;
    let before = Group::load(dir).unwrap_or_default();
    let mut group = before.clone();
    let done = group
        .grow(dir, resources, wanted, &hierarchies)
        .and_then(|()| move_in(&group, program.pid));
    // Who has ended meanwhile may have been cleared away before its group was made.
    let lives = program.is_alive();
    match done {
        _ if !lives => {
            group.remove(dir);
            Err(RunError::NotRunning { id: state::id(dir) })
        }
        Ok(()) => Ok(group),
        Err(error) if before == Group::default() => {
            give_back(&group, dir);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Moves every process of a container into its group, also those that are made meanwhile.
fn move_in(group: &Group, program: u32) -> Result<(), RunError> {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        let mut moved = false;
        for pid in process::of_container(program) {
            if group.directories().all(|path| has(path, pid)) {
                continue;
            }
            moved = true;
            match group.enter(pid) {
                // It has ended.
                Err(error) if error.errno() == Some(libc::ESRCH) => {}
                entered => entered?,
            }
        }
        if !moved {
            break;
        }
    }
    Ok(())
}

/// Whether a process is in a group.
fn has(path: &Path, pid: u32) -> bool {
    words(&path.join("cgroup.procs")).any(|word| word == pid.to_string())
}

/// Undoes what [`surround`] has begun. Nothing is killed: a group with processes in it stays, and goes
/// with the container.
fn give_back(group: &Group, dir: &Path) {
    let gone = |path: &PathBuf| match fs::remove_dir(path) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(()) => true,
    };
    let all_gone = group.directories().filter(|path| !gone(path)).count() == 0;
    for path in &group.ours {
        let _ = fs::remove_dir(path);
    }
    if all_gone {
        let _ = fs::remove_file(dir.join(RECORD));
    }
}

fn enter(path: &Path, pid: u32) -> Result<(), RunError> {
    let path = path.join("cgroup.procs");
    write(&path, &pid.to_string()).map_err(|source| RunError::Cgroup {
        step: format!("move process {pid} into"),
        path,
        source,
    })
}
