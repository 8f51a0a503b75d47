//! `COPY` and `ADD`: which file goes where, by Docker's rules.

mod destination;

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::io;
use std::sync::Arc;

use smidge_dockerfile::ignore::Patterns;
use smidge_image::{Entry, EntryKind, LayerPath, Node, NodeKind, Tree};

use super::archive;
use super::chmod::Chmod;
use super::choice::{Fate, Flags, Parents, fate};
use super::context::{Context, Found};
use super::glob;
use super::remote::Remote;
use crate::build::content::Content;
use crate::build::layer::{Layer, Member, RootFs};
use crate::build::scratch::Scratch;
use crate::packing::Packing;
use crate::{Error, Kind, Result};

/// The attribute with a program's capabilities (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

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
    /// Whether archives are unpacked.
    pub(super) unpack: bool,
    /// The time of what is copied, in seconds since 1970.
    pub(super) mtime: i64,
    /// Why the files are in the image.
    pub(super) reason: String,
}

impl Manner {
    /// Copies everything as it is.
    pub(super) fn all(destination: &str, mtime: i64, reason: &str) -> Self {
        Self {
            destination: destination.to_owned(),
            many: false,
            owner: None,
            keep_owner: false,
            unpack: false,
            mtime,
            reason: reason.to_owned(),
        }
    }

    /// Whether the destination is meant to be a directory.
    fn is_directory(&self) -> bool {
        self.many || self.destination.ends_with('/') || self.destination.ends_with("/.")
    }
}

/// A layer in the making, over the image so far.
pub(super) struct Copying<'c> {
    view: RootFs,
    /// The image so far where the layer is made without looking at it.
    unseen: Option<RootFs>,
    layer: Layer,
    manner: &'c Manner,
    flags: Flags,
    scratch: &'c Scratch,
    /// The last directory that was found to be one, or to be free.
    parent: Option<LayerPath>,
    /// Directories that are copied as soon as something in them is.
    pending: Vec<(LayerPath, Original)>,
    /// Where files went that have several names, by device and inode.
    links: BTreeMap<(u64, u64), LayerPath>,
    /// How many files were copied.
    count: usize,
    /// Files that were left out because no image can hold them.
    pub(super) skipped: Vec<LayerPath>,
    /// Patterns that nothing matches.
    pub(super) unmatched: Vec<String>,
}

/// A file on its way.
struct Way {
    /// Where it is in the context: decides whether it is ignored.
    path: LayerPath,
    /// Where it is, links followed.
    real: LayerPath,
    /// Where it is in the source: decides whether it is excluded.
    below: LayerPath,
    /// Where it goes.
    place: LayerPath,
}

impl Way {
    fn join(&self, name: &[u8]) -> Result<Self> {
        let join = |path: &LayerPath| path.join(name).map_err(|e| Error::of(Kind::Input, e));
        Ok(Self {
            path: join(&self.path)?,
            real: join(&self.real)?,
            below: join(&self.below)?,
            place: join(&self.place)?,
        })
    }
}

/// Where a file is in a context: as it was named, and with links followed.
type Paths<'p> = (&'p LayerPath, &'p LayerPath);

/// What a file is that is copied, but for its content.
struct Original {
    node: Node,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl From<Node> for Original {
    fn from(node: Node) -> Self {
        let attributes = BTreeMap::new();
        Self { node, attributes }
    }
}

/// A tree that is copied, and what of it is not wanted.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    context: &'w Context,
    others: Option<&'w Patterns>,
}

impl<'c> Copying<'c> {
    /// Starts a layer over an image.
    pub(super) fn new(lower: &RootFs, manner: &'c Manner, scratch: &'c Scratch) -> Self {
        Self {
            view: lower.clone(),
            unseen: None,
            layer: Layer::default(),
            manner,
            flags: Flags::default(),
            scratch,
            parent: None,
            pending: Vec::new(),
            links: BTreeMap::new(),
            count: 0,
            skipped: Vec::new(),
            unmatched: Vec::new(),
        }
    }

    /// With the flags of the instruction. Must come first.
    pub(super) fn with(mut self, flags: Flags) -> Self {
        // BuildKit does not link where modes are changed.
        if flags.link && flags.chmod.is_none() {
            self.unseen = Some(std::mem::take(&mut self.view));
        }
        self.flags = flags;
        self
    }

