//! Volumes: directories under a name, which outlive the containers that they are shown to.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::container::random;
use crate::error::READ;
use crate::image::parse;
use crate::usage::disk_usage;
use crate::{Error, Store, Workspace, name, regular};

/// The files of a volume.
const DATA: &str = "_data";

/// What is known of a volume that was made by name. Others are what `--volume` found missing.
const RECORD: &str = "volume.json";

/// A volume in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name: 64 hexadecimal digits if nobody named it.
    pub name: String,
    /// Its files.
    pub data: PathBuf,
    /// When it was made.
    pub created: SystemTime,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What is kept of a volume beside its files. Changing this is a format break.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeRecord {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Volume {
    /// Whether nobody named it.
    pub fn is_anonymous(&self) -> bool {
        self.name.len() == 64 && self.name.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// Bytes of disk that its files take up, as far as they can be read.
    pub fn size(&self) -> u64 {
        disk_usage(&self.data)
    }

    fn directory(&self) -> &Path {
        self.data.parent().unwrap_or(&self.data)
    }
}

impl Store {
    /// The directory of a named volume, made if it is missing.
    ///
    /// # Errors
    /// [`Error::BadName`], and when the store cannot be written.
    pub fn volume(&self, name: &str) -> Result<PathBuf, Error> {
        check(name)?;
        self.make_data(&self.path("volumes").join(name))
    }

    /// Makes the directory of a volume's files, if it is missing. Whoever a program runs as may look
    /// into it, whatever the caller's umask.
    fn make_data(&self, volume: &Path) -> Result<PathBuf, Error> {
        let path = volume.join(DATA);
        if path.is_dir() {
            return Ok(path);
        }
        self.make_directory(volume, 0o755)?;
        let made = fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.io("create", &path, error))
            }
            _ => Ok(path),
        }
    }

    /// Makes a volume with labels, under a random name if none is given. One that is there already stays
    /// as it is, as in Docker. Tells its name, and whether it is new.
    ///
    /// # Errors
    /// [`Error::BadName`], and when the store cannot be written.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        record: &VolumeRecord,
    ) -> Result<(String, bool), Error> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                let bytes: [u8; 32] = random()?;
                bytes.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        };
        check(&name)?;
        let path = self.path("volumes").join(&name);
        let temp = self.workspace()?;
        let whole = temp.path().join("volume");
        self.make_data(&whole)?;
        let json = serde_json::to_vec(record).map_err(|source| Error::Document {
            what: name.clone(),
            kind: "volume record",
            source,
        })?;
        self.write_atomically(&whole.join(RECORD), &json)?;
        match renameat_with(CWD, &whole, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok((name, true)),
            Err(Errno::EXIST) => Ok((name, false)),
            Err(error) => Err(self.io("create", &path, error.into())),
        }
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let names = self.list(&self.path("volumes"))?;
        let names = names.iter().filter_map(|path| path.file_name()?.to_str());
        // A damaged one must not hide the others.
        let volumes = names.filter_map(|name| self.find_volume(name).ok().flatten());
        Ok(volumes.collect())
    }

    /// A volume, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find_volume(&self, name: &str) -> Result<Option<Volume>, Error> {
        if !name::is_valid(name) {
            return Ok(None);
        }
        let directory = self.path("volumes").join(name);
        let data = directory.join(DATA);
        let Ok(metadata) = directory.symlink_metadata() else {
            return Ok(None);
        };
        if !data.is_dir() {
            return Ok(None);
        }
        let path = directory.join(RECORD);
        let (record, created) = match regular::read(&path) {
            Ok(bytes) => {
                let record: VolumeRecord =
                    parse(&path.display().to_string(), "volume record", &bytes)?;
                let written = path.symlink_metadata().and_then(|file| file.modified());
                (record, written)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Nothing but its files is ever put there.
                (VolumeRecord::default(), metadata.modified())
            }
            Err(error) => return Err(self.io(READ, &path, error)),
        };
        Ok(Some(Volume {
            name: name.to_owned(),
            data,
            created: created.unwrap_or(SystemTime::UNIX_EPOCH),
            labels: record.labels,
        }))
    }

    /// Takes a volume out of its place, to be removed: nobody finds it there any more. `None`, and nothing
    /// is done, if `is_used` says that a container has it. Meanwhile no container gets a name, so that none
    /// comes to need it unseen; `is_used` must not write the store.
    ///
    /// # Errors
    /// When the store cannot be written, and those of `is_used`.
    pub fn take_volume<E: From<Error>>(
        &self,
        volume: &Volume,
        is_used: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Option<Workspace>, E> {
        let grave = self.workspace()?;
        let aside = grave.path().join("volume");
        let directory = volume.directory();
        let _lock = self.lock()?;
        if is_used()? {
            return Ok(None);
        }
        match renameat_with(CWD, directory, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => Ok(Some(grave)),
            Err(error) => Err(self.io("remove", directory, error.into()).into()),
        }
    }
}

fn check(name: &str) -> Result<(), Error> {
    match name::is_valid(name) {
        true => Ok(()),
        false => Err(Error::BadName {
            kind: "volume",
            name: name.to_owned(),
        }),
    }
}
