//! Linux capabilities as bits of a `u64` (`capabilities(7)`).

use rustix::thread::CapabilitySet;

/// What a container may do by default: Docker's 14.
pub const DEFAULT: u64 = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP)
    .bits();

/// Every capability's name without `CAP_`, at the place of its number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All capabilities that this version knows.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The bit of a capability by its name, in any case, with or without `CAP_`; `ALL` means all.
#[must_use]
pub fn parse(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if name == "ALL" {
        return Some(ALL);
    }
    NAMES
        .iter()
        .position(|known| *known == name)
        .map(|number| 1 << number)
}

/// The name of a capability by its number, without `CAP_`.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_dockers() {
        // `grep CapBnd /proc/self/status` in a container of Docker's.
        assert_eq!(DEFAULT, 0xa804_25fb);
    }

    #[test]
    fn names_are_found_in_every_form() {
        for (name, bit) in [
            ("CHOWN", Some(1)),
            ("cap_sys_admin", Some(1 << 21)),
            ("CAP_CHECKPOINT_RESTORE", Some(1 << 40)),
            ("all", Some(0x1ff_ffff_ffff)),
            ("SYS", None),
            ("", None),
        ] {
            assert_eq!(parse(name), bit, "{name}");
        }
    }
}
