//! What a program may use at most (`setrlimit(2)`), in the words of `--ulimit`.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::error::RunError;

/// The most that a program may use of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub resource: LimitedResource,
    /// The limit in force, which the program may raise up to [`Limit::hard`]; `None` means no limit.
    pub soft: Option<u64>,
    /// The limit of the limit; `None` means no limit.
    pub hard: Option<u64>,
}

/// Something that a [`Limit`] can be set for, named as `--ulimit` and `RLIMIT_…` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitedResource {
    /// Size of a core file, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Size of the data segment, in bytes.
    Data,
    /// Size of a written file, in bytes.
    Fsize,
    /// File locks.
    Locks,
    /// Locked memory, in bytes.
    Memlock,
    /// Bytes of message queues.
    Msgqueue,
    /// The ceiling of the nice value: 20 less it.
    Nice,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Resident memory, in bytes; the kernel no longer heeds it.
    Rss,
    /// Priority of real-time processes.
    Rtprio,
    /// Processor time of a real-time process between two waits, in microseconds.
    Rttime,
    /// Signals that wait.
    Sigpending,
    /// Size of the stack, in bytes.
    Stack,
}

/// Every resource by its name.
const NAMES: [(&str, LimitedResource, Resource); 15] = [
    ("core", LimitedResource::Core, Resource::Core),
    ("cpu", LimitedResource::Cpu, Resource::Cpu),
    ("data", LimitedResource::Data, Resource::Data),
    ("fsize", LimitedResource::Fsize, Resource::Fsize),
    ("locks", LimitedResource::Locks, Resource::Locks),
    ("memlock", LimitedResource::Memlock, Resource::Memlock),
    ("msgqueue", LimitedResource::Msgqueue, Resource::Msgqueue),
    ("nice", LimitedResource::Nice, Resource::Nice),
    ("nofile", LimitedResource::Nofile, Resource::Nofile),
    ("nproc", LimitedResource::Nproc, Resource::Nproc),
    ("rss", LimitedResource::Rss, Resource::Rss),
    ("rtprio", LimitedResource::Rtprio, Resource::Rtprio),
    ("rttime", LimitedResource::Rttime, Resource::Rttime),
    (
        "sigpending",
        LimitedResource::Sigpending,
        Resource::Sigpending,
    ),
    ("stack", LimitedResource::Stack, Resource::Stack),
];

impl Limit {
    /// Reads `NAME=SOFT[:HARD]` as `docker build --ulimit` has it; `-1` means no limit, and without
    /// HARD it is SOFT.
    ///
    /// # Errors
    /// What is wrong with the text, as a fragment to follow a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once('=').ok_or_else(|| {
            "it has no `=`: `NAME=SOFT[:HARD]`, as in `nofile=1024:4096`".to_owned()
        })?;
        let Some((_, resource, _)) = NAMES.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
            return Err(format!("`{name}` is none of {}", known.join(", ")));
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (amount(soft)?, amount(hard)?);
        if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
            return Err("the soft limit is above the hard one".to_owned());
        }
        Ok(Self {
            resource: *resource,
            soft,
            hard,
        })
    }

    /// The resource's name: `nofile`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, resource, _)| *resource == self.resource)
            .map_or("", |(name, ..)| name)
    }

    fn kernel_resource(self) -> Option<Resource> {
        NAMES
            .iter()
            .find(|(_, resource, _)| *resource == self.resource)
            .map(|(.., resource)| *resource)
    }
}

/// What a limit's name, as `--ulimit` has it, means to the kernel.
pub(crate) fn resource(name: &str) -> Option<Resource> {
    let found = NAMES.iter().find(|(known, ..)| *known == name);
    found.map(|(.., resource)| *resource)
}

fn amount(text: &str) -> Result<Option<u64>, String> {
    if text == "-1" || text == "unlimited" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| format!("`{text}` is no number, nor `-1` for no limit"))
}

/// How many files the caller may have open, where that was raised.
static CALLERS: OnceLock<Rlimit> = OnceLock::new();

/// Lets the process have as many files open as it may allow itself, and tells how many. Programs that it starts get
/// the caller's limit all the same.
pub(crate) fn raise_files() -> usize {
    let own = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: own.maximum,
        maximum: own.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            CALLERS.get_or_init(|| own);
            raised
        }
        Err(_) => own,
    };
    let files = limit.current.and_then(|files| usize::try_from(files).ok());
    files.unwrap_or(usize::MAX)
}

/// Sets limits for the calling process and what it starts.
pub(crate) fn apply(limits: &[Limit]) -> Result<(), RunError> {
    if let Some(own) = CALLERS.get() {
        setrlimit(Resource::Nofile, *own)
            .map_err(RunError::setup("limit the number of open files"))?;
    }
    for limit in limits {
        let Some(resource) = limit.kernel_resource() else {
            continue;
        };
        let wanted = Rlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        setrlimit(resource, wanted).map_err(|errno| RunError::Setup {
            step: refusal(limit, getrlimit(resource).maximum),
            source: errno.into(),
        })?;
    }
    Ok(())
}

/// Says how much rather than others the process, and what it starts, is killed when the machine is short
/// of memory (proc_pid_oom_score_adj(5)).
pub(crate) fn rank_for_death(adjustment: Option<i32>) -> Result<(), RunError> {
    let Some(adjustment) = adjustment else {
        return Ok(());
    };
    let path = Path::new("/proc/self/oom_score_adj");
    fs::write(path, adjustment.to_string()).map_err(|source| RunError::Limit {
        option: "--oom-score-adj".to_owned(),
        value: adjustment.to_string(),
        path: path.to_owned(),
        source,
    })
}

/// Only root may raise a hard limit, so what it is now is worth knowing.
fn refusal(limit: &Limit, maximum: Option<u64>) -> String {
    let text = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    format!(
        "set the limit `{}={}:{}`, where the hard limit is {} now,",
        limit.name(),
        text(limit.soft),
        text(limit.hard),
        text(maximum)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_does() {
        let limit = |resource, soft, hard| {
            Ok(Limit {
                resource,
                soft,
                hard,
            })
        };
        for (text, expected) in [
            (
                "nofile=1024:4096",
                limit(LimitedResource::Nofile, Some(1024), Some(4096)),
            ),
            ("core=0", limit(LimitedResource::Core, Some(0), Some(0))),
            ("stack=-1", limit(LimitedResource::Stack, None, None)),
            ("nproc=5:-1", limit(LimitedResource::Nproc, Some(5), None)),
        ] {
            assert_eq!(Limit::parse(text), expected, "{text}");
        }
        for text in [
            "",
            "nofile",
            "files=3",
            "nofile=x",
            "nofile=2:1",
            "nofile=-1:1",
            "nofile=",
        ] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
    }
}