    /// Ends the layer. Returns it with the image that it makes.
    pub(super) fn finish(mut self) -> (Layer, RootFs) {
        let Some(lower) = self.unseen.take() else {
            return (self.layer, self.view);
        };
        // What the layer takes for directories are directories from now on, links or not.
        let members = self.layer.members();
        let above: BTreeSet<_> = members
            .flat_map(|member| member.entry.path.ancestors())
            .collect();
        for path in above.into_iter().filter(|path| !path.is_root()) {
            let hidden =
                matches!(lower.node(&path), Ok(Some(node)) if node.kind != NodeKind::Directory);
            if hidden && !self.layer.has(&path) {
                let entry = Entry {
                    mtime: self.manner.mtime,
                    ..Entry::new(path, EntryKind::Directory)
                };
                self.layer.insert(Member::bare(entry, &self.manner.reason));
            }
        }
        let mut rootfs = lower;
        rootfs.apply(&self.layer);
        (self.layer, rootfs)
    }

    /// Copies what one source names.
    pub(super) fn copy(&mut self, context: &Context, source: &str) -> Result<()> {
        if self.flags.parents {
            return self.copy_with_parents(context, source);
        }
        let found = context.find(source)?;
        if found.is_empty() {
            self.unmatched.push(source.to_owned());
        }
        for found in found {
            match found.node.kind {
                NodeKind::Directory => self.copy_contents(context, &found, None)?,
                _ if self.excludes(&found.path) => {}
                NodeKind::File { size } => self.copy_source(context, &found, size)?,
                NodeKind::Symlink { .. } | NodeKind::Other => self.skipped.push(found.path),
            }
        }
        Ok(())
    }

    /// Copies what a source names, with the directories above it up to the pivot.
    fn copy_with_parents(&mut self, context: &Context, source: &str) -> Result<()> {
        let parents = Parents::new(source);
        let others = parents.others()?;
        let whole = format!("{}/{}", parents.pivot, parents.pattern);
        if !glob::is_pattern(&whole) {
            // It has to be there.
            context.require(&whole, source)?;
        }
        let before = self.count;
        for found in context.find(parents.pivot)? {
            if found.node.kind == NodeKind::Directory {
                self.copy_contents(context, &found, Some(&others))?;
            }
        }
        if self.count == before {
            self.unmatched.push(source.to_owned());
        }
        Ok(())
    }

    /// Copies what was fetched. An archive that is one file is unpacked if that is asked for.
    pub(super) fn add(&mut self, remote: &Remote, unpack: bool) -> Result<()> {
        match remote {
            Remote::File(file) => {
                // As Docker has it: the file is its owner's alone.
                let node = Node {
                    kind: NodeKind::File { size: file.size },
                    mode: 0o600,
                    uid: 0,
                    gid: 0,
                };
                let content = Content::path(&file.path, file.size);
                let failed = |source| Error::io(format!("cannot read `{}`", file.name), source);
                if unpack && let Some(packing) = archive::recognise(&content).map_err(failed)? {
                    return self.unpack(&content, packing);
                }
                let place = self.place_of(file.name.as_bytes())?;
                self.copy_file(place, node.into(), content)
            }
            Remote::Repository(context) => {
                let found = context.find("/")?;
                found
                    .iter()
                    .try_for_each(|root| self.copy_contents(context, root, None))
            }
        }
    }

    /// Whether a source that is a file is excluded itself, by its name or its path.
    fn excludes(&self, path: &LayerPath) -> bool {
        let name = path.file_name().map(LayerPath::parse);
        let name = name.and_then(std::result::Result::ok);
        let left = |path: &LayerPath| fate(&self.flags.excluded, path, false) == Fate::Left;
        left(path) || name.is_some_and(|name| left(&name))
    }

    /// Writes a file whose content is in the Dockerfile.
    pub(super) fn write(&mut self, name: &str, content: &str) -> Result<()> {
        let place = self.place_of(name.as_bytes())?;
        let mode = self.mode(0o644, false);
        let reason = &self.manner.reason;
        let member = Member::file(place, mode, Content::memory(content.as_bytes()), reason);
        self.insert(member)
    }

    fn copy_source(&mut self, context: &Context, found: &Found, size: u64) -> Result<()> {
        let content = Content::tree(Arc::clone(&context.tree), found.real.clone(), size);
        if self.manner.unpack {
            let failed = |source| context.unreadable(&found.path, source);
            if let Some(packing) = archive::recognise(&content).map_err(failed)? {
                return self.unpack(&content, packing);
            }
        }
        let place = self.place_of(found.path.file_name().unwrap_or_default())?;
        let original = self.original(context, (&found.path, &found.real), found.node.clone())?;
        self.copy_file(place, original, content)
    }

