//! A Docker daemon of the benchmarks' own, where one can run.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::tool;

/// Ends the daemon it started when dropped.
pub struct Daemon(Option<Child>);

impl Daemon {
    /// Starts `dockerd` with its data below `dir`, unless one answers already or none can run.
    pub fn start(dir: &Path) -> Self {
        if answers() || !tool::is_superuser() || !tool::found("dockerd") {
            return Self(None);
        }
        let log = std::fs::File::create(dir.join("dockerd.log"));
        let Ok(log) = log else { return Self(None) };
        let mut command = tool::command("dockerd");
        command
            .arg("--data-root")
            .arg(dir.join("docker"))
            .stdout(Stdio::null())
            .stderr(log);
        let Ok(child) = command.spawn() else {
            return Self(None);
        };
        let daemon = Self(Some(child));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !answers() {
            if Instant::now() > deadline {
                eprintln!("docker is not measured: its daemon does not answer");
                return Self(None);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        daemon
    }
}

/// Whether a Docker daemon answers.
pub fn answers() -> bool {
    tool::read("docker", ["info", "--format", "{{.ServerVersion}}"]).is_ok_and(|v| !v.is_empty())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It removes its bridge and ends its containerd when asked, not when killed.
            let _ = tool::read("kill", [child.id().to_string()]);
            let _ = child.wait();
        }
    }
}
