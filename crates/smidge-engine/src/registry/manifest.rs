//! `manifest create`, `annotate`, `push`, …: indexes made by hand.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use smidge_image::{
    Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use smidge_registry::{Client, Document};
use smidge_store::{Completeness, Error as StoreError, Variant};

use super::attempt::Verb;
use super::parallel::Alone;
use super::remote::Remote;
use super::{Connection, PullRequest, PushRequest, Pushed, parse_name};
use crate::{Engine, Error, Kind, Progress, Result};

/// An index to make.
#[derive(Clone, Debug, Default)]
pub struct ManifestCreate {
    /// Its name.
    pub name: String,
    /// The images it is to hold: names in the store, or else in a registry.
    pub images: Vec<String>,
    /// `--amend`: add to an index that exists.
    pub amend: bool,
    /// How to talk to registries.
    pub connection: Connection,
}

/// What to say about an image in an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// `--os`.
    pub os: Option<String>,
    /// `--arch`.
    pub architecture: Option<String>,
    /// `--variant`.
    pub variant: Option<String>,
    /// `--os-version`.
    pub os_version: Option<String>,
    /// `--os-features`.
    pub os_features: Vec<String>,
    /// `--annotation KEY=VALUE`.
    pub annotations: Vec<(String, String)>,
    /// How to talk to registries, to find what the image's name stands for.
    pub connection: Connection,
}

/// A document of an image with those that it leads to.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The name, complete.
    pub name: Reference,
    /// The manifest or index as it came.
    pub document: Document,
    /// Of an index its manifests, else the manifest itself: descriptor and document.
    pub manifests: Vec<Document>,
}

/// An index that was sent.
#[derive(Clone, Debug)]
pub struct ManifestPushed {
    /// The index.
    pub index: Pushed,
    /// The manifests that it lists, as the registry has them.
    pub manifests: Vec<Digest>,
}

impl Engine {
    /// Makes an index of images, and keeps it in the store under its name. Images that are in a
    /// registry alone stay there until the index is pushed elsewhere.
    ///
    /// # Errors
    /// When there is one already (unless it is to be amended), when an image is nowhere to be found.
    pub fn manifest_create(
        &self,
        request: &ManifestCreate,
        _progress: &dyn Progress,
    ) -> Result<Descriptor> {
        let name = parse_name(&request.name)?;
        let mut index = match self.stored_index(&name) {
            Ok(index) if request.amend => index,
            Ok(_) => {
                let message = format!("there is an index `{}` already", name.familiar());
                return Err(Error::new(Kind::Conflict, message).with_hint(format!(
                    "add to it: `smidge manifest create --amend {} IMAGE…`",
                    name.familiar()
                )));
            }
            Err(error) if error.kind() == Kind::NotFound => Index::new(Vec::new()),
            Err(error) => return Err(error),
        };
        for image in &request.images {
            for entry in self.entries(image, &request.connection)? {
                index.manifests.retain(|old| old.digest != entry.digest);
                index.manifests.push(entry);
            }
        }
        self.keep_index(&index, &name)
    }

    /// Changes what an index says about one of its images.
    ///
    /// # Errors
    /// When there is no such index, or the image is not in it.
    pub fn manifest_annotate(
        &self,
        index: &str,
        image: &str,
        annotation: &Annotation,
    ) -> Result<()> {
        let name = parse_name(index)?;
        let mut index = self.stored_index(&name)?;
        let digests = self.digests_of(image, &annotation.connection)?;
        let mut entries = index.manifests.iter_mut();
        let Some(entry) = entries.find(|entry| digests.contains(&entry.digest)) else {
            let message = format!("`{image}` is not in the index `{}`", name.familiar());
            let list = index.manifests.iter().map(described);
            return Err(list.fold(Error::new(Kind::NotFound, message), Error::with_fact));
        };
        annotate(entry, annotation);
        self.keep_index(&index, &name).map(drop)
    }

