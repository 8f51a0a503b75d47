//! Bundles, and the runtimes that run them.

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};
use smidge_tests::InTime as _;

use crate::context::{Context, Identity, Ran, have, identities, skip, smidge_binary};

/// A program that runs bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The one under test, called through a link.
    Smidge,
    /// The specification's reference, on PATH.
    Runc,
    /// The other that many use, on PATH.
    Crun,
}

impl Program {
    /// Those that are here.
    pub(super) fn all() -> Vec<Self> {
        let peers = [(Self::Runc, "runc"), (Self::Crun, "crun")];
        let there = peers.into_iter().filter(|(_, name)| have(name));
        [Self::Smidge]
            .into_iter()
            .chain(there.map(|(one, _)| one))
            .collect()
    }
}

/// A runtime with a bundle: a root file system of busybox.
pub(super) struct Bundle<'c> {
    pub(super) context: &'c Context,
    program: Program,
    pub(super) config: Value,
}

/// What the root file system has of busybox.
const APPLETS: [&str; 27] = [
    "sh", "cat", "echo", "ls", "id", "mount", "true", "false", "sleep", "stat", "touch",
    "hostname", "readlink", "mkdir", "grep", "test", "dd", "head", "tr", "kill", "umount", "mknod",
    "chroot", "find", "sed", "cut", "chmod",
];

