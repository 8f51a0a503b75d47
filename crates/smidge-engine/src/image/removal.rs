//! `rmi`, `tag` and `prune`.

use smidge_image::{Digest, Platform, Reference};
use smidge_store::{Removed, Use};

use super::CachePruneRequest;
use crate::container::Known;
use crate::{Engine, Error, Kind, Result};

/// What `prune` removes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneRequest {
    /// Stopped containers.
    pub containers: bool,
    /// Images that no container was made from, whether they have a name or not.
    pub all: bool,
    /// What builds have left that is part of no image; with `all`, what is part of one, too.
    pub build_cache: bool,
}

/// What `prune` removed.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names of images.
    pub untagged: Vec<Reference>,
    /// Ids of images.
    pub deleted: Vec<Digest>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
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
        let image = self.store.image(source)?;
        Ok(self.store.tag(&image, &name)?)
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
        let containers = self.all_containers()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let outcomes = self
            .store
            .remove_all(&names, force, &|id| in_use(&containers, id))?;
        let outcomes = outcomes.into_iter().map(|outcome| Ok(outcome?));
        Ok(outcomes.collect())
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
    pub fn prune(&self, request: PruneRequest) -> Result<PruneReport> {
        let before = self.store.usage();
        let containers = match request.containers {
            true => self.prune_containers()?,
            false => Vec::new(),
        };
        let freed = before
            .containers
            .saturating_sub(self.store.usage().containers);
        let known = self.all_containers()?;
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
        let pruned = self.store.prune(request.all, &|id| in_use(&known, id))?;
        for leftover in &pruned.left {
            // They belong to ids that only a user namespace like the container's reaches.
            let map = smidge_run::IdMap::for_host(&smidge_run::User::default())?;
            smidge_run::remove_tree(&map, leftover)?;
        }
        Ok(PruneReport {
            containers,
            untagged: pruned.untagged,
            deleted: pruned.deleted,
            bytes: pruned.bytes + freed + cached,
        })
    }
}

/// A container that was made from an image, a running one if there is any.
fn in_use(containers: &[Known], id: &Digest) -> Option<Use> {
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
