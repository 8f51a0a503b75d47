//! What machine an image is for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Operating system, architecture and variant in Go's words, as OCI has them
/// (image-spec, image-index.md, "platform").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`, `arm64`, …
    pub architecture: String,
    /// Operating system: `linux`.
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
        let (architecture, implied) = match architecture {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            "i386" => ("386", None),
            other => (other, None),
        };
        let variant = variant
            .or(implied)
            .filter(|v| !(architecture == "arm64" && *v == "v8"));
        Ok(Self {
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::linux(architecture)
        })
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

    #[test]
    fn platforms_are_normalised() {
        let shown = |text: &str| text.parse::<Platform>().map(|p| p.to_string());
        assert_eq!(shown("linux/amd64").as_deref(), Ok("linux/amd64"));
        assert_eq!(shown("x86_64").as_deref(), Ok("linux/amd64"));
        assert_eq!(shown("linux/aarch64/v8").as_deref(), Ok("linux/arm64"));
        assert_eq!(shown("linux/armhf").as_deref(), Ok("linux/arm/v7"));
        for bad in ["", "linux", "linux/", "a/b/c/d", "linux/a b"] {
            assert_eq!(shown(bad), Err(PlatformError(bad.to_owned())), "{bad}");
        }
    }
}
