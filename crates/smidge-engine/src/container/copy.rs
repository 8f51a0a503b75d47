//! `cp`, `export` and `diff`: a container's files, taken out, brought in, compared.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};
use smidge_image::LayerPath;
use smidge_run::View;
use smidge_store::copy::{Keep, Owners, Place, Room, pack, place, place_all};
use smidge_store::{Change, changes};

use super::record::Known;
use super::visit::{Changed, Visit, owners, visit};
use crate::{Engine, Error, Kind, Result};

/// How files are copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Whether they keep their owners.
    pub archive: bool,
    /// Whether what the source leads to is copied, if it is a link.
    pub follow: bool,
}

impl CopyOptions {
    fn keep(self) -> Keep {
        match self.archive {
            true => Keep::Owner,
            false => Keep::Mode,
        }
    }
}

/// What is copied, and what of it.
struct Source {
    path: PathBuf,
    /// The name that it has in the archive.
    name: LayerPath,
    /// Whether what is in the directory is meant, not the directory.
    contents: bool,
}

impl Source {
    /// Reads a path as `docker cp` does: one that ends with `/.` means what is in the directory.
    fn new(path: &Path) -> Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let contents = bytes.ends_with(b"/.") || bytes == b".";
        let mut names = bytes.split(|byte| *byte == b'/');
        let last = names.rfind(|name| !name.is_empty() && *name != b".");
        let name = match last {
            None | Some(b"..") => b"_".as_slice(),
            Some(name) => name,
        };
        let name =
            LayerPath::parse(name).map_err(|fault| Error::new(Kind::Input, fault.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            name,
            // Neither has a name that could be used at the other end.
            contents: contents || matches!(last, None | Some(b"..")),
        })
    }

    fn find(&self, room: &Room, options: CopyOptions) -> Result<Place> {
        let found = room.find(&self.path, options.follow)?;
        let is_named_directory = self.path.as_os_str().as_bytes().ends_with(b"/") || self.contents;
        if found.exists() && is_named_directory && !found.is_directory() {
            let fault = format!("`{}` is not a directory", self.path.display());
            return Err(Error::new(Kind::Input, fault));
        }
        Ok(found)
    }
}

