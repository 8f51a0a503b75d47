//! `--slim-final`: an image with what its final stage needs to run, and nothing else.
//!
//! What stays: the programs that the image starts, what the final stage itself has copied, what
//! `--keep` names; for each of these files what the kernel and the loader need to start it; and the few
//! files that programs look for at run time ([`data`]). What is left is proved before it is written.

mod data;
mod needs;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use smidge_image::{LayerPath, NodeKind, Tree as _};
use smidge_trim::{Program, Proof, Reason, Resolver};

use self::view::View;
use super::dockerfile;
use super::draft::{Draft, Joining};
use super::layer::RootFs;
use super::prove;
use super::request::BuildRequest;
use super::response::Content;
use crate::{Error, Kind, Note, Result};

/// Interpreters, without the versions in their names: what they run cannot be foreseen.
const INTERPRETERS: [&str; 28] = [
    "sh", "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "tcsh", "zsh", "python", "pypy",
    "perl", "ruby", "jruby", "node", "nodejs", "deno", "bun", "java", "php", "php-fpm", "lua",
    "luajit", "tclsh", "guile", "Rscript", "dotnet",
];

/// Programs that start the one that their arguments name.
const LAUNCHERS: [&str; 13] = [
    "tini",
    "tini-static",
    "dumb-init",
    "catatonit",
    "env",
    "gosu",
    "su-exec",
    "setpriv",
    "nice",
    "nohup",
    "stdbuf",
    "setsid",
    "chroot",
];

/// An image whose needs are being found out.
struct Slimming<'s> {
    rootfs: &'s RootFs,
    draft: &'s Draft,
    resolver: Resolver<'s>,
    /// What stays, and why.
    kept: BTreeMap<LayerPath, String>,
    /// Files that stay, and whose own needs are not known yet.
    pending: Vec<LayerPath>,
    /// What programs were seen to ask for.
    asked: needs::Asked,
    /// Programs that run what nobody can foresee.
    unforeseen: Vec<String>,
}

/// Decides what stays of an image, and proves that it can start then. Tells what stays, and why.
pub(super) fn slim(
    draft: &mut Draft,
    rootfs: &Arc<RootFs>,
    request: &BuildRequest,
) -> Result<Vec<Content>> {
    let mut slimming = Slimming::new(draft, rootfs);
    let programs = slimming.programs(request)?;
    slimming.refuse_unforeseen(request)?;
    slimming.keep_what_was_asked_for(rootfs, request)?;
    slimming.settle()?;
    slimming.keep_data()?;
    slimming.settle()?;
    let kept = std::mem::take(&mut slimming.kept);
    if kept.is_empty() {
        let message = "there is nothing to keep: the image starts no program, and its final stage copies nothing";
        return Err(Error::new(Kind::Input, message)
            .with_hint("name what is to stay: `--slim-final --keep PATH`"));
    }
    let mut wanted: BTreeSet<LayerPath> = kept.keys().cloned().collect();
    for path in kept.keys() {
        wanted.extend(path.ancestors().filter(|above| !above.is_root()));
    }
    let view = View {
        rootfs,
        wanted: &wanted,
    };
    for program in &programs {
        smidge_trim::prove(&view, program).map_err(|fault| {
            Error::of(Kind::Bug, fault).with_fact("it can start with all of the image's files")
        })?;
    }
    let contents = contents(rootfs, &kept).map_err(unreadable)?;
    let note = summary(rootfs, &wanted).map_err(unreadable)?;
    draft.notes.push(note);
    draft.joining = Joining::Slim(Arc::new(wanted));
    Ok(contents)
}

impl<'s> Slimming<'s> {
    fn new(draft: &'s Draft, rootfs: &'s RootFs) -> Self {
        Self {
            rootfs,
            draft,
            resolver: needs::resolver(draft, rootfs),
            kept: BTreeMap::new(),
            pending: Vec::new(),
            asked: needs::Asked::default(),
            unforeseen: Vec::new(),
        }
    }

