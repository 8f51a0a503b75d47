//! Extended attributes of files on disk, claims among them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr};
use rustix::io::Errno;
use smidge_image::Claim;

/// The most bytes of one attribute, and of the names of all (xattr(7)).
const LIMIT: usize = 1 << 16;

/// Enough for what most files have.
const USUAL: usize = 1 << 10;

/// What sets capabilities of programs (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

/// Where [`CAPABILITY`] is kept when it may not be set: the file's time in seconds since 1970, a space,
/// and the value. The kernel takes capabilities from a file that is written to (capabilities(7)); these
/// it does not know, so they count only as long as the file has that time.
const KEPT_CAPABILITY: &str = "user.smidge.capability";

/// Attributes by their names.
pub(crate) type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Attributes that a layer may set. Those of overlayfs could make it show files from elsewhere, claims
/// are this machine's, and those of security modules belong to the host.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !Claim::is_private(name))
        || name == CAPABILITY
        || name.starts_with(b"system.posix_acl_")
}

/// Reads all attributes of an open file. Where the file system has none, neither has the file.
pub(crate) fn read_all(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::new();
    for name in names(file)?.split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        match read(file, name) {
            Ok(value) => attributes.insert(name.to_vec(), value),
            Err(Errno::NODATA) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(attributes)
}

fn names(file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    sized(|buffer| match flistxattr(file, buffer) {
        Err(Errno::OPNOTSUPP) => Ok(0),
        listed => listed,
    })
    .map_err(io::Error::from)
}

fn read(file: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    sized(|buffer| fgetxattr(file, OsStr::from_bytes(name), buffer))
}

/// Gives a reader as much room as it needs.
fn sized(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = [0; USUAL];
    match read(&mut buffer) {
        Err(Errno::RANGE) => {
            let mut buffer = vec![0; LIMIT];
            let length = read(&mut buffer)?;
            buffer.truncate(length);
            Ok(buffer)
        }
        length => Ok(buffer[..length?].to_vec()),
    }
}

/// What a layer says of these attributes of a file that last changed at `mtime`. The kernel writes down
/// for whose user namespace a program has its capabilities (user_namespaces(7), "version 3"); a layer is
/// for any.
pub(crate) fn for_layer(attributes: &Attributes, mtime: i64) -> Attributes {
    let kept = attributes.iter().filter(|(name, _)| is_kept(name));
    let mut all: Attributes = kept
        .map(|(name, value)| match name.as_slice() {
            CAPABILITY => (name.clone(), unbound(value)),
            _ => (name.clone(), value.clone()),
        })
        .collect();
    let time = format!("{mtime} ");
    let capability = attributes.get(KEPT_CAPABILITY.as_bytes());
    if let Some(value) = capability.and_then(|kept| kept.strip_prefix(time.as_bytes())) {
        all.entry(CAPABILITY.to_vec())
            .or_insert_with(|| value.to_vec());
    }
    all
}

/// Keeps capabilities beside a file that may not have them. Tells whether the attribute is theirs.
pub(crate) fn keep_capability(
    file: BorrowedFd<'_>,
    (name, value): (&[u8], &[u8]),
    mtime: i64,
) -> rustix::io::Result<bool> {
    if name != CAPABILITY {
        return Ok(false);
    }
    let kept = [format!("{mtime} ").as_bytes(), value].concat();
    fsetxattr(file, KEPT_CAPABILITY, &kept, XattrFlags::empty()).map(|()| true)
}

/// Brings what [`keep_capability`] has kept up to date: with a file's new time, or gone.
pub(crate) fn settle_capability(
    file: BorrowedFd<'_>,
    found: &Attributes,
    stated: &Attributes,
    mtime: i64,
) -> rustix::io::Result<()> {
    if !found.contains_key(KEPT_CAPABILITY.as_bytes()) {
        return Ok(());
    }
    match stated.get(CAPABILITY) {
        Some(value) if !found.contains_key(CAPABILITY) => {
            keep_capability(file, (CAPABILITY, value), mtime).map(drop)
        }
        _ => fremovexattr(file, KEPT_CAPABILITY),
    }
}

/// `struct vfs_ns_cap_data` without its last field is `struct vfs_cap_data`, but for the revision, the
/// most significant byte of the first field, which is little-endian.
fn unbound(capability: &[u8]) -> Vec<u8> {
    let mut value = capability.to_vec();
    if value.len() == 24 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
    value
}

/// Bytes that attributes take.
pub(crate) fn length(attributes: &Attributes) -> usize {
    let lengths = attributes
        .iter()
        .map(|(name, value)| name.len() + value.len());
    lengths.sum()
}

/// The claim among a file's attributes.
pub(crate) fn claimed(attributes: &Attributes) -> Option<Claim> {
    Claim::parse(attributes.get(Claim::ATTRIBUTE.as_bytes())?)
}

/// The claim of a file that is open for nothing but its path.
pub(crate) fn claim_of_path(file: impl AsFd) -> Option<Claim> {
    // Such a descriptor does not do for fgetxattr(2).
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let mut value = [0; Claim::MAX_LENGTH];
    let length = getxattr(path, Claim::ATTRIBUTE, &mut value[..]).ok()?;
    Claim::parse(&value[..length])
}

/// Writes a claim down. One that says nothing is taken away instead.
pub(crate) fn set_claim(file: BorrowedFd<'_>, claim: &Claim) -> rustix::io::Result<()> {
    if !claim.is_empty() {
        let text = claim.to_string();
        return fsetxattr(file, Claim::ATTRIBUTE, text.as_bytes(), XattrFlags::empty());
    }
    remove(file, Claim::ATTRIBUTE)
}

fn remove(file: impl AsFd, name: &str) -> rustix::io::Result<()> {
    match fremovexattr(file, name) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        removed => removed,
    }
}

