//! What a layer says about one file.

use std::collections::BTreeMap;

use crate::LayerPath;

/// One file of a layer, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: LayerPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits: `mode & 0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content last changed, in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes: `security.capability` → its bytes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to, as it stands: relative, absolute, leading nowhere, never empty.
        target: Vec<u8>,
    },
    /// Another name for a file that came earlier in the layer, or in one below.
    Hardlink {
        /// The file's other name.
        target: LayerPath,
    },
    /// A character device; 0:0 is overlayfs' own whiteout.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl Entry {
    /// An entry that belongs to root and dates from 1970. Its mode is 0755 for a directory, 0777
    /// for a symbolic link, 0644 for anything else.
    pub fn new(path: LayerPath, kind: EntryKind) -> Self {
        let mode = match kind {
            EntryKind::Directory => 0o755,
            EntryKind::Symlink { .. } => 0o777,
            _ => 0o644,
        };
        Self {
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        }
    }

    /// Bytes of content: 0 for anything but a regular file.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}
