//! A layer in the making, and the files of an image as its layers so far make them up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smidge_image::{
    DiffId, Entry, EntryKind, LayerPath, LayerWriter, Node, NodeKind, ReadAt, Tree,
};
use smidge_store::{LayeredTree, Store};

use super::content::{Content, Stream};
use super::response;
use crate::{Error, Kind, Progress, Result};

/// A file that goes into an image.
#[derive(Clone)]
pub(super) struct Member {
    /// What the layer says about it.
    pub(super) entry: Entry,
    /// Its bytes; none for what is not a regular file.
    pub(super) content: Option<Content>,
    /// Why it is there.
    pub(super) reason: String,
}

impl Member {
    /// A regular file that belongs to root.
    pub(super) fn file(path: LayerPath, mode: u32, content: Content, reason: &str) -> Self {
        let kind = EntryKind::File {
            size: content.size(),
        };
        let entry = Entry {
            mode,
            ..Entry::new(path, kind)
        };
        Self {
            entry,
            content: Some(content),
            reason: reason.to_owned(),
        }
    }

    /// Anything that has no content.
    pub(super) fn bare(entry: Entry, reason: &str) -> Self {
        Self {
            entry,
            content: None,
            reason: reason.to_owned(),
        }
    }
}

/// Files by their paths. A layer, the image that it makes and the stages that start from it have most of
/// them in common.
type Members = BTreeMap<LayerPath, Arc<Member>>;

/// A layer in the making: what it will say about each path.
#[derive(Clone, Default)]
pub(super) struct Layer {
    members: Members,
}

impl Layer {
    /// Puts a file in, in place of what the layer said about its path, and about paths below it
    /// unless it is a directory.
    pub(super) fn insert(&mut self, member: impl Into<Arc<Member>>) {
        let mut member = member.into();
        let path = member.entry.path.clone();
        self.release(&path);
        if member.entry.kind != EntryKind::Directory {
            let below: Vec<_> = below(&self.members, &path).cloned().collect();
            for path in below {
                self.release(&path);
                self.members.remove(&path);
            }
        }
        // A link to a link is one to the file: that comes first, whatever their names.
        if let EntryKind::Hardlink { target } = &member.entry.kind
            && let Some(link) = self.members.get(target)
            && matches!(link.entry.kind, EntryKind::Hardlink { .. })
        {
            let kind = link.entry.kind.clone();
            Arc::make_mut(&mut member).entry.kind = kind;
        }
        self.members.insert(path, member);
    }

    /// Whether it says anything about a path.
    pub(super) fn has(&self, path: &LayerPath) -> bool {
        self.members.contains_key(path)
    }

    /// Makes hard links to a file independent of it, because it is about to be replaced.
    fn release(&mut self, path: &LayerPath) {
        let Some(old) = self
            .members
            .get(path)
            .filter(|old| old.content.is_some())
            .cloned()
        else {
            return;
        };
        for member in self.members.values_mut() {
            if matches!(&member.entry.kind, EntryKind::Hardlink { target } if target == path) {
                let member = Arc::make_mut(member);
                member.entry.kind = old.entry.kind.clone();
                member.content.clone_from(&old.content);
            }
        }
    }

    /// Adds the directories above its files: as they are in the image so far, or else root's, 0755.
    /// An unpacked layer is one of overlayfs' directories, whose own attributes cover those below; and
    /// Docker makes missing ones 0600 (seen with 20.10), which shuts out every user but root.
    pub(super) fn complete(&mut self, lower: &RootFs, mtime: i64) {
        let parents: BTreeSet<_> = self
            .members
            .keys()
            .flat_map(LayerPath::ancestors)
            .filter(|path| !path.is_root() && !self.members.contains_key(path))
            .collect();
        for path in parents {
            let mut entry = Entry {
                mtime,
                ..Entry::new(path.clone(), EntryKind::Directory)
            };
            if let Ok(Some(node)) = lower.node(&path) {
                (entry.mode, entry.uid, entry.gid) = (node.mode, node.uid, node.gid);
                entry.xattrs = lower.attributes(&path).unwrap_or_default();
            }
            let member = Member::bare(entry, "directory");
            self.members.insert(path, Arc::new(member));
        }
    }

