//! What is it that is to be built?

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::request::{BuildRequest, SourceKind};
use crate::{Error, Host, Kind, Result};

/// What a build starts from, found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A ready program.
    Elf(PathBuf),
    /// A directory with a `Cargo.toml`.
    Cargo(PathBuf),
    /// A directory with Go files.
    Go(PathBuf),
    /// A file of C.
    C(PathBuf),
    /// A file of Zig.
    Zig(PathBuf),
    /// A build context and its Dockerfile.
    Dockerfile {
        /// The directory that `COPY` and `ADD` take files from.
        context: PathBuf,
        /// The Dockerfile.
        file: PathBuf,
        /// What its user knows the Dockerfile by.
        name: String,
    },
}

impl Source {
    /// What to call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Elf(_) => "ELF program",
            Self::Cargo(_) => "Cargo package",
            Self::Go(_) => "Go package",
            Self::C(_) => "C program",
            Self::Zig(_) => "Zig program",
            Self::Dockerfile { .. } => "Dockerfile",
        }
    }
}

/// Finds out what the path is.
///
/// A directory is what its files say; where there is a Dockerfile, that is what counts, as for
/// `docker build`.
pub(super) fn detect(request: &BuildRequest, host: &Host) -> Result<Source> {
    let path = host.absolute(&request.path);
    let shown = request.path.display();
    let metadata = fs::metadata(&path)
        .map_err(|source| Error::io(format!("cannot build `{shown}`"), source))?;
    let kind = match (request.kind, &request.file) {
        (Some(kind), _) => Some(kind),
        (None, Some(_)) => Some(SourceKind::Dockerfile),
        (None, None) => None,
    };
    if metadata.is_dir() {
        return directory(request, path, kind, host);
    }
    match kind {
        None | Some(SourceKind::Elf | SourceKind::C | SourceKind::Zig) => {
            program(request, path, metadata.is_file())
        }
        Some(kind) => {
            let what = if kind == SourceKind::Dockerfile {
                "its context"
            } else {
                "its package"
            };
            let message = format!(
                "cannot build `{shown}` as {}: it is not a directory",
                kind.word()
            );
            let parent = request.path.parent().filter(|p| !p.as_os_str().is_empty());
            let parent = parent.unwrap_or_else(|| Path::new("."));
            let word = kind.word();
            let hint = format!(
                "name {what}: `smidge build --as {word} {}`",
                parent.display()
            );
            Err(Error::new(Kind::Input, message).with_hint(hint))
        }
    }
}

fn directory(
    request: &BuildRequest,
    path: PathBuf,
    kind: Option<SourceKind>,
    host: &Host,
) -> Result<Source> {
    let shown = request.path.display();
    let file = match &request.file {
        Some(file) => host.absolute(file),
        None => path.join(default_name(&path)),
    };
    let has_cargo = path.join("Cargo.toml").is_file();
    let kind = match kind {
        Some(kind) => kind,
        None if file.is_file() => SourceKind::Dockerfile,
        None if has_cargo => SourceKind::Cargo,
        None if has_go(&path)? => SourceKind::Go,
        None => return Err(nothing(request, &path)),
    };
    let refused = |why: &str| {
        Err(Error::new(
            Kind::Input,
            format!("cannot build `{shown}` as {}: {why}", kind.word()),
        ))
    };
    match kind {
        SourceKind::Dockerfile => Ok(Source::Dockerfile {
            name: name(request, &file),
            context: path,
            file,
        }),
        SourceKind::Cargo if has_cargo => Ok(Source::Cargo(path)),
        SourceKind::Cargo => refused("it has no `Cargo.toml`"),
        SourceKind::Go if has_go(&path)? => Ok(Source::Go(path)),
        SourceKind::Go => refused("it has no Go files"),
        SourceKind::Elf | SourceKind::C | SourceKind::Zig => refused("it is a directory"),
    }
}

/// What the Dockerfile of a context is called where nobody says: as in Docker, `dockerfile` if there is
/// that one alone.
pub(super) fn default_name(context: &Path) -> &'static str {
    let there = |name: &&str| context.join(name).is_file();
    ["Dockerfile", "dockerfile"]
        .into_iter()
        .find(there)
        .unwrap_or("Dockerfile")
}

/// The name of the Dockerfile under which the user can find it.
fn name(request: &BuildRequest, file: &Path) -> String {
    let own = file.file_name().unwrap_or_default();
    match &request.file {
        Some(file) => file.display().to_string(),
        None if request.path == Path::new(".") => own.display().to_string(),
        None => request.path.join(own).display().to_string(),
    }
}

fn has_go(directory: &Path) -> Result<bool> {
    let failed = |source| {
        Error::io(
            format!("cannot read the directory `{}`", directory.display()),
            source,
        )
    };
    let mut found = false;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        found |= name == "go.mod" || (name.ends_with(".go") && !name.ends_with("_test.go"));
    }
    Ok(found)
}