    /// Keeps what the image starts. Gives these programs, to be proved.
    fn programs(&mut self, request: &BuildRequest) -> Result<Vec<Program>> {
        let mut programs = Vec::new();
        if let Some(program) = prove::program(self.draft) {
            let proof = smidge_trim::prove(self.rootfs, &program)
                .map_err(|fault| prove::error(fault, self.draft, self.rootfs, request))?;
            self.keep_program(&program, proof)?;
            programs.push(program);
        }
        if let Some(program) = self.health_check() {
            let proof = smidge_trim::prove(self.rootfs, &program).map_err(|fault| {
                Error::of(Kind::Input, fault).with_fact("it is what the image's HEALTHCHECK runs")
            })?;
            self.keep_program(&program, proof)?;
            programs.push(program);
        }
        Ok(programs)
    }

    /// What `HEALTHCHECK` runs.
    fn health_check(&self) -> Option<Program> {
        let config = &self.draft.config;
        let test = config.healthcheck.as_ref()?.test.as_ref()?;
        let shell = || {
            let own = config.shell.clone().filter(|shell| !shell.is_empty());
            own.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
        };
        let argv = match (test.first()?.as_str(), &test[1..]) {
            ("CMD", argv) => argv.to_vec(),
            ("CMD-SHELL", text) => [shell(), text.to_vec()].concat(),
            _ => return None,
        };
        Some(needs::program(self.draft, argv)).filter(|program| !program.argv.is_empty())
    }

    /// Keeps a program that can start, and the files that its arguments name.
    fn keep_program(&mut self, program: &Program, proof: Proof) -> Result<()> {
        for file in proof.files {
            let name = file.path.file_name().map(String::from_utf8_lossy);
            if name.is_some_and(|name| is_one_of(&INTERPRETERS, &name)) {
                self.unforeseen.push(file.path.to_string());
            }
            let reason = match file.reason {
                Reason::Program => "the program that the image starts".to_owned(),
                reason => reason.to_string(),
            };
            self.keep_file(file.path, reason);
        }
        let first = program.argv.first().map_or("", String::as_str);
        let name = first.rsplit('/').next().unwrap_or_default();
        let mut launched = !is_one_of(&LAUNCHERS, name);
        for (number, argument) in program.argv.iter().enumerate().skip(1) {
            if !launched {
                let inner = needs::program(self.draft, program.argv[number..].to_vec());
                if let Ok(proof) = smidge_trim::prove(self.rootfs, &inner) {
                    launched = true;
                    self.keep_program(&inner, proof)?;
                    continue;
                }
            }
            if argument.contains('/') {
                let path = needs::absolute(self.draft, argument);
                if path.trim_matches('/').is_empty() {
                    continue;
                }
                self.keep(path.as_bytes(), "an argument of the program", true)?;
            }
        }
        Ok(())
    }

    /// Gives up where a program runs what cannot be foreseen, unless the user has said what to keep.
    fn refuse_unforeseen(&self, request: &BuildRequest) -> Result<()> {
        let Some(program) = self.unforeseen.first() else {
            return Ok(());
        };
        if !request.dockerfile.keep.is_empty() {
            return Ok(());
        }
        let message = format!(
            "cannot tell what the image needs: it starts `{program}`, which runs programs and loads files as its scripts say"
        );
        Err(Error::new(Kind::Input, message)
            .with_hint("say what these scripts use: `--slim-final --keep PATH`, once for each file or directory")
            .with_hint("or build without `--slim-final`"))
    }

    /// Keeps what the user has put in or named.
    fn keep_what_was_asked_for(
        &mut self,
        rootfs: &Arc<RootFs>,
        request: &BuildRequest,
    ) -> Result<()> {
        for path in &self.draft.brought {
            self.keep(path.as_bytes(), "copied by the final stage", false)?;
            // One that leads nowhere, too.
            if self.rootfs.node(path).map_err(unreadable)?.is_some() {
                self.keep_file(path.clone(), "copied by the final stage".to_owned());
            }
        }
        for pattern in &request.dockerfile.keep {
            for path in dockerfile::matching(rootfs, pattern)? {
                self.keep(path.as_bytes(), "`--keep`", true)?;
            }
        }
        let config = &self.draft.config;
        for volume in config.volumes.keys() {
            self.keep(volume.as_bytes(), "a volume", true)?;
        }
        if !config.working_dir.is_empty() {
            self.keep(
                config.working_dir.as_bytes(),
                "the working directory",
                false,
            )?;
        }
        Ok(())
    }