/// Runs a case as root, once with each runtime.
pub(super) fn each(case: impl Fn(&mut Bundle<'_>)) {
    if !rustix::process::geteuid().is_root() {
        return skip("only root's containers are compared");
    }
    run(Program::Smidge, crate::context::SELF, &case);
    if have("runc") {
        run(Program::Runc, crate::context::SELF, &case);
    }
}

/// Runs a case with smidge alone, as root.
pub(super) fn ours(case: impl Fn(&mut Bundle<'_>)) {
    if !rustix::process::geteuid().is_root() {
        return skip("for root alone");
    }
    run(Program::Smidge, crate::context::SELF, &case);
}

/// Runs a case with smidge as every user.
pub(super) fn everybody(case: impl Fn(&mut Bundle<'_>)) {
    for identity in identities() {
        run(Program::Smidge, identity, &case);
    }
}

/// Runs a case as root with one runtime.
pub(super) fn with(program: Program, case: fn(&mut Bundle<'_>)) {
    run(program, crate::context::SELF, &case);
}

fn run(program: Program, identity: Identity, case: &impl Fn(&mut Bundle<'_>)) {
    let busybox = std::path::Path::new("/bin/busybox");
    if !busybox.exists() {
        return skip("`/bin/busybox` is not there");
    }
    let context = Context::of(identity);
    println!("{program:?} as {}", identity.name);
    context.copy(busybox, "b/rootfs/bin/busybox");
    for applet in APPLETS {
        symlink("busybox", context.path().join("b/rootfs/bin").join(applet)).unwrap();
    }
    context.write("b/rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    // Whoever is root in a user namespace alone cannot make them in a directory of another's.
    for directory in ["dev", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(context.path().join("b/rootfs").join(directory)).unwrap();
    }
    symlink(smidge_binary(), context.path().join("smidge-runtime")).unwrap();
    let mut bundle = Bundle {
        context: &context,
        program,
        config: Value::Null,
    };
    bundle.config = bundle.template();
    case(&mut bundle);
}

impl Bundle<'_> {
    /// A description to begin with, that of `spec`.
    fn template(&self) -> Value {
        let mut command = self.context.command(["runtime", "spec", "--bundle", "b"]);
        if self.is_rootless() {
            command.arg("--rootless");
        }
        self.context.finish(command).ok();
        let path = self.context.path().join("b/config.json");
        let text = std::fs::read_to_string(path).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["terminal"] = false.into();
        config["root"]["readonly"] = false.into();
        if !self.is_ours() {
            // Older ones refuse what they do not know.
            config["ociVersion"] = "1.0.2".into();
        }
        config
    }

    pub(super) fn is_ours(&self) -> bool {
        self.program == Program::Smidge
    }

    pub(super) fn is_rootless(&self) -> bool {
        self.context.identity().ids.is_some() || !rustix::process::geteuid().is_root()
    }

    /// Lets the program be a shell's script.
    pub(super) fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    }

    /// The runtime with arguments, in its own root.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = match self.program {
            Program::Smidge => self
                .context
                .program(self.context.path().join("smidge-runtime")),
            Program::Runc => self.context.program("runc"),
            Program::Crun => {
                // It refuses version 2 beside version 1.
                let alone = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"";
                let mut command = self.context.program("unshare");
                command.args(["--mount", "sh", "-c", alone, "crun"]);
                command
            }
        };
        command.arg("--root").arg(self.context.path().join("state"));
        command.args(line.split_whitespace());
        command
    }

    /// The runtime alone, for a script that runs it where nothing keeps it from that.
    pub(super) fn bare(&self, line: &str) -> Command {
        match self.program {
            Program::Crun => {
                let mut command = self.context.program("crun");
                command.arg("--root").arg(self.context.path().join("state"));
                command.args(line.split_whitespace());
                command
            }
            _ => self.command(line),
        }
    }

    /// The runtime with the words of a line.
    pub(super) fn line(&self, line: &str) -> Ran {
        self.context.finish(self.command(line))
    }

    /// Writes the description, as it is now.
    pub(super) fn save(&self) {
        let text = self.config.to_string();
        self.context.write("b/config.json", text);
    }

    /// An id that no other test has.
    pub(super) fn id(&self) -> String {
        let name = self.context.path().file_name().unwrap();
        name.to_str().unwrap().to_lowercase().replace('.', "-")
    }

    /// Makes a container, with streams that nobody waits for the end of.
    pub(super) fn create(&self) -> String {
        self.save();
        let id = self.id();
        self.quietly(&format!("create --bundle b {id}")).exits(0);
        id
    }

    /// Makes a container and starts its program.
    pub(super) fn started(&self) -> String {
        let id = self.create();
        self.line(&format!("start {id}")).exits(0);
        id
    }

    /// Runs a verb whose container keeps the standard streams: they are files.
    pub(super) fn quietly(&self, line: &str) -> Ran {
        let out = std::fs::File::create(self.context.path().join("out")).unwrap();
        let err = std::fs::File::create(self.context.path().join("err")).unwrap();
        let mut command = self.command(line);
        let status = command.stdout(out).stderr(err).status_in_time().unwrap();
        let said = std::fs::read(self.context.path().join("err")).unwrap();
        Ran::of(&command, status, said)
    }

    /// What a container has said that was made quietly.
    pub(super) fn said(&self) -> String {
        let said = std::fs::read_to_string(self.context.path().join("out")).unwrap();
        said.trim_end().to_owned()
    }

    /// Runs the program to its end, and gives what it says.
    pub(super) fn run(&self) -> Ran {
        self.save();
        self.line(&format!("run --bundle b {}", self.id()))
    }

    /// Runs a script to its end, and gives what it says.
    #[track_caller]
    pub(super) fn runs(&mut self, script: &str) -> String {
        self.script(script);
        self.run().ok()
    }

    /// The state of a container.
    pub(super) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.line(&format!("state {id}")).ok()).unwrap()
    }

    /// Waits until a container is in a state.
    pub(super) fn until(&self, id: &str, status: &str) {
        smidge_tests::until(&format!("{id} is {status}"), || {
            self.state(id)["status"] == status
        });
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        let delete = self.command(&format!("delete --force {}", self.id()));
        let _ = delete.output_in_time();
        if !self.is_ours() {
            // crun leaves them where it fails.
            let names = [self.id(), format!("smidge-oci-test-{}", self.id())];
            for entry in std::fs::read_dir("/sys/fs/cgroup")
                .into_iter()
                .flatten()
                .flatten()
            {
                for name in &names {
                    let _ = std::fs::remove_dir(entry.path().join(name));
                }
            }
        }
    }
}
