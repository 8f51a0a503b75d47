//! Groups at places that others choose: `linux.cgroupsPath` of the OCI runtime specification.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::device::DeviceRule;
use super::directory::{self, hand_on, inherit_cpuset, write_all};
use super::group::Group;
use super::hierarchy::{Hierarchies, Hierarchy, words};
use super::lack::Lack;
use super::resources::Resources;
use super::{device, freeze, setting};
use crate::error::RunError;

/// A file of a controller's, and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControllerFile {
    /// What asks for it.
    pub(crate) what: String,
    /// The controller, as both versions call it.
    pub(crate) controller: &'static str,
    /// The file's name in version 1.
    pub(crate) v1: String,
    /// And in version 2.
    pub(crate) v2: String,
    /// What is written.
    pub(crate) value: String,
}

impl Group {
    /// Makes the group at `path`, from the top of every hierarchy, or below the caller's own group if it
    /// is relative. None where nothing can be made and nothing is asked for: neither limits nor, with
    /// `devices`, that its processes are kept from devices.
    ///
    /// # Errors
    /// When a controller that is asked for cannot be had, or the group is somebody else's: there are
    /// processes in it.
    pub(crate) fn at(
        path: &Path,
        resources: &Resources,
        devices: bool,
    ) -> Result<Option<Self>, RunError> {
        let Some(hierarchies) = hierarchies_for(path)? else {
            return Ok(None);
        };
        let mut group = Self::default();
        let mut refused = None;
        for (name, hierarchy) in &hierarchies.v1 {
            let place = place(hierarchy, path);
            match make_v1(name, hierarchy, &place) {
                Ok(()) => drop(group.v1.insert(name.clone(), place)),
                Err(source) => refused = Some((place, source)),
            }
        }
        if let Some(hierarchy) = &hierarchies.v2 {
            let place = place(hierarchy, path);
            match make_v2(hierarchy, &place) {
                Ok(()) => group.v2 = Some(place),
                Err(source) => refused = Some((place, source)),
            }
        }
        // Those of groups below it, too: the end of the container would be theirs.
        let has_some = !group.processes().is_empty();
        let taken = |place: &&PathBuf| has_some || is_populated(place);
        if let Some(taken) = group.directories().find(taken) {
            return Err(RunError::Cgroup {
                step: "use a control group that has processes:".to_owned(),
                path: taken.clone(),
                source: io::ErrorKind::ResourceBusy.into(),
            });
        }
        let step = match group.has_all(resources) {
            false => Some("make the control group"),
            true if devices && !group.decides_about_devices() => Some(
                "shut devices off (`--cgroup-manager disabled` does without) by the control group",
            ),
            true => None,
        };
        if let Some(((path, source), step)) = refused.zip(step) {
            group.destroy();
            return Err(RunError::Cgroup {
                step: step.to_owned(),
                path,
                source,
            });
        }
        Ok(Some(group).filter(|group| group.directories().next().is_some()))
    }

    /// The group that [`Group::at`] makes at `path`, or would make if it could.
    ///
    /// # Errors
    /// When the path leads elsewhere.
    pub(crate) fn planned(path: &Path) -> Result<Option<Self>, RunError> {
        let Some(hierarchies) = hierarchies_for(path)? else {
            return Ok(None);
        };
        let mut group = Self::default();
        for (name, hierarchy) in &hierarchies.v1 {
            group.v1.insert(name.clone(), place(hierarchy, path));
        }
        group.v2 = hierarchies.v2.as_ref().map(|one| place(one, path));
        Ok(Some(group))
    }

