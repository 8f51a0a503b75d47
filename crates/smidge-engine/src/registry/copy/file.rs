//! A file that takes its place whole, or leaves nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::{Error, Kind, Result};

/// Bytes that are written at a time.
const BUFFER: usize = 1 << 18;

/// A file in the making. Dropping it removes it.
pub(super) struct Output {
    /// What it is to be.
    path: PathBuf,
    /// What it is until then; `None` for what is there and no file, as a pipe: that is written as it
    /// is.
    temporary: Option<PathBuf>,
    file: File,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let created = match path.metadata() {
            Ok(found) if found.is_dir() => {
                let fault = format!("`{}` is a directory, not a file", path.display());
                return Err(Error::new(Kind::Input, fault));
            }
            Ok(found) if !found.is_file() => Self::existing(path),
            // Where a link leads, the file is replaced, not the link.
            Ok(_) => fs::canonicalize(path).and_then(|path| Self::beside(&path)),
            Err(_) => Self::beside(path),
        };
        created.map_err(|source| unwritable(path, source))
    }

    fn existing(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            temporary: None,
            file: OpenOptions::new().write(true).open(path)?,
        })
    }

    fn beside(path: &Path) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let name = format!(".smidge-{}-{number}", process::id());
            let temporary = path.with_file_name(name);
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    return Ok(Self {
                        path: path.to_owned(),
                        temporary: Some(temporary),
                        file,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes all of it, and gives it its place.
    pub(super) fn write<T>(
        mut self,
        content: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<T> {
        let mut writer = BufWriter::with_capacity(BUFFER, &self.file);
        let outcome = content(&mut writer)?;
        let flushed = writer.flush();
        drop(writer);
        flushed.map_err(|source| unwritable(&self.path, source))?;
        if let Some(temporary) = &self.temporary {
            let placed = fs::rename(temporary, &self.path);
            placed.map_err(|source| unwritable(&self.path, source))?;
            self.temporary = None;
        }
        Ok(outcome)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    Error::io(format!("cannot write `{}`", path.display()), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn writing(text: &'static [u8]) -> impl FnOnce(&mut dyn Write) -> Result<()> {
        move |output| output.write_all(text).map_err(|e| Error::io("no", e))
    }

    fn failing(_: &mut dyn Write) -> Result<()> {
        Err(Error::new(Kind::Host, "no"))
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let output = Output::create(&path).unwrap();
        let fault = output.write(failing).unwrap_err();
        assert_eq!(fault.message(), "no");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let write = |output: &mut dyn Write| {
            output.write_all(b"new").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            Ok(())
        };
        Output::create(&path).unwrap().write(write).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn links_stay_and_lead_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let output = Output::create(&link).unwrap();
        output.write(writing(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(link.is_symlink());
        assert_eq!(names(directory.path()), ["file", "link"]);
    }

    #[test]
    fn what_is_no_file_is_written_as_it_is() {
        let output = Output::create(Path::new("/dev/null")).unwrap();
        output.write(writing(b"gone")).unwrap();
        assert!(!Path::new("/dev/null").is_file());
        let fault = Output::create(Path::new("/")).map(drop).unwrap_err();
        assert_eq!(fault.message(), "`/` is a directory, not a file");
    }
}
