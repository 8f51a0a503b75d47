//! The image that the corpus starts from: Debian's static busybox, made here, so that nothing is fetched.

use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_tests::InTime as _;
use tar::{Builder, EntryType, Header};

/// Its name, in every store.
pub(crate) const NAME: &str = "localhost/base";

/// Debian's static busybox.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

const DIRS: [(&str, u32, u64); 17] = [
    ("bin", 0o755, 0),
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("home", 0o755, 0),
    ("home/app", 0o750, 1000),
    ("opt", 0o755, 0),
    ("opt/many", 0o755, 0),
    ("opt/many/deep", 0o755, 0),
    ("opt/shared", 0o2775, 50),
    ("proc", 0o555, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("sys", 0o555, 0),
    ("tmp", 0o1777, 0),
    ("usr", 0o755, 0),
    ("usr/bin", 0o755, 0),
    ("var", 0o755, 0),
];

const FILES: [(&str, u32, u64, &str); 11] = [
    (
        "etc/group",
        0o644,
        0,
        "root:x:0:\nweb:x:33:\nstaff:x:50:app\napp:x:1000:\nextra:x:2000:app\n",
    ),
    ("etc/hostname", 0o644, 0, ""),
    ("etc/hosts", 0o644, 0, ""),
    (
        "etc/passwd",
        0o644,
        0,
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nweb:x:33:33::/var:/bin/sh\n",
    ),
    ("etc/resolv.conf", 0o644, 0, ""),
    ("home/app/notes", 0o600, 1000, "the user's own\n"),
    ("opt/many/deep/one", 0o644, 0, "one\n"),
    ("opt/many/deep/two", 0o644, 0, "two\n"),
    ("opt/many/first", 0o644, 0, "first\n"),
    ("opt/many/second", 0o640, 33, "second\n"),
    ("opt/setuid", 0o4755, 0, "not a program\n"),
];

/// Writes the base's root file system as a tar.
pub(crate) fn write(dir: &Path) -> PathBuf {
    let path = dir.join("base.tar");
    let mut tar = Builder::new(std::fs::File::create(&path).unwrap());
    for (name, mode, id) in DIRS {
        let mut header = header(EntryType::Directory, mode, id);
        tar.append_data(&mut header, format!("{name}/"), &[][..])
            .unwrap();
    }
    for (name, mode, id, text) in FILES {
        let mut header = header(EntryType::Regular, mode, id);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let program = std::fs::read(BUSYBOX).unwrap();
    let mut own = header(EntryType::Regular, 0o755, 0);
    own.set_size(program.len() as u64);
    tar.append_data(&mut own, "bin/busybox", &program[..])
        .unwrap();
    for applet in applets() {
        // Some are links of either kind, so that both are in the base.
        match &*applet {
            "cat" | "ls" => {
                let mut header = header(EntryType::Link, 0o755, 0);
                tar.append_link(&mut header, format!("bin/{applet}"), "bin/busybox")
                    .unwrap();
            }
            _ => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
                    .unwrap();
            }
        }
    }
    let mut link = header(EntryType::Symlink, 0o777, 0);
    tar.append_link(&mut link, "opt/current", "many").unwrap();
    tar.finish().unwrap();
    path
}

fn header(kind: EntryType, mode: u32, id: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(id);
    header.set_gid(id);
    header.set_mtime(1_500_000_000);
    header.set_size(0);
    header
}

fn applets() -> Vec<String> {
    let output = Command::new(BUSYBOX)
        .arg("--list")
        .output_in_time()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter(|name| *name != "busybox");
    names.map(str::to_owned).collect()
}

/// Where cargo puts what it builds: two levels above this test's `deps`.
pub(crate) fn target_dir() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(2).unwrap().to_owned()
}
