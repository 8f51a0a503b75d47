//! What can go wrong between a [`Spec`](crate::Spec) and a running program.
//!
//! Most of it goes wrong in another process than the one that has to tell: inside the container, or
//! in its supervisor. So an error can be written to a pipe and read back unchanged.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Lack;
use crate::spec::Protocol;

/// Why a container could not be started, looked at or removed.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum RunError {
    /// The spec names no program.
    #[error("container `{id}` has no program to run")]
    NoProgram {
        /// The container.
        id: String,
    },
    /// A text of the spec cannot be handed to the kernel.
    #[error("{field} `{value}` holds a NUL byte")]
    Nul {
        /// Which text: an argument, a variable, a path.
        field: String,
        /// The text.
        value: String,
    },
    /// The kernel or the host's settings forbid the namespaces.
    #[error("cannot create the namespaces of container `{id}`")]
    Namespaces {
        /// The container.
        id: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// Something was asked for that only namespaces can give, and the kernel makes none here.
    #[error("{what} needs namespaces, which cannot be made here")]
    NeedsNamespaces {
        /// What was asked for.
        what: String,
    },
    /// The id map was refused.
    #[error("cannot map the ids of container `{id}`: {detail}")]
    IdMap {
        /// The container.
        id: String,
        /// Which file or program, and what it said.
        detail: String,
    },
    /// A file that says which ids a user may use cannot be read.
    #[error("cannot read `{path}`")]
    IdFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The user or a group is outside the id map.
    #[error("{what} {number} is not mapped in the container: only {mapped} are")]
    Unmapped {
        /// `user` or `group`.
        what: String,
        /// The number that is not mapped.
        number: u32,
        /// The numbers that are, as text.
        mapped: String,
    },
    /// The container could not be put on a network.
    #[error("cannot join the network of `{network}`: {step}")]
    Network {
        /// The network's bridge.
        network: String,
        /// What was being done.
        step: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// Nothing leads out of the container.
    #[error("cannot lead out of the container with `pasta`: {step}")]
    Uplink {
        /// What was being done.
        step: String,
        /// What the kernel said, or `pasta`.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The layers could not be joined to a root file system.
    #[error("cannot mount the root file system from `{dir}`: {step}")]
    RootFs {
        /// The container's directory or the layer at fault.
        dir: PathBuf,
        /// What was being done.
        step: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// What should be mounted is not there or not accessible.
    #[error("cannot open `{path}`, to be mounted in the container")]
    MountSource {
        /// The path on the host.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// Something could not be mounted inside.
    #[error("cannot mount `{destination}` in the container")]
    Mount {
        /// The path inside.
        destination: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The container cannot have a device of the host.
    #[error("cannot give the container the device `{path}`")]
    Device {
        /// The path on the host.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// A setting of the container's namespaces was refused.
    #[error("cannot set `{name}` to `{value}` in the container")]
    Sysctl {
        /// Its path below `/proc/sys`.
        name: String,
        /// The value.
        value: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// Another step of shutting the program in failed.
    #[error("cannot {step} in the container")]
    Setup {
        /// The step, as an infinitive: `set the host name`.
        step: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The working directory is missing and cannot be made, or is not a directory.
    #[error("cannot enter the working directory `{path}`")]
    WorkingDirectory {
        /// The path inside.
        path: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// No directory of the container's `PATH` has such a program.
    #[error("no program `{program}` in the container's PATH `{path}`")]
    NotInPath {
        /// The name that was looked up.
        program: String,
        /// The directories that were searched, separated by colons.
        path: String,
    },
    /// A program that a bundle wants to be called failed.
    #[error("{kind} hook `{path}` failed: {detail}")]
    Hook {
        /// When it is called.
        kind: String,
        /// The program.
        path: PathBuf,
        /// How it ended.
        detail: String,
    },
    /// The kernel refused to execute the program.
    #[error("cannot execute `{program}` in the container")]
    Exec {
        /// The path that was given to `execve(2)`.
        program: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The program, or its interpreter, is this very binary as seen through `/proc` (CVE-2019-5736).
    #[error("refusing to execute `{program}`: it leads to the binary that starts the container")]
    OwnBinary {
        /// The path inside.
        program: String,
    },
    /// The process that set the container up was killed before the program started.
    #[error("the setup of container `{id}` died before its program started")]
    Died {
        /// The container.
        id: String,
    },
    /// A file or directory could not be removed.
    #[error("cannot remove `{path}`")]
    Remove {
        /// What could not be removed.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// A port of the host is taken.
    #[error("`{address}` is already in use")]
    PortInUse {
        /// The address and port.
        address: SocketAddr,
        /// The transport.
        protocol: Protocol,
    },
    /// The host does not let the caller listen on a port: a privileged one, or an address that is not its own.
    #[error("cannot listen on `{address}/{protocol}`")]
    PortRefused {
        /// The address and port.
        address: SocketAddr,
        /// The transport.
        protocol: Protocol,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The container runs already.
    #[error("container `{id}` is running")]
    AlreadyRunning {
        /// The container.
        id: String,
    },
    /// The container stands still, and another command is busy with its files.
    #[error("cannot start container `{id}`: another command copies or looks at its files")]
    Visited {
        /// The container.
        id: String,
    },
    /// The container does not run.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: String,
    },
    /// A directory's files cannot be shown with the container's ids.
    #[error("cannot map the ids of the files in `{path}`")]
    Unmappable {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The host sets no ids aside for containers.
    #[error("there are no ids for a user namespace of its own: {why}")]
    NoIds {
        /// What is missing.
        why: String,
    },
    /// What another container has cannot be shared.
    #[error("cannot share the {what} of container `{id}`: {why}")]
    NotShared {
        /// What is to be shared: `network`.
        what: String,
        /// The other container.
        id: String,
        /// Why not.
        why: String,
    },
    /// A file of the container's directory cannot be used.
    #[error("cannot use `{path}`")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// A step of watching over a container failed on the host's side.
    #[error("cannot {step}")]
    Supervise {
        /// The step, as an infinitive: `start the supervisor`.
        step: String,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// A time was given in no form that is known.
    #[error("`{text}` is not a time: use RFC 3339, or seconds since 1970")]
    Time {
        /// The text that was given.
        text: String,
    },
    /// Something takes a part of the kernel that cannot be had.
    #[error("`{option}` takes the cgroup controller `{controller}`, {why}")]
    NoController {
        /// What asks for it.
        option: String,
        /// The controller, by its name in version 1.
        controller: String,
        /// Why it cannot be had.
        why: Lack,
    },
    /// The kernel does not take a limit.
    #[error("cannot set `{option}`: `{path}` does not take `{value}`")]
    Limit {
        /// The option that asks for it.
        option: String,
        /// What was written.
        value: String,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// A control group cannot be made or used.
    #[error("cannot {step} `{path}`")]
    Cgroup {
        /// The step, as an infinitive: `freeze`.
        step: String,
        /// The group, or a file of it.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        #[serde(with = "os_error")]
        source: io::Error,
    },
    /// The container stands still already.
    #[error("container {id} is already paused")]
    Paused {
        /// The container.
        id: String,
    },
    /// The container does not stand still.
    #[error("container {id} is not paused")]
    NotPaused {
        /// The container.
        id: String,
    },
    /// The process that watches over the container was killed.
    #[error("the supervisor of container `{id}` was killed")]
    Unsupervised {
        /// The container.
        id: String,
    },
}

impl RunError {
    /// The operating system's error number behind it, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        let mut error: &dyn std::error::Error = self;
        while let Some(source) = error.source() {
            error = source;
        }
        error.downcast_ref::<io::Error>()?.raw_os_error()
    }

    /// Turns an answer to a step on the host's side into an error, for `map_err`.
    pub(crate) fn supervise<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Supervise {
            step: step.to_owned(),
            source: error.into(),
        }
    }

    /// Turns trouble with a file of the container's directory into an error, for `map_err`.
    pub(crate) fn record<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::Record {
            path: path.to_owned(),
            source: error.into(),
        }
    }

    /// Turns a kernel's answer to a setup step into an error, for `map_err`.
    pub(crate) fn setup<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Setup {
            step: step.to_owned(),
            source: error.into(),
        }
    }
}

/// An [`io::Error`] as it crosses a pipe: its number if it has one, else its text.
pub(crate) mod os_error {
    use std::io;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Wire {
        Number(i32),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(error: &io::Error, to: S) -> Result<S::Ok, S::Error> {
        match error.raw_os_error() {
            Some(number) => Wire::Number(number),
            None => Wire::Text(error.to_string()),
        }
        .serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<io::Error, D::Error> {
        Ok(match Wire::deserialize(from)? {
            Wire::Number(number) => io::Error::from_raw_os_error(number),
            Wire::Text(text) => io::Error::other(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_a_pipe() {
        let error = RunError::Exec {
            program: "/nope".to_owned(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        let read: RunError = serde_json::from_slice(&serde_json::to_vec(&error).unwrap()).unwrap();
        assert_eq!(read.to_string(), "cannot execute `/nope` in the container");
        assert_eq!(read.errno(), Some(libc::ENOENT));
    }
}
