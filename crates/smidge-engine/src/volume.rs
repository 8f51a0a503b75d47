//! The verbs on volumes.

use std::collections::BTreeMap;

use serde::Serialize;
use smidge_store::{Volume, VolumeRecord};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::container::{Known, Outline, env};
use crate::event::Event;
use crate::image::{Filter, Filters, is_found};
use crate::{Engine, Error, Kind, Result, Swept};

/// A volume in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRow {
    /// The volume.
    pub volume: Volume,
    /// The ids of the containers that have it.
    pub users: Vec<String>,
}

/// Docker's `VolumeInspect`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeInspect {
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// What keeps it: `local`.
    pub driver: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its files are.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// What its driver was told: nothing.
    pub options: BTreeMap<String, String>,
    /// Where it can be used: `local`.
    pub scope: &'static str,
}

/// Which volumes `volume prune` removes, of those that no container has.
#[derive(Clone, Debug, Default)]
pub struct VolumePruneRequest {
    /// Those with a name, too.
    pub all: bool,
    /// Conditions: `label`, `label!`, `all`.
    pub filters: Vec<Filter>,
}

/// What Docker labels volumes with that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

impl From<&Volume> for VolumeInspect {
    fn from(volume: &Volume) -> Self {
        Self {
            created_at: OffsetDateTime::from(volume.created)
                .replace_nanosecond(0)
                .unwrap_or(OffsetDateTime::UNIX_EPOCH)
                .format(&Rfc3339)
                .unwrap_or_default(),
            driver: "local",
            labels: labels(volume),
            mountpoint: volume.data.display().to_string(),
            name: volume.name.clone(),
            options: BTreeMap::new(),
            scope: "local",
        }
    }
}

/// A volume's labels, with the one that Docker gives those without a name.
pub fn labels(volume: &Volume) -> BTreeMap<String, String> {
    let mut labels = volume.labels.clone();
    if volume.is_anonymous() {
        labels.entry(ANONYMOUS.to_owned()).or_default();
    }
    labels
}

impl Engine {
    /// Makes a volume; one of that name that is there already stays as it is. Tells its name.
    ///
    /// # Errors
    /// When the name or a label is none, when the store cannot be written.
    pub fn create_volume(&self, name: Option<&str>, labels: &[String]) -> Result<String> {
        let record = VolumeRecord {
            labels: env::labels(labels)?.into_iter().collect(),
        };
        let (name, is_new) = self.store.create_volume(name, &record)?;
        if is_new {
            self.note_volume("create", &name);
        }
        Ok(name)
    }

    /// Lists volumes, by name.
    ///
    /// # Errors
    /// When a filter cannot be understood, when the store cannot be read.
    pub fn volumes(&self, filters: &[Filter]) -> Result<Vec<VolumeRow>> {
        self.volumes_of(&self.outlines()?, filters)
    }

    /// The same; `containers` are all that there are.
    pub(crate) fn volumes_of(
        &self,
        containers: &[Known<Outline>],
        filters: &[Filter],
    ) -> Result<Vec<VolumeRow>> {
        let filters = Filters::new(filters, &["dangling", "driver", "label", "name"])?;
        let dangling = filters.truth("dangling")?;
        let rows = self.store.volumes()?.into_iter().map(|volume| VolumeRow {
            users: users(containers, &volume.name),
            volume,
        });
        Ok(rows
            .filter(|row| {
                dangling.is_none_or(|wanted| wanted == row.users.is_empty())
                    && filters.any("driver", |driver| driver == "local")
                    && filters.any("name", |name| is_found(name, &row.volume.name))
                    && filters.labels(&labels(&row.volume))
            })
            .collect())
    }

    /// Everything about a volume.
    ///
    /// # Errors
    /// When there is none of that name, when it cannot be read.
    pub fn inspect_volume(&self, name: &str) -> Result<VolumeInspect> {
        Ok(VolumeInspect::from(&self.find_volume(name)?))
    }

    /// Removes a volume that no container has.
    ///
    /// # Errors
    /// When there is none of that name, when a container has it, when a file cannot be removed.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let volume = self.find_volume(name)?;
        let containers = self.outlines()?;
        match users(&containers, name).is_empty() && self.discard_volume(&volume)? {
            true => Ok(()),
            false => Err(self.in_use(name)?),
        }
    }

    /// Removes the volumes that no container has.
    ///
    /// # Errors
    /// When a filter cannot be understood, when the volumes or the containers cannot be listed.
    pub fn prune_volumes(&self, request: &VolumePruneRequest) -> Result<Swept> {
        let filters = Filters::new(&request.filters, &["label", "label!", "all"])?;
        let all = request.all || filters.truth("all")? == Some(true);
        let containers = self.outlines()?;
        let mut swept = Swept::default();
        for volume in self.store.volumes()? {
            let labels = labels(&volume);
            if (!all && !volume.is_anonymous())
                || !filters.labels(&labels)
                || !users(&containers, &volume.name).is_empty()
            {
                continue;
            }
            let size = volume.size();
            let removed = self.discard_volume(&volume);
            swept.note(volume.name, removed.map(|is_gone| is_gone.then_some(size)));
        }
        self.note_prune("volume", swept.bytes);
        Ok(swept)
    }

    fn find_volume(&self, name: &str) -> Result<Volume> {
        self.store.find_volume(name)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("get {name}: no such volume"))
                .with_hint("what there is: `smidge volume ls`")
        })
    }

    fn in_use(&self, name: &str) -> Result<Error> {
        let users = users(&self.outlines()?, name).join(", ");
        let fault = format!("cannot remove volume `{name}`: it is in use");
        Ok(Error::new(Kind::Conflict, fault)
            .with_fact(format!("used by: {users}"))
            .with_hint(format!(
                "see these containers: `smidge ps -a --filter volume={name}`"
            )))
    }

    /// Removes a volume; false if a container has come to have it.
    fn discard_volume(&self, volume: &Volume) -> Result<bool> {
        let is_used = || -> Result<bool> { Ok(!users(&self.outlines()?, &volume.name).is_empty()) };
        let Some(grave) = self.store.take_volume(volume, is_used)? else {
            return Ok(false);
        };
        // Its files may belong to ids that only a user namespace like a container's reaches.
        let map = smidge_run::IdMap::for_host(&smidge_run::User::default())?;
        smidge_run::remove_tree(&map, &grave.path().join("volume"))?;
        self.note_volume("destroy", &volume.name);
        Ok(true)
    }

    /// Writes down that something happens to a volume.
    pub(crate) fn note_volume(&self, action: &str, name: &str) {
        self.note(&Event::now("volume", action, name).with("driver", "local"));
    }
}

/// The ids of the containers that have a volume.
fn users(containers: &[Known<Outline>], name: &str) -> Vec<String> {
    let has = |known: &&Known<Outline>| known.record.mounts.iter().any(|mount| mount.name == name);
    containers
        .iter()
        .filter(has)
        .map(|known| known.container.id.clone())
        .collect()
}
