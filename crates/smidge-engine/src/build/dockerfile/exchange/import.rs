//! `--cache-from`: what others have made is found by its key, and fetched when it is wanted.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use smidge_image::{
    Descriptor, DiffId, Digest, HashingReader, LayerKind, Platform, annotation, decompress,
    media_type,
};
use smidge_store::{BlobWriter, CachedStep, Error as StoreError, TransferLayer};

use super::Exchange;
use super::document::{Document, Record};
use super::option::Source;
use super::origin::Origin;
use crate::progress::{Action, Task};
use crate::{Error, Kind, Result};

/// A build cache that was read: not its layers.
pub(super) struct Import<'e> {
    origin: Origin<'e>,
    shown: String,
    /// Layers as they travel.
    layers: HashMap<DiffId, Descriptor>,
    records: HashMap<Digest, Record>,
    mounts: BTreeMap<String, DiffId>,
    /// Whether it cannot be reached any more, so that no other step waits for it in vain.
    is_gone: AtomicBool,
}

impl<'e> Import<'e> {
    /// Reads the list of what is there.
    pub(super) fn open(
        exchange: &Exchange<'e>,
        source: &Source,
        platforms: &[Platform],
    ) -> Result<Self> {
        let mut import = Self {
            origin: Origin::open(exchange.engine, &source.place, exchange.connection)?,
            shown: source.place.to_string(),
            layers: HashMap::new(),
            records: HashMap::new(),
            mounts: BTreeMap::new(),
            is_gone: AtomicBool::new(false),
        };
        let documents = import.origin.documents(platforms)?;
        if documents.is_empty() {
            let why = import.message("it holds nothing for this platform");
            return Err(Error::new(Kind::NotFound, why));
        }
        for (manifest, config) in documents {
            let document = Document::read(&manifest, &config)
                .map_err(|why| Error::new(Kind::Input, import.message(&why)))?;
            let layers = manifest.layers.into_iter();
            let layers = layers.filter(|layer| LayerKind::of(&layer.media_type).is_some());
            let diff_ids = document.rootfs.diff_ids.into_iter();
            import.layers.extend(diff_ids.zip(layers));
            let records = document.list.records.into_iter();
            import
                .records
                .extend(records.map(|record| (record.key, record)));
            let mounts = document.list.mounts.into_iter();
            import
                .mounts
                .extend(mounts.map(|mount| (mount.id, mount.layer)));
        }
        Ok(import)
    }

    fn message(&self, why: &str) -> String {
        format!("cannot import the build cache `{}`: {why}", self.shown)
    }

    /// A layer as it travels, if it can be had.
    fn layer(&self, diff_id: &DiffId) -> Option<&Descriptor> {
        let is_there = !self.is_gone.load(Ordering::Relaxed);
        self.layers.get(diff_id).filter(|_| is_there)
    }

    /// Fetches a layer: `take` gets its bytes, which are verified when it has read them all.
    fn fetch(
        &self,
        layer: &Descriptor,
        take: impl FnOnce(&mut dyn Read) -> io::Result<()>,
    ) -> Result<()> {
        let open = || {
            let bytes = self.origin.layer(layer)?;
            let mut bytes = HashingReader::new(bytes.take(layer.size.saturating_add(1)));
            let taken = take(&mut bytes).and_then(|()| io::copy(&mut bytes, &mut io::sink()));
            taken.map_err(|error| match error.downcast::<StoreError>() {
                Ok(fault @ StoreError::Corrupt { .. }) => self.damaged(layer).caused_by(fault),
                Ok(fault) => fault.into(),
                Err(error) if is_damage(&error) => self.damaged(layer).caused_by(error),
                Err(error) => self.origin.broken(error),
            })?;
            let (_, digest, size) = bytes.finish();
            match (digest, size) == (layer.digest, layer.size) {
                true => Ok(()),
                false => Err(self.damaged(layer)),
            }
        };
        let fetched = open();
        if fetched
            .as_ref()
            .is_err_and(|error: &Error| !is_of_one(error))
        {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        fetched
    }

    fn damaged(&self, layer: &Descriptor) -> Error {
        let why = format!("its layer {} is damaged", layer.digest);
        Error::new(Kind::Input, self.message(&why))
    }
}

impl Exchange<'_> {
    /// What a step has made elsewhere, fetched and kept. What cannot be had is told, and made here.
    pub(in crate::build) fn bring(&self, key: &Digest) -> Option<CachedStep> {
        for import in &self.imports {
            let Some(record) = import.records.get(key) else {
                continue;
            };
            let _claim = self.claim(record.layer);
            // Whoever was waited for may have brought it.
            if let Some(known) = self.engine.store.cached_step(key) {
                return Some(known);
            }
            match self.take(import, record) {
                Ok(Some(step)) => return Some(step),
                Ok(None) => {}
                Err(error) => self.note(&error, "the step is carried out here"),
            }
        }
        None
    }

