//! Containers' records and names, and volumes.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Store};

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

impl Container {
    /// Reads the container's record.
    ///
    /// # Errors
    /// When it is gone, or is no `T`.
    pub fn record<T: DeserializeOwned>(&self) -> Result<T, Error> {
        unimplemented!()
    }

    /// Replaces the container's record.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn write_record<T: Serialize>(&self, _record: &T) -> Result<(), Error> {
        unimplemented!()
    }

    /// The file that holds the container's name; once it is gone, the name is free.
    pub fn name_path(&self) -> PathBuf {
        unimplemented!()
    }
}

impl Store {
    /// Makes a container: an id, a name (a random one if none is given), a directory, and the record
    /// that `record` makes of id and name.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::BadName`], and when the store cannot be written.
    pub fn create_container<T: Serialize>(
        &self,
        _name: Option<&str>,
        _record: &dyn Fn(&str, &str) -> T,
    ) -> Result<Container, Error> {
        unimplemented!()
    }

    /// All containers, in no particular order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        unimplemented!()
    }

    /// The container with a name, an id, or the beginning of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousContainer`], and when the store cannot be read.
    pub fn container(&self, _name: &str) -> Result<Container, Error> {
        unimplemented!()
    }

    /// Removes a container's name and directory. Whoever calls this has removed what belongs to ids of
    /// a user namespace.
    ///
    /// # Errors
    /// When the store cannot be written, and when something in the directory cannot be removed: the
    /// name is free then, and the directory is garbage.
    pub fn remove_container(&self, _container: &Container) -> Result<(), Error> {
        unimplemented!()
    }

    /// The directory of a named volume, made if it is missing.
    ///
    /// # Errors
    /// [`Error::BadName`], and when the store cannot be written.
    pub fn volume(&self, _name: &str) -> Result<PathBuf, Error> {
        unimplemented!()
    }
}
