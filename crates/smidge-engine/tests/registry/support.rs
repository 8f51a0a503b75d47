//! Engines with stores of their own, and images.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use smidge_engine::image::ImportRequest;
use smidge_engine::registry::{Connection, PullRequest, Pulled, PushRequest, Pushed};
use smidge_engine::{Engine, Error, Host, Silent};
use smidge_image::{Entry, EntryKind, LayerPath, LayerWriter, Platform};

/// An engine with a store and a home of its own.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            uid: 0,
            gid: 0,
            path: "/nowhere".into(),
            home: Some(dir.path().join("home")),
            env: BTreeMap::new(),
            source_date_epoch: None,
            now: SystemTime::UNIX_EPOCH,
            cwd: dir.path().to_path_buf(),
        };
        Self {
            engine: Engine::open(&dir.path().join("store"), host).unwrap(),
            dir,
        }
    }

    /// Its directory: `store`, `home`.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Imports an image of one file, of so many bytes that gzip cannot make smaller.
    pub(crate) fn import(&self, name: &str, size: usize, platform: Option<Platform>) -> String {
        let request = ImportRequest {
            name: Some(name.to_owned()),
            changes: vec![format!("LABEL of={name}")],
            source: "test.tar".to_owned(),
            platform,
            ..ImportRequest::default()
        };
        let image = self.engine.import(&request, &mut tar(size).as_slice());
        image.unwrap().id.to_string()
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Vec<Pulled>, Error> {
        self.pull_with(PullRequest {
            name: name.to_owned(),
            ..PullRequest::default()
        })
    }

    pub(crate) fn pull_with(&self, request: PullRequest) -> Result<Vec<Pulled>, Error> {
        self.engine.pull(&request, &Silent)
    }

    pub(crate) fn push(&self, name: &str) -> Result<Vec<Pushed>, Error> {
        self.push_with(PushRequest {
            name: name.to_owned(),
            ..PushRequest::default()
        })
    }

    pub(crate) fn push_with(&self, request: PushRequest) -> Result<Vec<Pushed>, Error> {
        self.engine.push(&request, &Silent)
    }

    /// Every file below a directory of the store.
    pub(crate) fn files(&self, directory: &str) -> Vec<String> {
        fn walk(path: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(path).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.push(path.display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path("store").join(directory), &mut found);
        found
    }
}

/// No option at all.
pub(crate) fn connection() -> Connection {
    Connection::default()
}

/// Bytes that repeat nowhere near; others for another length.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ length as u64;
    let words = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    });
    words.flatten().take(length).collect()
}

fn tar(size: usize) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    let kind = EntryKind::File { size: size as u64 };
    let mut entry = Entry::new(LayerPath::parse(b"file").unwrap(), kind);
    entry.mode = 0o644;
    writer.append(&entry, &mut noise(size).as_slice()).unwrap();
    writer.finish().unwrap()
}

/// An error as people see it, with the registry's port left out.
pub(crate) fn shown(error: &Error, host: &str) -> String {
    let mut text = format!("error: {}\n", error.message());
    for fact in error.facts() {
        let _ = writeln!(text, "  {fact}");
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = writeln!(text, "  caused by: {cause}");
        source = cause.source();
    }
    for hint in error.hints() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text.replace(host, "localhost:5000")
}
