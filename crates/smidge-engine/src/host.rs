//! The surroundings of a command, read once by `main` and passed down as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Who runs smidge, where and when.
#[derive(Clone, Debug)]
pub struct Host {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// `$PATH`, where compilers and helper programs are looked for.
    pub path: OsString,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// The whole environment, as far as it is valid UTF-8.
    pub env: BTreeMap<String, String>,
    /// `$SOURCE_DATE_EPOCH` in seconds: the time that goes into what is built.
    pub source_date_epoch: Option<i64>,
    /// The time the command started.
    pub now: SystemTime,
    /// The directory that relative paths start from.
    pub cwd: PathBuf,
}

impl Host {
    /// Finds a program on the `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .filter(|dir| !dir.as_os_str().is_empty())
            .map(|dir| self.absolute(&dir.join(name)))
            .find(|path| is_executable(path))
    }

    /// The path, starting from the working directory when it is relative.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }

    /// The machine's architecture in Go's words, as images name it.
    pub fn architecture(&self) -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        }
    }
}

/// Bytes of a file that a user names, and that is read as a whole: none that is meant is longer.
const LONGEST: u64 = 16 << 20;

/// Reads a file that a user names, which may be anything, `/dev/zero` too.
pub(crate) fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is longer than 16 MiB",
        )),
        false => Ok(bytes),
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
pub(crate) fn test_host(cwd: &Path) -> Host {
    // Tests take the compilers that the developer has; nothing else of the environment.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests have no main that passes it down"
    )]
    let variable = |name: &str| std::env::var(name).ok();
    let names = [
        "HOME",
        "PATH",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "GOPATH",
    ];
    Host {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        path: variable("PATH").unwrap_or_default().into(),
        home: variable("HOME").map(PathBuf::from),
        env: names
            .iter()
            .filter_map(|n| Some(((*n).to_owned(), variable(n)?)))
            .collect(),
        source_date_epoch: None,
        now: SystemTime::UNIX_EPOCH,
        cwd: cwd.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_when_they_can_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = test_host(dir.path());
        host.path = "plain:tools".into();
        for (name, mode) in [
            ("plain/go", 0o644),
            ("tools/go", 0o755),
            ("tools/sub/x", 0o755),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
        }
        assert_eq!(host.find_program("go"), Some(dir.path().join("tools/go")));
        assert_eq!(host.find_program("sub"), None);
        assert_eq!(host.find_program("cargo"), None);
    }
}