    fn take(&self, import: &Import<'_>, record: &Record) -> Result<Option<CachedStep>> {
        let Record { layer: diff_id, .. } = record;
        let store = &self.engine.store;
        let bare = Descriptor::new(media_type::LAYER, diff_id.0, record.size);
        if !store.has(&bare) {
            store.release(&diff_id.0);
            let Some(layer) = import.layer(diff_id) else {
                return Ok(None);
            };
            let kind = LayerKind::of(&layer.media_type).unwrap_or(LayerKind::Tar);
            let task = self
                .progress
                .blob(&layer.digest, Action::Pull, Some(layer.size));
            // As it came, it may go on.
            let mut spare = match self.targets.is_empty() {
                true => None,
                false => Some(self.passing()?.blob_writer()?),
            };
            import.fetch(layer, |bytes| {
                let mut writer = store.blob_writer().map_err(io::Error::other)?;
                let mut told = Told {
                    bytes,
                    task: &*task,
                    copy: spare.as_mut(),
                };
                // No more than there should be: it may be made to fill the disk.
                let bare_bytes = decompress(kind, &mut told)?;
                io::copy(
                    &mut bare_bytes.take(record.size.saturating_add(1)),
                    &mut writer,
                )?;
                io::copy(&mut told, &mut io::sink())?;
                writer.commit_as(&bare).map_err(io::Error::other)
            })?;
            if let Some(spare) = spare {
                spare.commit_as(layer)?;
            }
            task.finish();
        }
        let step = CachedStep {
            diff_id: *diff_id,
            size: record.size,
            description: record.description.clone(),
        };
        store.keep_step(&record.key, &step)?;
        Ok(Some(step))
    }

    /// Fills a cache mount that holds nothing here, if it came along.
    pub(in crate::build) fn fill(&self, id: &str) {
        let filled = {
            let mut all = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(id.to_owned()).or_default())
        };
        filled.get_or_init(|| self.fill_once(id));
    }

    fn fill_once(&self, id: &str) {
        if !self.engine.store.is_mount_empty(id) {
            return;
        }
        let fill = || {
            let Some((layer, diff_id)) = self.imported_mount(id)? else {
                return Ok(());
            };
            let store = &self.engine.store;
            store.fill_mount(id, self.passing()?, (&layer, &diff_id))?;
            Ok(())
        };
        if let Err(error) = fill() {
            self.note(
                &error,
                &format!("the cache mount `{id}` starts with nothing"),
            );
        }
    }

    /// A layer that was fetched by this build, as it came, if an encoder would make it so.
    pub(super) fn as_it_came(&self, diff_id: &DiffId, encoder: &str) -> Option<TransferLayer> {
        let passing = self.passing.get()?;
        let mut layers = self
            .imports
            .iter()
            .filter_map(|import| import.layers.get(diff_id));
        layers.find_map(|descriptor| {
            let made_by = descriptor.annotations.get(annotation::ENCODER);
            let made_so = made_by.is_some_and(|name| name == encoder);
            let mut layer = passing
                .transfer_blob(&descriptor.digest)
                .filter(|_| made_so)?;
            layer.descriptor = descriptor.clone();
            Some(layer)
        })
    }

    /// A cache mount that came along: the layer, which the passing store has then as it came.
    pub(super) fn imported_mount(&self, id: &str) -> Result<Option<(Descriptor, DiffId)>> {
        for import in &self.imports {
            let Some(diff_id) = import.mounts.get(id) else {
                continue;
            };
            let Some(layer) = import.layer(diff_id) else {
                continue;
            };
            let passing = self.passing()?;
            if !passing.has(layer) {
                let task = self
                    .progress
                    .blob(&layer.digest, Action::Pull, Some(layer.size));
                import.fetch(layer, |bytes| {
                    let mut writer = passing.blob_writer().map_err(io::Error::other)?;
                    let task = &*task;
                    let copy = None;
                    io::copy(&mut Told { bytes, task, copy }, &mut writer)?;
                    writer.commit_as(layer).map_err(io::Error::other)
                })?;
                task.finish();
            }
            return Ok(Some((layer.clone(), *diff_id)));
        }
        Ok(None)
    }

    fn claim(&self, layer: DiffId) -> Claim<'_> {
        let mut state = self.state();
        while !state.busy.insert(layer) {
            let waited = self.fetched.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Claim {
            exchange: self,
            layer,
        }
    }
}

/// The right to fetch a layer: others who want the same one wait.
struct Claim<'c> {
    exchange: &'c Exchange<'c>,
    layer: DiffId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.exchange.state().busy.remove(&self.layer);
        self.exchange.fetched.notify_all();
    }
}

/// Tells what is read.
struct Told<'t, 's> {
    bytes: &'t mut dyn Read,
    task: &'t dyn Task,
    /// What gets it all, too.
    copy: Option<&'t mut BlobWriter<'s>>,
}

impl Read for Told<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buffer[..count])?;
        }
        self.task.advance(count as u64);
        Ok(count)
    }
}

/// Whether a layer cannot be unpacked.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Whether it is about one layer, and not about where it comes from.
fn is_of_one(error: &Error) -> bool {
    matches!(error.kind(), Kind::Input | Kind::NotFound)
}