    /// Groups below this one, as `exec` of runc names them: `PATH`, or `CONTROLLER[,CONTROLLER]:PATH` in
    /// version 1. Controllers that are not named stay where they are.
    ///
    /// # Errors
    /// When a path leads elsewhere.
    pub(crate) fn below(&self, named: &[String]) -> Result<Self, RunError> {
        let mut group = self.clone();
        for name in named {
            let (controllers, path) = name.split_once(':').unwrap_or(("", name));
            let path = Path::new(path.trim_start_matches('/'));
            if !path
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
            {
                return Err(lacking(Lack::Outside {
                    parent: name.clone(),
                }));
            }
            let known = |one: &str| group.v1.contains_key(one);
            if let Some(unknown) = controllers
                .split(',')
                .find(|one| !one.is_empty() && !known(one))
            {
                return Err(RunError::NoController {
                    option: format!("--cgroup {name}"),
                    controller: unknown.to_owned(),
                    why: Lack::Missing,
                });
            }
            let is_meant = |controller: &str| {
                controllers.is_empty() || controllers.split(',').any(|one| one == controller)
            };
            for (_, directory) in group.v1.iter_mut().filter(|(name, _)| is_meant(name)) {
                directory.push(path);
            }
            if let Some(directory) = group.v2.as_mut().filter(|_| is_meant("")) {
                directory.push(path);
            }
        }
        Ok(group)
    }

    /// Removes it as far as nobody is in it.
    pub(crate) fn remove_empty(&self) {
        for directory in self.directories() {
            let _ = fs::remove_dir(directory);
        }
    }

    fn has_all(&self, resources: &Resources) -> bool {
        let has = |name| self.v1.contains_key(name) || self.v2.is_some();
        let wanted = setting::controllers(resources);
        wanted.iter().all(|(controller, _)| has(controller.v1()))
    }

    pub(super) fn decides_about_devices(&self) -> bool {
        self.v1.contains_key("devices") || self.v2.is_some()
    }

    /// Sets limits: those that are asked for, and none that follow from them.
    ///
    /// # Errors
    /// When the kernel does not take one.
    pub(crate) fn set(&self, resources: &Resources) -> Result<(), RunError> {
        for (controller, _) in setting::controllers(resources) {
            let (path, mut settings) = match (self.v1.get(controller.v1()), &self.v2) {
                (Some(path), _) => (path, setting::v1(resources, controller)),
                (None, Some(path)) => (path, setting::v2(resources, controller)?),
                (None, None) => return Err(lacking(Lack::Missing)),
            };
            settings.retain(|one| resources.memory_swap.is_some() || one.option != "--memory-swap");
            write_all(controller, path, &settings)?;
        }
        Ok(())
    }

    /// Says which devices its processes may use, as `option` asks for it.
    ///
    /// # Errors
    /// When the kernel does not take it, or nothing here decides about devices.
    pub(crate) fn allow_devices(&self, option: &str, rules: &[DeviceRule]) -> Result<(), RunError> {
        match (self.v1.get("devices"), &self.v2) {
            (Some(path), _) => device::write_v1(path, option, rules),
            (None, Some(path)) => device::attach_v2(path, rules),
            (None, None) => Err(RunError::NoController {
                option: option.to_owned(),
                controller: "devices".to_owned(),
                why: Lack::Missing,
            }),
        }
    }

    /// Writes to a file of a controller's, in the words of the version that has it.
    ///
    /// # Errors
    /// When no version has it here, or the kernel does not take it.
    pub(crate) fn write_file(&self, file: &ControllerFile) -> Result<(), RunError> {
        let path = match (self.v1.get(file.controller), &self.v2) {
            (Some(group), _) => group.join(&file.v1),
            (None, Some(group)) => group.join(&file.v2),
            (None, None) => PathBuf::from(&file.v1),
        };
        if !path.exists() {
            return Err(RunError::NoController {
                option: file.what.clone(),
                controller: file.controller.to_owned(),
                why: Lack::NoFile {
                    file: path.display().to_string(),
                },
            });
        }
        directory::write(&path, &file.value).map_err(|source| RunError::Limit {
            option: file.what.clone(),
            value: file.value.clone(),
            path,
            source,
        })
    }

