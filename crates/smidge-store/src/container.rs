//! Containers' records and names.
//!
//! A container is there when its name is: `names/<name>` is a hard link to `<id>/name`, made last
//! and removed first. What has an id but no name is in the making, or garbage.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::AtFlags;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::READ;
use crate::image::parse;
use crate::{Error, Image, Store, name, regular};

/// A container's place in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its directory: holds `config.json`, and whatever the sandbox puts there.
    pub dir: PathBuf,
}

/// The record's file in a container's directory.
const RECORD: &str = "config.json";

/// The file with the container's id and name.
const NAME: &str = "name";

impl Container {
    /// Reads the container's record.
    ///
    /// # Errors
    /// When it is gone, or is no `T`.
    pub fn record<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let path = self.dir.join(RECORD);
        match regular::read(&path) {
            Ok(bytes) => parse(&path.display().to_string(), "container record", &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoSuchContainer(self.name.clone()))
            }
            Err(error) => Err(Error::io(self.root(), READ, &path, error)),
        }
    }

    /// Replaces the container's record. Whoever reads it sees the old one or the new.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn write_record<T: Serialize>(&self, record: &T) -> Result<(), Error> {
        let path = self.dir.join(RECORD);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = self
            .dir
            .join(format!("{RECORD}.{}.{number}", process::id()));
        let io = |error| Error::io(self.root(), "write", &path, error);
        let json = to_json(&path, record)?;
        // Flushed, or a power cut may leave the new one's name with nothing in it.
        fs::File::create(&temp)
            .and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temp, &path))
            .inspect_err(|_| drop(fs::remove_file(&temp)))
            .map_err(io)
    }

    /// The file that holds the container's name; once it is gone, the name is free.
    pub fn name_path(&self) -> PathBuf {
        self.dir.with_file_name("names").join(&self.name)
    }

    fn root(&self) -> &Path {
        self.dir.ancestors().nth(2).unwrap_or(&self.dir)
    }
}

fn to_json<T: Serialize>(path: &Path, record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|source| Error::Document {
        what: path.display().to_string(),
        kind: "container record",
        source,
    })
}

impl Store {
    /// Makes a container: an id, a name (a random one if none is given), a directory, and the record
    /// that `record` makes of id and name.
    ///
    /// Records are not synced to disk: they outlive every process, but a container that was made in
    /// the seconds before a power cut may be gone after it.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::BadName`], and when the store cannot be written.
    pub fn create_container<T: Serialize>(
        &self,
        name: Option<&str>,
        record: &dyn Fn(&str, &str) -> T,
    ) -> Result<Container, Error> {
        self.make_container(None, name, record)
    }

    /// The same of an image, which whoever removes images from then on finds in use.
    ///
    /// # Errors
    /// As [`Store::create_container`]; [`Error::NoSuchImage`], if the image has been removed meanwhile.
    pub fn create_container_of<T: Serialize>(
        &self,
        image: &Image,
        name: Option<&str>,
        record: &dyn Fn(&str, &str) -> T,
    ) -> Result<Container, Error> {
        self.make_container(Some(image), name, record)
    }

    fn make_container<T: Serialize>(
        &self,
        image: Option<&Image>,
        name: Option<&str>,
        record: &dyn Fn(&str, &str) -> T,
    ) -> Result<Container, Error> {
        let Some(name) = name else {
            loop {
                let name = name::name(u64::from_ne_bytes(random()?));
                match self.create_named(image, name, record) {
                    Err(Error::NameInUse { .. }) => {}
                    created => return created,
                }
            }
        };
        let name = name.strip_prefix('/').unwrap_or(name);
        if !name::is_valid(name) {
            return Err(Error::BadName {
                kind: "container",
                name: name.to_owned(),
            });
        }
        self.create_named(image, name.to_owned(), record)
    }

    fn create_named<T: Serialize>(
        &self,
        image: Option<&Image>,
        name: String,
        record: &dyn Fn(&str, &str) -> T,
    ) -> Result<Container, Error> {
        self.check_free(&name)?;
        let bytes: [u8; 32] = random()?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = self.path("containers").join(&id);
        let container = Container { id, name, dir };
        let temp = self.temp_dir()?;
        let json = to_json(&container.dir, &record(&container.id, &container.name))?;
        fs::write(temp.path().join(RECORD), json)
            .and_then(|()| {
                let label = format!("{} {}\n", container.id, container.name);
                fs::write(temp.path().join(NAME), label)
            })
            .map_err(|error| self.io("write", temp.path(), error))?;
        // The lock on the directory says that it is no garbage while it has no name yet.
        let _locked = temp.persist(self, &container.dir)?;
        // Names appear under the lock, so that who removes one that leads nowhere removes no other, and who
        // removes images knows whom they are for.
        let lock = self.lock()?;
        let gone = match image {
            Some(image) => self
                .has_entry(image)
                .map(|is_there| (!is_there).then_some(image)),
            None => Ok(None),
        };
        let named = match gone {
            Ok(None) => fs::hard_link(container.dir.join(NAME), container.name_path())
                .map_err(|error| self.io("create", &container.name_path(), error)),
            Ok(Some(image)) => Err(Error::NoSuchImage(image.id.to_string())),
            Err(error) => Err(error),
        };
        drop(lock);
        if named.is_err() {
            self.discard(&container.dir)?;
            self.check_free(&container.name)?;
        }
        named.map(|()| container)
    }

