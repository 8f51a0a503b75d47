//! Packages installed by a RUN, in a Debian made by debootstrap, as everybody.
//!
//! The Debian is kept below the target directory, since it takes a minute to make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use smidge_tests::InTime as _;

use crate::base;
use crate::builder::Smidge;
use crate::context::{Context, have, identities};
use crate::{Outcome, Report};

/// The name of the image.
const NAME: &str = "localhost/debian";

/// A tiny package, and one whose installation makes a group and gives it a program.
const DOCKERFILE: &str = "\
FROM localhost/debian
RUN apt-get update && apt-get install -y --no-install-recommends hello openssh-client
RUN hello > /greeting && dpkg --verify hello && getent group _ssh && stat -c '%U:%G %a' /usr/bin/ssh-agent > /agent
";

/// Installs packages as everybody that this machine offers.
pub(crate) fn run(report: &mut Report) {
    if !report.wants("apt-get install") {
        return;
    }
    println!("\npackages of Debian");
    let archive = match debian() {
        Ok(archive) => archive,
        Err(why) => {
            return report.row("apt-get install", &Outcome::Skipped(why), &[]);
        }
    };
    for identity in identities() {
        let title = format!("apt-get install as {}", identity.name);
        let outcome = install(&archive, Context::of(identity));
        report.row(&title, &outcome, &[]);
    }
}

/// The root file system of a small Debian, as a tar; or why there is none.
pub(crate) fn debian() -> Result<PathBuf, String> {
    let target = base::target_dir();
    let archive = target.join("debian.tar");
    let mirror = mirror()?;
    if archive.is_file() {
        return Ok(archive);
    }
    if !rustix::process::geteuid().is_root() || !have("debootstrap") {
        return Err("only root can make a Debian, with `debootstrap`".to_owned());
    }
    let root = target.join("debian");
    let _ = std::fs::remove_dir_all(&root);
    quiet(
        Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(&root)
            .arg(mirror),
    )?;
    let partial = target.join("debian.tar.partial");
    let mut tar = Command::new("tar");
    tar.args([
        "--numeric-owner",
        "--xattrs",
        "--exclude=./dev/*",
        "--exclude=./var/cache/apt/archives/*.deb",
    ]);
    quiet(tar.arg("-C").arg(&root).arg("-cf").arg(&partial).arg("."))?;
    std::fs::rename(partial, &archive).unwrap();
    std::fs::remove_dir_all(root).unwrap();
    Ok(archive)
}

/// A mirror of Debian that answers: the first that apt has here.
fn mirror() -> Result<String, String> {
    let lists = [
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d/debian.sources",
    ];
    let text: String = lists
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let words = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut words = words.flat_map(str::split_whitespace);
    let mirror = words
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    let mirror = mirror.ok_or("apt has no mirror of Debian here")?;
    let mut curl = Command::new("curl");
    curl.args(["-fsI", "--max-time", "10", "-o", "/dev/null"]);
    quiet(curl.arg(format!("{mirror}/dists/bookworm/InRelease")))
        .map_err(|_| format!("`{mirror}` cannot be reached"))?;
    Ok(mirror.to_owned())
}

fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output_in_time()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn install(archive: &Path, context: Context) -> Outcome {
    let dir = context.path().join("apt");
    std::fs::create_dir_all(&dir).unwrap();
    crate::tree::set_mode(&dir, 0o755);
    std::fs::write(dir.join("Dockerfile"), DOCKERFILE).unwrap();
    let smidge = Smidge::with(context, archive, NAME);
    let ran = smidge.try_build(&["--no-prove", "-t", "localhost/apt", "."], &dir);
    if ran.code() != 0 {
        return Outcome::Failed(vec![ran.stderr()]);
    }
    let image = smidge.image("localhost/apt", "apt-image");
    let mut wrong = Vec::new();
    let mut expect = |path: &str, check: &dyn Fn(&crate::image::Entry) -> bool| {
        if !image.files.get(path).is_some_and(check) {
            let found = image.files.get(path).map(crate::compare::shown);
            wrong.push(format!("/{path}: {found:?}"));
        }
    };
    expect("greeting", &|entry| {
        entry.kind == "file" && entry.owner == (0, 0) && entry.size > 0
    });
    expect("usr/bin/hello", &|entry| entry.mode == 0o755);
    // Set-group-ID, and of a group that the package's installation makes.
    expect("usr/bin/ssh-agent", &|entry| {
        entry.mode == 0o2755 && entry.owner.1 > 0
    });
    expect("var/cache/apt/archives/partial", &|entry| entry.owner.0 > 0);
    match wrong.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(wrong),
    }
}
