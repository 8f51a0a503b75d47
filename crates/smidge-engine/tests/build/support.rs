//! A store, a directory to work in, and programs to build.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use smidge_engine::build::{BuildRequest, Built, Product};
use smidge_engine::{Engine, Error, Host, Silent};
use smidge_image::{Entry, EntryKind, LayerError, read_layer};
use smidge_store::Store;

/// An engine with a store of its own, and a directory where its user stands.
pub(crate) struct Context {
    pub(crate) engine: Engine,
    dir: tempfile::TempDir,
}

impl Context {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let cwd = dir.path().join("work");
        std::fs::create_dir(&cwd).unwrap();
        Self {
            engine: Engine::new(store, host(&cwd)),
            dir,
        }
    }

    /// A path in the working directory.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write_mode(name, content, 0o644);
    }

    pub(crate) fn write_mode(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn link(&self, name: &str, target: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Builds for one platform.
    pub(crate) fn build(&self, request: &BuildRequest) -> Result<Built, Error> {
        let mut product = self.engine.build(request, &Silent, &mut Vec::new())?;
        assert_eq!((product.images.len(), &product.index), (1, &None));
        assert_eq!(product.id, product.images[0].image.id);
        Ok(product.images.pop().unwrap())
    }

    /// Builds for several.
    pub(crate) fn build_all(&self, request: &BuildRequest) -> Result<Product, Error> {
        self.engine.build(request, &Silent, &mut Vec::new())
    }

    /// Builds a directory's Dockerfile, of which this is the text.
    pub(crate) fn dockerfile(&self, text: &str) -> Result<Built, Error> {
        self.write("Dockerfile", text);
        self.build(&BuildRequest {
            prove: false,
            ..BuildRequest::new(".")
        })
    }

    /// What each layer says: `path kind mode owner`, bottom layer first.
    pub(crate) fn layers(&self, built: &Built) -> Vec<Vec<String>> {
        let entries = |layer| {
            self.entries(layer)
                .into_iter()
                .map(|(entry, _)| describe(&entry))
        };
        built
            .image
            .manifest
            .layers
            .iter()
            .map(|layer| entries(layer).collect())
            .collect()
    }

    /// The contents of all regular files, later layers over earlier ones.
    pub(crate) fn contents(&self, built: &Built) -> BTreeMap<String, String> {
        let layers = built.image.manifest.layers.iter();
        let entries = layers.flat_map(|layer| self.entries(layer));
        entries
            .filter(|(entry, _)| matches!(entry.kind, EntryKind::File { .. }))
            .map(|(entry, bytes)| {
                (
                    entry.path.to_string(),
                    String::from_utf8_lossy(&bytes).into_owned(),
                )
            })
            .collect()
    }

    /// The files that have extended attributes.
    pub(crate) fn attributed(&self, built: &Built) -> Vec<Entry> {
        let layers = built.image.manifest.layers.iter();
        let entries = layers.flat_map(|layer| self.entries(layer));
        entries
            .map(|(entry, _)| entry)
            .filter(|entry| !entry.xattrs.is_empty())
            .collect()
    }

    fn entries(&self, layer: &smidge_image::Descriptor) -> Vec<(Entry, Vec<u8>)> {
        let mut entries = Vec::new();
        let blob = self.engine.store.blob(layer).unwrap();
        let visit = |entry: Entry, content: &mut dyn Read| -> Result<(), LayerError> {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            entries.push((entry, bytes));
            Ok(())
        };
        read_layer(blob, visit).unwrap();
        entries
    }
}

/// `path mode`, and what else is not the usual.
fn describe(entry: &Entry) -> String {
    let kind = match &entry.kind {
        EntryKind::File { .. } => String::new(),
        EntryKind::Directory => "/".to_owned(),
        EntryKind::Symlink { target } => format!(" -> {}", String::from_utf8_lossy(target)),
        EntryKind::Hardlink { target } => format!(" = {target}"),
        other => format!(" {other:?}"),
    };
    let owner = match (entry.uid, entry.gid) {
        (0, 0) => String::new(),
        (uid, gid) => format!(" {uid}:{gid}"),
    };
    let mtime = if entry.mtime == 0 {
        String::new()
    } else {
        format!(" @{}", entry.mtime)
    };
    format!("{}{kind} {:o}{owner}{mtime}", entry.path, entry.mode)
}

/// The surroundings that compilers need, and nothing else of this machine's environment.
pub(crate) fn host(cwd: &Path) -> Host {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests have no main that passes it down"
    )]
    let variable = |name: &str| std::env::var(name).ok();
    let names = [
        "HOME",
        "PATH",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "GOPATH",
    ];
    Host {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        path: variable("PATH").unwrap_or_default().into(),
        home: variable("HOME").map(PathBuf::from),
        env: names
            .iter()
            .filter_map(|n| Some(((*n).to_owned(), variable(n)?)))
            .collect(),
        source_date_epoch: None,
        now: SystemTime::UNIX_EPOCH,
        cwd: cwd.to_path_buf(),
    }
}

/// A static program for x86-64 that exits with 0: one segment, 132 bytes, and then `padding` bytes
/// of debug information that is nothing but zeros.
pub(crate) fn static_program(padding: usize) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    // mov al, 60; xor edi, edi; syscall
    let code = [0xb0, 60, 0x31, 0xff, 0x0f, 0x05, 0, 0, 0, 0, 0, 0];
    let size = 64 + 56 + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [BASE + 120, 64, 0] {
        elf.extend(u64::to_le_bytes(word));
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(u64::to_le_bytes(word));
    }
    elf.extend(code);
    if padding > 0 {
        debug_section(&mut elf, padding);
    }
    elf
}

/// Appends the sections `.debug_info` and `.shstrtab` and their headers.
fn debug_section(elf: &mut Vec<u8>, padding: usize) {
    let debug = elf.len() as u64;
    elf.resize(elf.len() + padding, 0);
    let names = elf.len() as u64;
    let strings = b"\0.debug_info\0.shstrtab\0";
    elf.extend(strings);
    elf.resize(elf.len().next_multiple_of(8), 0);
    let headers = elf.len() as u64;
    let mut header = |name: u32, kind: u32, offset: u64, size: u64| {
        elf.extend(name.to_le_bytes());
        elf.extend(kind.to_le_bytes());
        for word in [0, 0, offset, size, 0, 1, 0] {
            elf.extend(u64::to_le_bytes(word));
        }
    };
    header(0, 0, 0, 0);
    header(1, 1, debug, padding as u64);
    header(13, 3, names, strings.len() as u64);
    elf[40..48].copy_from_slice(&headers.to_le_bytes());
    elf[60..64].copy_from_slice(&[3, 0, 2, 0]);
}

/// The examples of this repository.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
        .canonicalize()
        .unwrap()
}

/// Whether a program that a test needs is installed; says so if not.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(crate) fn have(context: &Context, program: &str) -> bool {
    let found = context.engine.host.find_program(program).is_some();
    if !found {
        println!("skipped: `{program}` is not installed");
    }
    found
}
