//! Files, and what they are believed to be.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, XattrFlags};
use rustix::io::Errno;
use smidge_image::{Claim, ClaimKind};

use super::caller::Place;
use crate::within;

/// A file that is held on to, whatever its name comes to mean.
#[derive(Debug)]
pub(super) struct File {
    handle: OwnedFd,
    /// Its name in `/proc`.
    name: String,
    /// What it is on disk.
    disk: Statx,
}

/// Device and inode.
type Key = (u64, u64);

/// What is believed of files that cannot bear it themselves: links, pipes, sockets, and everything on
/// file systems that keep no attributes.
#[derive(Debug)]
pub(super) struct Book {
    unmarked: BTreeMap<Key, Entry>,
    /// What a link of a layer is called once it has been copied to the writable directory: overlayfs
    /// may show it with either number. The first is the layer's, so no other file ever gets it.
    copied: BTreeMap<Key, Key>,
    /// The container's writable directory, as the host has it.
    upper: Option<OwnedFd>,
    /// The mount that is the container's root.
    root: u64,
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    /// Seconds and nanoseconds of its birth, and what it is: an inode may be used again.
    born: (i64, u32),
    kind: FileType,
    /// Where the host has it, if it is in the container's writable directory.
    home: Option<Key>,
}

impl File {
    /// Opens what is at a place, for no more than to know it.
    pub(super) fn open(place: &Place) -> Result<Self, Errno> {
        let link = if place.follow {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC | link;
        Self::held(rustix::fs::openat(CWD, &place.path, flags, Mode::empty())?)
    }

    /// The same without following a link at the end, whatever the place says.
    pub(super) fn made(place: &Place) -> Result<Self, Errno> {
        Self::open(&Place {
            path: place.without_slashes().to_vec(),
            follow: false,
        })
    }

    /// A file that is open already.
    pub(super) fn held(handle: OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            name: format!("self/fd/{}", handle.as_raw_fd()),
            disk: look(&handle, "", AtFlags::EMPTY_PATH)?,
            handle,
        })
    }

    /// The handle.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The handle, to give away.
    pub(super) fn into_handle(self) -> OwnedFd {
        self.handle
    }

    /// Where it is now.
    pub(super) fn place(&self) -> Result<Place, Errno> {
        let path = rustix::fs::readlinkat(CWD, &*self.name, Vec::new())?;
        Ok(Place {
            path: path.into_bytes(),
            follow: false,
        })
    }

    /// Looks at it again, after a change that may have copied it to the writable directory.
    pub(super) fn refresh(&mut self) -> Result<(), Errno> {
        self.disk = look(&self.handle, "", AtFlags::EMPTY_PATH)?;
        Ok(())
    }

    /// Its kind on disk.
    pub(super) fn kind(&self) -> FileType {
        kind(&self.disk)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Its permission bits on disk.
    pub(super) fn mode(&self) -> u32 {
        u32::from(self.disk.stx_mode) & 0o7777
    }

    /// What is believed of a file that nobody has claimed anything of.
    fn unclaimed(&self) -> Claim {
        Claim {
            uid: self.disk.stx_uid,
            gid: self.disk.stx_gid,
            ..Claim::default()
        }
    }

    /// Its name in `/proc`, which leads to the file itself.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn bears_attributes(&self) -> bool {
        matches!(self.kind(), FileType::RegularFile | FileType::Directory)
    }
}

