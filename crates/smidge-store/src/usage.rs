//! How much disk files take up.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat,
};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Bytes of disk that a file or directory takes up, as far as it can be read. Hard links count
/// once for every name.
pub fn disk_usage(path: &Path) -> u64 {
    usage_of(path, true)
}

/// The same without the directories themselves.
pub fn file_usage(path: &Path) -> u64 {
    usage_of(path, false)
}

fn usage_of(path: &Path, with_directories: bool) -> u64 {
    let counted = |stat: &Stat| with_directories || !is_directory(stat);
    let top = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok();
    let mut bytes = top.filter(counted).map_or(0, |stat| size(&stat));
    let Ok(root) = openat(CWD, path, DIRECTORY, Mode::empty()) else {
        return bytes;
    };
    // A program that makes links of its directories meanwhile leads nobody out.
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let Ok(directory) = openat2(&root, &path, DIRECTORY, Mode::empty(), beneath) else {
            continue;
        };
        for entry in Dir::read_from(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if counted(&stat) {
                bytes += size(&stat);
            }
            if is_directory(&stat) {
                pending.push(path.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    bytes
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or_default() * 512
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn what_links_lead_to_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("in"), root.path().join("out"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("large"), vec![1; 1 << 20]).unwrap();
        fs::write(inside.join("a/b/file"), vec![1; 9000]).unwrap();
        symlink(&outside, inside.join("a/link")).unwrap();
        symlink(&inside, root.path().join("itself")).unwrap();
        let blocks = |path: &Path| path.symlink_metadata().unwrap().blocks() * 512;
        let files = blocks(&inside.join("a/b/file")) + blocks(&inside.join("a/link"));
        assert_eq!(file_usage(&inside), files);
        let directories = ["", "a", "a/b"].map(|name| blocks(&inside.join(name)));
        let all = files + directories.iter().sum::<u64>();
        assert_eq!(disk_usage(&inside), all);
        let link = root.path().join("itself");
        assert_eq!(disk_usage(&link), blocks(&link));
        assert_eq!(disk_usage(&root.path().join("missing")), 0);
    }
}
