//! Images come into a store, from wherever they are.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use smidge_image::{Digest, Reference};
use smidge_store::Image;

use super::{CopyRequest, Location, containerd, daemon};
use crate::registry::PullRequest;
use crate::{Engine, Error, Kind, Progress, Result};

/// Takes in what a request names, and tells what the store calls it.
pub(super) fn bring(
    engine: &Engine,
    request: &CopyRequest,
    progress: &dyn Progress,
) -> Result<String> {
    match &request.source {
        Location::Store(name) => Ok(name.clone()),
        Location::Registry(name) => {
            let pull = PullRequest {
                name: name.to_string(),
                platform: request.platform.clone(),
                all_platforms: request.all,
                packed: true,
                connection: request.connection.clone(),
                ..PullRequest::default()
            };
            engine.pull(&pull, progress)?;
            Ok(name.to_string())
        }
        Location::Oci(path, name) => {
            let images = engine.store.load_oci_layout(&engine.host.absolute(path))?;
            chosen(images, name.as_deref(), path)
        }
        Location::OciArchive(path, name) | Location::DockerArchive(path, name) => {
            let file = File::open(engine.host.absolute(path));
            let file =
                file.map_err(|e| Error::io(format!("cannot read `{}`", path.display()), e))?;
            let images = engine.store.load(&mut BufReader::new(file))?;
            chosen(images, name.as_deref(), path)
        }
        Location::DockerDaemon(name) => {
            daemon::bring(engine, name)?;
            Ok(name.to_string())
        }
        Location::Containerd(name) => {
            containerd::bring(engine, request, name)?;
            Ok(name.to_string())
        }
    }
}

/// The image that is meant, of all that a file holds.
fn chosen(images: Vec<Image>, name: Option<&str>, path: &Path) -> Result<String> {
    let key = |image: &Image| match image.names.first() {
        Some(name) => name.to_string(),
        None => image.digest.to_string(),
    };
    let held: Vec<String> = images
        .iter()
        .flat_map(|image| match image.names.is_empty() {
            true => vec![image.digest.to_string()],
            false => image.names.iter().map(Reference::familiar).collect(),
        })
        .collect();
    let path = path.display();
    match (name, &images[..]) {
        (None, [only]) => Ok(key(only)),
        (None, _) => {
            let message = format!("`{path}` holds {} images: say which", images.len());
            let error = Error::new(Kind::Input, message);
            Err(error.with_fact(format!("there are: {}", held.join(", "))))
        }
        (Some(name), images) => {
            let wanted = name.parse::<Reference>().ok();
            let digest = name.trim_start_matches('@').parse::<Digest>().ok();
            let is_meant = |image: &&Image| {
                wanted
                    .as_ref()
                    .is_some_and(|name| image.names.contains(name))
                    || digest.is_some_and(|d| d == image.digest || d == image.id)
            };
            match (images.iter().find(is_meant), wanted) {
                (Some(_), Some(name)) => Ok(name.to_string()),
                (Some(image), None) => Ok(image.digest.to_string()),
                (None, _) => {
                    let message = format!("`{path}` does not hold `{name}`");
                    let error = Error::new(Kind::NotFound, message);
                    Err(error.with_fact(format!("there is: {}", held.join(", "))))
                }
            }
        }
    }
}
