//! Archives of files that somebody sends, such as build contexts: unpacked into a directory.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::path::Path;

use smidge_image::{Entry, EntryKind, read_layer};

use crate::checkout::{Budget, Stop};
use crate::extract::{Extractor, Whiteouts};
use crate::{Error, Ownership, Store};

impl Store {
    /// Unpacks a bare tar archive into a directory, by the rules for layers: nothing in it leads out,
    /// and it may not be larger than what is free on the store's disk. Files are the caller's; devices,
    /// pipes and sockets are left out; names that start with `.wh.` are names. `what` says what it is.
    ///
    /// # Errors
    /// When it is no archive, cannot be read, is too large, or the directory cannot be written.
    pub fn unpack_files(&self, what: &str, tar: impl Read, directory: &Path) -> Result<(), Error> {
        let root =
            File::open(directory).map_err(|error| self.io(crate::error::READ, directory, error))?;
        let mut ignore = |_| {};
        let ownership = Ownership::of_caller();
        let mut extractor = Extractor::new(root.as_fd(), ownership, Whiteouts::None, &mut ignore);
        let mut budget = Budget::new(self)?;
        let visit = |entry: Entry, content: &mut dyn Read| -> Result<(), Stop> {
            let kept = matches!(
                entry.kind,
                EntryKind::File { .. }
                    | EntryKind::Directory
                    | EntryKind::Symlink { .. }
                    | EntryKind::Hardlink { .. }
            );
            if !kept {
                return Ok(());
            }
            let entry = Entry {
                uid: 0,
                gid: 0,
                ..entry
            };
            budget.spend(entry.size(), what).map_err(Stop::Visit)?;
            extractor
                .extract(&entry, content)
                .map_err(|fault| Stop::Visit(self.fault(what, &entry.path, fault)))
        };
        read_layer(tar, visit).map_err(|stop| stop.into_error(what))?;
        extractor
            .settle()
            .map_err(|(path, fault)| self.fault(what, &path, fault))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use smidge_image::{LayerPath, LayerWriter};

    use super::*;

    fn archive(entries: &[(&str, EntryKind, &str)]) -> Vec<u8> {
        let mut tar = LayerWriter::new(Vec::new());
        for (path, kind, content) in entries {
            let mut entry = Entry::new(LayerPath::try_from(*path).unwrap(), kind.clone());
            entry.uid = 4711;
            tar.append(&entry, &mut content.as_bytes()).unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn archives_are_unpacked_and_lead_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let into = directory.path().join("into");
        fs::create_dir(&into).unwrap();
        let link = |target: &str| EntryKind::Symlink {
            target: target.into(),
        };
        let file = |text: &str| EntryKind::File {
            size: text.len() as u64,
        };
        let tar = archive(&[
            ("d/a", file("text"), "text"),
            ("up", link("../.."), ""),
            ("up/escaped", file("x"), "x"),
            ("pipe", EntryKind::Fifo, ""),
            (".wh.name", file(""), ""),
            (
                "hard",
                EntryKind::Hardlink {
                    target: LayerPath::try_from("d/a").unwrap(),
                },
                "",
            ),
        ]);
        store.unpack_files("the context", &tar[..], &into).unwrap();
        assert_eq!(fs::read_to_string(into.join("d/a")).unwrap(), "text");
        assert_eq!(fs::read_to_string(into.join("hard")).unwrap(), "text");
        assert_eq!(fs::read_to_string(into.join("escaped")).unwrap(), "x");
        assert!(into.join(".wh.name").is_file());
        assert!(!into.join("pipe").exists());
        assert!(!directory.path().join("escaped").exists());
        let error = store.unpack_files("the context", &b"no archive"[..], &into);
        assert!(error.unwrap_err().to_string().contains("the context"));
    }
}
