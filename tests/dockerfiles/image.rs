//! An image as files, read from a directory that smidge or buildah wrote: its config, and the file
//! system that its layers make together. Nothing of smidge's own code is used.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A file, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `file`, `dir`, `link`, `char`, `block`, `fifo`.
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) size: u64,
    /// Of the content, in hexadecimal digits.
    pub(crate) digest: String,
    /// Where a symbolic link leads.
    pub(crate) target: String,
    pub(crate) device: (u32, u32),
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    /// What makes two names one file.
    inode: usize,
    pub(crate) mtime: i64,
}

/// A whole file system, by path without a leading slash.
pub(crate) type Files = BTreeMap<String, Entry>;

/// An image, read.
pub(crate) struct Image {
    pub(crate) config: Value,
    pub(crate) files: Files,
    /// Paths that each layer's archive has, in the archive's order.
    pub(crate) layers: Vec<Vec<String>>,
}

impl Image {
    /// Reads an OCI image layout of one image.
    pub(crate) fn from_layout(dir: &Path) -> Self {
        let index = json(&dir.join("index.json"));
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            dir.join("blobs").join(digest.replace(':', "/"))
        };
        Self::read(&json(&blob(&index["manifests"][0])), blob)
    }

    /// Reads a directory of skopeo's and buildah's transport `dir:`.
    pub(crate) fn from_dir(dir: &Path) -> Self {
        Self::read(&json(&dir.join("manifest.json")), |descriptor| {
            let digest = descriptor["digest"].as_str().unwrap();
            dir.join(digest.split_once(':').unwrap().1)
        })
    }

    fn read(manifest: &Value, blob: impl Fn(&Value) -> PathBuf) -> Self {
        let mut image = Self {
            config: json(&blob(&manifest["config"])),
            files: Files::new(),
            layers: Vec::new(),
        };
        for layer in manifest["layers"].as_array().unwrap() {
            let names = apply(&mut image.files, inflated(&blob(layer)));
            image.layers.push(names);
        }
        image
    }

    /// Names that are one file, where there are several.
    pub(crate) fn links(&self) -> BTreeSet<Vec<&str>> {
        let mut groups: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (path, entry) in self.files.iter().filter(|(_, entry)| entry.kind != "dir") {
            groups.entry(entry.inode).or_default().push(path);
        }
        groups
            .into_values()
            .filter(|group| group.len() > 1)
            .collect()
    }
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path);
    let text = text.unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn inflated(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let mut plain = Vec::new();
    match bytes[..4] {
        [0x1f, 0x8b, ..] => {
            let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]);
            reader.read_to_end(&mut plain).unwrap();
            plain
        }
        [0x28, 0xb5, 0x2f, 0xfd] => zstd::decode_all(&bytes[..]).unwrap(),
        _ => bytes,
    }
}

/// Lays a layer over what is there: first what it hides, then what it has.
fn apply(files: &mut Files, layer: Vec<u8>) -> Vec<String> {
    let mut names = Vec::new();
    let mut added: Vec<(String, Entry, Option<String>)> = Vec::new();
    let mut archive = tar::Archive::new(&layer[..]);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = plain(std::str::from_utf8(&entry.path_bytes()).unwrap());
        names.push(path.clone());
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == ".wh..wh..opq" {
            remove(files, parent, false);
        } else if let Some(hidden) = name.strip_prefix(".wh.") {
            let hidden = format!("{parent}/{hidden}");
            remove(files, hidden.trim_start_matches('/'), true);
        } else {
            let hard = entry.header().entry_type().is_hard_link();
            let other = hard.then(|| plain(&text(entry.link_name_bytes())));
            added.push((path, read(&mut entry), other));
        }
    }
    let mut inode = files.values().map(|entry| entry.inode).max().unwrap_or(0);
    for (path, mut entry, other) in added {
        if let Some(other) = other {
            let of = files.get(&other);
            entry = of
                .unwrap_or_else(|| panic!("`{path}` is linked to nothing"))
                .clone();
        } else {
            inode += 1;
            entry.inode = inode;
        }
        if entry.kind != "dir" {
            remove(files, &path, true);
        }
        files.insert(path, entry);
    }
    names
}

/// Removes what is below a path, and perhaps what is there itself.
fn remove(files: &mut Files, path: &str, itself: bool) {
    if itself {
        files.remove(path);
    }
    let below = format!("{path}/");
    files.retain(|other, _| !(other.starts_with(&below) || path.is_empty()));
}

fn plain(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    if path == "." {
        String::new()
    } else {
        path.to_owned()
    }
}

fn text(bytes: Option<std::borrow::Cow<'_, [u8]>>) -> String {
    String::from_utf8(bytes.unwrap_or_default().into_owned()).unwrap()
}

fn read<R: Read>(entry: &mut tar::Entry<'_, R>) -> Entry {
    use tar::EntryType;
    let attributes = attributes(entry);
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        EntryType::Directory => "dir",
        EntryType::Symlink => "link",
        EntryType::Char => "char",
        EntryType::Block => "block",
        EntryType::Fifo => "fifo",
        _ => "file",
    };
    let device = matches!(kind, "char" | "block");
    let number = |number: std::io::Result<Option<u32>>| number.unwrap().unwrap_or(0);
    let mut hash = Sha256::new();
    let size = std::io::copy(entry, &mut Sink(&mut hash)).unwrap();
    Entry {
        kind,
        mode: if kind == "link" {
            0o777
        } else {
            header.mode().unwrap() & 0o7777
        },
        owner: (header.uid().unwrap(), header.gid().unwrap()),
        size,
        digest: hexadecimal(&hash.finalize()),
        target: if kind == "link" {
            text(entry.link_name_bytes())
        } else {
            String::new()
        },
        device: match device {
            true => (number(header.device_major()), number(header.device_minor())),
            false => (0, 0),
        },
        attributes,
        inode: 0,
        mtime: i64::try_from(header.mtime().unwrap()).unwrap(),
    }
}

/// The extended attributes, which are in the extended header.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    if let Some(extensions) = entry.pax_extensions().unwrap() {
        for extension in extensions {
            let extension = extension.unwrap();
            if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                all.insert(name.to_owned(), extension.value_bytes().to_vec());
            }
        }
    }
    all
}

struct Sink<'a>(&'a mut Sha256);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
