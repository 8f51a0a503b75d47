//! Images that stages start from, and that files are copied from.

use std::sync::Arc;

use smidge_dockerfile::plan::BaseConfig;
use smidge_image::{LayerKind, Platform, Reference, RunConfig};
use smidge_store::Image;

use crate::build::draft::{Base, Below};
use crate::build::layer::RootFs;
use crate::build::request::BuildRequest;
use crate::container::PullPolicy;
use crate::registry::PullRequest;
use crate::{Engine, Progress, Result};

/// The images that a build has looked up. One that was looked up stays the same while it lasts.
pub(super) struct Bases {
    images: Vec<(String, Platform, Image)>,
    policy: PullPolicy,
    request: PullRequest,
}

impl Bases {
    pub(super) fn new(request: &BuildRequest) -> Self {
        Self {
            images: Vec::new(),
            policy: match request.dockerfile.pull {
                true => PullPolicy::Always,
                false => PullPolicy::Missing,
            },
            request: PullRequest {
                connection: request.dockerfile.connection.clone(),
                ..PullRequest::default()
            },
        }
    }

    /// What the plan has to know of an image, which is fetched if it is not here.
    pub(super) fn provide(
        &mut self,
        engine: &Engine,
        wanted: (&str, &Platform),
        progress: &dyn Progress,
    ) -> Result<BaseConfig> {
        let image = self.image(engine, wanted, progress)?;
        Ok(planned(&image.config.config))
    }

    /// An image, which is fetched if it is not here.
    pub(super) fn image(
        &mut self,
        engine: &Engine,
        (name, platform): (&str, &Platform),
        progress: &dyn Progress,
    ) -> Result<Image> {
        if let Some(image) = self.known(name, platform) {
            return Ok(image.clone());
        }
        let wanted = unmistakable(name);
        if engine.needs_pull(&wanted, self.policy, Some(platform)) {
            let request = PullRequest {
                name: wanted.clone(),
                platform: Some(platform.clone()),
                ..self.request.clone()
            };
            engine.pull(&request, progress)?;
        }
        let image = engine.store.image_for(&wanted, Some(platform))?;
        self.images
            .push((name.to_owned(), platform.clone(), image.clone()));
        Ok(image)
    }

    /// An image that was looked up before.
    pub(super) fn known(&self, name: &str, platform: &Platform) -> Option<&Image> {
        let known = |(known, of, _): &&(String, Platform, Image)| known == name && of == platform;
        self.images.iter().find(known).map(|(.., image)| image)
    }
}

/// A name as the store is to take it. Elsewhere the first letters of an id stand for an image; in a
/// Dockerfile, what `FROM b` means must not depend on the ids of what else is here. An id has to be as
/// long as `smidge images` shows it.
fn unmistakable(name: &str) -> String {
    const SHOWN: usize = 12;
    let is_short = name.len() < SHOWN && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.parse::<Reference>() {
        Ok(reference) if is_short => reference.to_string(),
        _ => name.to_owned(),
    }
}

/// What the plan has to know of an image that is here.
pub(super) fn stored(engine: &Engine, name: &str, platform: &Platform) -> Result<BaseConfig> {
    let image = engine
        .store
        .image_for(&unmistakable(name), Some(platform))?;
    Ok(planned(&image.config.config))
}

/// What an image brings to those that start from it.
pub(super) fn base(image: &Image) -> Base {
    let layers = image.manifest.layers.iter().map(|layer| {
        let mut layer = layer.clone();
        // The bytes are the same by OCI's name and by Docker's.
        if layer.urls().is_empty()
            && let Some(kind) = LayerKind::of(&layer.media_type)
        {
            layer.media_type = kind.media_type().to_owned();
        }
        layer
    });
    Base {
        config: image.config.clone(),
        layers: layers
            .zip(image.config.rootfs.diff_ids.iter().copied())
            .collect(),
    }
}

/// The files of an image.
pub(super) fn files(image: &Image, engine: &Engine) -> Result<Arc<RootFs>> {
    let below = Below::unpack(base(image).layers, 0, &engine.store)?;
    Ok(Arc::new(below.rootfs()))
}

fn planned(config: &RunConfig) -> BaseConfig {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    BaseConfig {
        env: config.env.iter().map(pair).collect(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        shell: config.shell.clone().unwrap_or_default(),
        on_build: config.on_build.clone().unwrap_or_default(),
    }
}
