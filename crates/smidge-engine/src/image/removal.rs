//! `rmi`, `tag` and `prune`.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::PathBuf;

use smidge_image::{Digest, Platform, Reference};
use smidge_store::{Removed, Use};

use super::CachePruneRequest;
use super::{Filter, Filters};
use crate::container::{Known, Outline, PRUNE_FILTERS, is_before};
use crate::event::Event;
use crate::volume::VolumePruneRequest;
use crate::{Engine, Error, Kind, Result, Swept};

/// What `prune` removes.
#[derive(Clone, Debug, Default)]
pub struct PruneRequest {
    /// Stopped containers, and networks that none is on.
    pub containers: bool,
    /// Images that no container was made from, whether they have a name or not.
    pub all: bool,
    /// What builds have left that is part of no image; with `all`, what is part of one, too.
    pub build_cache: bool,
    /// Volumes that nobody named and no container has.
    pub volumes: bool,
    /// Conditions for containers and images, and, but for `until`, for volumes: `until`, `label`, `label!`.
    pub filters: Vec<Filter>,
}

/// What `prune` removed.
#[derive(Debug, Default)]
pub struct PruneReport {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Names of images.
    pub untagged: Vec<Reference>,
    /// Ids of images.
    pub deleted: Vec<Digest>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// What has kept containers, networks and volumes from being removed.
    pub faults: Vec<Error>,
}

impl Engine {
    /// Gives an image one more name.
    ///
    /// # Errors
    /// When there is no such image, when the name is none, when the store cannot be written.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let name = reference(target)?;
        if name.digest().is_some() {
            let fault = format!("cannot tag as `{target}`: a tag must not have a digest");
            return Err(Error::new(Kind::Input, fault));
        }
        if name.familiar_name() == "sha256" {
            let fault = "refusing to create an ambiguous tag using digest algorithm as name";
            return Err(Error::new(Kind::Input, fault));
        }
        let image = self.store.image(source)?;
        self.store.tag(&image, &name)?;
        self.note_image("tag", &image.id.to_string(), &name.familiar());
        Ok(())
    }

    /// Removes an image's name, and the image with its last one.
    ///
    /// # Errors
    /// When there is no such image, when a container was made from it, when the store cannot be
    /// written.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Removed> {
        let outcome = self.remove_images(&[name.to_owned()], force)?.pop();
        outcome.unwrap_or_else(|| Ok(Removed::default()))
    }

    /// Does [`Engine::remove_image`] for each of several names, at once.
    ///
    /// # Errors
    /// When the store cannot be read or written. Anything else is told for each name.
    pub fn remove_images(&self, names: &[String], force: bool) -> Result<Vec<Result<Removed>>> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let users = Users::default();
        let (outcomes, left) = self
            .store
            .remove_all(&names, force, &|id| users.of(self, id))?;
        users.check()?;
        for removed in outcomes.iter().flatten() {
            self.note_removed(&removed.untagged, &removed.deleted);
        }
        remove_mapped(&left)?;
        let outcomes = outcomes.into_iter().map(|outcome| Ok(outcome?));
        Ok(outcomes.collect())
    }

    fn note_removed(&self, untagged: &[Reference], deleted: &[Digest]) {
        for name in untagged {
            self.note_image("untag", &name.familiar(), &name.familiar());
        }
        for id in deleted {
            self.note_image("delete", &id.to_string(), &id.to_string());
        }
    }

    /// Writes down that something happens to an image.
    pub(crate) fn note_image(&self, action: &str, id: &str, name: &str) {
        self.note(&Event::now("image", action, id).with("name", name));
    }

    /// Removes the image that a name has for one platform; the others keep the name.
    ///
    /// # Errors
    /// As [`Engine::remove_image`], and when there is none for the platform.
    pub fn remove_platform(&self, name: &str, platform: &Platform, force: bool) -> Result<Removed> {
        let image = self.store.image_for(name, Some(platform))?;
        self.remove_image(&image.id.to_string(), force)
    }

    /// Removes what nothing needs.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune(&self, request: &PruneRequest) -> Result<PruneReport> {
        let filters = Filters::new(&request.filters, &PRUNE_FILTERS)?;
        let until = self.until(&filters)?;
        let (mut containers, mut networks) = (Swept::default(), Swept::default());
        if request.containers {
            containers = self.prune_containers(&request.filters)?;
            networks = self.prune_networks(&request.filters)?;
        }
        let volumes = match request.volumes {
            true => self.prune_unnamed(&request.filters)?,
            false => Swept::default(),
        };
        let kept = self.kept(&filters, until)?;
        let users = Users::default();
        let cached = match request.build_cache {
            true => {
                let all = request.all;
                self.prune_build_cache(&CachePruneRequest {
                    all,
                    ..CachePruneRequest::default()
                })?
                .1
            }
            false => 0,
        };
        let pruned = self.store.prune(request.all, &|id| {
            let unmeant = || {
                kept.contains(id).then(|| Use {
                    container: String::new(),
                    running: false,
                })
            };
            users.of(self, id).or_else(unmeant)
        })?;
        users.check()?;
        remove_mapped(&pruned.left)?;
        self.note_removed(&pruned.untagged, &pruned.deleted);
        self.note_prune("image", pruned.bytes);
        let faults = [containers.faults, networks.faults, volumes.faults];
        Ok(PruneReport {
            faults: faults.into_iter().flatten().collect(),
            containers: containers.names,
            networks: networks.names,
            volumes: volumes.names,
            untagged: pruned.untagged,
            deleted: pruned.deleted,
            bytes: pruned.bytes + containers.bytes + volumes.bytes + cached,
        })
    }

    /// The images that the filters do not mean.
    fn kept(&self, filters: &Filters, until: Option<i64>) -> Result<HashSet<Digest>> {
        let images = self.store.all_images()?.into_iter();
        let kept = images.filter(|image| {
            let created = image.config.created.as_deref().unwrap_or_default();
            !filters.labels(&image.config.config.labels) || !is_before(created, until)
        });
        Ok(kept.map(|image| image.id).collect())
    }

    fn prune_unnamed(&self, filters: &[Filter]) -> Result<Swept> {
        let labels = filters.iter().filter(|filter| filter.key != "until");
        self.prune_volumes(&VolumePruneRequest {
            all: false,
            filters: labels.cloned().collect(),
        })
    }
}

