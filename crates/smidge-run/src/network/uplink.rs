//! The way out of an ordinary user's container: `pasta`, a program of the host's, carries what leaves its
//! network namespace on through sockets of the host's ([passt](https://passt.top)).
//!
//! It lasts as long as its container. It gives up the kernel's promise to die with its parent when it gives
//! up its privileges, so somebody watches over it: a process that waits for the end of both.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::error::RunError;
use crate::sys;

/// Where a container asks for names: `pasta` passes on what comes there.
pub const FORWARDER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);

/// What `pasta` needs to make a device.
const TUN: &str = "/dev/net/tun";

/// What that is called where it is not the only one.
const DEVICE: &str = "pasta0";

/// The address that a container has there. Without it, it would be the machine's, which could not be reached
/// from inside then. What has an address like it can be: all that leaves the device is passed on.
const ADDRESS: [&str; 6] = [
    "--address",
    "10.0.2.100",
    "--netmask",
    "255.255.255.0",
    "--gateway",
    "10.0.2.2",
];

/// How long it may take to do so.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of what it says is heard, in bytes.
const WORDS: u64 = 4096;

/// A running `pasta`.
#[derive(Debug)]
pub(crate) struct Uplink {
    child: Child,
    /// Who ends it when this process cannot.
    watchdog: OwnedFd,
}

impl Uplink {
    /// Starts `program` for the network namespace of a process, and returns when packets can leave. Its device
    /// is called as the host's, unless it is among others. The caller must have one thread only.
    pub(crate) fn start(program: &Path, pid: Pid, is_among: bool) -> Result<Self, RunError> {
        let fault = |step: &str| {
            let step = step.to_owned();
            |source: io::Error| RunError::Uplink { step, source }
        };
        let tun = File::options().read(true).write(true).open(TUN);
        drop(tun.map_err(fault("open `/dev/net/tun`"))?);
        let start = format!("start `{}`", program.display());
        let mut words = words().map_err(fault(&start))?;
        let child = spawn(program, pid, is_among, &words).map_err(fault(&start))?;
        let watched = process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .map_err(io::Error::from)
            .and_then(|pasta| watch(&pasta));
        let watchdog = match watched {
            Ok(watchdog) => watchdog,
            Err(error) => {
                end(child);
                return Err(fault(&start)(error));
            }
        };
        let mut uplink = Self { child, watchdog };
        uplink
            .wait_until_ready(pid, &mut words)
            .map_err(fault("get out"))?;
        Ok(uplink)
    }

    /// There is a way out as soon as there is a default route.
    fn wait_until_ready(&mut self, pid: Pid, words: &mut File) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let pid = pid.as_raw_nonzero();
        while !has_default_route(&format!("/proc/{pid}/net")) {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(match said(words)? {
                    text if text.is_empty() => format!("`pasta` has ended ({status})"),
                    text => text,
                }));
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = process::waitid(WaitId::PidFd(self.watchdog.as_fd()), WaitIdOptions::EXITED);
    }
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A file in memory for what it says, which may be a lot in the course of time and is heard at the start.
fn words() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("pasta", flags)?);
    file.set_len(WORDS)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW)?;
    Ok(file)
}

fn said(words: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    words.rewind()?;
    words.take(WORDS).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.trim_matches('\0').lines().map(str::trim);
    // A machine without a system log.
    let lines = lines.filter(|line| !line.starts_with("Failed to send"));
    Ok(lines.collect::<Vec<_>>().join("; "))
}

fn spawn(program: &Path, pid: Pid, is_among: bool, words: &File) -> io::Result<Child> {
    let forwarder = FORWARDER.to_string();
    let pid = pid.as_raw_nonzero().to_string();
    let options = ["--config-net", "--foreground", "--quiet", "--no-map-gw"];
    // Ports are published without it, in both directions.
    let ports = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    let name: &[&str] = if is_among {
        &["--ns-ifname", DEVICE]
    } else {
        &[]
    };
    let address: &[&str] = match has_default_route_of_four("/proc/net") {
        true => &ADDRESS,
        false => &[],
    };
    let rest = ["--dns-forward", &forwarder, &pid];
    Command::new(program)
        .args(
            options
                .iter()
                .chain(&ports)
                .chain(name)
                .chain(address)
                .chain(&rest)
                .map(OsStr::new),
        )
        .stdin(Stdio::null())
        .stdout(words.try_clone()?)
        .stderr(words.try_clone()?)
        .spawn()
}

/// Forks a process that ends `pasta` when this process has ended.
fn watch(pasta: &OwnedFd) -> io::Result<OwnedFd> {
    let own = process::pidfd_open(process::getpid(), PidfdFlags::empty())?;
    let Some(pid) = sys::fork()? else {
        sys::close_all_but(&[own.as_fd(), pasta.as_fd()]);
        let _ = process::setsid();
        let _ = rustix::thread::set_name(c"smidge-uplink");
        sys::release_memory();
        let wait = PollFlags::IN;
        while let Err(rustix::io::Errno::INTR) = poll(
            &mut [PollFd::new(&own, wait), PollFd::new(pasta, wait)],
            None,
        ) {}
        let _ = process::pidfd_send_signal(pasta, Signal::KILL);
        sys::exit(0);
    };
    Ok(process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether the routes in a directory like `/proc/net` lead everywhere (`proc_pid_net(5)`).
fn has_default_route(directory: &str) -> bool {
    // The destination, its length, the device, which is not that for refusals.
    has_default_route_of_four(directory)
        || any_route(&format!("{directory}/ipv6_route"), |words| {
            words.get(1) == Some(&"00") && words.last().is_some_and(|device| *device != "lo")
        })
}

/// The same by IPv4 alone.
fn has_default_route_of_four(directory: &str) -> bool {
    // Destination and mask.
    any_route(&format!("{directory}/route"), |words| {
        words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000")
    })
}

fn any_route(path: &str, is_wanted: fn(&[&str]) -> bool) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        is_wanted(&words)
    })
}
