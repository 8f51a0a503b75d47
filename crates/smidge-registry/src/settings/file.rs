//! Settings files as text: bounded, and only regular files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::{Error, Result};

/// No settings file is that large; what is larger is another file.
const MOST_BYTES: u64 = 4 << 20;

/// `/dev/null`, which people give in place of a file that is not wanted.
const NULL_DEVICE: u64 = 0x103;

/// An error about a file.
pub(super) fn fault(path: &Path, why: impl Into<String>) -> Error {
    Error::Settings {
        path: path.to_owned(),
        why: why.into(),
    }
}

/// The text of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(fault(path, reason(&error))),
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        })),
        Err(error) => {
            let sound = error.utf8_error().valid_up_to();
            let line = line_at(error.as_bytes(), sound);
            Err(fault(path, format!("line {line}: the text is not UTF-8")))
        }
    }
}

/// The files `*.conf` of a directory by name, or the path itself if it is no directory.
pub(super) fn conf_files(path: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let of_directory = |error: io::Error| fault(path, reason(&error));
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(of_directory)? {
        let file = entry.map_err(of_directory)?.path();
        if file.extension().is_some_and(|e| e == "conf") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The line, counted from 1, that an offset is on.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    1 + before.iter().filter(|b| **b == b'\n').count()
}

/// Whether an error says that a file is not there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// An I/O error in words, without the number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path)?;
    let kind = metadata.file_type();
    if kind.is_char_device() && metadata.rdev() == NULL_DEVICE {
        return Ok(Vec::new());
    }
    if kind.is_dir() {
        return Err(io::Error::other("it is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {} MiB, which no such file is",
            MOST_BYTES >> 20
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn why(path: &Path) -> String {
        match read(path) {
            Err(Error::Settings { path: named, why }) => {
                assert_eq!(named, path);
                why
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_there_is_none_and_null_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert!(read(&file).unwrap().is_none());
        fs::write(&file, "\u{feff}a").unwrap();
        assert_eq!(read(&file).unwrap().unwrap(), "a");
        assert!(read(&file.join("below")).unwrap().is_none());
        assert_eq!(read(Path::new("/dev/null")).unwrap().unwrap(), "");
    }

    #[test]
    fn other_than_regular_files_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(why(dir.path()), "it is a directory, not a file");
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(why(&fifo), "it is not a regular file");
        assert_eq!(why(Path::new("/dev/zero")), "it is not a regular file");
    }

    #[test]
    fn files_of_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "a").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        if rustix::process::geteuid().is_root() {
            assert_eq!(read(&file).unwrap().unwrap(), "a");
        } else {
            assert_eq!(why(&file), "Permission denied");
        }
    }

    #[test]
    fn large_files_and_other_encodings_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        File::create(&file)
            .unwrap()
            .set_len(MOST_BYTES + 1)
            .unwrap();
        assert_eq!(why(&file), "it is larger than 4 MiB, which no such file is");
        fs::write(&file, b"one\ntwo \xff").unwrap();
        assert_eq!(why(&file), "line 2: the text is not UTF-8");
    }
}
