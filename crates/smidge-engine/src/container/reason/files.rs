//! Questions to a container's files.

use smidge_image::{LayerPath, Node, NodeKind, ReadAt, Tree};
use smidge_run::User;

use super::Finding;

/// A container's files as its program sees them, or an image's.
pub(super) struct Files<'a> {
    pub(super) tree: &'a dyn Tree,
    /// Whether they are those of this process's root.
    inside: bool,
}

/// Where programs look for certificates, first the one that most systems have.
const CERTIFICATES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Who made an image, as far as it matters for adding packages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Alpine,
    Debian,
    RedHat,
}

impl<'a> Files<'a> {
    /// An image's.
    pub(super) fn of(tree: &'a dyn Tree) -> Self {
        let inside = false;
        Self { tree, inside }
    }

    /// Those of this process's root.
    pub(super) fn inside(tree: &'a dyn Tree) -> Self {
        let inside = true;
        Self { tree, inside }
    }

    /// What a path leads to.
    pub(super) fn find(&self, path: &str) -> Option<(LayerPath, Node)> {
        self.tree.resolve(path.as_bytes()).ok().flatten()
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    pub(super) fn open(&self, path: &str) -> Option<Box<dyn ReadAt + '_>> {
        let (path, _) = self.find(path)?;
        self.tree.open(&path).ok()
    }

    /// Whether there is a certificate that a program could trust.
    pub(super) fn has_certificates(&self, env: &[String]) -> bool {
        let named = ["SSL_CERT_FILE=", "SSL_CERT_DIR="];
        let named = named.iter().filter_map(|name| {
            let mut values = env.iter().filter_map(|line| line.strip_prefix(name));
            values.next()
        });
        let is_filled = |path: &str| match self.find(path) {
            Some((
                _,
                Node {
                    kind: NodeKind::File { size },
                    ..
                },
            )) => size > 0,
            Some((
                path,
                Node {
                    kind: NodeKind::Directory,
                    ..
                },
            )) => self.tree.list(&path).is_ok_and(|names| !names.is_empty()),
            _ => false,
        };
        CERTIFICATES
            .into_iter()
            .chain(["/etc/ssl/certs"])
            .chain(named)
            .any(is_filled)
    }

    /// Whether `/etc/passwd` has a user of this number.
    pub(super) fn has_user(&self, uid: u32) -> bool {
        let Some((path, _)) = self.find("/etc/passwd") else {
            return false;
        };
        let text = self.tree.read(&path, 8 << 20).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| line.split(':').nth(2))
            .any(|number| number == uid.to_string())
    }

    fn maker(&self) -> Option<Maker> {
        [
            ("/lib/apk/db/installed", Maker::Alpine),
            ("/var/lib/dpkg/status", Maker::Debian),
            ("/var/lib/rpm", Maker::RedHat),
            ("/usr/lib/sysimage/rpm", Maker::RedHat),
        ]
        .into_iter()
        .find_map(|(path, maker)| self.has(path).then_some(maker))
    }

    /// How the image's own packages bring a library.
    pub(super) fn package_of(&self, library: &str) -> Option<String> {
        Some(match self.maker()? {
            Maker::Alpine => format!("or install it in the image: `RUN apk add so:{library}`"),
            Maker::RedHat => {
                format!("or install it in the image: `RUN dnf install '{library}()(64bit)'`")
            }
            Maker::Debian => {
                let package = debian_package(library)?;
                format!(
                    "or install it in the image: `RUN apt-get install {package}`, if that is its package"
                )
            }
        })
    }

    /// How the image's own packages bring certificates, and time zones.
    pub(super) fn install(&self, package: &str) -> Option<String> {
        let command = match self.maker()? {
            Maker::Alpine => "apk add",
            Maker::Debian => "apt-get install",
            Maker::RedHat => "dnf install",
        };
        Some(format!(
            "install them in the image: `RUN {command} {package}`"
        ))
    }

    /// That the image has another C library than the one that a loader belongs to.
    pub(super) fn other_libc(&self, loader: &str) -> Option<String> {
        let has_musl = self
            .tree
            .resolve(b"/lib")
            .ok()
            .flatten()
            .is_some_and(|(lib, _)| {
                let names = self.tree.list(&lib).unwrap_or_default();
                names.iter().any(|name| name.starts_with(b"ld-musl-"))
            });
        let wants_musl = loader.contains("ld-musl-");
        let has_glibc = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
        match (wants_musl, has_musl) {
            (false, true) => Some("it is built for glibc, and the image has musl".to_owned()),
            (true, false) if has_glibc.iter().any(|path| self.has(path)) => {
                Some("it is built for musl, and the image has glibc".to_owned())
            }
            _ => None,
        }
    }

    /// The first directory on the way to `path`, or `path` itself, that a user may not enter.
    pub(super) fn barred(&self, path: &str, user: &User) -> Option<String> {
        if user.uid == 0 {
            return None;
        }
        let (found, _) = self.find(path)?;
        let mut way: Vec<LayerPath> =
            std::iter::successors(Some(found), LayerPath::parent).collect();
        way.reverse();
        let closed = way.into_iter().find(|path| {
            let node = self.tree.node(path).ok().flatten();
            node.is_some_and(|node| node.kind == NodeKind::Directory && !may_execute(&node, user))
        })?;
        Some(closed.to_string())
    }

    /// Why the kernel does not let a user execute a file that is executable.
    pub(super) fn forbidden(&self, program: &str, user: &User) -> Option<Finding> {
        let uid = user.uid;
        if let Some(directory) = self.barred(program, user) {
            let message = format!(
                "`{program}` cannot start: user {uid} may not enter the directory `{directory}`"
            );
            return Some(
                Finding::new("not-permitted", format!("`{directory}` is barred"), message)
                    .hint(format!("let everybody in: `chmod a+x {directory}`")),
            );
        }
        let (path, node) = self.find(program)?;
        if !may_execute(&node, user) {
            let message = format!("`{program}` cannot start: user {uid} may not execute it");
            let fact = format!(
                "its mode is {:04o}, its owner {}:{}",
                node.mode, node.uid, node.gid
            );
            return Some(
                Finding::new("not-permitted", "the user may not execute it", message)
                    .fact(fact)
                    .hint(format!("let everybody execute it: `chmod a+rx {program}`")),
            );
        }
        if self.inside && is_noexec(&path) {
            let message = format!(
                "`{program}` cannot start: it is on a file system that is mounted `noexec`, where nothing can be executed"
            );
            return Some(
                Finding::new("noexec", "it is on a `noexec` mount", message).hint(
                    "put the program in the image, or mount it from a file system without `noexec`",
                ),
            );
        }
        None
    }
}

