//! An image in the making: everything but the bytes in the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use smidge_image::{
    Descriptor, DiffId, Digest, History, ImageConfig, LayerPath, Platform, RunConfig, media_type,
};
use smidge_store::{LayeredTree, Snapshot, Store};

use super::dockerfile::Record;
use super::layer::{Layer, RootFs};
use super::response::Stripped;
use crate::{Host, Note, Result, Snippet};

/// An image in the making.
#[derive(Clone)]
pub(super) struct Draft {
    /// What it is made from: `Cargo package`, `Dockerfile`, …
    pub(super) source: String,
    /// What machine it is for.
    pub(super) platform: Platform,
    /// How it is run.
    pub(super) config: RunConfig,
    /// Who made it.
    pub(super) author: Option<String>,
    /// The image that it starts from.
    pub(super) base: Option<Arc<Base>>,
    /// What was done, in order.
    pub(super) steps: Vec<Step>,
    /// The layers that are unpacked in the store, for programs to run in.
    pub(super) below: Below,
    /// Where the program is named, if it is named in a file.
    pub(super) origin: Option<Origin>,
    /// What stripping did.
    pub(super) stripped: Option<Stripped>,
    /// What is worth knowing.
    pub(super) notes: Vec<Note>,
    /// What the programs of its steps have made, for other builds to know.
    pub(super) records: Vec<Record>,
    /// Whether it is made of one program, whose libraries then go into the same layer.
    pub(super) alone: bool,
    /// Whether so much time went into it that compressing it goes unnoticed.
    pub(super) compiled: bool,
    /// The files that the last stage itself has copied.
    pub(super) brought: BTreeSet<LayerPath>,
    /// Which layers become one.
    pub(super) joining: Joining,
}

/// Which layers of an image become one, when it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// None: each step's stays.
    #[default]
    Apart,
    /// Those above the base.
    Squashed,
    /// All, the base's too, of which only these files are left, with the directories above them.
    Slim(Arc<BTreeSet<LayerPath>>),
}

/// One step of making an image.
#[derive(Clone)]
pub(super) struct Step {
    /// What it says in the image's history.
    pub(super) history: History,
    /// The files it adds; `None` if it makes no layer.
    pub(super) layer: Option<StepLayer>,
}

/// What a step adds.
#[derive(Clone)]
pub(super) enum StepLayer {
    /// Files that are still to be written.
    Files(Layer),
    /// A layer that is in the store.
    Stored(Stored),
}

/// A layer in the store: a bare tar archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its name.
    pub(super) diff_id: DiffId,
    /// Bytes of the archive.
    pub(super) size: u64,
}

impl From<Snapshot> for Stored {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            diff_id: snapshot.diff_id,
            size: snapshot.size,
        }
    }
}

impl Stored {
    /// What a manifest says of it.
    pub(super) fn descriptor(self) -> Descriptor {
        Descriptor::new(media_type::LAYER, self.diff_id.0, self.size)
    }
}

/// An image that others start from.
pub(super) struct Base {
    /// Its id.
    pub(super) id: Digest,
    /// Its config.
    pub(super) config: ImageConfig,
    /// Its layers, bottom first.
    pub(super) layers: Vec<(Descriptor, DiffId)>,
}

/// Layers that are unpacked: those of the base and of the first steps.
#[derive(Clone, Default)]
pub(super) struct Below {
    /// All of them, bottom first.
    pub(super) layers: Vec<(Descriptor, DiffId)>,
    /// Their files; `None` without layers.
    pub(super) tree: Option<Arc<LayeredTree>>,
    /// How many steps made them, or made none.
    pub(super) steps: usize,
}

impl Below {
    /// Unpacks layers where they are not yet.
    pub(super) fn unpack(
        layers: Vec<(Descriptor, DiffId)>,
        steps: usize,
        store: &Store,
    ) -> Result<Self> {
        let paths = store.checkout_layers(&layers)?;
        let tree = LayeredTree::open(&paths)
            .map_err(|source| crate::Error::io("cannot open the image's layers", source))?;
        Ok(Self {
            layers,
            tree: Some(Arc::new(tree)),
            steps,
        })
    }