/// Removes directories whose files belong to ids that only a user namespace like the containers' reaches.
fn remove_mapped(directories: &[PathBuf]) -> Result<()> {
    if directories.is_empty() {
        return Ok(());
    }
    let map = smidge_run::IdMap::for_host(&smidge_run::User::default())?;
    for directory in directories {
        smidge_run::remove_tree(&map, directory)?;
    }
    Ok(())
}

/// The containers, looked at when the first image is asked about: under the lock of the index, so that none
/// is missed that was made meanwhile.
#[derive(Default)]
struct Users(OnceCell<Result<Vec<Known<Outline>>>>);

impl Users {
    /// Who was made from an image. As long as that is not known, somebody was.
    fn of(&self, engine: &Engine, id: &Digest) -> Option<Use> {
        match self.0.get_or_init(|| engine.outlines()) {
            Ok(containers) => in_use(containers, id),
            Err(_) => Some(Use {
                container: String::new(),
                running: true,
            }),
        }
    }

    fn check(self) -> Result<()> {
        self.0.into_inner().map_or(Ok(()), |known| known.map(drop))
    }
}

/// A container that was made from an image, a running one if there is any.
fn in_use(containers: &[Known<Outline>], id: &Digest) -> Option<Use> {
    let uses = containers
        .iter()
        .filter(|known| known.record.image_id == *id);
    let known = uses.max_by_key(|known| known.state.status.is_active())?;
    Some(Use {
        container: known.container.name.clone(),
        running: known.state.status.is_active(),
    })
}

/// A name for an image.
pub(crate) fn reference(text: &str) -> Result<Reference> {
    text.parse()
        .map_err(|fault: smidge_image::ReferenceError| Error::new(Kind::Input, fault.to_string()))
}
