//! Images that stages start from, and that files are copied from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use smidge_dockerfile::plan::{BaseConfig, BaseImage};
use smidge_image::{LayerKind, Platform, Reference, RunConfig};
use smidge_store::{Choice, Error as StoreError, Image, Selection};

use super::named::NamedSource;
use crate::build::draft::{Base, Below};
use crate::build::layer::RootFs;
use crate::build::request::BuildRequest;
use crate::container::PullPolicy;
use crate::registry::PullRequest;
use crate::{Engine, Error, Host, Kind, Progress, Result};

/// The images that a build has looked up. One that was looked up stays the same while it lasts.
pub(super) struct Bases {
    images: Vec<(String, Platform, Image)>,
    /// What `--build-context` names.
    contexts: BTreeMap<String, NamedSource>,
    policy: PullPolicy,
    request: PullRequest,
}

impl Bases {
    pub(super) fn new(request: &BuildRequest, host: &Host) -> Result<Self> {
        Ok(Self {
            images: Vec::new(),
            contexts: NamedSource::all(&request.dockerfile.build_contexts, host)?,
            policy: match request.dockerfile.pull {
                true => PullPolicy::Always,
                false => PullPolicy::Missing,
            },
            request: PullRequest {
                connection: request.dockerfile.connection.clone(),
                ..PullRequest::default()
            },
        })
    }

    /// What the plan has to know of an image, which is fetched if it is not here. There is nothing to
    /// be known of files.
    pub(super) fn provide(
        &mut self,
        engine: &Engine,
        (wanted, platform): (&BaseImage, &Platform),
        progress: &dyn Progress,
    ) -> Result<Option<BaseConfig>> {
        let image = match wanted.context {
            true => self.context_image(engine, (&wanted.name, platform), progress)?,
            false => Some(self.image(engine, (&wanted.name, platform), progress)?),
        };
        Ok(image.map(|image| planned(&image.config.config)))
    }

    /// What a build context is.
    pub(super) fn context(&self, name: &str) -> Option<&NamedSource> {
        self.contexts.get(name)
    }

    /// The image that a build context stands for, which is fetched if it is not here; `None` if it
    /// stands for files.
    pub(super) fn context_image(
        &mut self,
        engine: &Engine,
        (name, platform): (&str, &Platform),
        progress: &dyn Progress,
    ) -> Result<Option<Image>> {
        match self.contexts.get(name).cloned() {
            None | Some(NamedSource::Files(_)) => Ok(None),
            Some(NamedSource::Image(image)) => {
                self.image(engine, (&image, platform), progress).map(Some)
            }
            Some(source @ NamedSource::Layout { .. }) => {
                let shown = source.to_string();
                if let Some(image) = self.known(&shown, platform) {
                    return Ok(Some(image.clone()));
                }
                let image = from_layout(engine, &source, platform)
                    .map_err(|error| error.with_fact(format!("build context `{name}`: {shown}")))?;
                self.images.push((shown, platform.clone(), image.clone()));
                Ok(Some(image))
            }
        }
    }

    /// The image that a build context stands for, if it was looked up before.
    pub(super) fn known_context(&self, name: &str, platform: &Platform) -> Option<&Image> {
        match self.contexts.get(name)? {
            NamedSource::Files(_) => None,
            NamedSource::Image(image) => self.known(image, platform),
            layout @ NamedSource::Layout { .. } => self.known(&layout.to_string(), platform),
        }
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

/// The image of a layout on disk. It does not become one of the store's. As in BuildKit, no tag means
/// the only image, or `latest`.
fn from_layout(engine: &Engine, source: &NamedSource, platform: &Platform) -> Result<Image> {
    let NamedSource::Layout { path, image } = source else {
        return Err(Error::new(Kind::Bug, "it is no layout"));
    };
    let directory = engine.host.absolute(Path::new(path));
    let borrow = |choice| {
        let selection = Selection {
            choice,
            platform: Some(platform),
        };
        engine.store.borrow_from_oci_layout(&directory, &selection)
    };
    let wanted = match image.as_str() {
        "" => Choice::Only,
        image => Choice::Named(image),
    };
    let (held, why) = match borrow(wanted) {
        Err(why @ (StoreError::NotHeld { .. } | StoreError::ManyHeld { .. })) => (held(&why), why),
        image => return Ok(image?),
    };
    let tag = if image.is_empty() { "latest" } else { image };
    // Some layouts name their images in full.
    let called = |name: &&String| **name == tag || name.ends_with(&format!(":{tag}"));
    let mut called = held.iter().filter(called);
    if let (Some(name), None) = (called.next(), called.next()) {
        return Ok(borrow(Choice::Named(name))?);
    }
    let error = Error::from(why);
    Err(
        match held.first().and_then(|name| name.rsplit(':').next()) {
            Some(tag) => error.with_hint(format!("it holds others: `oci-layout://{path}:{tag}`")),
            None => error,
        },
    )
}

/// The images that a layout holds.
fn held(error: &StoreError) -> Vec<String> {
    match error {
        StoreError::NotHeld { held, .. } | StoreError::ManyHeld { held } => held.clone(),
        _ => Vec::new(),
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
        id: image.id,
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