    /// Checks that nobody has a name. A name that outlived its container in a power cut is removed.
    fn check_free(&self, name: &str) -> Result<(), Error> {
        let path = self.path("containers/names").join(name);
        if !path.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        match self.read_label(&path)? {
            Some(holder) => Err(Error::NameInUse {
                name: name.to_owned(),
                by: holder.id,
            }),
            None => self.remove_name(&path),
        }
    }

    fn remove_name(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    /// The container that a `name` file tells of, if it is there.
    fn read_label(&self, path: &Path) -> Result<Option<Container>, Error> {
        let (text, file) = match regular::identified(path) {
            Ok((bytes, file)) => (String::from_utf8_lossy(&bytes).into_owned(), file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(READ, path, error)),
        };
        let Some((id, name)) = text.trim_end().split_once(' ') else {
            return Ok(None);
        };
        if !is_id_prefix(id) || !name::is_valid(name) {
            return Ok(None);
        }
        let container = Container {
            id: id.to_owned(),
            name: name.to_owned(),
            dir: self.path("containers").join(id),
        };
        // Another file: the container has another name now, or does not have this one yet.
        let is_own = identity(&container.dir.join(NAME)) == Some(file);
        Ok(is_own.then_some(container))
    }

    /// Gives a container another name. Whoever looks meanwhile finds it under the old one or the new;
    /// a crash leaves it with one of them.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::BadName`], [`Error::NoSuchContainer`], and when the store cannot be
    /// written.
    pub fn rename_container(&self, container: &Container, name: &str) -> Result<Container, Error> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if !name::is_valid(name) {
            return Err(Error::BadName {
                kind: "container",
                name: name.to_owned(),
            });
        }
        self.check_free(name)?;
        let renamed = Container {
            name: name.to_owned(),
            ..container.clone()
        };
        let _lock = self.lock()?;
        let own = container.dir.join(NAME);
        if !is_same(&container.name_path(), &own) {
            return Err(Error::NoSuchContainer(container.name.clone()));
        }
        let next = container.dir.join(format!("{NAME}.new"));
        let taken = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::NameInUse {
                name: name.to_owned(),
                by: self
                    .read_label(&renamed.name_path())
                    .ok()
                    .flatten()
                    .map_or_else(String::new, |holder| holder.id),
            },
            _ => self.io("create", &renamed.name_path(), error),
        };
        let _ = fs::remove_file(&next);
        fs::write(&next, format!("{} {name}\n", container.id))
            .inspect_err(|_| drop(fs::remove_file(&next)))
            .map_err(|error| self.io("write", &next, error))?;
        fs::hard_link(&next, renamed.name_path()).map_err(|error| {
            let _ = fs::remove_file(&next);
            taken(error)
        })?;
        fs::rename(&next, &own).map_err(|error| self.io("write", &own, error))?;
        fs::remove_file(container.name_path())
            .map_err(|error| self.io("remove", &container.name_path(), error))?;
        Ok(renamed)
    }

    /// Removes names that lead to no container: of one that was removed by who knew it by another name,
    /// or whose renaming was broken off.
    pub(crate) fn sweep_names(&self) -> Result<(), Error> {
        let _lock = self.lock()?;
        for path in self.list(&self.path("containers/names"))? {
            if self.read_label(&path)?.is_none() {
                self.remove_name(&path)?;
            }
        }
        Ok(())
    }

    /// The ids of what may be containers: of some that are being made or removed, too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn container_ids(&self) -> Result<BTreeSet<String>, Error> {
        let paths = self.list(&self.path("containers"))?;
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
        let ids = names.filter(|name| is_id(name));
        Ok(ids.map(str::to_owned).collect())
    }

    /// All containers, in no particular order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        // Of most a look at their own names tells which they have: one call for each, where to read the names
        // takes five.
        let owners = self.owners()?;
        let names = entries(&self.path("containers/names"));
        let names = names.map_err(|error| self.io(READ, &self.path("containers/names"), error))?;
        let found = names.into_iter().map(|(name, inode)| {
            let id = owners.get(&inode);
            match (id, name.to_str().filter(|name| name::is_valid(name))) {
                (Some(id), Some(name)) => Ok(Some(Container {
                    id: id.clone(),
                    name: name.to_owned(),
                    dir: self.path("containers").join(id),
                })),
                _ => self.read_label(&self.path("containers/names").join(name)),
            }
        });
        found.filter_map(Result::transpose).collect()
    }

    /// The ids of containers by the inodes of their names.
    fn owners(&self) -> Result<HashMap<u64, String>, Error> {
        let path = self.path("containers");
        let io = |error| self.io(READ, &path, error);
        let ids = entries(&path).map_err(io)?;
        let Ok(top) = fs::File::open(&path) else {
            return Ok(HashMap::new());
        };
        let device = top.metadata().map_err(io)?.dev();
        let owners = ids.into_iter().filter_map(|(id, _)| {
            let id = id.into_string().ok().filter(|id| is_id(id))?;
            let own = format!("{id}/{NAME}");
            let stat = rustix::fs::statat(&top, own, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            // On a file system of several ones, numbers may be given twice.
            (stat.st_dev == device).then_some((stat.st_ino, id))
        });
        Ok(owners.collect())
    }

    /// The container with a name, an id, or the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousContainer`], and when the store cannot be read.
    pub fn container(&self, name: &str) -> Result<Container, Error> {
        match self.look_up(name) {
            // By its id it is not to be found for an instant while it is given another name.
            Err(Error::NoSuchContainer(_)) if is_id_prefix(name) => {
                let _lock = self.lock()?;
                self.look_up(name)
            }
            found => found,
        }
    }

    /// A container that was found before, under the name that it has now.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], if it has been removed since, and when the store cannot be read.
    pub fn container_now(&self, container: &Container) -> Result<Container, Error> {
        let now = self.read_label(&container.dir.join(NAME))?;
        now.filter(|now| now.name_path().exists())
            .ok_or_else(|| Error::NoSuchContainer(container.name.clone()))
    }

    fn look_up(&self, name: &str) -> Result<Container, Error> {
        let missing = || Error::NoSuchContainer(name.to_owned());
        let wanted = name.strip_prefix('/').unwrap_or(name);
        if name::is_valid(wanted)
            && let Some(container) = self.read_label(&self.path("containers/names").join(wanted))?
        {
            return Ok(container);
        }
        if !is_id_prefix(wanted) {
            return Err(missing());
        }
        let mut matches = Vec::new();
        for path in self.list(&self.path("containers"))? {
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            if id.starts_with(wanted)
                && let Some(container) = self.read_label(&path.join(NAME))?
                && container.name_path().exists()
            {
                matches.push(container);
            }
        }
        match matches.len() {
            0 => Err(missing()),
            1 => matches.pop().ok_or_else(missing),
            _ => Err(Error::AmbiguousContainer {
                prefix: wanted.to_owned(),
                ids: matches.into_iter().map(|container| container.id).collect(),
            }),
        }
    }

    /// Removes a container's name and directory, and tells whether that was still there. Whoever calls
    /// this has removed what belongs to ids of a user namespace.
    ///
    /// # Errors
    /// When the store cannot be written, and when something in the directory cannot be removed: the
    /// name is free then, and the directory is garbage.
    pub fn remove_container(&self, container: &Container) -> Result<bool, Error> {
        let path = container.name_path();
        let lock = self.lock()?;
        let own = self
            .read_label(&path)?
            .is_some_and(|holder| holder.id == container.id);
        if own {
            self.remove_name(&path)?;
        }
        drop(lock);
        let was_there = container.dir.is_dir();
        self.discard(&container.dir).map(|_| was_there)
    }

    /// Containers' directories that have no name and no maker: what a killed process left.
    pub(crate) fn orphans(&self) -> Result<Vec<PathBuf>, Error> {
        let mut orphans = Vec::new();
        for path in self.list(&self.path("containers"))? {
            if path.ends_with("names") || !path.is_dir() {
                continue;
            }
            let in_making = || fs::File::open(&path).is_ok_and(|dir| dir.try_lock().is_err());
            if in_making() {
                continue;
            }
            let label = self.read_label(&path.join(NAME))?;
            if !label.is_some_and(|container| container.name_path().exists()) {
                orphans.push(path);
            }
        }
        Ok(orphans)
    }

    /// What is in a directory, sorted; nothing, if there is none.
    pub(crate) fn list(&self, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let io = |error| self.io(READ, directory, error);
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(io)?;
        // As they are written: to compare them part by part takes much longer.
        paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        Ok(paths)
    }
}

/// Whether two names lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

/// Which file a name leads to: its device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// What is in a directory, with the inodes as the directory tells them; nothing, if there is none.
fn entries(path: &Path) -> io::Result<Vec<(OsString, u64)>> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?
            .map(|entry| entry.map(|entry| (entry.file_name(), entry.ino())))
            .collect(),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && is_id_prefix(text)
}

fn is_id_prefix(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::Io {
            action: READ,
            path: PathBuf::from("/dev/urandom"),
            source: error.into(),
        }),
    }
}
