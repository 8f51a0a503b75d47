//! Where in the image files go.

use smidge_image::{LayerPath, Node, NodeKind, Tree as _};

use super::{Copying, refused};
use crate::build::dockerfile::context::components;
use crate::{Error, Kind, Result};

impl Copying<'_> {
    /// The destination as a directory.
    pub(super) fn destination(&self) -> Result<LayerPath> {
        let place = self.resolve(&self.manner.destination)?;
        match self.view.resolve(place.as_bytes()).ok().flatten() {
            Some((
                real,
                Node {
                    kind: NodeKind::Directory,
                    ..
                },
            )) => Ok(real),
            Some(_) => Err(refused(
                &place,
                "it is a file, and a directory is to go there",
            )),
            None => Ok(place),
        }
    }

    /// Where a file of this name goes: into the destination if that is a directory, or is meant to
    /// be one; to the destination itself otherwise.
    pub(super) fn place_of(&self, name: &[u8]) -> Result<LayerPath> {
        let meant = self.manner.is_directory();
        let place = self.resolve(&self.manner.destination)?;
        let found = self.view.resolve(place.as_bytes()).ok().flatten();
        let directory = match found {
            Some((
                real,
                Node {
                    kind: NodeKind::Directory,
                    ..
                },
            )) => real,
            Some(_) if meant => return Err(refused(&place, "it is a file, not a directory")),
            None if meant => place,
            _ => return Ok(place),
        };
        directory
            .join(name)
            .map_err(|error| Error::of(Kind::Input, error))
    }

    /// A path in the image as text: `..` worked out, links followed, also one to nowhere.
    fn resolve(&self, text: &str) -> Result<LayerPath> {
        // As many as the kernel follows (path_resolution(7)).
        const LINKS: usize = 40;
        let mut text = text.to_owned();
        for _ in 0..LINKS {
            let path = LayerPath::parse(components(&text).join("/").as_bytes());
            let path = path.map_err(|error| Error::of(Kind::Input, error))?;
            let place = self.view.place(&path)?;
            let Ok(Some(Node {
                kind: NodeKind::Symlink { target },
                ..
            })) = self.view.node(&place)
            else {
                return Ok(place);
            };
            let target = String::from_utf8_lossy(&target);
            text = match place.parent() {
                Some(parent) if !target.starts_with('/') => format!("{parent}/{target}"),
                _ => target.into_owned(),
            };
        }
        let path = LayerPath::parse(components(&text).join("/").as_bytes());
        let path = path.map_err(|error| Error::of(Kind::Input, error))?;
        Err(refused(&path, "it is a link that leads round in a circle"))
    }
}
