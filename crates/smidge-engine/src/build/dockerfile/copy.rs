//! `COPY` and `ADD`: which file goes where, by Docker's rules.

use std::sync::Arc;

use smidge_image::{Entry, EntryKind, LayerPath, Node, NodeKind, Tree as _};

use super::archive::{self, Recognised};
use super::context::{Context, Found, components};
use crate::build::content::Content;
use crate::build::layer::{Layer, Member, RootFs};
use crate::build::scratch::Scratch;
use crate::{Error, Kind, Result};

/// What a `COPY` or `ADD` says beside its sources.
pub(super) struct Manner {
    /// Where to, absolute; a `/` or `/.` at its end means a directory.
    pub(super) destination: String,
    /// Whether there is more than one source, so that the destination is a directory.
    pub(super) many: bool,
    /// `--chown`, looked up.
    pub(super) owner: Option<(u32, u32)>,
    /// Whether files keep their owners otherwise: those of another stage do, those of the build
    /// context become root's.
    pub(super) keep_owner: bool,
    /// `--chmod`.
    pub(super) mode: Option<u32>,
    /// Whether archives are unpacked.
    pub(super) unpack: bool,
    /// The time of what is copied, in seconds since 1970.
    pub(super) mtime: i64,
    /// Why the files are in the image.
    pub(super) reason: String,
}

/// A layer in the making, over the image so far.
pub(super) struct Copying<'c> {
    view: RootFs,
    layer: Layer,
    manner: &'c Manner,
    scratch: &'c Scratch,
    /// Files that were left out because no image can hold them.
    pub(super) skipped: Vec<LayerPath>,
    /// Patterns that nothing matches.
    pub(super) unmatched: Vec<String>,
}

impl<'c> Copying<'c> {
    /// Starts a layer over an image.
    pub(super) fn new(lower: &RootFs, manner: &'c Manner, scratch: &'c Scratch) -> Self {
        Self {
            view: lower.clone(),
            layer: Layer::default(),
            manner,
            scratch,
            skipped: Vec::new(),
            unmatched: Vec::new(),
        }
    }

    /// Ends the layer. Returns it with the image that it makes.
    pub(super) fn finish(self) -> (Layer, RootFs) {
        (self.layer, self.view)
    }

    /// Copies what one source names.
    pub(super) fn copy(&mut self, context: &Context, source: &str) -> Result<()> {
        let found = context.find(source)?;
        if found.is_empty() {
            self.unmatched.push(source.to_owned());
        }
        for found in found {
            match found.node.kind {
                NodeKind::Directory => {
                    let place = self.destination()?;
                    self.make_directory(&place)?;
                    self.copy_directory(context, &found.path, &found.real, &place)?;
                }
                NodeKind::File { size } => self.copy_source(context, &found, size)?,
                NodeKind::Symlink { .. } | NodeKind::Other => self.skipped.push(found.path),
            }
        }
        Ok(())
    }

    /// Writes a file whose content is in the Dockerfile.
    pub(super) fn write(&mut self, name: &str, content: &str) -> Result<()> {
        let place = self.place_of(name.as_bytes())?;
        let mode = self.manner.mode.unwrap_or(0o644);
        let reason = &self.manner.reason;
        let member = Member::file(place, mode, Content::memory(content.as_bytes()), reason);
        self.insert(member)
    }

    fn copy_source(&mut self, context: &Context, found: &Found, size: u64) -> Result<()> {
        let content = Content::tree(Arc::clone(&context.tree), found.real.clone(), size);
        if self.manner.unpack {
            let failed = |source| context.unreadable(&found.path, source);
            match archive::recognise(&content).map_err(failed)? {
                Recognised::File => {}
                Recognised::Archive(kind) => {
                    let place = self.destination()?;
                    self.make_directory(&place)?;
                    return archive::unpack(self, &content, kind, &place, self.scratch);
                }
                Recognised::Foreign(compression) => {
                    let path = found.path.as_path().display();
                    let message = format!(
                        "cannot unpack `{path}`: it is compressed with {compression}, and `ADD` \
                         here reads tar, gzip and zstd"
                    );
                    return Err(Error::new(Kind::Input, message).with_hint(
                        "compress it with gzip or zstd, or copy it as it is with `COPY`",
                    ));
                }
            }
        }
        let place = self.place_of(found.path.file_name().unwrap_or_default())?;
        self.copy_file(place, &found.node, content)
    }