    /// Gives every file the same time.
    pub(super) fn set_times(&mut self, mtime: i64) {
        self.members
            .values_mut()
            .for_each(|member| Arc::make_mut(member).entry.mtime = mtime);
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Everything in it, in order of paths.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(AsRef::as_ref)
    }

    /// Bytes of all contents.
    pub(super) fn size(&self) -> u64 {
        self.members()
            .filter_map(|member| member.content.as_ref())
            .map(Content::size)
            .sum()
    }

    /// Writes the layer into the store. Returns its name and size in bytes.
    pub(super) fn write(&self, store: &Store, progress: &dyn Progress) -> Result<(DiffId, u64)> {
        let task = progress.task("packing", Some(self.size()));
        let mut writer = LayerWriter::new(store.blob_writer()?);
        // Hard links can only name what came before them.
        let is_link = |m: &&Member| matches!(m.entry.kind, EntryKind::Hardlink { .. });
        let links = self.members().filter(is_link);
        for member in self
            .members()
            .filter(|member| !is_link(member))
            .chain(links)
        {
            append(&mut writer, member).map_err(|source| {
                let message = format!("cannot put `{}` into the image", member.entry.path);
                Error::io(message, source)
            })?;
            task.advance(member.entry.size());
        }
        let blob = writer
            .finish()
            .map_err(|source| Error::io("cannot write the layer", source))?;
        let (digest, size) = blob.commit()?;
        task.finish();
        Ok((DiffId(digest), size))
    }
}

fn append<W: io::Write>(writer: &mut LayerWriter<W>, member: &Member) -> io::Result<()> {
    match &member.content {
        Some(content) => writer.append(&member.entry, &mut Stream::new(&*content.open()?)),
        None => writer.append(&member.entry, &mut io::empty()),
    }
}

/// The files of an image so far: layers of the store that are unpacked, and over them what was added
/// since.
///
/// Directories that no layer mentions exist if something is below them: 0755, root's.
#[derive(Clone, Default)]
pub(super) struct RootFs {
    /// What the image's unpacked layers hold.
    lower: Option<Arc<LayeredTree>>,
    members: Members,
    /// Directories that took the place of something else: nothing of `lower` shows through.
    opaque: BTreeSet<LayerPath>,
    /// Names that a file shares with others, and which file that is.
    linked: BTreeMap<LayerPath, (u64, u64)>,
}

/// Stands for a device in the identities of files that are on none.
const NOWHERE: u64 = u64::MAX;

/// Numbers files that have several names.
static FILES: AtomicU64 = AtomicU64::new(0);

impl RootFs {
    /// Starts from unpacked layers.
    pub(super) fn over(lower: Arc<LayeredTree>) -> Self {
        Self {
            lower: Some(lower),
            ..Self::default()
        }
    }

    /// Lays a layer over what is there.
    pub(super) fn apply(&mut self, layer: &Layer) {
        let mut links = Vec::new();
        for member in layer.members.values() {
            let mut member = Arc::clone(member);
            let mut first = None;
            if let EntryKind::Hardlink { target } = &member.entry.kind {
                // In the layer or, as far as it was there before, below it.
                let file = match layer.members.get(target) {
                    Some(file) => Some((**file).clone()),
                    None => self.member(target).ok().flatten(),
                };
                let Some(file) = file else { continue };
                first = Some(target.clone());
                let member = Arc::make_mut(&mut member);
                member.entry.kind = file.entry.kind;
                member.content = file.content;
            }
            let path = member.entry.path.clone();
            self.insert(member);
            if let Some(first) = first {
                links.push((path, first));
            }
        }
        // Last, since a layer's files come by their names: a link may come before what it leads to.
        links
            .iter()
            .for_each(|(path, first)| self.link(path, first));
    }