impl Book {
    /// For a container whose root is `root`, and whose writable directory is `upper`.
    pub(super) fn new(root: BorrowedFd<'_>, upper: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            unmarked: BTreeMap::new(),
            copied: BTreeMap::new(),
            upper: rustix::fs::open(upper, flags, Mode::empty()).ok(),
            root: look(root, "", AtFlags::EMPTY_PATH)?.stx_mnt_id,
        })
    }

    /// Whether anything may be claimed of what is at a place, at the least cost.
    pub(super) fn mentions(&self, place: &Place) -> bool {
        let mut buffer = [0; Claim::MAX_LENGTH];
        let read = if place.follow {
            rustix::fs::getxattr(&place.path, Claim::ATTRIBUTE, &mut buffer)
        } else {
            rustix::fs::lgetxattr(&place.path, Claim::ATTRIBUTE, &mut buffer)
        };
        if read.is_ok() {
            return true;
        }
        let follow = if place.follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        !self.unmarked.is_empty()
            && look(CWD, &place.path, follow).is_ok_and(|disk| self.entry(&disk).is_some())
    }

    /// What is claimed of a file; `None` if it is what it is on disk.
    pub(super) fn claimed(&self, file: &File) -> Option<Claim> {
        let mut buffer = [0; Claim::MAX_LENGTH];
        let read = if file.bears_attributes() {
            rustix::fs::getxattr(file.name(), Claim::ATTRIBUTE, &mut buffer).ok()
        } else {
            None
        };
        match read {
            Some(length) => Claim::parse(buffer.get(..length)?),
            None => self.entry(&file.disk).map(|entry| entry.claim),
        }
    }

    /// What is believed of a file.
    pub(super) fn claim(&self, file: &File) -> Claim {
        self.claimed(file).unwrap_or_else(|| file.unclaimed())
    }

    /// Claims something of a file.
    pub(super) fn set(&mut self, file: &File, claim: &Claim) -> Result<(), Errno> {
        if file.bears_attributes() {
            let marked = if claim.is_empty() {
                match rustix::fs::removexattr(file.name(), Claim::ATTRIBUTE) {
                    Err(Errno::NODATA) => Ok(()),
                    removed => removed,
                }
            } else {
                let text = claim.to_string();
                let none = XattrFlags::empty();
                rustix::fs::setxattr(file.name(), Claim::ATTRIBUTE, text.as_bytes(), none)
            };
            match marked {
                Ok(()) => {
                    self.forget(file);
                    return Ok(());
                }
                // A file system without attributes, or somebody else's file.
                Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::OVERFLOW) => (),
                Err(errno) => return Err(errno),
            }
        }
        if *claim == file.unclaimed() {
            self.forget(file);
        } else {
            let (home, shown) = (self.home(file), key(&file.disk));
            if let Some((_, inode)) = home
                && inode != shown.1
            {
                self.copied.insert(shown, (shown.0, inode));
            }
            let entry = Entry {
                claim: *claim,
                born: born(&file.disk),
                kind: kind(&file.disk),
                home,
            };
            self.unmarked.insert(self.key(&file.disk), entry);
        }
        Ok(())
    }

    /// Forgets what was believed of another file with the inode that a new one has.
    pub(super) fn forget(&mut self, file: &File) {
        let key = self.key(&file.disk);
        self.unmarked.remove(&key);
    }

    /// Whether anything is believed of files that cannot bear it.
    pub(super) fn is_empty(&self) -> bool {
        self.unmarked.is_empty()
    }

    /// The owners of what cannot bear a claim, by device and inode on the host.
    pub(super) fn owners(&self) -> Vec<(Key, (u32, u32))> {
        self.unmarked
            .values()
            .filter(|entry| entry.claim.kind == ClaimKind::AsIs)
            .filter_map(|entry| Some((entry.home?, (entry.claim.uid, entry.claim.gid))))
            .collect()
    }

    fn entry(&self, disk: &Statx) -> Option<&Entry> {
        self.unmarked
            .get(&self.key(disk))
            .filter(|entry| entry.born == born(disk) && entry.kind == kind(disk))
    }

    /// What a file is known by here.
    fn key(&self, disk: &Statx) -> Key {
        let shown = key(disk);
        self.copied.get(&shown).copied().unwrap_or(shown)
    }

    /// Finds a file in the container's writable directory. Overlayfs may show other numbers for it, so
    /// this goes by its name, which is right now, if not for long.
    fn home(&self, file: &File) -> Option<Key> {
        let upper = self.upper.as_ref()?;
        if file.disk.stx_mnt_id != self.root {
            return None;
        }
        let place = file.place().ok()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let found = within::open_without_links(upper, &place.path, flags).ok()?;
        let found = look(&found, "", AtFlags::EMPTY_PATH).ok()?;
        (kind(&found) == file.kind()).then(|| key(&found))
    }
}

fn look<P: rustix::path::Arg>(from: impl AsFd, path: P, flags: AtFlags) -> Result<Statx, Errno> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    rustix::fs::statx(from, path, flags, mask)
}

fn key(disk: &Statx) -> Key {
    let device = rustix::fs::makedev(disk.stx_dev_major, disk.stx_dev_minor);
    (device, disk.stx_ino)
}

fn kind(disk: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(disk.stx_mode))
}

fn born(disk: &Statx) -> (i64, u32) {
    (disk.stx_btime.tv_sec, disk.stx_btime.tv_nsec)
}
