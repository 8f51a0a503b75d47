use smidge_image::{LayerPath, NodeKind, ReadAt, Tree};

use crate::Elf;
use crate::elf::Machine;

/// The loader's file is searched for its directories up to this size; real ones have 0.2–1 MB.
const MAX_LOADER: u64 = 16 << 20;
/// Larger than any sensible path file.
const MAX_PATH_FILE: u64 = 64 << 10;

/// Whose rules a loader follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// ld.so(8) of glibc, also assumed for loaders that nobody knows.
    Glibc,
    /// `ldso/dynlink.c` of musl.
    Musl,
}

/// What a loader does when nothing tells it otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Defaults {
    /// The directories that it searches, in order, without a trailing slash.
    pub(crate) directories: Vec<String>,
    /// What `$LIB` expands to.
    pub(crate) lib: String,
}

impl Dialect {
    /// The rules of the loader with that path.
    pub(crate) fn of_loader(path: &str) -> Self {
        match file_name(path).starts_with("ld-musl-") {
            true => Self::Musl,
            false => Self::Glibc,
        }
    }

    /// Where the loader of a library must be, which names none itself.
    pub(crate) fn loader_of_library(elf: &Elf) -> Option<String> {
        let machine = Machine::of(elf)?;
        let musl = |name: &String| name == "libc.so" || name.starts_with("libc.musl-");
        if !elf.needed.iter().any(musl) {
            return Some(machine.loader.to_owned());
        }
        let architecture = match machine.multiarch.split('-').next() {
            Some("arm") => "armhf",
            other => other?,
        };
        Some(format!("/lib/ld-musl-{architecture}.so.1"))
    }
}

impl Defaults {
    /// musl's directories in the absence of a path file.
    pub(crate) fn musl() -> Self {
        Self::new(
            ["/lib", "/usr/local/lib", "/usr/lib"]
                .map(str::to_owned)
                .to_vec(),
        )
    }

    /// The directories that a distribution has built into its glibc. Each has its own, and there
    /// is no other way to learn them without running the loader (`ld.so --list-diagnostics`):
    /// `system_dirs` in `elf/dl-load.c` is a row of NUL-terminated strings.
    pub(crate) fn built_into(loader: &dyn ReadAt) -> Option<Self> {
        let mut bytes = vec![0; usize::try_from(loader.size().min(MAX_LOADER)).ok()?];
        loader.read_exact_at(0, &mut bytes).ok()?;
        let (mut best, mut row) = (Vec::new(), Vec::new());
        for piece in bytes.split(|&byte| byte == 0) {
            match library_directory(piece) {
                Some(directory) => row.push(directory.to_owned()),
                None if row.len() > best.len() => best = std::mem::take(&mut row),
                None => row.clear(),
            }
        }
        (!best.is_empty()).then(|| Self::new(best))
    }

    /// All directories that distributions use on a machine, for want of a loader to ask.
    pub(crate) fn usual(elf: &Elf) -> Self {
        let mut directories = Vec::new();
        if let Some(machine) = Machine::of(elf) {
            let multiarch = machine.multiarch;
            directories.extend([format!("/lib/{multiarch}"), format!("/usr/lib/{multiarch}")]);
            if machine.loader.starts_with("/lib64/") {
                directories.extend(["/lib64", "/usr/lib64"].map(str::to_owned));
            }
        }
        directories.extend(["/lib", "/usr/lib"].map(str::to_owned));
        Self::new(directories)
    }

    fn new(directories: Vec<String>) -> Self {
        let first = directories.first().map_or("lib", String::as_str);
        let lib = first
            .strip_prefix("/usr")
            .unwrap_or(first)
            .trim_start_matches('/')
            .to_owned();
        Self { directories, lib }
    }
}

/// Reads `/lib/x86_64-linux-gnu/` and the like, without the slash at its end.
fn library_directory(piece: &[u8]) -> Option<&str> {
    let path = std::str::from_utf8(piece).ok()?.strip_suffix('/')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.+-".contains(c);
    let library = path
        .split('/')
        .any(|component| component.starts_with("lib"));
    (path.starts_with('/') && library && path.chars().all(plain)).then_some(path)
}

/// The directories of musl's path file, `/etc/ld-musl-ARCH.path` beside the loader's own directory;
/// `None` if there is no such file.
pub(crate) fn musl_path(tree: &dyn Tree, loader: &str) -> Option<Vec<String>> {
    let prefix = loader.rsplitn(3, '/').nth(2).unwrap_or_default();
    let architecture = file_name(loader)
        .strip_prefix("ld-musl-")?
        .split('.')
        .next()?;
    let path = format!("{prefix}/etc/ld-musl-{architecture}.path");
    let (file, node): (LayerPath, _) = tree.resolve(path.as_bytes()).ok()??;
    if !matches!(node.kind, NodeKind::File { .. }) {
        return None;
    }
    let content = tree.read(&file, MAX_PATH_FILE).ok()?;
    let text = String::from_utf8_lossy(&content);
    let directories = text
        .split([':', '\n'])
        .filter(|directory| !directory.is_empty());
    Some(directories.map(str::to_owned).collect())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_from_the_loader() {
        let file = b"\x7fELF\0/lib/\0x\0/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0\0/etc/\0";
        let defaults = Defaults::built_into(&file.to_vec()).unwrap();
        assert_eq!(
            defaults.directories,
            [
                "/lib/x86_64-linux-gnu",
                "/usr/lib/x86_64-linux-gnu",
                "/lib",
                "/usr/lib"
            ]
        );
        assert_eq!(defaults.lib, "lib/x86_64-linux-gnu");

        let fedora = Defaults::built_into(&b"\0/lib64/\0/usr/lib64/\0\0".to_vec()).unwrap();
        assert_eq!(fedora.lib, "lib64");
        assert_eq!(Defaults::built_into(&b"\0/etc/\0lib/\0".to_vec()), None);
    }
}