    /// Keeps what a path leads to, and the links on the way; `whole` means all that is in a directory.
    /// Tells whether there is anything.
    fn keep(&mut self, path: &[u8], reason: &str, whole: bool) -> Result<bool> {
        let Some(found) = self.rootfs.find(path).map_err(unreadable)? else {
            return Ok(false);
        };
        let to = found.path.to_string();
        for link in found.links {
            self.keep_file(link, format!("leads to `{to}`"));
        }
        match found.node.kind {
            NodeKind::Directory if whole => self.keep_directory(found.path, reason)?,
            _ => self.keep_file(found.path, reason.to_owned()),
        }
        Ok(true)
    }

    /// Keeps all that is in a directory, and the files that links in it lead to.
    fn keep_directory(&mut self, directory: LayerPath, reason: &str) -> Result<()> {
        let mut directories = vec![directory];
        while let Some(directory) = directories.pop() {
            for name in self.rootfs.list(&directory).map_err(unreadable)? {
                let path = directory
                    .join(&name)
                    .map_err(|e| Error::of(Kind::Input, e))?;
                match self.rootfs.node(&path).map_err(unreadable)?.map(|n| n.kind) {
                    Some(NodeKind::Directory) => directories.push(path),
                    Some(NodeKind::Symlink { .. }) => {
                        self.keep(path.as_bytes(), reason, false)?;
                        self.keep_file(path, reason.to_owned());
                    }
                    Some(_) => self.keep_file(path, reason.to_owned()),
                    None => {}
                }
            }
            self.keep_file(directory, reason.to_owned());
        }
        Ok(())
    }

    /// Keeps one file. The first reason is the one that is told.
    fn keep_file(&mut self, path: LayerPath, reason: String) {
        if !path.is_root() && !self.kept.contains_key(&path) {
            self.pending.push(path.clone());
            self.kept.insert(path, reason);
        }
    }
}

/// Whether a program is one of those, whatever its version: `python3.11` is `python`.
fn is_one_of(known: &[&str], name: &str) -> bool {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    known.contains(&name) || known.contains(&bare)
}

/// What stays, for who wants to know.
fn contents(rootfs: &RootFs, kept: &BTreeMap<LayerPath, String>) -> io::Result<Vec<Content>> {
    let mut contents = Vec::new();
    for (path, reason) in kept {
        let size = match rootfs.node(path)?.map(|node| node.kind) {
            Some(NodeKind::File { size }) => size,
            Some(NodeKind::Directory) | None => continue,
            Some(_) => 0,
        };
        contents.push(Content {
            path: path.to_string(),
            size,
            reason: reason.clone(),
        });
    }
    Ok(contents)
}

/// How much stays of how much there was.
fn summary(rootfs: &RootFs, wanted: &BTreeSet<LayerPath>) -> io::Result<Note> {
    let (mut all, mut left) = ((0_u64, 0_u64), (0_u64, 0_u64));
    let mut seen = BTreeSet::new();
    let mut pending = vec![LayerPath::root()];
    while let Some(directory) = pending.pop() {
        for name in rootfs.list(&directory)? {
            let path = directory.join(&name).map_err(io::Error::other)?;
            let size = match rootfs.node(&path)?.map(|node| node.kind) {
                Some(NodeKind::Directory) => {
                    pending.push(path);
                    continue;
                }
                Some(NodeKind::File { size }) => size,
                _ => 0,
            };
            let again = rootfs.links(&path)?.is_some_and(|file| !seen.insert(file));
            let size = if again { 0 } else { size };
            let stays = wanted.contains(&path);
            all = (all.0 + 1, all.1 + size);
            if stays {
                left = (left.0 + 1, left.1 + size);
            }
        }
    }
    Ok(Note::new(format!(
        "kept {} of {} files, {} of {}",
        left.0,
        all.0,
        prove::mebibytes(left.1),
        prove::mebibytes(all.1)
    )))
}

fn unreadable(source: io::Error) -> Error {
    Error::io("cannot read the image's files", source)
}
