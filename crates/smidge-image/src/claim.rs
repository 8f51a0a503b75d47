//! What a file on disk should be, where the disk cannot hold it.
//!
//! An ordinary user's files belong to that user, can be read and removed by that user, and are no
//! devices. What an image says of them is kept beside them, as text in an extended attribute:
//! `UID GID MODE KIND`. UID and GID are decimal. MODE is octal, or `-` when the mode on disk is the
//! truth. KIND is `-`, or `c MAJOR MINOR`, `b MAJOR MINOR` or `p` for a device or a pipe that an empty
//! regular file stands for. Without the attribute, a file is root's, and otherwise as it is on disk.
//!
//! The kernel lets only regular files and directories carry such attributes (xattr(7)). Changing the
//! format is a format break: unpacked layers hold it.

use std::fmt;

/// What a file should be: the value of [`Claim::ATTRIBUTE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permission, set-id and sticky bits, if they are not those on disk: see [`Claim::mode_of`].
    pub mode: Option<u32>,
    /// What it is.
    pub kind: ClaimKind,
}

/// What a file should be, if not what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClaimKind {
    /// What it is.
    #[default]
    AsIs,
    /// A character device, which an empty regular file stands for.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device, which an empty regular file stands for.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe, which an empty regular file stands for.
    Fifo,
}

/// Extended attributes that belong to the machine, not to the image.
const PRIVATE: [&[u8]; 3] = [b"user.smidge.", b"user.overlay.", b"trusted.overlay."];

impl Claim {
    /// The extended attribute that holds it.
    pub const ATTRIBUTE: &str = "user.smidge.claim";

    /// The most bytes that its text can have.
    pub const MAX_LENGTH: usize = "4294967295 4294967295 7777 c 4294967295 4294967295".len();

    /// Reads the attribute's value; `None` if it is not the text of a claim.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut words = text.split(|byte| *byte == b' ');
        let claim = Self {
            uid: decimal(words.next()?)?,
            gid: decimal(words.next()?)?,
            mode: match words.next()? {
                b"-" => None,
                digits => Some(octal(digits)?),
            },
            kind: match words.next()? {
                b"-" => ClaimKind::AsIs,
                b"c" => ClaimKind::CharDevice {
                    major: decimal(words.next()?)?,
                    minor: decimal(words.next()?)?,
                },
                b"b" => ClaimKind::BlockDevice {
                    major: decimal(words.next()?)?,
                    minor: decimal(words.next()?)?,
                },
                b"p" => ClaimKind::Fifo,
                _ => return None,
            },
        };
        words.next().is_none().then_some(claim)
    }

    /// Whether it says no more than its absence would: the attribute is then removed instead.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The mode that a file on disk gets so that its owner can read and remove it: `u+rwx` for a
    /// directory, `u+r` for anything else.
    pub fn widened(mode: u32, is_directory: bool) -> u32 {
        mode | if is_directory { 0o700 } else { 0o400 }
    }

    /// The mode that a file should have, told the one that it has on disk. If that is no longer the
    /// widened form of what is claimed, somebody has changed it since, and the disk is right.
    pub fn mode_of(&self, disk: u32, is_directory: bool) -> u32 {
        match self.mode {
            Some(mode) if Self::widened(mode, is_directory) == disk & 0o7777 => mode,
            _ => disk & 0o7777,
        }
    }

    /// Whether an extended attribute never leaves the machine: claims and what else smidge keeps
    /// beside files, and overlayfs' own.
    pub fn is_private(attribute: &[u8]) -> bool {
        PRIVATE.iter().any(|prefix| attribute.starts_with(prefix))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.uid, self.gid)?;
        match self.mode {
            Some(mode) => write!(f, "{mode:o} ")?,
            None => f.write_str("- ")?,
        }
        match self.kind {
            ClaimKind::AsIs => f.write_str("-"),
            ClaimKind::CharDevice { major, minor } => write!(f, "c {major} {minor}"),
            ClaimKind::BlockDevice { major, minor } => write!(f, "b {major} {minor}"),
            ClaimKind::Fifo => f.write_str("p"),
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u32> {
    // The parser of numbers would let a sign pass.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn octal(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mode = u32::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?;
    (mode <= 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_written_as_they_are_read() {
        let claim = |uid, gid, mode, kind| Claim {
            uid,
            gid,
            mode,
            kind,
        };
        let char_device = ClaimKind::CharDevice { major: 1, minor: 3 };
        let block_device = ClaimKind::BlockDevice {
            major: u32::MAX,
            minor: u32::MAX,
        };
        for (text, expected) in [
            ("0 0 - -", Claim::default()),
            ("1000 100 - -", claim(1000, 100, None, ClaimKind::AsIs)),
            ("0 0 0 -", claim(0, 0, Some(0), ClaimKind::AsIs)),
            ("0 42 4755 -", claim(0, 42, Some(0o4755), ClaimKind::AsIs)),
            ("0 0 - p", claim(0, 0, None, ClaimKind::Fifo)),
            ("0 0 666 c 1 3", claim(0, 0, Some(0o666), char_device)),
            (
                "4294967295 4294967295 7777 b 4294967295 4294967295",
                claim(u32::MAX, u32::MAX, Some(0o7777), block_device),
            ),
        ] {
            assert_eq!(Claim::parse(text.as_bytes()), Some(expected), "{text}");
            assert_eq!(expected.to_string(), text);
            assert_eq!(expected.is_empty(), text == "0 0 - -");
            assert!(text.len() <= Claim::MAX_LENGTH);
        }
    }

    #[test]
    fn what_is_no_claim_is_told() {
        for bad in [
            "",
            "0",
            "0 0 -",
            "0 0 - - ",
            " 0 0 - -",
            "0  0 - -",
            "0 0 - -\n",
            "+0 0 - -",
            "-1 0 - -",
            "4294967296 0 - -",
            "0 0 8 -",
            "0 0 10000 -",
            "0 0 +7 -",
            "0 0 - x",
            "0 0 - c",
            "0 0 - c 1",
            "0 0 - c 1 3 4",
            "0 0 - p 1",
            "0 0 - c a 3",
            "\u{661} 0 - -",
        ] {
            assert_eq!(Claim::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Claim::parse(b"0 0 - \xff"), None);
    }

    #[test]
    fn a_mode_that_somebody_has_changed_is_right() {
        let claimed = |mode| Claim {
            mode,
            ..Claim::default()
        };
        for (mode, disk, is_directory, expected) in [
            (None, 0o644, false, 0o644),
            (Some(0), 0o400, false, 0),
            (Some(0o200), 0o600, false, 0o200),
            (Some(0), 0o700, true, 0),
            (Some(0o2555), 0o2755, true, 0o2555),
            (Some(0o644), 0o644, false, 0o644),
            // Since then: chmod 0640, chmod 0.
            (Some(0), 0o640, false, 0o640),
            (Some(0o200), 0, false, 0),
            // The kernel's file type does not matter.
            (Some(0), 0o100_400, false, 0),
        ] {
            assert_eq!(
                claimed(mode).mode_of(disk, is_directory),
                expected,
                "{mode:?} {disk:o}"
            );
        }
    }

    #[test]
    fn attributes_of_the_machine_are_told_from_those_of_the_image() {
        for private in [
            Claim::ATTRIBUTE,
            "user.overlay.opaque",
            "trusted.overlay.origin",
        ] {
            assert!(Claim::is_private(private.as_bytes()), "{private}");
        }
        for public in ["user.smidge", "user.colour", "security.capability", ""] {
            assert!(!Claim::is_private(public.as_bytes()), "{public}");
        }
    }
}