/// Whether a file or directory lets a user execute it, or pass through it.
fn may_execute(node: &Node, user: &User) -> bool {
    let bit = if user.uid == 0 {
        0o111
    } else if node.uid == user.uid {
        0o100
    } else if node.gid == user.gid || user.groups.contains(&node.gid) {
        0o010
    } else {
        0o001
    };
    node.mode & bit != 0
}

fn is_noexec(path: &LayerPath) -> bool {
    let absolute = std::path::Path::new("/").join(path.as_path());
    rustix::fs::statvfs(&absolute)
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

/// The package of Debian's that a library is in by its naming rule (Debian Policy 8.1), and some that
/// are older than the rule.
fn debian_package(library: &str) -> Option<String> {
    const OLDER: [(&str, &str); 7] = [
        ("libz.so.1", "zlib1g"),
        ("libcrypto.so.3", "libssl3"),
        ("libxml2.so.2", "libxml2"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("libm.so.6", "libc6"),
        ("libpthread.so.0", "libc6"),
        ("libdl.so.2", "libc6"),
    ];
    if let Some((_, package)) = OLDER.iter().find(|(name, _)| *name == library) {
        return Some((*package).to_owned());
    }
    let (name, version) = library.split_once(".so.")?;
    let name = name.to_lowercase().replace('_', "-");
    let dash = if name.ends_with(|c: char| c.is_ascii_digit()) {
        "-"
    } else {
        ""
    };
    Some(format!("{name}{dash}{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_in_packages_that_bear_their_names() {
        for (library, package) in [
            ("libssl.so.3", "libssl3"),
            ("libgcc_s.so.1", "libgcc-s1"),
            ("libstdc++.so.6", "libstdc++6"),
            ("libsqlite3.so.0", "libsqlite3-0"),
            ("libGL.so.1", "libgl1"),
            ("libz.so.1", "zlib1g"),
            ("libc.so.6", "libc6"),
        ] {
            assert_eq!(debian_package(library).as_deref(), Some(package));
        }
        assert_eq!(debian_package("plugin.so"), None);
    }

    #[test]
    fn the_bit_that_counts_is_the_users() {
        let node = |mode| Node {
            kind: NodeKind::File { size: 1 },
            mode,
            uid: 5,
            gid: 6,
        };
        let user = |uid, gid| User {
            uid,
            gid,
            groups: vec![7],
        };
        for (mode, who, may) in [
            (0o100, user(0, 0), true),
            (0o644, user(0, 0), false),
            (0o700, user(5, 6), true),
            (0o077, user(5, 6), false),
            (0o010, user(9, 6), true),
            (0o701, user(9, 6), false),
            (0o001, user(9, 9), true),
            (0o750, user(9, 9), false),
        ] {
            assert_eq!(may_execute(&node(mode), &who), may, "{mode:o} {who:?}");
        }
    }
}