    fn unpack(&mut self, archive: &Content, packing: Packing) -> Result<()> {
        let place = self.destination()?;
        // Modes are the archive's affair.
        let chmod = self.flags.chmod.take();
        self.make_directory(&place)?;
        self.flags.chmod = chmod;
        archive::unpack(self, archive, packing, &place, self.scratch)
    }

    /// Copies what is in a directory that a source names.
    fn copy_contents(
        &mut self,
        context: &Context,
        found: &Found,
        others: Option<&Patterns>,
    ) -> Result<()> {
        let place = self.destination()?;
        self.make_directory(&place)?;
        let way = Way {
            path: found.path.clone(),
            real: found.real.clone(),
            below: LayerPath::root(),
            place,
        };
        self.copy_directory(Wanted { context, others }, &way)
    }

    /// Copies what is in a directory.
    fn copy_directory(&mut self, wanted: Wanted<'_>, directory: &Way) -> Result<()> {
        let tree = &wanted.context.tree;
        let failed = |source| wanted.context.unreadable(&directory.path, source);
        for name in tree.list(&directory.real).map_err(failed)? {
            let way = directory.join(&name)?;
            let node = tree.node(&way.real);
            let node = node.map_err(|e| wanted.context.unreadable(&way.path, e))?;
            let Some(node) = node else { continue };
            let fate = self.fate(wanted, &way, node.kind == NodeKind::Directory);
            if fate == Fate::Left {
                continue;
            }
            match &node.kind {
                NodeKind::Directory => {
                    let before = self.pending.len();
                    let original = self.original(wanted.context, (&way.path, &way.real), node)?;
                    self.pending.push((way.place.clone(), original));
                    if fate == Fate::Taken {
                        self.copy_pending()?;
                    }
                    self.copy_directory(wanted, &way)?;
                    self.pending.truncate(before);
                }
                NodeKind::File { size } => {
                    let content = Content::tree(Arc::clone(tree), way.real.clone(), *size);
                    let original = self.original(wanted.context, (&way.path, &way.real), node)?;
                    self.copy_pending()?;
                    match self.first_of_links(tree, &way).map_err(failed)? {
                        Some(target) => {
                            let kind = EntryKind::Hardlink { target };
                            self.copy_node(way.place, original, kind)?;
                        }
                        None => self.copy_file(way.place, original, content)?,
                    }
                }
                NodeKind::Symlink { target } => {
                    let target = target.clone();
                    self.copy_pending()?;
                    self.copy_node(way.place, node.into(), EntryKind::Symlink { target })?;
                }
                NodeKind::Other => self.skipped.push(way.path),
            }
        }
        Ok(())
    }

    /// The copy that was made of a file by another of its names.
    fn first_of_links(&mut self, tree: &Arc<dyn Tree>, way: &Way) -> io::Result<Option<LayerPath>> {
        let Some(file) = tree.links(&way.real)? else {
            return Ok(None);
        };
        Ok(match self.links.entry(file) {
            btree_map::Entry::Occupied(first) => Some(first.get().clone()),
            btree_map::Entry::Vacant(first) => {
                first.insert(way.place.clone());
                None
            }
        })
    }

    /// What becomes of a file: what leaves out most counts.
    fn fate(&self, wanted: Wanted<'_>, way: &Way, directory: bool) -> Fate {
        let ignored = wanted.context.fate(&way.path, directory);
        let excluded = fate(&self.flags.excluded, &way.below, directory);
        let other = wanted
            .others
            .map_or(Fate::Taken, |others| fate(others, &way.below, directory));
        ignored.max(excluded).max(other)
    }

    /// Copies the directories that what comes next is in.
    fn copy_pending(&mut self) -> Result<()> {
        for (place, original) in std::mem::take(&mut self.pending) {
            self.copy_node(place, original, EntryKind::Directory)?;
        }
        Ok(())
    }

    /// Reads what a copy has of a file beside its content. As in BuildKit, what a context's files have
    /// is this machine's affair, but for the capabilities of programs.
    fn original(&self, context: &Context, (path, real): Paths<'_>, node: Node) -> Result<Original> {
        let mut attributes = match node.kind {
            NodeKind::File { .. } | NodeKind::Directory => context.tree.attributes(real),
            NodeKind::Symlink { .. } | NodeKind::Other => Ok(BTreeMap::new()),
        }
        .map_err(|source| context.unreadable(path, source))?;
        if !self.manner.keep_owner {
            attributes.retain(|name, _| name == CAPABILITY);
        }
        Ok(Original { node, attributes })
    }

