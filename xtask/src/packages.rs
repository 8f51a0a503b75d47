//! Debian packages that a task needs.

use crate::tool::{self, Outcome};

/// A program, and the Debian package that has it.
pub struct Needed {
    /// What must be on PATH; of what is no program, a file of it.
    pub program: &'static str,
    /// Where Debian has it.
    pub package: &'static str,
}

const fn needed(program: &'static str, package: &'static str) -> Needed {
    Needed { program, package }
}

/// What the demo needs.
pub const DEMO: &[Needed] = &[needed("gcc", "gcc"), needed("curl", "curl")];

/// What the tests need beside that: peers to agree with, compilers to feed.
pub const TESTS: &[Needed] = &[
    needed("gcc", "gcc"),
    needed("curl", "curl"),
    needed("go", "golang-go"),
    needed("skopeo", "skopeo"),
    needed("umoci", "umoci"),
    needed("podman", "podman"),
    needed("buildah", "buildah"),
    needed("dockerd", "docker.io"),
    needed("docker-registry", "docker-registry"),
    needed("htpasswd", "apache2-utils"),
    needed("openssl", "openssl"),
    needed("busybox", "busybox-static"),
    needed("newuidmap", "uidmap"),
    needed("musl-gcc", "musl-tools"),
    needed("runc", "runc"),
    needed("crun", "crun"),
    needed("containerd", "containerd"),
    needed("/usr/sbin/nft", "nftables"),
    needed("/usr/sbin/iptables", "iptables"),
    needed("ip", "iproute2"),
    needed("pasta", "passt"),
    needed("setpriv", "util-linux"),
    needed("script", "bsdutils"),
    needed("python3", "python3"),
    needed("bzip2", "bzip2"),
    needed("xz", "xz-utils"),
    needed("debootstrap", "debootstrap"),
    needed("/usr/sbin/setcap", "libcap2-bin"),
    needed("qemu-aarch64-static", "qemu-user-static"),
    needed("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    needed("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
];

/// What the benchmarks compare with.
pub const BENCH: &[Needed] = &[
    needed("hyperfine", "hyperfine"),
    needed("wrk", "wrk"),
    needed("crun", "crun"),
    needed("iptables", "iptables"),
    needed("time", "time"),
];

/// Installs what is missing when this process may, and otherwise says what to install.
///
/// # Errors
/// Names the packages when they cannot be installed.
pub fn ensure(needed: &[Needed]) -> Outcome {
    let mut missing: Vec<&str> = needed
        .iter()
        .filter(|n| !tool::found(n.program))
        .map(|n| n.package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !tool::found("apt-get") || !tool::is_superuser() {
        return Err(format!(
            "some programs are missing; install them first:\n  apt-get install {list}"
        ));
    }
    eprintln!("installing {list}");
    let apt = |args: &[&str]| {
        tool::run(
            tool::command("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
                .args(args)
                .stdin(std::process::Stdio::null()),
        )
    };
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}