    /// Copies what is in a directory.
    fn copy_directory(
        &mut self,
        context: &Context,
        path: &LayerPath,
        real: &LayerPath,
        place: &LayerPath,
    ) -> Result<()> {
        let invalid = |error| Error::of(Kind::Input, error);
        for name in context
            .tree
            .list(real)
            .map_err(|e| context.unreadable(path, e))?
        {
            let path = path.join(&name).map_err(invalid)?;
            let real = real.join(&name).map_err(invalid)?;
            let place = place.join(&name).map_err(invalid)?;
            let node = context
                .tree
                .node(&real)
                .map_err(|e| context.unreadable(&path, e))?;
            let Some(node) = node else { continue };
            match &node.kind {
                NodeKind::Directory if context.ignores_below(&path) => {}
                // What is left of an ignored directory brings it along.
                NodeKind::Directory if context.ignores(&path) => {
                    self.copy_rest(context, &path, &real, &place)?;
                }
                NodeKind::Directory => {
                    self.copy_node(place.clone(), &node, EntryKind::Directory)?;
                    self.copy_directory(context, &path, &real, &place)?;
                }
                _ if context.ignores(&path) => {}
                NodeKind::File { size } => {
                    let content = Content::tree(Arc::clone(&context.tree), real, *size);
                    self.copy_file(place, &node, content)?;
                }
                NodeKind::Symlink { target } => {
                    let target = target.clone();
                    self.copy_node(place, &node, EntryKind::Symlink { target })?;
                }
                NodeKind::Other => self.skipped.push(path),
            }
        }
        Ok(())
    }

    /// Copies an ignored directory for the sake of what its exceptions let through: if that is
    /// nothing, it stays away.
    fn copy_rest(
        &mut self,
        context: &Context,
        path: &LayerPath,
        real: &LayerPath,
        place: &LayerPath,
    ) -> Result<()> {
        let (layer, view) = (self.layer.clone(), self.view.clone());
        let files = |layer: &Layer| {
            layer
                .members()
                .filter(|member| member.entry.kind != EntryKind::Directory)
                .count()
        };
        self.copy_directory(context, path, real, place)?;
        if files(&self.layer) == files(&layer) {
            (self.layer, self.view) = (layer, view);
        }
        Ok(())
    }

    fn copy_file(&mut self, place: LayerPath, node: &Node, content: Content) -> Result<()> {
        let mut member = Member::file(place, node.mode, content, &self.manner.reason);
        self.own(&mut member.entry, node);
        self.insert(member)
    }

    /// Copies what has no content.
    fn copy_node(&mut self, place: LayerPath, node: &Node, kind: EntryKind) -> Result<()> {
        let mut entry = Entry::new(place, kind);
        if entry.kind == EntryKind::Directory {
            entry.mode = node.mode;
        }
        self.own(&mut entry, node);
        self.insert(Member::bare(entry, &self.manner.reason))
    }

    /// Gives a copy the owner and mode that were asked for, or the original's.
    fn own(&self, entry: &mut Entry, node: &Node) {
        if self.manner.keep_owner {
            (entry.uid, entry.gid) = (node.uid, node.gid);
        }
        if let Some(mode) = self.manner.mode
            && !matches!(entry.kind, EntryKind::Symlink { .. })
        {
            entry.mode = mode;
        }
    }

    /// Makes the directory that the contents of others go to, if it is missing. It has nothing
    /// from them, nor from `--chmod`.
    fn make_directory(&mut self, place: &LayerPath) -> Result<()> {
        if self.exists(place) {
            return Ok(());
        }
        let entry = Entry::new(place.clone(), EntryKind::Directory);
        self.insert(Member::bare(entry, &self.manner.reason))
    }

    /// The destination as a directory.
    fn destination(&self) -> Result<LayerPath> {
        let place = self.resolve(&self.manner.destination)?;
        match self.view.resolve(place.as_bytes()).ok().flatten() {
            Some((
                real,
                Node {
                    kind: NodeKind::Directory,
                    ..
                },
            )) => Ok(real),
            Some(_) => Err(refused(
                &place,
                "it is a file, and a directory is to go there",
            )),
            None => Ok(place),
        }
    }

    /// Where a file of this name goes: into the destination if that is a directory, or is meant to
    /// be one; to the destination itself otherwise.
    fn place_of(&self, name: &[u8]) -> Result<LayerPath> {
        let text = &self.manner.destination;
        let meant = self.manner.many || text.ends_with('/') || text.ends_with("/.");
        let place = self.resolve(text)?;
        let found = self.view.resolve(place.as_bytes()).ok().flatten();
        let directory = match found {
            Some((
                real,
                Node {
                    kind: NodeKind::Directory,
                    ..
                },
            )) => real,
            Some(_) if meant => return Err(refused(&place, "it is a file, not a directory")),
            None if meant => place,
            _ => return Ok(place),
        };
        directory
            .join(name)
            .map_err(|error| Error::of(Kind::Input, error))
    }