    /// Takes note that a name is another one of a file.
    pub(super) fn link(&mut self, name: &LayerPath, first: &LayerPath) {
        let known = self.links(first).ok().flatten();
        let file = known.unwrap_or_else(|| (NOWHERE, FILES.fetch_add(1, Ordering::Relaxed)));
        self.linked.insert(first.clone(), file);
        self.linked.insert(name.clone(), file);
    }

    /// Puts one file in, in place of what was at its path. It must not be a hard link.
    pub(super) fn insert(&mut self, member: impl Into<Arc<Member>>) {
        let member = member.into();
        let path = member.entry.path.clone();
        self.linked.remove(&path);
        if member.entry.kind == EntryKind::Directory {
            let replaced =
                matches!(self.node(&path), Ok(Some(node)) if node.kind != NodeKind::Directory);
            if replaced {
                self.opaque.insert(path.clone());
            }
        } else {
            let below: Vec<_> = below(&self.members, &path).cloned().collect();
            below
                .iter()
                .for_each(|path| drop((self.members.remove(path), self.linked.remove(path))));
            self.opaque
                .retain(|path_below| !path_below.starts_with(&path));
        }
        self.members.insert(path, member);
    }

    /// The regular file at a path, links followed.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<Member>> {
        let Some((path, _)) = self.resolve(path.as_bytes())? else {
            return Ok(None);
        };
        let member = self.member(&path)?;
        Ok(member.filter(|member| member.content.is_some()))
    }

    /// What is at a path, as it would be copied; links are not followed.
    fn member(&self, path: &LayerPath) -> io::Result<Option<Member>> {
        if let Some(member) = self.members.get(path) {
            return Ok(Some((**member).clone()));
        }
        let (Some(lower), Some(node)) = (self.shown(path), self.node(path)?) else {
            return Ok(None);
        };
        let NodeKind::File { size } = node.kind else {
            return Ok(None);
        };
        let content = Content::tree(Arc::clone(lower) as Arc<dyn Tree>, path.clone(), size);
        let mut member = Member::file(path.clone(), node.mode, content, "");
        (member.entry.uid, member.entry.gid) = (node.uid, node.gid);
        Ok(Some(member))
    }

    /// The unpacked layers, if what they have at a path is to be seen.
    fn shown(&self, path: &LayerPath) -> Option<&Arc<LayeredTree>> {
        let hides = |above: &LayerPath| {
            let covered = self.members.get(above);
            covered.is_some_and(|member| member.entry.kind != EntryKind::Directory)
                || self.opaque.contains(above)
        };
        let lower = self.lower.as_ref()?;
        (!path.ancestors().any(|above| hides(&above))).then_some(lower)
    }

    /// The files that were added and have content, and links, for the summary.
    pub(super) fn contents(&self) -> Vec<response::Content> {
        let described = |member: &Member| response::Content {
            path: member.entry.path.to_string(),
            size: member.entry.size(),
            reason: member.reason.clone(),
        };
        let told = |member: &&Member| member.entry.kind != EntryKind::Directory;
        let members = self.members.values().map(AsRef::as_ref);
        members.filter(told).map(described).collect()
    }

    /// Where a new file of this name ends up: its directory's links are followed as far as the
    /// directory exists; below that, the path is taken as it stands.
    pub(super) fn place(&self, path: &LayerPath) -> Result<LayerPath> {
        let failed = |source| Error::io(format!("cannot look up `{path}` in the image"), source);
        let mut here = LayerPath::root();
        let mut components = path.components().peekable();
        while let Some(name) = components.next() {
            let next = here.join(name).map_err(|e| Error::of(Kind::Input, e))?;
            let last = components.peek().is_none();
            here = match self.node(&next).map_err(failed)?.map(|node| node.kind) {
                Some(NodeKind::Symlink { .. }) if !last => {
                    match self.resolve(next.as_bytes()).map_err(failed)? {
                        Some((
                            path,
                            Node {
                                kind: NodeKind::Directory,
                                ..
                            },
                        )) => path,
                        _ => return Err(not_a_directory(&next)),
                    }
                }
                Some(NodeKind::Directory) | None => next,
                Some(_) if last => next,
                Some(_) => return Err(not_a_directory(&next)),
            };
        }
        Ok(here)
    }
}

