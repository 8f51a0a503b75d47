//! `--with-libs`: the loader and libraries of a dynamic program, taken from the machine.

use std::io;
use std::path::Path;
use std::sync::Arc;

use smidge_image::{LayerPath, Node, NodeKind, Platform, ReadAt, Tree};
use smidge_store::DirTree;
use smidge_trim::{Reason, Search};

use super::content::Content;
use super::draft::{Draft, build_time};
use super::layer::{Layer, Member, RootFs};
use super::prove;
use super::target::Target;
use crate::{Error, Host, Kind, Result};

/// What a program needs beside what is in its image.
pub(super) struct Needed {
    layer: Layer,
    loader: bool,
    libraries: usize,
}

impl Needed {
    /// What there is, in words: `the loader and 2 libraries`.
    pub(super) fn describe(&self) -> String {
        let libraries = match self.libraries {
            1 => "1 library".to_owned(),
            count => format!("{count} libraries"),
        };
        match (self.loader, self.libraries) {
            (true, 0) => "the loader".to_owned(),
            (true, _) => format!("the loader and {libraries}"),
            (false, _) => libraries,
        }
    }

    /// Bytes of it all.
    pub(super) fn size(&self) -> u64 {
        self.layer.size()
    }
}

/// Adds what the image's program needs to the draft. A script's interpreter is a program, too; so
/// this goes on until nothing is lacking, or nothing more can be had.
pub(super) fn add(draft: &mut Draft, host: &Host) -> Result<()> {
    let mut rootfs = draft.rootfs();
    while let Some(fault) = prove::fault(draft, &rootfs)
        && let Some(program) = prove::lacking(&fault)
    {
        let Needed { mut layer, .. } = needed(&rootfs, program, &draft.platform)?;
        if layer.is_empty() {
            break;
        }
        layer.set_times(build_time(host));
        rootfs.apply(&layer);
        let last = draft
            .steps
            .iter_mut()
            .rev()
            .find_map(super::draft::Step::files_mut);
        match last.filter(|_| draft.alone) {
            Some(last) => layer
                .members()
                .for_each(|member| last.insert(member.clone())),
            None => draft.push("smidge build --with-libs", Some(layer)),
        }
    }
    Ok(())
}

/// Finds what a program in an image needs and the image lacks: among the machine's files, and for
/// another machine's programs where Debian's cross compilers keep their libraries.
pub(super) fn needed(rootfs: &RootFs, program: &str, platform: &Platform) -> Result<Needed> {
    let found = below(Path::new("/"), rootfs, program);
    let Some(target) = Target::of(platform).filter(|_| found.is_err()) else {
        return found;
    };
    let sysroot = Path::new("/usr").join(target.gnu);
    if !sysroot.is_dir() {
        return found;
    }
    below(&sysroot, rootfs, program).or(found)
}

/// Finds what a program needs below a directory that stands for a machine's root.
fn below(root: &Path, rootfs: &RootFs, program: &str) -> Result<Needed> {
    let failed = |error| {
        Error::of(Kind::Input, error)
            .with_hint(format!("see what it needs: `smidge ldd {program}`"))
    };
    let machine = DirTree::open(root)
        .map_err(|source| Error::io("cannot read the machine's libraries", source))?;
    let overlay = Overlay {
        image: rootfs,
        machine: Arc::new(machine),
    };
    let closure = smidge_trim::closure(&overlay, program.as_bytes(), &Search::default())
        .map_err(|error| Error::of(Kind::Input, error))?;
    let kept = smidge_trim::keep_closure(&closure, &closure.program).map_err(failed)?;
    let mut needed = Needed {
        layer: Layer::default(),
        loader: false,
        libraries: 0,
    };
    for file in kept {
        if overlay.in_image(&file.path) {
            continue;
        }
        match file.reason {
            Reason::Loader { .. } => needed.loader = true,
            Reason::Library { .. } => needed.libraries += 1,
            _ => {}
        }
        let member = overlay.member(file.path, &file.source, &file.reason.to_string());
        needed.layer.insert(member.map_err(|source| {
            Error::io(format!("cannot read the library `{}`", file.source), source)
        })?);
    }
    Ok(needed)
}

/// The image's files over the machine's.
struct Overlay<'r> {
    image: &'r RootFs,
    machine: Arc<DirTree>,
}

impl Overlay<'_> {
    fn in_image(&self, path: &LayerPath) -> bool {
        matches!(self.image.node(path), Ok(Some(_)))
    }

    /// A file at `source` as a member at `path`.
    fn member(&self, path: LayerPath, source: &LayerPath, reason: &str) -> io::Result<Member> {
        let Some(Node {
            kind: NodeKind::File { size },
            mode,
            ..
        }) = self.node(source)?
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let content = match self.image.file(&format!("/{}", source.to_string_lossy()))? {
            Some(Member {
                content: Some(content),
                ..
            }) => content.clone(),
            _ => Content::tree(self.machine.clone(), source.clone(), size),
        };
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        Ok(Member::file(path, mode, content, reason))
    }
}

impl Tree for Overlay<'_> {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        match self.image.node(path)? {
            // What the image does not say about a directory, the machine may: `/lib` is often a link.
            Some(Node {
                kind: NodeKind::Directory,
                ..
            })
            | None => {
                let machine = self.machine.node(path)?;
                if machine.is_some() {
                    Ok(machine)
                } else {
                    self.image.node(path)
                }
            }
            found => Ok(found),
        }
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        if self.in_image(path) {
            self.image.open(path)
        } else {
            self.machine.open(path)
        }
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let mut names = self.image.list(path)?;
        names.extend(self.machine.list(path).unwrap_or_default());
        names.sort();
        names.dedup();
        Ok(names)
    }
}