    /// Takes images out of an index.
    ///
    /// # Errors
    /// As [`Engine::manifest_annotate`].
    pub fn manifest_remove(&self, index: &str, images: &[Digest]) -> Result<()> {
        let name = parse_name(index)?;
        let mut index = self.stored_index(&name)?;
        for digest in images {
            let before = index.manifests.len();
            index.manifests.retain(|entry| entry.digest != *digest);
            if index.manifests.len() == before {
                let message = format!("`{digest}` is not in the index `{}`", name.familiar());
                return Err(Error::new(Kind::NotFound, message));
            }
        }
        self.keep_index(&index, &name).map(drop)
    }

    /// Removes an index; its images stay, under their own names.
    ///
    /// # Errors
    /// When there is no such index, when a container was made from it.
    pub fn manifest_forget(&self, index: &str) -> Result<()> {
        let name = parse_name(index)?;
        self.stored_index(&name)?;
        self.remove_image(&name.to_string(), false).map(drop)
    }

    /// An index of the store, or else what a registry has under the name.
    ///
    /// # Errors
    /// When there is none, when the registry refuses or cannot be reached.
    pub fn manifest_inspect(
        &self,
        name: &str,
        verbose: bool,
        connection: &Connection,
    ) -> Result<Inspected> {
        let _alone = Alone::from_here();
        let name = parse_name(name)?;
        let client = self.client(connection)?;
        let remote = || Remote::new(self, &client, (&name, Verb::Look));
        let document = match self.store.document(&name.to_string()) {
            Ok((descriptor, bytes)) if descriptor.is_index() => Document { descriptor, bytes },
            _ => remote()?.document()?,
        };
        let mut manifests = Vec::new();
        if verbose && document.descriptor.is_index() {
            let index: Index = parse_index(&document.bytes, &name)?;
            for entry in index.manifests {
                let bytes = match self.store.document_by_digest(&entry.digest) {
                    Ok((_, bytes)) => bytes,
                    Err(_) => self.remote_bytes(&client, &entry.digest, &name)?,
                };
                let descriptor = entry;
                manifests.push(Document { descriptor, bytes });
            }
        } else if verbose {
            manifests.push(document.clone());
        }
        Ok(Inspected {
            name,
            document,
            manifests,
        })
    }

    /// Sends an index with all its images. Those that the store lacks are fetched from where they
    /// were found, unless the registry has them there already.
    ///
    /// # Errors
    /// When there is no such index, when an image of it cannot be had, and as [`Engine::push`].
    pub fn manifest_push(
        &self,
        request: &PushRequest,
        progress: &dyn Progress,
    ) -> Result<ManifestPushed> {
        let name = parse_name(&request.name)?;
        self.stored_index(&name)?;
        self.complete(&name, request, progress)?;
        let pushed = self.push(request, progress)?.pop();
        let index = pushed.ok_or_else(|| Error::new(Kind::Bug, "nothing was sent"))?;
        let sent = self
            .store
            .transfer_index(&name.to_string(), request.compression)?;
        let manifests: Index = match sent {
            Some(sent) => parse_index(&sent.index, &name)?,
            None => Index::new(Vec::new()),
        };
        Ok(ManifestPushed {
            index,
            manifests: manifests.manifests.iter().map(|e| e.digest).collect(),
        })
    }

