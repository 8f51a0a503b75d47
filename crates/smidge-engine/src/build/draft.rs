//! An image in the making: everything but the bytes in the store.

use smidge_image::{History, Platform, RunConfig};

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
    /// What was done, in order.
    pub(super) steps: Vec<Step>,
    /// Where the program is named, if it is named in a file.
    pub(super) origin: Option<Origin>,
    /// What stripping did.
    pub(super) stripped: Option<Stripped>,
    /// What is worth knowing.
    pub(super) notes: Vec<Note>,
    /// Whether it is made of one program, whose libraries then go into the same layer.
    pub(super) alone: bool,
    /// Whether so much time went into it that compressing it goes unnoticed.
    pub(super) compiled: bool,
}

/// One step of making an image.
#[derive(Clone)]
pub(super) struct Step {
    /// What it says in the image's history.
    pub(super) history: History,
    /// The files it adds; `None` if it makes no layer.
    pub(super) layer: Option<Layer>,
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
            steps: Vec::new(),
            origin: None,
            stripped: None,
            notes: Vec::new(),
            alone: false,
            compiled: false,
        }
    }

    /// Adds a step. A layer with nothing in it is none.
    pub(super) fn push(&mut self, created_by: impl Into<String>, layer: Option<Layer>) {
        let history = History {
            created_by: Some(created_by.into()),
            ..History::default()
        };
        let layer = layer.filter(|layer| !layer.is_empty());
        self.steps.push(Step { history, layer });
    }

    /// The files of the image, as its layers make them up.
    pub(super) fn rootfs(&self) -> RootFs {
        let mut rootfs = RootFs::default();
        self.layers().for_each(|layer| rootfs.apply(layer));
        rootfs
    }

    /// Gives every layer the directories that its files need. Returns the files of the image.
    pub(super) fn complete(&mut self, mtime: i64) -> RootFs {
        let mut rootfs = RootFs::default();
        for layer in self.steps.iter_mut().filter_map(|step| step.layer.as_mut()) {
            layer.complete(&rootfs, mtime);
            rootfs.apply(layer);
        }
        rootfs
    }

    /// The layers, bottom first.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.steps.iter().filter_map(|step| step.layer.as_ref())
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
