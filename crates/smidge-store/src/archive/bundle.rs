//! Where images come from: an archive or a directory, as named, spooled members.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use smidge_image::{Digest, Entry, EntryKind, LayerError, LayerPath, read_layer};

use crate::blob::DOCUMENT_LIMIT;
use crate::checkout::{Budget, Stop, unpacked};
use crate::error::{MemberFault, READ};
use crate::temp::TempDir;
use crate::{DirTree, Error, Store};

/// More members than any image has.
const MEMBERS: usize = 100_000;

/// As many links as Linux follows (path_resolution(7)).
const LINKS: usize = 40;

/// Something that has members by name.
pub(super) trait Bundle {
    /// The content of a member; `None` if there is none.
    fn member(&mut self, name: &str) -> Result<Option<Rc<Spooled>>, Error>;

    /// The content of a member that must be there.
    fn need(&mut self, name: &str) -> Result<Rc<Spooled>, Error> {
        self.member(name)?
            .ok_or_else(|| Error::member(name, MemberFault::Missing))
    }

    /// The bytes of a document.
    fn document(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.member(name)? {
            Some(spooled) => spooled.document(name).map(Some),
            None => Ok(None),
        }
    }
}

/// A member's content. It need not stay open: an archive may have more members than a process may have
/// files.
pub(super) struct Spooled {
    path: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Holds it.
    _directory: Rc<TempDir>,
}

impl Spooled {
    /// Opens it, to be read from its beginning.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Makes it a blob of the store.
    pub(super) fn adopt(&self, store: &Store) -> Result<(), Error> {
        store.adopt_file(&self.path, &self.digest, self.size)
    }

    /// The whole content, if it is small enough for a document.
    pub(super) fn document(&self, what: &str) -> Result<Vec<u8>, Error> {
        if self.size > DOCUMENT_LIMIT {
            let what = what.to_owned();
            return Err(Error::TooLarge {
                what,
                size: self.size,
                limit: DOCUMENT_LIMIT,
            });
        }
        let mut bytes = Vec::new();
        self.open()
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|source| Error::Io {
                action: READ,
                path: PathBuf::from(what),
                source,
            })?;
        Ok(bytes)
    }
}

/// Where members are kept while they are looked at.
struct Spool<'s> {
    store: &'s Store,
    directory: Rc<TempDir>,
}

impl<'s> Spool<'s> {
    fn new(store: &'s Store) -> Result<Self, Error> {
        let directory = Rc::new(store.temp_dir()?);
        Ok(Self { store, directory })
    }

    /// Copies a reader into a file, hashing it.
    fn take(&self, reader: &mut dyn Read) -> Result<Rc<Spooled>, Error> {
        let mut writer = self.store.blob_writer()?;
        io::copy(reader, &mut writer).map_err(|error| Error::carried(error, Error::Input))?;
        let (path, digest, size) = writer.park(self.directory.path())?;
        Ok(Rc::new(Spooled {
            path,
            digest,
            size,
            _directory: Rc::clone(&self.directory),
        }))
    }
}

enum Member {
    File(Rc<Spooled>),
    Link(LayerPath),
}

/// A tar archive that was read from a stream.
pub(super) struct Archive {
    members: BTreeMap<LayerPath, Member>,
    first: Option<String>,
}

impl Archive {
    /// Reads an archive, compressed or not, to its end.
    pub(super) fn read(store: &Store, input: &mut dyn Read) -> Result<Self, Error> {
        let mut archive = Self {
            members: BTreeMap::new(),
            first: None,
        };
        let mut budget = Budget::new(store)?;
        let spool = Spool::new(store)?;
        let (_, unpacked) = unpacked(input).map_err(Error::Input)?;
        let outcome = read_layer(unpacked, |entry, content| {
            let name = entry.path.to_string_lossy().into_owned();
            archive.first.get_or_insert_with(|| name.clone());
            budget.spend(entry.size(), &name).map_err(Stop::Visit)?;
            archive.admit(&spool, &entry, content).map_err(Stop::Visit)
        });
        match outcome {
            Ok(()) => Ok(archive),
            Err(Stop::Visit(error)) => Err(error),
            Err(Stop::Layer(LayerError::Read { offset, source })) => {
                Err(Error::carried(source, |source| {
                    Error::Archive(LayerError::Read { offset, source })
                }))
            }
            Err(Stop::Layer(error)) => Err(Error::Archive(error)),
        }
    }