fn not_a_directory(path: &LayerPath) -> Error {
    Error::new(
        Kind::Input,
        format!("`{path}` in the image is not a directory"),
    )
}

impl Tree for RootFs {
    fn node(&self, path: &LayerPath) -> io::Result<Option<Node>> {
        if let Some(entry) = self.members.get(path).map(|member| &member.entry) {
            let kind = match &entry.kind {
                EntryKind::File { size } => NodeKind::File { size: *size },
                EntryKind::Directory => NodeKind::Directory,
                EntryKind::Symlink { target } => NodeKind::Symlink {
                    target: target.clone(),
                },
                _ => NodeKind::Other,
            };
            return Ok(Some(Node {
                kind,
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
            }));
        }
        if let Some(lower) = self.shown(path)
            && let Some(node) = lower.node(path)?
        {
            return Ok(Some(node));
        }
        let implied = path.is_root() || below(&self.members, path).next().is_some();
        let directory = Node {
            kind: NodeKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        Ok(implied.then_some(directory))
    }

    fn open(&self, path: &LayerPath) -> io::Result<Box<dyn ReadAt + '_>> {
        let member = self.members.get(path).map(|member| &member.content);
        match (member, self.shown(path)) {
            (Some(Some(content)), _) => content.open(),
            (None, Some(lower)) => Tree::open(&**lower, path),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{path}` is no file"),
            )),
        }
    }

    fn attributes(&self, path: &LayerPath) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        match (self.members.get(path), self.shown(path)) {
            (Some(member), _) => Ok(member.entry.xattrs.clone()),
            (None, Some(lower)) if matches!(lower.node(path), Ok(Some(_))) => {
                lower.attributes(path)
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    fn links(&self, path: &LayerPath) -> io::Result<Option<(u64, u64)>> {
        if let Some(file) = self.linked.get(path) {
            return Ok(Some(*file));
        }
        match (self.members.get(path), self.shown(path)) {
            (None, Some(lower)) => lower.links(path),
            _ => Ok(None),
        }
    }

    fn list(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let depth = path.components().count();
        let mut names: Vec<_> = below(&self.members, path)
            .filter_map(|file| file.components().nth(depth).map(<[u8]>::to_vec))
            .collect();
        let lower = self.shown(path).filter(|_| !self.opaque.contains(path));
        if let Some(lower) = lower
            && let Some(node) = lower.node(path)?
            && node.kind == NodeKind::Directory
        {
            names.extend(lower.list(path)?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// The paths below a path, in order.
fn below<'m>(members: &'m Members, path: &'m LayerPath) -> impl Iterator<Item = &'m LayerPath> {
    // Between a directory and what is in it, `a!` may come between `a` and `a/b`.
    members
        .range(path..)
        .map(|(below, _)| below)
        .take_while(|below| below.as_bytes().starts_with(path.as_bytes()))
        .filter(move |below| *below != path && below.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn file(at: &str, text: &str) -> Member {
        Member::file(path(at), 0o644, Content::memory(text.as_bytes()), "test")
    }

    fn link(at: &str, kind: EntryKind) -> Member {
        Member::bare(Entry::new(path(at), kind), "test")
    }

    fn text(rootfs: &RootFs, at: &str) -> Option<String> {
        let member = rootfs.file(at).unwrap()?;
        let head = member.content.as_ref()?.head(100).unwrap();
        Some(String::from_utf8(head).unwrap())
    }

    #[test]
    fn later_layers_cover_earlier_ones() {
        let mut rootfs = RootFs::default();
        let mut layer = Layer::default();
        layer.insert(file("a/b", "1"));
        layer.insert(file("a!", "2"));
        layer.insert(link(
            "s",
            EntryKind::Symlink {
                target: b"a".to_vec(),
            },
        ));
        rootfs.apply(&layer);
        assert_eq!(text(&rootfs, "/s/b").as_deref(), Some("1"));
        assert_eq!(
            rootfs.list(&LayerPath::root()).unwrap(),
            [&b"a"[..], b"a!", b"s"]
        );
        assert_eq!(rootfs.node(&path("a")).unwrap().unwrap().mode, 0o755);

        let mut layer = Layer::default();
        layer.insert(file("a", "3"));
        rootfs.apply(&layer);
        assert_eq!(text(&rootfs, "/a/b"), None);
        assert_eq!(text(&rootfs, "/s").as_deref(), Some("3"));
        assert_eq!(text(&rootfs, "/a!").as_deref(), Some("2"));
    }

    #[test]
    fn hard_links_survive_the_replacement_of_their_target() {
        let mut layer = Layer::default();
        layer.insert(file("z", "old"));
        layer.insert(link("a", EntryKind::Hardlink { target: path("z") }));
        let mut rootfs = RootFs::default();
        rootfs.apply(&layer);
        assert_eq!(text(&rootfs, "/a").as_deref(), Some("old"));
        layer.insert(file("z", "new"));
        rootfs.apply(&layer);
        assert_eq!(text(&rootfs, "/a").as_deref(), Some("old"));
        assert_eq!(text(&rootfs, "/z").as_deref(), Some("new"));
    }

    #[test]
    fn names_of_one_file_are_known_as_such() {
        let mut layer = Layer::default();
        layer.insert(file("z", "text"));
        layer.insert(link("a", EntryKind::Hardlink { target: path("z") }));
        layer.insert(file("other", "text"));
        let mut rootfs = RootFs::default();
        rootfs.apply(&layer);
        let links = |rootfs: &RootFs, at: &str| rootfs.links(&path(at)).unwrap();
        assert!(links(&rootfs, "a").is_some());
        assert_eq!(links(&rootfs, "a"), links(&rootfs, "z"));
        assert_eq!(links(&rootfs, "other"), None);
        rootfs.insert(file("z", "new"));
        assert_eq!(links(&rootfs, "z"), None);
    }

    #[test]
    fn places_follow_the_links_of_directories() {
        let mut layer = Layer::default();
        layer.insert(link(
            "lib",
            EntryKind::Symlink {
                target: b"usr/lib".to_vec(),
            },
        ));
        layer.insert(link(
            "gone",
            EntryKind::Symlink {
                target: b"nowhere".to_vec(),
            },
        ));
        layer.insert(file("usr/lib/x", ""));
        let mut rootfs = RootFs::default();
        rootfs.apply(&layer);
        let place = |at: &str| rootfs.place(&path(at)).map(|p| p.to_string()).ok();
        assert_eq!(place("lib/y/z").as_deref(), Some("/usr/lib/y/z"));
        assert_eq!(place("lib").as_deref(), Some("/lib"));
        assert_eq!(place("new/dir/f").as_deref(), Some("/new/dir/f"));
        assert_eq!(place("usr/lib/x/below"), None);
        assert_eq!(place("gone/f"), None);
    }

    #[test]
    fn hard_links_come_after_their_targets() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut layer = Layer::default();
        layer.insert(file("z", "text"));
        layer.insert(link("a", EntryKind::Hardlink { target: path("z") }));
        let (id, size) = layer.write(&store, &Silent).unwrap();
        let blob = smidge_image::Descriptor::new("", id.0, size);
        let mut seen = Vec::new();
        let visit = |entry: Entry,
                     _: &mut dyn io::Read|
         -> std::result::Result<(), smidge_image::LayerError> {
            seen.push(entry.path.to_string());
            Ok(())
        };
        smidge_image::read_layer(store.blob(&blob).unwrap(), visit).unwrap();
        assert_eq!(seen, ["/z", "/a"]);
    }
}
