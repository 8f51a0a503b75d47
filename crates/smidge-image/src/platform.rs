//! What machine an image is for.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Descriptor;

/// Operating system, architecture and variant in Go's words, as OCI has them
/// (image-spec, image-index.md, "platform").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// Operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// CPU variant, such as `v7` for `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields this version does not know (`os.version`, …), kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: expected OS/ARCH or OS/ARCH/VARIANT, such as `linux/arm64`")]
pub struct PlatformError(pub String);

/// How well what is offered suits what is wanted; the smaller, the better.
type Rank = u32;

impl Platform {
    /// A Linux platform for an architecture in Go's words.
    pub fn linux(architecture: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
            extra: BTreeMap::new(),
        }
    }

    /// The platform in the words that mean it everywhere: `x86_64` is `amd64`, `arm64/v8` is `arm64`,
    /// `arm` is `arm/v7`.
    pub fn normalized(&self) -> Self {
        let (os, architecture) = (
            self.os.to_ascii_lowercase(),
            self.architecture.to_ascii_lowercase(),
        );
        let (architecture, implied) = match architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "i386" | "i486" | "i586" | "i686" => ("386", None),
            other => (other, None),
        };
        let given = self
            .variant
            .as_deref()
            .filter(|variant| !variant.is_empty());
        let given = given.map(str::to_ascii_lowercase).map(|variant| {
            let numbered = architecture.starts_with("arm") && !variant.starts_with('v');
            if numbered {
                format!("v{variant}")
            } else {
                variant
            }
        });
        let variant = match (architecture, given.as_deref().or(implied)) {
            ("arm64", Some("v8" | "v8.0")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7"),
            (_, variant) => variant,
        };
        Self {
            variant: variant.map(str::to_owned),
            os: if os == "macos" {
                "darwin".to_owned()
            } else {
                os
            },
            architecture: architecture.to_owned(),
            extra: self.extra.clone(),
        }
    }

    /// Whether what is offered runs where this platform is wanted: the same operating system and
    /// architecture, and no newer a CPU. An older CPU of the same architecture will do (`arm/v6` where
    /// `arm/v7` is wanted), another architecture will not, even where the kernel could run it.
    pub fn matches(&self, offered: &Self) -> bool {
        self.rank(offered).is_some()
    }

    /// The descriptor that suits best; of several that suit equally, the first. One that names no
    /// platform is taken where none that does suits; attestations never are.
    pub fn best<'d>(
        &self,
        offered: impl IntoIterator<Item = &'d Descriptor>,
    ) -> Option<&'d Descriptor> {
        let ranked = offered.into_iter().filter_map(|descriptor| {
            let rank = match &descriptor.platform {
                _ if descriptor.is_attestation() => None,
                Some(platform) => self.rank(platform),
                None => Some(Rank::MAX),
            };
            Some((rank?, descriptor))
        });
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, descriptor)| descriptor)
    }

    fn rank(&self, offered: &Self) -> Option<Rank> {
        let (wanted, offered) = (self.normalized(), offered.normalized());
        if (&wanted.os, &wanted.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        if wanted.variant == offered.variant {
            return Some(0);
        }
        let (wanted, offered) = (wanted.level()?, offered.level()?);
        match offered.cmp(&wanted) {
            Ordering::Equal => Some(0),
            // Levels are two numbers, as in ARM's v8.2.
            Ordering::Less => Some((wanted.0 - offered.0) * 100 + 50 + wanted.1 - offered.1),
            Ordering::Greater => None,
        }
    }

    /// The CPU's generation, where generations run what was made for older ones.
    fn level(&self) -> Option<(Rank, Rank)> {
        let variant = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("amd64", None) => "v1",
            ("arm64", None) => "v8",
            ("amd64" | "arm64" | "arm", Some(variant)) => variant,
            _ => return None,
        };
        let number = |text: &str| text.parse::<Rank>().ok().filter(|number| *number < 50);
        let (major, minor) = match variant.strip_prefix('v')?.split_once('.') {
            Some((major, minor)) => (number(major)?, number(minor)?),
            None => (number(variant.strip_prefix('v')?)?, 0),
        };
        Some((major, minor))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `OS/ARCH[/VARIANT]`, or `ARCH` alone for Linux; `x86_64` and `aarch64` are understood.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let malformed = || PlatformError(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let sound = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !parts.iter().all(sound) {
            return Err(malformed());
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] if architecture != "linux" => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(malformed()),
        };
        let stated = Self {
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::linux(architecture)
        };
        Ok(stated.normalized())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, media_type};

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_normalised() {
        let shown = |text: &str| text.parse::<Platform>().map(|p| p.to_string());
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/ARM64", "linux/arm64"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("windows/amd64", "windows/amd64"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
            // What is shown reads back as the same.
            assert_eq!(platform(expected), platform(text), "{text}");
        }
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/a b"] {
            assert_eq!(shown(bad), Err(PlatformError(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn an_older_cpu_will_do_and_nothing_else() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v2", false),
            ("linux/amd64/v3", "linux/amd64", true),
            ("linux/amd64/v3", "linux/amd64/v2", true),
            ("linux/amd64/v3", "linux/amd64/v4", false),
            ("linux/amd64", "linux/386", false),
            ("linux/386", "linux/386", true),
            ("linux/386", "linux/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/arm64/v9", "linux/arm64", true),
            ("linux/arm64/v8.2", "linux/arm64/v8.1", true),
            ("linux/arm64/v9.0", "linux/arm64/v9", true),
            ("linux/arm64/v9", "linux/arm64/v8.7", true),
            ("linux/arm64/v8.1", "linux/arm64/v8.2", false),
            ("linux/arm64", "linux/arm/v7", false),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v6", true),
            ("linux/arm/v7", "linux/arm/v5", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm/v7", "linux/arm/strange", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/mips64le", "linux/mips64le/hardfloat", false),
            ("linux/mips64le/hardfloat", "linux/mips64le/hardfloat", true),
            ("linux/arm/v4294967295", "linux/arm/v7", false),
        ] {
            let (wanted, offered) = (platform(wanted), platform(offered));
            assert_eq!(wanted.matches(&offered), expected, "{wanted} {offered}");
        }
    }

    #[test]
    fn the_best_is_the_nearest_and_the_first() {
        let offer = |text: Option<&str>, content: &str| {
            let mut descriptor = Descriptor::of(media_type::MANIFEST, content.as_bytes());
            descriptor.platform = text.map(platform);
            descriptor
        };
        let best = |wanted: &str, offers: &[Descriptor]| {
            let wanted = platform(wanted);
            let found = wanted.best(offers)?;
            offers.iter().position(|offer| std::ptr::eq(offer, found))
        };
        let offers = [
            offer(Some("unknown/unknown"), "x"),
            offer(None, "none"),
            offer(Some("linux/arm/v5"), "5"),
            offer(Some("linux/arm/v6"), "6"),
            offer(Some("linux/arm64/v8"), "64"),
            offer(Some("linux/arm64/v8.1"), "64.1"),
            offer(Some("linux/arm64"), "64 again"),
            offer(Some("linux/amd64"), "amd"),
            offer(Some("linux/amd64/v2"), "amd 2"),
        ];
        for (wanted, expected) in [
            ("linux/arm/v7", 3),
            ("linux/arm/v5", 2),
            ("linux/arm64", 4),
            ("linux/arm64/v9", 5),
            ("linux/amd64", 7),
            ("linux/amd64/v3", 8),
            // Whatever names no platform may be for any.
            ("linux/s390x", 1),
        ] {
            assert_eq!(best(wanted, &offers), Some(expected), "{wanted}");
        }
        assert_eq!(best("linux/s390x", &offers[2..]), None);
        assert_eq!(best("unknown/unknown", &offers[..1]), None);
        let mut attestation = offer(None, "none");
        attestation.annotations.insert(
            crate::annotation::REFERENCE_TYPE.to_owned(),
            "attestation-manifest".to_owned(),
        );
        assert_eq!(best("linux/amd64", &[attestation]), None);
        assert_eq!(Digest::of(b"none"), offers[1].digest);
    }
}