/// A path in a container: paths there start at the root.
fn inside(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

impl Engine {
    /// Copies a file or directory of a container to this machine.
    ///
    /// # Errors
    /// When there is no such container or file, when `docker cp`'s rules forbid it, when a file cannot be
    /// read or made.
    pub fn copy_out(
        &self,
        container: &str,
        path: &str,
        to: &Path,
        options: CopyOptions,
    ) -> Result<()> {
        let known = self.container(container)?;
        let source = Source::new(&inside(path))?;
        let room = Room::host()?;
        let to = self.host.absolute(to);
        if let Some(parent) = to.parent()
            && !parent.exists()
        {
            let parent = parent.display();
            let message = format!("invalid output path: directory `{parent}` does not exist");
            let fact = format!("it is to hold `{}`", to.display());
            return Err(Error::new(Kind::NotFound, message).with_fact(fact));
        }
        let to = room.find(&to, true)?;
        let (reader, writer) = pipe()?;
        let visit = send(&known, &source, options, &mut &writer, &[writer.as_fd()])?;
        drop(writer);
        let mut reader = reader;
        // Who is not root can give no file away on this machine.
        let keep = match self.host.uid {
            0 => options.keep(),
            _ => Keep::Mode,
        };
        let placed = place(&room, &to, source.contents, keep, &mut reader);
        drop(reader);
        first(visit.finish(), placed.map_err(Error::from))?;
        self.note_container(&known, "archive-path", &[]);
        Ok(())
    }

    /// Writes a file or directory of a container as a tar archive.
    ///
    /// # Errors
    /// As [`Engine::copy_out`].
    pub fn copy_out_archive(
        &self,
        container: &str,
        path: &str,
        options: CopyOptions,
        output: &File,
    ) -> Result<()> {
        let known = self.container(container)?;
        let mut source = Source::new(&inside(path))?;
        if source.contents {
            // What is in a directory lies at the archive's root, so that it is unpacked where one stands.
            source.name = LayerPath::root();
        }
        send(&known, &source, options, &mut &*output, &[output.as_fd()])?.finish()?;
        self.note_container(&known, "archive-path", &[]);
        Ok(())
    }

    /// Copies a file or directory of this machine to a container.
    ///
    /// # Errors
    /// As [`Engine::copy_out`].
    pub fn copy_in(
        &self,
        from: &Path,
        container: &str,
        path: &str,
        options: CopyOptions,
    ) -> Result<()> {
        let known = self.container(container)?;
        let absolute = self.host.absolute(from);
        let source = Source {
            path: absolute,
            ..Source::new(from)?
        };
        let found = source.find(&Room::host()?, options)?;
        let (reader, writer) = pipe()?;
        let contents = source.contents;
        let keep = [reader.as_fd()];
        let visit = visit(&known, View::Inside, &keep, || {
            let room = Room::container()?;
            let to = room.find(&inside(path), true)?;
            Ok(place(&room, &to, contents, options.keep(), &mut &reader)?)
        })?;
        drop(reader);
        let mut writer = writer;
        let packed = pack(&found, &source.name, Owners::Disk, &mut writer);
        drop(writer);
        first(packed.map_err(Error::from), visit.finish())?;
        self.note_container(&known, "extract-to-dir", &[]);
        Ok(())
    }

    /// Unpacks a tar archive into a directory of a container.
    ///
    /// # Errors
    /// As [`Engine::copy_out`]; when it is no archive.
    pub fn copy_in_archive(
        &self,
        archive: &mut dyn Read,
        container: &str,
        path: &str,
    ) -> Result<()> {
        let known = self.container(container)?;
        let visit = visit(&known, View::Inside, &[], || {
            let room = Room::container()?;
            let to = room.find(&inside(path), true)?;
            Ok(place_all(&room, &to, Keep::Owner, archive)?)
        })?;
        visit.finish()?;
        self.note_container(&known, "extract-to-dir", &[]);
        Ok(())
    }

    /// Writes a container's files, without what is mounted in it, as a tar archive.
    ///
    /// # Errors
    /// When there is no such container, when a file cannot be read, when `output` cannot be written.
    pub fn export(&self, container: &str, output: &File) -> Result<()> {
        let known = self.container(container)?;
        let owners = owners(&known.record);
        let visit = visit(&known, View::Files, &[output.as_fd()], || {
            let root = Room::container()?.find(Path::new("/"), false)?;
            Ok(pack(&root, &LayerPath::root(), owners, &mut &*output)?)
        })?;
        visit.finish()?;
        self.note_container(&known, "export", &[]);
        Ok(())
    }

    /// What a container has changed of its image's files, by path.
    ///
    /// # Errors
    /// When there is no such container, when a file cannot be read.
    pub fn diff(&self, container: &str) -> Result<Vec<(Vec<u8>, Change)>> {
        let known = self.container(container)?;
        let Some(changed) = Changed::of(&known) else {
            return Ok(Vec::new());
        };
        let visit = visit(&known, View::Host, &[], || {
            let layers = &known.record.spec.layers;
            let changes = changed.look(|upper| Ok(changes(upper, layers)?))?;
            let letters = changes.into_iter();
            Ok(letters
                .map(|(path, change)| (path.as_bytes().to_vec(), letter(change)))
                .collect::<Vec<_>>())
        })?;
        let told = visit.finish()?.into_iter();
        Ok(told
            .map(|(path, letter)| ([b"/", path.as_slice()].concat(), change(letter)))
            .collect())
    }
}

fn letter(change: Change) -> u8 {
    match change {
        Change::Added => b'A',
        Change::Changed => b'C',
        Change::Deleted => b'D',
    }
}

fn change(letter: u8) -> Change {
    match letter {
        b'A' => Change::Added,
        b'D' => Change::Deleted,
        _ => Change::Changed,
    }
}

/// Sets somebody to pack what is in a container.
fn send(
    known: &Known,
    source: &Source,
    options: CopyOptions,
    output: &mut dyn Write,
    keep: &[std::os::fd::BorrowedFd<'_>],
) -> Result<Visit<()>> {
    let owners = owners(&known.record);
    let name = &known.container.name;
    visit(known, View::Inside, keep, || {
        let found = source.find(&Room::container()?, options)?;
        if !found.exists() {
            let path = source.path.display();
            let message = format!("Could not find the file {path} in container {name}");
            return Err(Error::new(Kind::NotFound, message));
        }
        Ok(pack(&found, &source.name, owners, output)?)
    })
}

fn pipe() -> Result<(File, File)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| Error::io("cannot make a pipe", error.into()))?;
    Ok((reader.into(), writer.into()))
}

/// What went wrong first where one side packs and the other one unpacks: who stops makes the other one
/// stop, too.
pub(super) fn first<T>(packed: Result<T>, placed: Result<()>) -> Result<T> {
    match (packed, placed) {
        (Ok(packed), placed) => placed.map(|()| packed),
        (Err(packed), Ok(())) => Err(packed),
        // The reader has gone away.
        (Err(packed), Err(placed)) if packed.message() == OUTPUT => Err(placed),
        (Err(packed), Err(_)) => Err(packed),
    }
}

/// What is said when a pipe has no reader any more.
const OUTPUT: &str = "cannot write the output";
