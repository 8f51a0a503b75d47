//! Who is on a network: a file for each container, by the process that watches over it. Whoever ends
//! without a word is not on it any more, file or not.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::state::Process;

/// Where the files are, in a network's directory.
const MEMBERS: &str = "members";

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Who watches over it.
    pub(super) process: Process,
    /// The numbers of that process's open files that are the network's user and network namespaces, where
    /// it has such.
    pub(super) namespaces: Option<[u32; 2]>,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// What it is called there.
    pub(super) names: Vec<String>,
}

/// The file that says that a container is on a network. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Record(PathBuf);

impl Member {
    /// Writes down that it is on the network in `dir`.
    pub(super) fn record(&self, dir: &Path) -> io::Result<Record> {
        let path = dir.join(MEMBERS).join(self.process.pid.to_string());
        let [user, network] = self
            .namespaces
            .map_or(["-".to_owned(), "-".to_owned()], |files| {
                files.map(|file| file.to_string())
            });
        let words = |words: Vec<String>| words.join(" ");
        let addresses = self.addresses.iter().map(ToString::to_string).collect();
        let text = format!(
            "{} {user} {network}\n{}\n{}\n",
            self.process.start_time,
            words(addresses),
            words(self.names.clone())
        );
        // Never half a file under the name.
        let new = dir.join(format!("member-{}", self.process.pid));
        fs::create_dir_all(dir.join(MEMBERS))?;
        fs::write(&new, text)?;
        fs::rename(&new, &path)?;
        Ok(Record(path))
    }

    fn parse(path: &Path) -> Option<Self> {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        let mut first = lines.next()?.split(' ');
        let start_time = first.next()?.parse().ok()?;
        let mut file = || first.next()?.parse().ok();
        let namespaces = file().zip(file()).map(|(user, network)| [user, network]);
        let addresses = lines.next()?.split_whitespace();
        Some(Self {
            process: Process { pid, start_time },
            namespaces,
            addresses: addresses.filter_map(|ip| ip.parse().ok()).collect(),
            names: lines
                .next()?
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        })
    }
}

impl Record {
    /// Calls the container by other names.
    pub(super) fn rename(&self, dir: &Path, names: &[String]) -> io::Result<()> {
        let member = Member::parse(&self.0).ok_or(io::ErrorKind::NotFound)?;
        let renamed = Member {
            names: names.to_vec(),
            ..member
        };
        // It is the same file, and removed once.
        renamed.record(dir).map(std::mem::forget)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Who is on the network in `dir`. Files of those that are gone are removed.
pub(super) fn members(dir: &Path) -> Vec<Member> {
    let files = fs::read_dir(dir.join(MEMBERS)).into_iter().flatten();
    let paths = files.flatten().map(|file| file.path());
    paths
        .filter_map(|path| {
            let member = Member::parse(&path).filter(|member| member.process.is_alive());
            if member.is_none() {
                let _ = fs::remove_file(&path);
            }
            member
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            process: Process::of(std::process::id()),
            namespaces: Some([7, 8]),
            addresses: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            names: vec!["web".to_owned(), "www".to_owned()],
        }
    }

    #[test]
    fn members_are_found_as_long_as_they_say_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(members(dir.path()), []);
        let record = member().record(dir.path()).unwrap();
        assert_eq!(members(dir.path()), [member()]);
        drop(record);
        assert_eq!(members(dir.path()), []);
        let plain = Member {
            namespaces: None,
            names: Vec::new(),
            ..member()
        };
        let _record = plain.record(dir.path()).unwrap();
        assert_eq!(members(dir.path()), [plain]);
    }

    #[test]
    fn members_that_are_gone_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut gone = member();
        gone.process.start_time += 1;
        let _record = gone.record(dir.path()).unwrap();
        fs::write(dir.path().join(MEMBERS).join("nonsense"), "x").unwrap();
        assert_eq!(members(dir.path()), []);
        assert_eq!(fs::read_dir(dir.path().join(MEMBERS)).unwrap().count(), 0);
    }
}