    /// Fetches the images of an index that neither the store nor the registry has.
    fn complete(
        &self,
        name: &Reference,
        request: &PushRequest,
        progress: &dyn Progress,
    ) -> Result<()> {
        let variants = self.store.variants(&name.to_string())?;
        let missing: Vec<Variant> = variants.into_iter().filter(|v| !v.stored).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let absent = {
            let _alone = Alone::from_here();
            let client = self.client(&request.connection)?;
            let remote = Remote::new(self, &client, (name, Verb::Push))?;
            let mut absent = Vec::new();
            for variant in missing {
                let digest = variant.descriptor.digest;
                let head = remote.repository.head(&digest.to_string());
                if head
                    .map_err(|fault| remote.attempt.failed(fault))?
                    .is_none()
                {
                    absent.push(variant.descriptor);
                }
            }
            absent
        };
        for entry in absent {
            let Some(origin) = self.origin(&entry.digest) else {
                let message = format!(
                    "cannot push `{}`: an image of it is not stored",
                    name.familiar()
                );
                return Err(Error::new(Kind::NotFound, message)
                    .with_fact(described(&entry))
                    .with_hint("fetch it by its digest: `smidge pull NAME@sha256:…`"));
            };
            let pull = PullRequest {
                name: origin.with_digest(entry.digest).to_string(),
                platform: entry.platform.clone(),
                connection: request.connection.clone(),
                ..PullRequest::default()
            };
            self.pull(&pull, progress)?;
        }
        Ok(())
    }