    /// Their files, with nothing over them.
    pub(super) fn rootfs(&self) -> RootFs {
        self.tree.clone().map_or_else(RootFs::default, RootFs::over)
    }
}

impl Step {
    fn files(&self) -> Option<&Layer> {
        match &self.layer {
            Some(StepLayer::Files(layer)) => Some(layer),
            _ => None,
        }
    }

    /// The files it adds, as long as they are not written.
    pub(super) fn files_mut(&mut self) -> Option<&mut Layer> {
        match &mut self.layer {
            Some(StepLayer::Files(layer)) => Some(layer),
            _ => None,
        }
    }
}

/// Where a Dockerfile says what is started.
#[derive(Clone)]
pub(super) struct Origin {
    /// The place of the program's name.
    pub(super) snippet: Snippet,
    /// Whether the command is in shell form.
    pub(super) shell_form: bool,
}

impl Draft {
    /// An image of a platform with nothing in it.
    pub(super) fn new(source: impl Into<String>, platform: Platform) -> Self {
        Self {
            source: source.into(),
            platform,
            config: RunConfig::default(),
            author: None,
            base: None,
            steps: Vec::new(),
            below: Below::default(),
            origin: None,
            stripped: None,
            notes: Vec::new(),
            records: Vec::new(),
            alone: false,
            compiled: false,
            brought: BTreeSet::new(),
            joining: Joining::Apart,
        }
    }

    /// Adds a step. A layer with nothing in it is none.
    pub(super) fn push(&mut self, created_by: impl Into<String>, layer: Option<Layer>) {
        let history = History {
            created_by: Some(created_by.into()),
            ..History::default()
        };
        let layer = layer.filter(|layer| !layer.is_empty());
        let layer = layer.map(StepLayer::Files);
        self.steps.push(Step { history, layer });
    }

    /// The files of the image, as its layers make them up.
    pub(super) fn rootfs(&self) -> RootFs {
        let mut rootfs = self.below.rootfs();
        let above = self.steps.iter().skip(self.below.steps);
        above
            .filter_map(Step::files)
            .for_each(|layer| rootfs.apply(layer));
        rootfs
    }

    /// Gives every layer the directories that its files need. Returns the files of the image.
    pub(super) fn complete(&mut self, mtime: i64) -> RootFs {
        let mut rootfs = self.below.rootfs();
        let above = self.steps.iter_mut().skip(self.below.steps);
        for layer in above.filter_map(Step::files_mut) {
            layer.complete(&rootfs, mtime);
            rootfs.apply(layer);
        }
        rootfs
    }

    /// Everything the image starts with: entrypoint and default arguments.
    pub(super) fn argv(&self) -> Vec<String> {
        let RunConfig {
            entrypoint, cmd, ..
        } = &self.config;
        entrypoint.iter().chain(cmd).flatten().cloned().collect()
    }

    /// The program's path, as far as it is plain from the config.
    pub(super) fn program(&self) -> Option<String> {
        self.argv().into_iter().next()
    }
}

/// The time that goes into everything: 1970 unless the user says otherwise, so that the same input
/// gives the same image (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
pub(super) fn build_time(host: &Host) -> i64 {
    host.source_date_epoch.unwrap_or(0)
}

/// The same time as RFC 3339 has it.
pub(super) fn created(host: &Host) -> Result<String> {
    let seconds = build_time(host);
    let format = &time::format_description::well_known::Rfc3339;
    let text = time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(format).ok());
    text.ok_or_else(|| {
        let message = format!("SOURCE_DATE_EPOCH `{seconds}` is not a time of the years 0 to 9999");
        crate::Error::new(crate::Kind::Input, message)
    })
}