    /// Writes to files of version 2.
    ///
    /// # Errors
    /// When there is no version 2 here, or the kernel does not take it.
    pub(crate) fn write_unified(&self, name: &str, value: &str) -> Result<(), RunError> {
        let is_file = !name.contains('/') && name.contains('.');
        let Some(path) = self.v2.as_ref().filter(|_| is_file) else {
            return Err(lacking(Lack::NoFile {
                file: name.to_owned(),
            }));
        };
        let path = path.join(name);
        directory::write(&path, value).map_err(|source| RunError::Limit {
            option: name.to_owned(),
            value: value.to_owned(),
            path,
            source,
        })
    }

    /// Its processes, those of groups below it included.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = BTreeSet::new();
        let mut rest: Vec<PathBuf> = self.directories().cloned().collect();
        while let Some(directory) = rest.pop() {
            let pids = words(&directory.join("cgroup.procs"));
            found.extend(pids.filter_map(|word| word.parse::<u32>().ok()));
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    rest.push(entry.path());
                }
            }
        }
        // 0 is a process of a PID namespace that cannot be seen.
        found.into_iter().filter(|pid| *pid > 0).collect()
    }

    /// Makes its processes stand still.
    pub(crate) fn freeze(&self) -> Result<(), RunError> {
        freeze::freeze(self).map_err(|(path, source)| {
            freeze::thaw(self);
            RunError::Cgroup {
                step: "freeze".to_owned(),
                path,
                source,
            }
        })
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        freeze::thaw(self);
    }

    /// Whether they stand still.
    pub(crate) fn is_frozen(&self) -> bool {
        freeze::is_frozen(self)
    }

    /// Its directory in version 1's hierarchy of each controller, by the controller's name.
    pub(crate) fn v1_directories(&self) -> impl Iterator<Item = (&String, &PathBuf)> {
        self.v1.iter()
    }

    /// Its directory in the hierarchy of version 2.
    pub(crate) fn v2_directory(&self) -> Option<&PathBuf> {
        self.v2.as_ref()
    }
}

/// The hierarchies that there are, if a path names a group in them.
fn hierarchies_for(path: &Path) -> Result<Option<Hierarchies>, RunError> {
    let plain = |name| matches!(name, Component::Normal(_) | Component::RootDir);
    if !path.components().all(plain) {
        return Err(lacking(Lack::Outside {
            parent: path.display().to_string(),
        }));
    }
    match path.file_name() {
        Some(_) => Ok(Some(Hierarchies::of_host()?)),
        None => Ok(None),
    }
}

fn lacking(why: Lack) -> RunError {
    RunError::NoController {
        option: "linux.cgroupsPath".to_owned(),
        controller: "cgroup".to_owned(),
        why,
    }
}

fn place(hierarchy: &Hierarchy, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(below) => hierarchy.top.join(below),
        Err(_) => hierarchy.own.join(path),
    }
}

fn make_v1(name: &str, hierarchy: &Hierarchy, place: &Path) -> io::Result<()> {
    for directory in way(hierarchy, place) {
        make(directory)?;
        if let Some(parent) = directory.parent().filter(|_| name == "cpuset") {
            inherit_cpuset(directory, parent)?;
        }
    }
    Ok(())
}

/// Every group on the way hands on whatever it has; what is missing then, the limit that takes it tells.
fn make_v2(hierarchy: &Hierarchy, place: &Path) -> io::Result<()> {
    let mut above = hierarchy.top.as_path();
    for directory in way(hierarchy, place) {
        for name in words(&above.join("cgroup.controllers")) {
            let _ = hand_on(&name, above);
        }
        make(directory)?;
        above = directory;
    }
    Ok(())
}

/// The directories from below a hierarchy's top to `place`.
fn way<'p>(hierarchy: &Hierarchy, place: &'p Path) -> Vec<&'p Path> {
    let below =
        |directory: &&Path| directory.starts_with(&hierarchy.top) && *directory != hierarchy.top;
    let mut way: Vec<&Path> = place.ancestors().filter(below).collect();
    way.reverse();
    way
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn is_populated(directory: &Path) -> bool {
    words(&directory.join("cgroup.procs")).next().is_some()
}
