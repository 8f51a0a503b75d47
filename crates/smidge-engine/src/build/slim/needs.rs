//! What a file needs of others before it can start, and what it asks for once it has.

use std::collections::BTreeSet;

use smidge_image::{LayerPath, NodeKind, ReadAt, Tree as _};
use smidge_trim::{Closure, Program, Resolver, Rule, Search};

use super::{Slimming, unreadable};
use crate::Result;
use crate::build::draft::Draft;
use crate::build::layer::RootFs;

/// Bytes of a program that are looked at together.
const STRETCH: usize = 1 << 16;

/// What is in programs that ask for something: a function's name, or part of a path.
const MARKS: [(&[u8], Need); 12] = [
    (b"getaddrinfo", Need::Names),
    (b"gethostby", Need::Names),
    (b"getnameinfo", Need::Names),
    (b"getservby", Need::Names),
    (b"getpwnam", Need::Names),
    (b"getpwuid", Need::Names),
    (b"getgrnam", Need::Names),
    (b"getgrgid", Need::Names),
    (b"initgroups", Need::Names),
    (b"pthread_exit", Need::Unwinder),
    (b"pthread_cancel", Need::Unwinder),
    (b"zoneinfo", Need::Zones),
];

/// The first bytes of all marks.
const FIRST: [u8; 4] = *b"gipz";

/// Files of the C libraries themselves, which have all marks.
const C_LIBRARY: [&str; 7] = [
    "libc.so",
    "libc-2",
    "libc.musl",
    "ld-linux",
    "ld-musl",
    "ld-2",
    "libresolv",
];

/// Something that a program looks for while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Names of hosts, users or services.
    Names,
    /// The library with which glibc ends threads.
    Unwinder,
    /// Time zones.
    Zones,
}

/// What the programs that stay were seen to ask for.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) needs: BTreeSet<Need>,
    /// Whether a program uses glibc, and where its loader looks for libraries then.
    pub(super) glibc: Option<Vec<String>>,
    /// Whether a library is found only by way of the loader's cache.
    pub(super) cache: bool,
}

/// Finds libraries as the loader will.
pub(super) fn resolver<'s>(draft: &Draft, rootfs: &'s RootFs) -> Resolver<'s> {
    let variable = |entry: &'_ String| Some(entry.strip_prefix("LD_LIBRARY_PATH=")?.to_owned());
    let listed = draft.config.env.iter().rev().find_map(variable);
    let search = Search::of_loader(listed.as_deref(), &draft.config.working_dir);
    Resolver::new(rootfs, &search)
}

/// A program as the image's config would have it started.
pub(super) fn program(draft: &Draft, argv: Vec<String>) -> Program {
    Program {
        env: draft.config.env.clone(),
        working_dir: draft.config.working_dir.clone(),
        ..Program::new(argv, &draft.platform.architecture)
    }
}

/// A path as the program sees it, from the root.
pub(super) fn absolute(draft: &Draft, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", draft.config.working_dir),
    }
}

impl Slimming<'_> {
    /// Keeps what the files that stay need, and what these need, until there is nothing more.
    pub(super) fn settle(&mut self) -> Result<()> {
        while let Some(path) = self.pending.pop() {
            let node = self.rootfs.node(&path).map_err(unreadable)?;
            let Some(NodeKind::File { size: 1.. }) = node.as_ref().map(|node| &node.kind) else {
                continue;
            };
            let file = self.rootfs.open(&path).map_err(unreadable)?;
            let mut head = [0; 4];
            let read = file.read_at(0, &mut head).map_err(unreadable)?;
            let is_program = node.is_some_and(|node| node.mode & 0o111 != 0);
            if head[..read] == *b"\x7fELF" {
                self.ask(&path, &*file)?;
                self.keep_closure(&path)?;
            } else if head.starts_with(b"#!") && is_program {
                self.keep_interpreter(&path);
            }
        }
        Ok(())
    }

    /// Keeps what a script takes to start. One that cannot start is what it was before.
    fn keep_interpreter(&mut self, path: &LayerPath) {
        let script = program(self.draft, vec![path.to_string()]);
        let Ok(proof) = smidge_trim::prove(self.rootfs, &script) else {
            return;
        };
        for file in proof.files {
            self.keep_file(file.path, file.reason.to_string());
        }
    }

    /// Keeps the loader and the libraries of a program or library, as far as they are there.
    fn keep_closure(&mut self, path: &LayerPath) -> Result<()> {
        let name = path.to_string();
        let Ok(closure) = self.resolver.closure(name.as_bytes()) else {
            return Ok(());
        };
        if let Some(loader) = &closure.loader {
            let wanted = loader.wanted.clone();
            self.keep(wanted.as_bytes(), &format!("loader of `{name}`"), false)?;
        }
        for library in &closure.libraries {
            let (Some(found), true) = (&library.path, library.rule != Some(Rule::Loader)) else {
                continue;
            };
            let by_cache = matches!(library.rule, Some(Rule::Cache | Rule::Config));
            self.asked.cache |= by_cache && !library.fixed;
            let user = library.needed_by.first().copied();
            let of = closure.path_of(user.unwrap_or(smidge_trim::PROGRAM));
            let found = absolute(self.draft, found);
            let reason = format!("`{}`, needed by `{of}`", library.name);
            self.keep(found.as_bytes(), &reason, false)?;
        }
        self.note_glibc(&closure);
        Ok(())
    }

    fn note_glibc(&mut self, closure: &Closure) {
        let mut libraries = closure.libraries.iter();
        if self.asked.glibc.is_none() && libraries.any(|library| library.name == "libc.so.6") {
            self.asked.glibc = Some(closure.default_directories.clone());
        }
    }

    /// Looks for marks of what a program asks for.
    fn ask(&mut self, path: &LayerPath, file: &dyn ReadAt) -> Result<()> {
        let name = path.file_name().map(String::from_utf8_lossy);
        let name = name.unwrap_or_default();
        if C_LIBRARY.iter().any(|known| name.starts_with(known)) {
            return Ok(());
        }
        let longest = MARKS.iter().map(|(mark, _)| mark.len()).max().unwrap_or(0);
        let mut buffer = vec![0; STRETCH];
        let mut offset = 0;
        loop {
            let read = file.read_at(offset, &mut buffer).map_err(unreadable)?;
            let stretch = &buffer[..read];
            for at in (0..read).filter(|at| FIRST.contains(&stretch[*at])) {
                let here = MARKS
                    .iter()
                    .find(|(mark, _)| stretch[at..].starts_with(mark));
                self.asked.needs.extend(here.map(|(_, need)| *need));
            }
            if read <= longest {
                return Ok(());
            }
            // A mark may lie across the end.
            offset += (read - longest) as u64;
        }
    }
}
