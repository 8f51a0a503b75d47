//! What compilers call the machine that an image is for.

use smidge_image::Platform;

use crate::{Error, Host, Kind, Result};

/// A machine in the words of everybody who compiles for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Rust's targets: with musl, with glibc.
    pub(super) rust: [&'static str; 2],
    /// Zig's target, with musl.
    pub(super) zig: &'static str,
    /// What GCC's name starts with where it compiles for another machine than its own.
    pub(super) gnu: &'static str,
    /// Debian's name of the architecture, as in `libc6-dev-arm64-cross`.
    pub(super) debian: &'static str,
    /// The oldest processor meant, if not the target's usual: LLVM's name.
    pub(super) cpu: Option<&'static str>,
}

/// Builds the table: no row is worth more than its line.
macro_rules! target {
    ($rust:literal $musl:literal $gnu:literal, $zig:literal, $gcc:literal, $debian:literal, $cpu:expr) => {
        Target {
            rust: [
                concat!($rust, "-unknown-linux-", $musl),
                concat!($rust, "-unknown-linux-", $gnu),
            ],
            zig: $zig,
            gnu: $gcc,
            debian: $debian,
            cpu: $cpu,
        }
    };
}

impl Target {
    /// The machine of a platform, if it is one that compilers are known to compile for.
    #[rustfmt::skip]
    pub(super) fn of(platform: &Platform) -> Option<Self> {
        let variant = platform.variant.as_deref();
        Some(match (platform.architecture.as_str(), variant) {
            ("amd64", variant) => {
                let cpu = match variant {
                    Some("v2") => Some("x86-64-v2"),
                    Some("v3") => Some("x86-64-v3"),
                    Some("v4") => Some("x86-64-v4"),
                    _ => None,
                };
                target!("x86_64" "musl" "gnu", "x86_64-linux-musl", "x86_64-linux-gnu", "amd64", cpu)
            }
            ("arm64", _) => target!("aarch64" "musl" "gnu", "aarch64-linux-musl", "aarch64-linux-gnu", "arm64", None),
            ("386", _) => target!("i686" "musl" "gnu", "x86-linux-musl", "i686-linux-gnu", "i386", None),
            // Debian's armhf is for v7; what is older takes its armel.
            ("arm", Some("v5")) => target!("armv5te" "musleabi" "gnueabi", "arm-linux-musleabi", "arm-linux-gnueabi", "armel", Some("arm926ej-s")),
            ("arm", Some("v6")) => target!("arm" "musleabihf" "gnueabihf", "arm-linux-musleabihf", "arm-linux-gnueabi", "armel", Some("arm1176jzf-s")),
            ("arm", _) => target!("armv7" "musleabihf" "gnueabihf", "arm-linux-musleabihf", "arm-linux-gnueabihf", "armhf", None),
            ("riscv64", _) => target!("riscv64gc" "musl" "gnu", "riscv64-linux-musl", "riscv64-linux-gnu", "riscv64", None),
            ("ppc64le", _) => target!("powerpc64le" "musl" "gnu", "powerpc64le-linux-musl", "powerpc64le-linux-gnu", "ppc64el", None),
            ("s390x", _) => target!("s390x" "musl" "gnu", "s390x-linux-musl", "s390x-linux-gnu", "s390x", None),
            ("loong64", _) => target!("loongarch64" "musl" "gnu", "loongarch64-linux-musl", "loongarch64-linux-gnu", "loong64", None),
            _ => return None,
        })
    }

    /// The machine that a build is for: this one, unless it was told otherwise.
    pub(super) fn wanted(platform: Option<&Platform>, host: &Host, language: &str) -> Result<Self> {
        let platform = platform.cloned();
        let platform = platform.unwrap_or_else(|| Platform::linux(host.architecture()));
        Self::of(&platform).ok_or_else(|| {
            let message = format!(
                "cannot compile {language} for `{platform}`: it is not known what target that is"
            );
            Error::new(Kind::Input, message)
        })
    }
}

/// Whether what is compiled for a platform is compiled for this very machine.
pub(super) fn is_native(platform: Option<&Platform>, host: &Host) -> bool {
    platform.is_none_or(|platform| platform.architecture == host.architecture())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_names_everywhere() {
        let shown = |text: &str| {
            let target = Target::of(&text.parse().unwrap())?;
            let [musl, gnu] = target.rust;
            let cpu = target.cpu.unwrap_or("-");
            Some(format!(
                "{musl} {gnu} {} {} {} {cpu}",
                target.zig, target.gnu, target.debian
            ))
        };
        let cases = [
            (
                "linux/amd64/v1",
                "x86_64-unknown-linux-musl x86_64-unknown-linux-gnu x86_64-linux-musl x86_64-linux-gnu amd64 -",
            ),
            (
                "linux/amd64/v3",
                "x86_64-unknown-linux-musl x86_64-unknown-linux-gnu x86_64-linux-musl x86_64-linux-gnu amd64 x86-64-v3",
            ),
            (
                "linux/arm64/v8",
                "aarch64-unknown-linux-musl aarch64-unknown-linux-gnu aarch64-linux-musl aarch64-linux-gnu arm64 -",
            ),
            (
                "linux/arm/v7",
                "armv7-unknown-linux-musleabihf armv7-unknown-linux-gnueabihf arm-linux-musleabihf arm-linux-gnueabihf armhf -",
            ),
            (
                "linux/arm/v6",
                "arm-unknown-linux-musleabihf arm-unknown-linux-gnueabihf arm-linux-musleabihf arm-linux-gnueabi armel arm1176jzf-s",
            ),
            (
                "linux/ppc64le",
                "powerpc64le-unknown-linux-musl powerpc64le-unknown-linux-gnu powerpc64le-linux-musl powerpc64le-linux-gnu ppc64el -",
            ),
        ];
        for (platform, expected) in cases {
            assert_eq!(shown(platform).as_deref(), Some(expected), "{platform}");
        }
        assert_eq!(shown("linux/vax"), None);
    }
}
