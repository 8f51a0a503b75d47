//! Files with their owners, for an ordinary user whose containers have many ids: work that the root of such
//! a container's user namespace can do.

use std::path::{Path, PathBuf};

use smidge_run::{IdMap, Spec, View};
use smidge_store::{LayeredTree, Owned};

use super::seed::seed;
use super::visit::visit_as;
use crate::{Engine, Error, Kind, Result};

impl Engine {
    /// The layers as a container with this map is to see them: with one on top, made at first need, that
    /// gives files the owners that the image says.
    pub(super) fn with_owners(&self, layers: Vec<PathBuf>, map: &IdMap) -> Result<Vec<PathBuf>> {
        if self.host.uid == 0 || !matches!(map, IdMap::Ranges { .. }) {
            return Ok(layers);
        }
        let ids = serde_json::to_string(map).map_err(|source| {
            Error::new(Kind::Bug, "cannot write down a map of ids").caused_by(source)
        })?;
        let top = match self.store.owned_layer(&layers, &ids) {
            Owned::Missing(path) => {
                self.inside(map, || Ok(self.store.make_owned_layer(&layers, &path)?))?;
                self.store.owned_layer(&layers, &ids)
            }
            known => known,
        };
        Ok(match top {
            Owned::Layer(top) => [vec![top], layers].concat(),
            Owned::Needless | Owned::Missing(_) => layers,
        })
    }

    /// [`seed`]s a volume with the files of layers, and gives these their owners, as far as that can be.
    pub(super) fn seed_volume(
        &self,
        (tree, layers): (&LayeredTree, &[PathBuf]),
        (place, volume): (&str, &Path),
        map: &IdMap,
    ) -> Result<()> {
        if self.host.uid == 0 || !matches!(map, IdMap::Ranges { .. }) {
            return seed(tree, place, volume, self.host.uid == 0);
        }
        // One that cannot be looked into has been given away, and so filled, before.
        let is_empty = std::fs::read_dir(volume).is_ok_and(|mut files| files.next().is_none());
        if !is_empty {
            return Ok(());
        }
        self.inside(map, || {
            // No descriptor of the caller's is open any more.
            let tree = LayeredTree::open(layers)
                .map_err(|source| Error::io("cannot read the image's files", source))?;
            seed(&tree, place, volume, true)
        })
    }

    /// Does something as the root of a user namespace, with the rights over the files of all its ids.
    fn inside(&self, map: &IdMap, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let spec = Spec {
            id_map: map.clone(),
            ..Spec::default()
        };
        visit_as(&spec, View::Host, &[], act)?.finish()
    }
}