/// The attributes that make a directory opaque, for mounts without and with `userxattr`.
pub(crate) const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Whether a directory hides what lower layers have in it.
pub(crate) fn is_opaque(directory: impl AsFd) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0; 1];
        fgetxattr(&directory, *name, &mut value[..]) == Ok(1) && value == *b"y"
    })
}

/// Lets a directory show what lower layers have in it.
pub(crate) fn clear_opaque(directory: impl AsFd) -> rustix::io::Result<()> {
    let [trusted, user] = OPAQUE;
    match remove(&directory, trusted) {
        // Who may not remove it cannot have set it.
        Ok(()) | Err(Errno::PERM) => remove(&directory, user),
        refused => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_whose_they_are() {
        let bound: Vec<u8> = [1, 0, 0, 3]
            .into_iter()
            .chain([7; 16])
            .chain([0xe8, 3, 0, 0])
            .collect();
        let free: Vec<u8> = [1, 0, 0, 2].into_iter().chain([7; 16]).collect();
        assert_eq!(unbound(&bound), free);
        assert_eq!(unbound(&free), free);
        assert!(unbound(&[]).is_empty());
    }

    #[test]
    fn capabilities_that_are_kept_are_of_files_that_have_not_changed() {
        let of = |attributes: &[(&str, &[u8])]| -> Attributes {
            let owned = |(name, value): &(&str, &[u8])| (name.as_bytes().to_vec(), value.to_vec());
            attributes.iter().map(owned).collect()
        };
        let kept = of(&[("user.smidge.capability", b"5 a b")]);
        let both = of(&[
            ("security.capability", b"x"),
            ("user.smidge.capability", b"5 a b"),
        ]);
        for (attributes, mtime, expected) in [
            (&kept, 5, Some(&b"a b"[..])),
            (&kept, 55, None),
            (&both, 5, Some(b"x")),
        ] {
            let stated = for_layer(attributes, mtime);
            assert_eq!(stated.get(CAPABILITY).map(Vec::as_slice), expected);
            assert_eq!(stated.len(), usize::from(expected.is_some()));
        }
    }

    #[test]
    fn what_belongs_to_the_machine_is_not_kept() {
        for kept in [
            "user.colour",
            "security.capability",
            "system.posix_acl_access",
        ] {
            assert!(is_kept(kept.as_bytes()), "{kept}");
        }
        for left in [
            "user.smidge.claim",
            "user.overlay.redirect",
            "trusted.overlay.opaque",
            "trusted.x",
            "security.selinux",
        ] {
            assert!(!is_kept(left.as_bytes()), "{left}");
        }
    }
}