/// The file of C or Zig that a directory has, if it has just one.
fn only_source(directory: &Path) -> Option<String> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut sources = names.filter(|name| name.ends_with(".c") || name.ends_with(".zig"));
    sources.next().filter(|_| sources.next().is_none())
}

/// Nothing in the directory tells how to build it.
fn nothing(request: &BuildRequest, path: &Path) -> Error {
    let shown = request.path.display();
    let message = format!("nothing to build in `{shown}`");
    let error = Error::new(Kind::Input, message)
        .with_fact("looked for: Dockerfile, Cargo.toml, go.mod, *.go");
    if let Some(file) = only_source(path) {
        return error.with_hint(format!(
            "name the source: `smidge build {}`",
            request.path.join(file).display()
        ));
    }
    let has = |names: &[&'static str]| names.iter().copied().find(|name| path.join(name).exists());
    if let Some(file) = has(&["Containerfile"]) {
        let file = request.path.join(file);
        return error.with_hint(format!(
            "if that is your Dockerfile, say so: `smidge build -f {} {shown}`",
            file.display()
        ));
    }
    if let Some(file) = has(&["Makefile", "CMakeLists.txt", "meson.build", "configure"]) {
        return error
            .with_fact(format!("found: {file}, which smidge does not drive"))
            .with_hint("build the program yourself and name it: `smidge build ./PROGRAM`");
    }
    error.with_hint("name the program itself, or the directory of its source")
}

/// A file: a program, the source of one, or something that one can only wish were one.
fn program(request: &BuildRequest, path: PathBuf, regular: bool) -> Result<Source> {
    let shown = request.path.display();
    if !regular {
        let message = format!("cannot build `{shown}`: it is neither a file nor a directory");
        return Err(Error::new(Kind::Input, message));
    }
    let mut head = Vec::new();
    fs::File::open(&path)
        .and_then(|file| file.take(256).read_to_end(&mut head))
        .map_err(|source| Error::io(format!("cannot read `{shown}`"), source))?;
    let is = |extension: &str| path.extension().is_some_and(|found| found == extension);
    match request.kind {
        Some(SourceKind::C) => Ok(Source::C(path)),
        Some(SourceKind::Zig) => Ok(Source::Zig(path)),
        _ if head.starts_with(b"\x7fELF") => Ok(Source::Elf(path)),
        None if is("c") => Ok(Source::C(path)),
        None if is("zig") => Ok(Source::Zig(path)),
        _ => Err(not_a_program(request, &head)),
    }
}

fn not_a_program(request: &BuildRequest, head: &[u8]) -> Error {
    let shown = request.path.display();
    let name = request
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let refused = |why: &str| {
        Error::new(
            Kind::Input,
            format!("cannot make an image of `{shown}`: {why}"),
        )
    };
    let parent = request.path.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new(".")).display();
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let interpreter = line.split_whitespace().next().unwrap_or("/bin/sh");
        let error = refused("it is a script, which is nothing without its interpreter")
            .with_fact(format!("interpreter: {}", line.trim()));
        if interpreter.ends_with("/env") {
            return error.with_hint("put script and interpreter together in a Dockerfile");
        }
        return error.with_hint(format!(
            "make an image of the interpreter and add the script: `smidge build --with-libs --include {shown}:/{name} --cmd /{name} {interpreter}`"
        ));
    }
    let is = |extension: &str| name.ends_with(extension);
    if name == "Dockerfile" || name == "Containerfile" {
        return refused("it is a Dockerfile").with_hint(format!(
            "name its directory: `smidge build -f {shown} {parent}`"
        ));
    }
    if name == "Cargo.toml" || name == "go.mod" || is(".rs") || is(".go") {
        return refused("it is source").with_hint(format!(
            "name the directory of the package: `smidge build {parent}`"
        ));
    }
    if is(".cc") || is(".cpp") || is(".cxx") {
        return refused("it is source in a language that smidge does not compile yet")
            .with_hint("compile it statically, then name the program: `smidge build ./PROGRAM`");
    }
    if head.starts_with(b"\x1f\x8b") || is(".tar") {
        return refused("it is an archive")
            .with_hint(format!(
                "an image's archive is loaded: `smidge load -i {shown}`"
            ))
            .with_hint(format!(
                "an archive of files is imported: `smidge import {shown}`"
            ));
    }
    let why = match head {
        [] => "it is empty",
        [b'M', b'Z', ..] => "it is a program for Windows",
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            "it is a program for macOS, or Java"
        }
        _ => "it is not an ELF program",
    };
    refused(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    fn detected(
        files: &[(&str, &str)],
        path: &str,
        change: impl Fn(&mut BuildRequest),
    ) -> std::result::Result<&'static str, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let mut request = BuildRequest::new(path);
        change(&mut request);
        let found = detect(&request, &test_host(dir.path()));
        found.map(|source| source.name()).map_err(|error| {
            let hints: Vec<_> = error
                .hints()
                .iter()
                .map(|hint| format!("; {hint}"))
                .collect();
            format!("{error}{}", hints.concat())
        })
    }

    #[test]
    fn directories_are_what_their_files_say() {
        let as_kind = |kind| move |request: &mut BuildRequest| request.kind = Some(kind);
        let plain = |_: &mut BuildRequest| {};
        let both: &[(&str, &str)] = &[("Dockerfile", ""), ("Cargo.toml", ""), ("main.go", "")];
        assert_eq!(detected(both, ".", plain), Ok("Dockerfile"));
        assert_eq!(
            detected(both, ".", as_kind(SourceKind::Cargo)),
            Ok("Cargo package")
        );
        assert_eq!(
            detected(both, ".", as_kind(SourceKind::Go)),
            Ok("Go package")
        );
        assert_eq!(detected(&both[1..], ".", plain), Ok("Cargo package"));
        assert_eq!(detected(&both[2..], ".", plain), Ok("Go package"));
        assert_eq!(detected(&[("d/go.mod", "")], "d", plain), Ok("Go package"));
        assert_eq!(
            detected(&[("dockerfile", ""), ("Cargo.toml", "")], ".", plain),
            Ok("Dockerfile")
        );
        let named = |request: &mut BuildRequest| request.file = Some("x/File".into());
        assert_eq!(
            detected(&[("x/File", ""), ("Cargo.toml", "")], ".", named),
            Ok("Dockerfile")
        );
        let refused = detected(both, ".", as_kind(SourceKind::Elf)).unwrap_err();
        assert_eq!(refused, "cannot build `.` as elf: it is a directory");
        let refused = detected(&both[..1], ".", as_kind(SourceKind::Cargo)).unwrap_err();
        assert_eq!(refused, "cannot build `.` as cargo: it has no `Cargo.toml`");
    }

    #[test]
    fn what_cannot_be_built_gets_advice() {
        let error = |files, path| detected(files, path, |_| {}).unwrap_err();
        assert_eq!(
            error(&[("Makefile", "")], "."),
            "nothing to build in `.`; build the program yourself and name it: `smidge build ./PROGRAM`"
        );
        assert_eq!(
            error(&[("a/run.sh", "#!/bin/bash -e\n")], "a/run.sh"),
            "cannot make an image of `a/run.sh`: it is a script, which is nothing without its interpreter; \
             make an image of the interpreter and add the script: \
             `smidge build --with-libs --include a/run.sh:/run.sh --cmd /run.sh /bin/bash`"
        );
        assert_eq!(
            error(&[("src/main.rs", "fn")], "src/main.rs"),
            "cannot make an image of `src/main.rs`: it is source; \
             name the directory of the package: `smidge build src`"
        );
        assert_eq!(
            error(&[("x", "")], "x"),
            "cannot make an image of `x`: it is empty"
        );
        assert_eq!(error(&[], "missing"), "cannot build `missing`");
        assert!(error(&[("x.exe", "MZ")], "x.exe").contains("Windows"));
        assert!(error(&[("x.tar", "x")], "x.tar").contains("smidge import x.tar"));
        assert!(
            error(&[("Dockerfile", "")], "Dockerfile").contains("smidge build -f Dockerfile .")
        );
    }

    #[test]
    fn programs_are_known_by_their_first_bytes() {
        assert_eq!(
            detected(&[("x", "\x7fELF")], "x", |_| {}),
            Ok("ELF program")
        );
        assert_eq!(
            detected(&[("x.c", "\x7fELF")], "x.c", |_| {}),
            Ok("ELF program")
        );
    }

    #[test]
    fn source_of_one_file_is_known_by_its_name() {
        let plain = |_: &mut BuildRequest| {};
        let as_c = |request: &mut BuildRequest| request.kind = Some(SourceKind::C);
        let file: &[(&str, &str)] = &[("d/a.c", "int main(void)"), ("b.zig", ""), ("c.h", "")];
        assert_eq!(detected(file, "d/a.c", plain), Ok("C program"));
        assert_eq!(detected(file, "b.zig", plain), Ok("Zig program"));
        assert_eq!(detected(file, "c.h", as_c), Ok("C program"));
        assert_eq!(
            detected(file, "d", as_c),
            Err("cannot build `d` as c: it is a directory".to_owned())
        );
        assert_eq!(
            detected(file, "d", plain),
            Err("nothing to build in `d`; name the source: `smidge build d/a.c`".to_owned())
        );
    }
}