    /// What an image brings into an index: itself, or everything that an index of its name lists.
    fn entries(&self, image: &str, connection: &Connection) -> Result<Vec<Descriptor>> {
        match self.store.document(image) {
            Ok((descriptor, bytes)) if descriptor.is_index() => {
                let index: Index = parse_index(&bytes, &parse_name(image)?)?;
                return Ok(index.manifests);
            }
            Ok((descriptor, _)) => {
                let config = self.store.image(image)?.config;
                return Ok(vec![of_platform(descriptor, &config)]);
            }
            Err(StoreError::NoSuchImage(_) | StoreError::Reference { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let _alone = Alone::from_here();
        let name = parse_name(image)?;
        let client = self.client(connection)?;
        let remote = Remote::new(self, &client, (&name, Verb::Look))?;
        let document = remote.document()?;
        let entries = if document.descriptor.is_index() {
            remote.read::<Index>("index", &document.bytes)?.manifests
        } else {
            let manifest: Manifest = remote.read("manifest", &document.bytes)?;
            let config: ImageConfig = remote.read("config", &remote.config(&manifest)?)?;
            vec![of_platform(document.descriptor, &config)]
        };
        for entry in &entries {
            self.remember_origin(&entry.digest, &name)?;
        }
        Ok(entries)
    }

    /// What a name or digest may be called in an index.
    fn digests_of(&self, image: &str, connection: &Connection) -> Result<Vec<Digest>> {
        if let Ok(digest) = image.parse::<Digest>() {
            return Ok(vec![digest]);
        }
        if let Some(digest) = parse_name(image)?.digest() {
            return Ok(vec![digest]);
        }
        let entries = self.entries(image, connection)?;
        Ok(entries.iter().map(|entry| entry.digest).collect())
    }

    fn stored_index(&self, name: &Reference) -> Result<Index> {
        let shown = name.familiar();
        match self.store.document(&name.to_string()) {
            Ok((descriptor, bytes)) if descriptor.is_index() => parse_index(&bytes, name),
            Ok(_) => {
                let message = format!("`{shown}` is an image, not an index");
                Err(Error::new(Kind::Conflict, message)
                    .with_hint(format!("give the image another name: `smidge tag {shown} NAME`, then `smidge rmi {shown}`")))
            }
            Err(StoreError::NoSuchImage(_)) => {
                let message = format!("there is no index `{shown}`");
                Err(Error::new(Kind::NotFound, message)
                    .with_hint(format!("make it: `smidge manifest create {shown} IMAGE…`")))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keep_index(&self, index: &Index, name: &Reference) -> Result<Descriptor> {
        let names = std::slice::from_ref(name);
        let kind = index.media_type.as_deref().unwrap_or(media_type::INDEX);
        Ok(self
            .store
            .add_document(&index.to_bytes(), kind, names, Completeness::Partial)?)
    }

    fn remote_bytes(&self, client: &Client, digest: &Digest, name: &Reference) -> Result<Vec<u8>> {
        let origin = self.origin(digest).unwrap_or_else(|| name.clone());
        let remote = Remote::new(self, client, (&origin, Verb::Look))?;
        Ok(remote.document_of(&digest.to_string())?.bytes)
    }

    /// The file that says in which repository a document was seen: what is not stored is fetched from
    /// there when it has to be.
    fn origin_path(&self, digest: &Digest) -> PathBuf {
        self.store.root().join("cache/origin").join(digest.hex())
    }

    fn origin(&self, digest: &Digest) -> Option<Reference> {
        fs::read_to_string(self.origin_path(digest))
            .ok()?
            .parse()
            .ok()
    }

    fn remember_origin(&self, digest: &Digest, name: &Reference) -> Result<()> {
        let path = self.origin_path(digest);
        let failed = |source| Error::io(format!("cannot write `{}`", path.display()), source);
        let directory = self.store.root().join("cache/origin");
        fs::create_dir_all(directory).map_err(failed)?;
        fs::write(&path, name.with_digest(*digest).to_string()).map_err(failed)
    }
}

fn parse_index(bytes: &[u8], name: &Reference) -> Result<Index> {
    serde_json::from_slice(bytes).map_err(|source| {
        let message = format!("the index `{}` cannot be understood", name.familiar());
        Error::new(Kind::Input, message).caused_by(source)
    })
}

/// A manifest's entry in an index.
fn of_platform(manifest: Descriptor, config: &ImageConfig) -> Descriptor {
    Descriptor {
        platform: Some(config.platform().normalized()),
        annotations: std::collections::BTreeMap::new(),
        ..manifest
    }
}

/// An entry of an index, in a line.
fn described(entry: &Descriptor) -> String {
    let platform = entry.platform.as_ref().map(Platform::to_string);
    format!(
        "{}: {}",
        platform.unwrap_or_else(|| "no platform".to_owned()),
        entry.digest
    )
}

fn annotate(entry: &mut Descriptor, annotation: &Annotation) {
    let new = || Platform::linux("");
    let mut platform = entry.platform.take().unwrap_or_else(new);
    let set = |to: &mut String, from: &Option<String>| {
        if let Some(from) = from {
            to.clone_from(from);
        }
    };
    set(&mut platform.os, &annotation.os);
    set(&mut platform.architecture, &annotation.architecture);
    if annotation.variant.is_some() {
        platform.variant.clone_from(&annotation.variant);
    }
    if let Some(version) = &annotation.os_version {
        let version = Value::from(version.as_str());
        platform.extra.insert("os.version".to_owned(), version);
    }
    if !annotation.os_features.is_empty() {
        let features = Value::from(annotation.os_features.clone());
        platform.extra.insert("os.features".to_owned(), features);
    }
    entry.platform = Some(platform);
    entry
        .annotations
        .extend(annotation.annotations.iter().cloned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;
    use crate::image::tests::{engine, import};

    fn create(engine: &Engine, name: &str, images: &[&str], amend: bool) -> Result<Descriptor> {
        let request = ManifestCreate {
            name: name.to_owned(),
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            amend,
            ..ManifestCreate::default()
        };
        engine.manifest_create(&request, &Silent)
    }

    fn listed(engine: &Engine, name: &str) -> Vec<String> {
        let index = engine.stored_index(&name.parse().unwrap()).unwrap();
        let line = |entry: &Descriptor| {
            let name = entry.annotations.get("name").map_or("", String::as_str);
            let platform = entry.platform.as_ref().map(Platform::to_string).unwrap();
            format!("{} {platform} {name}", entry.digest.short())
        };
        index.manifests.iter().map(line).collect()
    }

    #[test]
    fn indexes_are_made_amended_and_annotated() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        for name in ["a", "b", "c"] {
            import(&engine, name, &[], &[("file", name)]);
        }
        let digest = |name: &str| engine.store.image(name).unwrap().digest;
        let [a, b, c] = ["a", "b", "c"].map(|name| digest(name).short());
        let here = Platform::linux(engine.host.architecture()).to_string();

        create(&engine, "list", &["a", "b"], false).unwrap();
        assert_eq!(
            listed(&engine, "list"),
            [format!("{a} {here} "), format!("{b} {here} ")]
        );
        let again = create(&engine, "list", &["c"], false).unwrap_err();
        assert_eq!(
            (again.kind(), again.message()),
            (Kind::Conflict, "there is an index `list:latest` already")
        );
        create(&engine, "list", &["c", "a"], true).unwrap();
        let order: Vec<_> = listed(&engine, "list")
            .iter()
            .map(|line| line[..12].to_owned())
            .collect();
        assert_eq!(order, [b.clone(), c, a.clone()]);

        let arm = Annotation {
            architecture: Some("arm".to_owned()),
            variant: Some("v7".to_owned()),
            os_version: Some("1".to_owned()),
            annotations: vec![("name".to_owned(), "value".to_owned())],
            ..Annotation::default()
        };
        engine.manifest_annotate("list", "b", &arm).unwrap();
        assert_eq!(
            listed(&engine, "list")[0],
            format!("{b} linux/arm/v7 value")
        );
        let riscv = Annotation {
            architecture: Some("riscv64".to_owned()),
            ..Annotation::default()
        };
        engine
            .manifest_annotate("list", &digest("a").to_string(), &riscv)
            .unwrap();
        assert_eq!(listed(&engine, "list")[2], format!("{a} linux/riscv64 "));
        let variant = Platform {
            variant: Some("v7".to_owned()),
            ..Platform::linux("arm")
        };
        let found = engine.store.image_for("list", Some(&variant)).unwrap();
        assert_eq!(found.digest, digest("b"));
    }

    #[test]
    fn images_are_taken_out_of_indexes_and_indexes_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        for name in ["a", "b", "c"] {
            import(&engine, name, &[], &[("file", name)]);
        }
        let digest = |name: &str| engine.store.image(name).unwrap().digest;
        let a = digest("a");
        create(&engine, "list", &["b", "c", "a"], false).unwrap();

        engine.manifest_remove("list", &[digest("c")]).unwrap();
        assert_eq!(listed(&engine, "list").len(), 2);
        let gone = engine.manifest_remove("list", &[digest("c")]).unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
        let nothing = Annotation::default();
        let absent = engine.manifest_annotate("list", "c", &nothing).unwrap_err();
        assert_eq!(absent.message(), "`c` is not in the index `list:latest`");
        assert_eq!(absent.facts().len(), 2);

        // An index of an index has what that has.
        create(&engine, "other", &["list", "c"], false).unwrap();
        assert_eq!(listed(&engine, "other").len(), 3);
        engine.manifest_forget("list").unwrap();
        let gone = engine.manifest_forget("list").unwrap_err();
        assert_eq!(
            (gone.kind(), gone.message()),
            (Kind::NotFound, "there is no index `list:latest`")
        );
        assert_eq!(digest("a"), a, "images stay");
        let image = create(&engine, "a", &["b"], false).unwrap_err();
        assert_eq!(image.message(), "`a:latest` is an image, not an index");
    }

    #[test]
    fn what_is_stored_is_shown_without_a_registry() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        import(&engine, "a", &[], &[("file", "a")]);
        create(&engine, "list", &["a"], false).unwrap();
        let shown = engine
            .manifest_inspect("list", true, &Connection::default())
            .unwrap();
        assert!(shown.document.descriptor.is_index());
        let [only] = &shown.manifests[..] else {
            panic!("{shown:?}")
        };
        assert_eq!(Digest::of(&only.bytes), only.descriptor.digest);
        assert!(only.descriptor.platform.is_some());
    }
}