    /// The name of the first member, for messages.
    pub(super) fn first(&self) -> Option<String> {
        self.first.clone()
    }

    fn admit(
        &mut self,
        spool: &Spool<'_>,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        let fault = |fault| Error::member(entry.path.to_string_lossy(), fault);
        if self.members.len() == MEMBERS {
            return Err(fault(MemberFault::TooMany(MEMBERS)));
        }
        let member = match &entry.kind {
            EntryKind::Directory => return Ok(()),
            EntryKind::File { .. } => Member::File(spool.take(content)?),
            EntryKind::Hardlink { target } => Member::Link(target.clone()),
            EntryKind::Symlink { target } => {
                Member::Link(link(&entry.path, target).ok_or_else(|| fault(MemberFault::Escape))?)
            }
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                return Err(fault(MemberFault::Kind));
            }
        };
        match self.members.insert(entry.path.clone(), member) {
            Some(_) => Err(fault(MemberFault::Duplicate)),
            None => Ok(()),
        }
    }
}

/// Where a symbolic link leads, if that is inside the archive.
fn link(from: &LayerPath, target: &[u8]) -> Option<LayerPath> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut here = from.parent()?;
    for component in target.split(|byte| *byte == b'/') {
        here = match component {
            b".." => here.parent()?,
            component => here.join(component).ok()?,
        };
    }
    Some(here)
}

impl Bundle for Archive {
    fn member(&mut self, name: &str) -> Result<Option<Rc<Spooled>>, Error> {
        let mut path =
            LayerPath::try_from(name).map_err(|_| Error::member(name, MemberFault::Escape))?;
        for _ in 0..LINKS {
            match self.members.get(&path) {
                Some(Member::File(spooled)) => return Ok(Some(Rc::clone(spooled))),
                Some(Member::Link(target)) if self.members.contains_key(target) => {
                    path = target.clone();
                }
                Some(Member::Link(_)) => break,
                None => return Ok(None),
            }
        }
        Err(Error::member(name, MemberFault::Link))
    }
}

/// A directory, copied member by member as they are asked for.
pub(super) struct Directory<'s> {
    spool: Spool<'s>,
    path: &'s Path,
    tree: DirTree,
    copied: HashMap<String, Rc<Spooled>>,
}

impl<'s> Directory<'s> {
    pub(super) fn open(store: &'s Store, path: &'s Path) -> Result<Self, Error> {
        let tree = DirTree::open(path).map_err(|error| unreadable(path, error))?;
        Ok(Self {
            spool: Spool::new(store)?,
            path,
            tree,
            copied: HashMap::new(),
        })
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        action: READ,
        path: path.to_owned(),
        source,
    }
}

impl Bundle for Directory<'_> {
    fn member(&mut self, name: &str) -> Result<Option<Rc<Spooled>>, Error> {
        if let Some(spooled) = self.copied.get(name) {
            return Ok(Some(Rc::clone(spooled)));
        }
        let path =
            LayerPath::try_from(name).map_err(|_| Error::member(name, MemberFault::Escape))?;
        let mut file: File = match self.tree.open_file(&path) {
            Ok(file) => file.into_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&self.path.join(name), error)),
        };
        let spooled = self.spool.take(&mut file)?;
        self.copied.insert(name.to_owned(), Rc::clone(&spooled));
        Ok(Some(spooled))
    }
}
