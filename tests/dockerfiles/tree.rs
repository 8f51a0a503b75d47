//! A case's context: the files of its folder, and what git cannot hold, from its file `tree`.
//!
//! A line of `tree` makes one thing, in order, below the context:
//!
//! ```text
//! dir MODE PATH                     link PATH -> TARGET
//! file MODE PATH [TEXT]             hard PATH -> OTHER-PATH
//! sparse MODE PATH BYTES            fifo MODE PATH
//! socket PATH
//! many COUNT DIRECTORY              host PATH PROGRAM    a program of this machine, and its libraries
//! tar FORMAT PATH                   then its entries: `+ dir|file|link|hard MODE UID:GID PATH …`
//! ```

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use smidge_tests::InTime as _;

use crate::words::{lines, mode, owner};

/// Files of a case's folder that are not part of its context.
const NOT_CONTEXT: [&str; 3] = ["case", "tree", "expected"];

/// Makes the context of the case in `folder` below `to`, readable by everybody.
pub(crate) fn make(folder: &Path, to: &Path) {
    copy(folder, to, true);
    let Ok(text) = std::fs::read_to_string(folder.join("tree")) else {
        return;
    };
    let mut archive: Option<Archive> = None;
    for line in lines(&text) {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        if let ["+", entry @ ..] = &line[..] {
            archive.as_mut().expect("`+` follows `tar`").add(entry);
            continue;
        }
        if let Some(archive) = archive.take() {
            archive.finish();
        }
        match line[..] {
            ["tar", format, path] => archive = Some(Archive::new(format, &below(to, path))),
            _ => entry(to, &line),
        }
    }
    if let Some(archive) = archive {
        archive.finish();
    }
}

/// Copies a folder with modes that do not depend on how the repository was checked out.
fn copy(from: &Path, to: &Path, top: bool) {
    std::fs::create_dir_all(to).unwrap();
    set_mode(to, 0o755);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if top && NOT_CONTEXT.iter().any(|not| name == *not) {
            continue;
        }
        let target = to.join(&name);
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target, false);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
            set_mode(&target, if executable { 0o755 } else { 0o644 });
        }
    }
}

/// A path in a context, its parents made.
fn below(to: &Path, path: &str) -> PathBuf {
    let path = to.join(path);
    let parent = path.parent().unwrap();
    if !parent.exists() {
        std::fs::create_dir_all(parent).unwrap();
        for dir in parent.ancestors().take_while(|dir| *dir != to) {
            set_mode(dir, 0o755);
        }
    }
    path
}

fn entry(to: &Path, line: &[&str]) {
    let at = |path: &str| below(to, path);
    match *line {
        ["dir", bits, path] => {
            std::fs::create_dir_all(at(path)).unwrap();
            set_mode(&to.join(path), mode(bits));
        }
        ["file", bits, path, ref text @ ..] => {
            std::fs::write(at(path), text.concat()).unwrap();
            set_mode(&to.join(path), mode(bits));
        }
        ["sparse", bits, path, size] => {
            let file = std::fs::File::create(at(path)).unwrap();
            file.set_len(size.parse().unwrap()).unwrap();
            set_mode(&to.join(path), mode(bits));
        }
        ["link", path, "->", target] => std::os::unix::fs::symlink(target, at(path)).unwrap(),
        ["hard", path, "->", other] => std::fs::hard_link(to.join(other), at(path)).unwrap(),
        ["fifo", bits, path] => {
            let made = Command::new("mkfifo")
                .arg(at(path))
                .status_in_time()
                .unwrap();
            assert!(made.success(), "mkfifo {path}");
            set_mode(&to.join(path), mode(bits));
        }
        ["many", count, path] => {
            std::fs::create_dir_all(at(path)).unwrap();
            set_mode(&to.join(path), 0o755);
            for number in 0..count.parse().unwrap() {
                let file = to.join(path).join(format!("{number:04}"));
                std::fs::write(&file, format!("number {number}\n")).unwrap();
                set_mode(&file, 0o644);
            }
        }
        ["socket", path] => {
            // It stays open for as long as the test runs.
            std::mem::forget(std::os::unix::net::UnixListener::bind(at(path)).unwrap());
            set_mode(&to.join(path), 0o777);
        }
        ["host", path, program] => host(&at(path), Path::new(program)),
        _ => panic!("`{}`: no such line of a `tree`", line.join(" ")),
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a program of this machine and the libraries that it loads, each under its own path.
fn host(to: &Path, program: &Path) {
    let output = Command::new("ldd").arg(program).output_in_time().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    let files = libraries.map(Path::new).chain([program]);
    for file in files {
        let target = to.join(file.strip_prefix("/").unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, &target).unwrap();
        set_mode(&target, 0o755);
    }
}

/// A tar archive of the context, compressed when it is complete.
struct Archive {
    builder: tar::Builder<Vec<u8>>,
    format: String,
    path: PathBuf,
}

impl Archive {
    fn new(format: &str, path: &Path) -> Self {
        Self {
            builder: tar::Builder::new(Vec::new()),
            format: format.to_owned(),
            path: path.to_owned(),
        }
    }

    fn add(&mut self, line: &[&str]) {
        let [kind, bits, owned, path, rest @ ..] = line else {
            panic!("`{}`: no such entry", line.join(" "));
        };
        let (uid, gid) = owner(owned);
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode(bits));
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_mtime(1_000_000_000);
        let kind = match *kind {
            "dir" => tar::EntryType::Directory,
            "file" => tar::EntryType::Regular,
            "link" => tar::EntryType::Symlink,
            "hard" => tar::EntryType::Link,
            _ => panic!("`{kind}`: no such kind of entry"),
        };
        header.set_entry_type(kind);
        header.set_size(0);
        if let ["->", target] = rest {
            self.builder.append_link(&mut header, path, target).unwrap();
        } else {
            let text = rest.concat();
            header.set_size(text.len() as u64);
            self.builder
                .append_data(&mut header, path, text.as_bytes())
                .unwrap();
        }
    }

    fn finish(self) {
        let plain = self.builder.into_inner().unwrap();
        let program = match &*self.format {
            "plain" => return std::fs::write(self.path, plain).unwrap(),
            "gzip" | "bzip2" | "xz" => &self.format,
            "zstd" => {
                let bytes = zstd::encode_all(&plain[..], 3).unwrap();
                return std::fs::write(self.path, bytes).unwrap();
            }
            other => panic!("`{other}`: no such compression"),
        };
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&self.path).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run `{program}`: {error}"));
        child.stdin.take().unwrap().write_all(&plain).unwrap();
        assert!(child.status_in_time().unwrap().success(), "{program}");
        set_mode(&self.path, 0o644);
    }
}
