//! Images become root file systems.

use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::Path;

use smidge_image::{LayerPath, LayerWriter, NodeKind};

use crate::extract::{Extractor, Whiteouts};
use crate::flat::{Flat, LayerRef, Sink};
use crate::{Error, Image, Ownership, Store};

impl Store {
    /// Writes the image's files as one tar archive.
    ///
    /// # Errors
    /// As [`Store::checkout`], and when `output` cannot be written.
    pub fn save_rootfs(&self, image: &Image, output: &mut dyn Write) -> Result<(), Error> {
        let mut tar = LayerWriter::new(output);
        self.flatten(image, &mut |entry, content| {
            if entry.path.is_root() {
                return Ok(());
            }
            tar.append(entry, content)
                .map_err(|error| Error::carried(error, Error::Output))
        })?;
        let output = tar.finish().map_err(Error::Output)?;
        output.flush().map_err(Error::Output)
    }

    /// Writes the image's files to a directory, which is made if it is missing. An ordinary user owns
    /// them all.
    ///
    /// # Errors
    /// As [`Store::checkout`], and when the directory cannot be written.
    pub fn save_rootfs_directory(&self, image: &Image, directory: &Path) -> Result<(), Error> {
        let io = |source| Error::Io {
            action: "write",
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(io)?;
        let root = std::fs::File::open(directory).map_err(io)?;
        let what = directory.display().to_string();
        let ownership = Ownership::of_caller();
        let mut ignore = |_| {};
        let mut extractor = Extractor::new(root.as_fd(), ownership, Whiteouts::None, &mut ignore);
        self.flatten(image, &mut |entry, content| {
            extractor
                .extract(entry, content)
                .map_err(|fault| self.fault(&what, &entry.path, fault))
        })?;
        extractor
            .finish()
            .map_err(|(path, fault)| self.fault(&what, &path, fault))
    }

    /// Hands out every file of the image, directories before what they hold.
    fn flatten(&self, image: &Image, sink: Sink<'_>) -> Result<(), Error> {
        let layers = image.manifest.layers.iter().cloned();
        let diff_ids = image.config.rootfs.diff_ids.iter().copied();
        let layers: Vec<LayerRef> = layers.zip(diff_ids).collect();
        let mut flat = Flat::new(self, &layers, 0)?;
        let mut pending = vec![LayerPath::root()];
        while let Some(path) = pending.pop() {
            let Some(shown) = flat.at(&path)? else {
                continue;
            };
            if shown.node.kind == NodeKind::Directory {
                let names = flat.list(&path)?;
                pending.extend(names.iter().rev().filter_map(|name| path.join(name).ok()));
            }
            flat.hand_out(&path, &shown, sink)?;
        }
        Ok(())
    }
}