    /// A path in the image as text: `..` worked out, links followed, also one to nowhere.
    fn resolve(&self, text: &str) -> Result<LayerPath> {
        // As many as the kernel follows (path_resolution(7)).
        const LINKS: usize = 40;
        let mut text = text.to_owned();
        for _ in 0..LINKS {
            let path = LayerPath::parse(components(&text).join("/").as_bytes());
            let path = path.map_err(|error| Error::of(Kind::Input, error))?;
            let place = self.view.place(&path)?;
            let Ok(Some(Node {
                kind: NodeKind::Symlink { target },
                ..
            })) = self.view.node(&place)
            else {
                return Ok(place);
            };
            let target = String::from_utf8_lossy(&target);
            text = match place.parent() {
                Some(parent) if !target.starts_with('/') => format!("{parent}/{target}"),
                _ => target.into_owned(),
            };
        }
        let path = LayerPath::parse(components(&text).join("/").as_bytes());
        let path = path.map_err(|error| Error::of(Kind::Input, error))?;
        Err(refused(&path, "it is a link that leads round in a circle"))
    }

    fn exists(&self, place: &LayerPath) -> bool {
        place.is_root() || matches!(self.view.node(place), Ok(Some(_)))
    }

    /// Puts a file into the layer, with the owner and time that were asked for.
    fn insert(&mut self, mut member: Member) -> Result<()> {
        if let Some((uid, gid)) = self.manner.owner {
            (member.entry.uid, member.entry.gid) = (uid, gid);
            self.own_parents(&member.entry.path, uid, gid)?;
        }
        member.entry.mtime = self.manner.mtime;
        self.insert_as_is(member)
    }

    /// New directories on the way to a file belong to its owner.
    fn own_parents(&mut self, path: &LayerPath, uid: u32, gid: u32) -> Result<()> {
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while let Some(path) = parent.filter(|path| !self.exists(path)) {
            parent = path.parent();
            missing.push(path);
        }
        for path in missing.into_iter().rev() {
            let mtime = self.manner.mtime;
            let entry = Entry {
                uid,
                gid,
                mtime,
                ..Entry::new(path, EntryKind::Directory)
            };
            self.insert_as_is(Member::bare(entry, &self.manner.reason))?;
        }
        Ok(())
    }

    /// Puts a file into the layer as it is, unless a directory would replace a file or the other
    /// way round.
    fn insert_as_is(&mut self, member: Member) -> Result<()> {
        let path = &member.entry.path;
        let directory = |node: &Node| node.kind == NodeKind::Directory;
        let is_directory = member.entry.kind == EntryKind::Directory;
        match self.view.node(path).ok().flatten() {
            Some(old) if directory(&old) && !is_directory => {
                Err(refused(path, "a file would replace a directory"))
            }
            Some(old) if !directory(&old) && is_directory => {
                Err(refused(path, "a directory would replace a file"))
            }
            _ => self.replace(member),
        }
    }

    /// Puts a file into the layer as it is, in place of whatever is there, unless it cannot be in
    /// an image.
    pub(super) fn replace(&mut self, member: Member) -> Result<()> {
        let path = &member.entry.path;
        if path.components().any(|name| name.starts_with(b".wh.")) {
            return Err(refused(
                path,
                "in a layer, names that start with `.wh.` remove other files",
            ));
        }
        self.view.place(path)?;
        let mut seen = member.clone();
        if let EntryKind::Hardlink { target } = &member.entry.kind {
            let found = self.view.file(&target.to_string()).ok().flatten();
            let Some(file) = found else {
                return Err(refused(
                    path,
                    "it is a hard link to a file that is not there",
                ));
            };
            seen.entry.kind = file.entry.kind.clone();
            seen.content.clone_from(&file.content);
        }
        self.view.insert(seen);
        self.layer.insert(member);
        Ok(())
    }

    /// The image so far, with what this layer has brought.
    pub(super) fn view(&self) -> &RootFs {
        &self.view
    }

    /// What was said beside the sources.
    pub(super) fn manner(&self) -> &Manner {
        self.manner
    }
}

fn refused(path: &LayerPath, why: &str) -> Error {
    Error::new(
        Kind::Input,
        format!("cannot write `{path}` in the image: {why}"),
    )
}