    fn copy_file(&mut self, place: LayerPath, original: Original, content: Content) -> Result<()> {
        let mode = original.node.mode;
        let mut member = Member::file(place, mode, content, &self.manner.reason);
        self.own(&mut member.entry, original);
        self.count += 1;
        self.insert(member)
    }

    /// Copies what has no content.
    fn copy_node(&mut self, place: LayerPath, original: Original, kind: EntryKind) -> Result<()> {
        let mut entry = Entry::new(place, kind);
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            entry.mode = original.node.mode;
        }
        self.own(&mut entry, original);
        self.count += 1;
        self.insert(Member::bare(entry, &self.manner.reason))
    }

    /// Gives a copy the owner and mode that were asked for, or the original's, and its attributes.
    fn own(&self, entry: &mut Entry, original: Original) {
        if self.manner.keep_owner {
            (entry.uid, entry.gid) = (original.node.uid, original.node.gid);
        }
        entry.xattrs = original.attributes;
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            entry.mode = self.mode(entry.mode, entry.kind == EntryKind::Directory);
        }
    }

    /// The mode that was asked for, where the original's is this.
    fn mode(&self, original: u32, directory: bool) -> u32 {
        match &self.flags.chmod {
            Some(chmod) => chmod.apply(original, directory),
            None => original,
        }
    }

    /// Makes the directory that the contents of others go to, if it is missing. It has nothing
    /// from them, nor from `--chmod` unless it was named as a directory.
    fn make_directory(&mut self, place: &LayerPath) -> Result<()> {
        if self.exists(place) {
            return Ok(());
        }
        let mut entry = Entry::new(place.clone(), EntryKind::Directory);
        if self.manner.is_directory() {
            entry.mode = self.mode_above();
        }
        self.insert(Member::bare(entry, &self.manner.reason))
    }

    /// The mode of directories that are made on the way to the destination. As in BuildKit, `--chmod`
    /// is for them, too, if it says a mode and not a change to one.
    fn mode_above(&self) -> u32 {
        match &self.flags.chmod {
            Some(Chmod::Octal(mode)) => mode & 0o777,
            _ => 0o755,
        }
    }

    fn exists(&self, place: &LayerPath) -> bool {
        place.is_root() || matches!(self.view.node(place), Ok(Some(_)))
    }

    /// Puts a file into the layer, with the owner and time that were asked for.
    fn insert(&mut self, mut member: Member) -> Result<()> {
        if let Some((uid, gid)) = self.manner.owner {
            (member.entry.uid, member.entry.gid) = (uid, gid);
        }
        if self.manner.owner.is_some() || matches!(self.flags.chmod, Some(Chmod::Octal(_))) {
            self.make_parents(&member.entry.path)?;
        }
        member.entry.mtime = self.manner.mtime;
        self.insert_as_is(member)
    }

    /// Makes the directories on the way to a file, where they are missing: with the owner and mode that
    /// were asked for.
    fn make_parents(&mut self, path: &LayerPath) -> Result<()> {
        let (uid, gid) = self.manner.owner.unwrap_or_default();
        let mode = self.mode_above();
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
                mode,
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
        let mut member = Arc::new(member);
        let path = &member.entry.path;
        if path.components().any(|name| name.starts_with(b".wh.")) {
            return Err(refused(
                path,
                "in a layer, names that start with `.wh.` remove other files",
            ));
        }
        self.check_parent(path)?;
        if member.entry.kind != EntryKind::Directory {
            self.parent = self
                .parent
                .take()
                .filter(|parent| !parent.starts_with(path));
        }
        let mut seen = Arc::clone(&member);
        if let EntryKind::Hardlink { target } = &member.entry.kind {
            let found = self.view.file(&target.to_string()).ok().flatten();
            let Some(file) = found else {
                return Err(refused(
                    path,
                    "it is a hard link to a file that is not there",
                ));
            };
            let own = Arc::make_mut(&mut seen);
            own.entry.kind = file.entry.kind;
            own.content = file.content;
            if !self.layer.has(target) {
                // No layer can link to a file of another one.
                member = Arc::clone(&seen);
            }
        }
        self.view.insert(seen);
        if let EntryKind::Hardlink { target } = &member.entry.kind {
            self.view.link(&member.entry.path, target);
        }
        self.layer.insert(member);
        Ok(())
    }

    /// Refuses to put something below what is no directory. Most files have a neighbour's parent.
    fn check_parent(&mut self, path: &LayerPath) -> Result<()> {
        let parent = path.parent();
        if self.parent.is_none() || self.parent != parent {
            self.view.place(path)?;
            self.parent = parent;
        }
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
