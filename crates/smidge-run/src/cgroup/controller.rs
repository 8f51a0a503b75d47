//! The kernel's controllers, by the names that the two versions have for them.

use std::fmt;

/// A part of the kernel that limits, or counts, something (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    /// Memory, and what is swapped out.
    Memory,
    /// Processor time.
    Cpu,
    /// Which processors and memory nodes.
    Cpuset,
    /// How many processes and threads.
    Pids,
    /// Block devices.
    Io,
    /// Standing still.
    Freezer,
    /// Devices that may be used.
    Devices,
}

impl Controller {
    /// Its name in version 1.
    pub(super) fn v1(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
            Self::Io => "blkio",
            Self::Freezer => "freezer",
            Self::Devices => "devices",
        }
    }

    /// Its name in version 2; none if every group has it.
    pub(super) fn v2(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
            Self::Cpuset => Some("cpuset"),
            Self::Pids => Some("pids"),
            Self::Io => Some("io"),
            Self::Freezer | Self::Devices => None,
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v1())
    }
}
