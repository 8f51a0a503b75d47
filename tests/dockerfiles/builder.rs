//! The builders: smidge as somebody, and Debian's buildah, each with a store of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_tests::InTime as _;

use crate::base;
use crate::case::{Build, Case};
use crate::context::{Context, Ran};
use crate::image::Image;

/// Seconds after which a build is taken to hang.
const PATIENCE: &str = "180";

/// What the corpus is built at, unless a case says otherwise: 2023-11-14.
const EPOCH: &str = "1700000000";

/// smidge, as somebody, with a store of its own.
pub(crate) struct Smidge {
    context: Context,
}

impl Smidge {
    /// One with the base image.
    pub(crate) fn new(context: Context, base: &Path) -> Self {
        Self::with(context, base, base::NAME)
    }

    /// One with an image that is made of a tar archive.
    pub(crate) fn with(context: Context, archive: &Path, name: &str) -> Self {
        let smidge = Self { context };
        let env = "ENV PATH=/bin:/usr/bin:/sbin:/usr/sbin";
        let mut import = smidge.command(["import", "-c", env, "-c", "CMD [\"/bin/sh\"]"], archive);
        import.arg(archive).arg(name);
        smidge.context.finish(import).ok();
        smidge
    }

    /// Who it runs as.
    pub(crate) fn name(&self) -> &'static str {
        self.context.identity().name
    }

    /// Lets it own a context, so that it can read all of it.
    pub(crate) fn own(&self, dir: &Path) {
        if let Some((uid, gid)) = self.context.identity().ids {
            let mut chown = Command::new("chown");
            let status = chown
                .arg("-hR")
                .arg(format!("{uid}:{gid}"))
                .arg(dir)
                .status_in_time();
            assert!(status.unwrap().success(), "chown {}", dir.display());
        }
    }

    /// Where its store and the test's files are.
    pub(crate) fn dir(&self) -> &Path {
        self.context.path()
    }

    fn command<const N: usize>(&self, args: [&str; N], near: &Path) -> Command {
        let mut command = self.context.program("timeout");
        command.args(["--kill-after=5", PATIENCE]);
        command.arg(crate::context::smidge_binary()).args(args);
        command.current_dir(if near.is_dir() { near } else { self.dir() });
        command
    }

    /// Builds a case; gives the image's id.
    pub(crate) fn build(&self, build: Build<'_>) -> Result<String, String> {
        let Build { case, context, .. } = build;
        let epoch = case.key("epoch").unwrap_or(EPOCH);
        let mut command =
            self.command(["build", "-q", "--no-prove", "--as", "dockerfile"], context);
        command.env("SOURCE_DATE_EPOCH", epoch);
        set(&mut command, case);
        command.args(["-t", &case.image()]);
        command.args(case.words("args")).args(case.words("smidge"));
        let ran = self.context.finish(line_end(command, build));
        result(&ran).map(|()| ran.stdout())
    }

    /// Runs `smidge build` with these arguments in a directory.
    pub(crate) fn try_build(&self, args: &[&str], dir: &Path) -> Ran {
        let mut command = self.command(["build", "-q", "--as", "dockerfile"], dir);
        command.args(args);
        self.context.finish(command)
    }

    /// Runs a shell's script, with the directory of smidge's binary first on PATH.
    pub(crate) fn script(&self, script: &Path, bin: &Path) -> Ran {
        let mut command = self.context.program("timeout");
        let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        command.args(["--kill-after=5", PATIENCE, "env", &path, "bash"]);
        command.arg(script);
        self.context.finish(command)
    }

    /// Whether a name is in the store.
    pub(crate) fn has(&self, name: &str) -> bool {
        let images = self.command(["images", "-q", name], self.dir());
        !self.context.finish(images).stdout().is_empty()
    }

    /// Writes an image to a new OCI layout.
    pub(crate) fn save(&self, name: &str, to: &str) -> PathBuf {
        let dir = self.dir().join(to);
        let mut save = self.command(["save", "--format", "oci", "-o"], self.dir());
        save.arg(&dir).arg(name);
        self.context.finish(save).ok();
        dir
    }

    /// An image, read.
    pub(crate) fn image(&self, name: &str, to: &str) -> Image {
        let dir = self.save(name, to);
        let image = Image::from_layout(&dir);
        let _ = std::fs::remove_dir_all(dir);
        image
    }
}

fn set(command: &mut Command, case: &Case) {
    if let Some((name, value)) = case.key("env").and_then(|env| env.split_once('=')) {
        command.env(name, value);
    }
}

fn line_end(mut command: Command, build: Build<'_>) -> Command {
    if !build.case.words("args").any(|word| word == "-f") {
        command.args(["-f", "Dockerfile"]);
    }
    if let Some(url) = build.url {
        command.args(["--build-arg", &format!("URL={url}")]);
    }
    command.arg(".");
    command
}

fn result(ran: &Ran) -> Result<(), String> {
    match ran.code() {
        0 => Ok(()),
        code => Err(format!("exit status {code}: {}", ran.stderr())),
    }
}

/// Debian's buildah, with a storage of its own.
pub(crate) struct Buildah {
    context: Context,
}

impl Buildah {
    /// One with the base image, which smidge wrote to an OCI layout; only root can have one here.
    pub(crate) fn new(base: &Path) -> Self {
        let buildah = Self {
            context: Context::new(),
        };
        let (root, run) = (buildah.path("root"), buildah.path("run"));
        let storage = format!(
            "containers-storage:[overlay@{root}+{run}]{}:latest",
            base::NAME
        );
        let mut skopeo = buildah.context.program("skopeo");
        skopeo.args(["--insecure-policy", "copy", "-q"]);
        skopeo.arg(format!("oci:{}", base.display())).arg(storage);
        skopeo.env_remove("DOCKER_CONFIG");
        buildah.context.finish(skopeo).ok();
        buildah
    }

    fn path(&self, name: &str) -> String {
        self.context.path().join(name).display().to_string()
    }

    /// `buildah`, in a mount namespace without the v2 half of a hybrid cgroup layout, which it refuses.
    fn command(&self, dir: &Path) -> Command {
        let mut command = self.context.program("unshare");
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        command.args([
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            "timeout",
            "--kill-after=5",
            PATIENCE,
        ]);
        command.args([
            "buildah",
            "--storage-driver=overlay",
            "--root",
            &self.path("root"),
        ]);
        command.args(["--runroot", &self.path("run")]);
        command.env_remove("DOCKER_CONFIG").current_dir(dir);
        command
    }

    /// Builds a case.
    pub(crate) fn build(&self, build: Build<'_>) -> Result<(), String> {
        let Build { case, context, .. } = build;
        let mut command = self.command(context);
        command.args([
            "bud",
            "-q",
            "--format=docker",
            "--isolation=chroot",
            "--layers",
        ]);
        command.args(["--cap-add=MKNOD", "--pull-never", "-t", &case.image()]);
        command.args(case.words("args")).args(case.words("buildah"));
        set(&mut command, case);
        result(&self.context.finish(line_end(command, build)))
    }

    /// An image, read.
    pub(crate) fn image(&self, name: &str, to: &str) -> Image {
        let dir = self.context.path().join(to);
        let mut command = self.command(self.context.path());
        command.args(["push", "-q", "-D", "--format=v2s2", name]);
        command.arg(format!("dir:{}", dir.display()));
        self.context.finish(command).ok();
        let image = Image::from_dir(&dir);
        let _ = std::fs::remove_dir_all(dir);
        image
    }
}
