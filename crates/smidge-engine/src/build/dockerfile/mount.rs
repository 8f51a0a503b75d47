//! What `RUN --mount` brings in.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, setxattr};
use smidge_dockerfile::plan::{self, From, MountKind, RunAction, StepMount};
use smidge_image::Claim;
use smidge_run::Mount;
use smidge_store::{CacheMount, Ownership, Sharing};

use super::builder::{Builder, Named};
use super::cache::KeyMaker;
use super::context::Context;
use super::copy::{Copying, Manner};
use crate::build::assembly::Packer as _;
use crate::build::draft::build_time;
use crate::build::layer::Layer;
use crate::{Error, Kind, Result};

/// Where the files of a bind mount are put in a layer of its own.
const ROOT: &str = "/mount";

/// What the mounts of a step come to.
#[derive(Default)]
pub(super) struct Mounted {
    /// What the sandbox mounts.
    pub(super) mounts: Vec<Mount>,
    /// What the program finds in its environment.
    pub(super) env: Vec<String>,
    /// The caches among them, for as long as they are in use.
    pub(super) caches: Vec<CacheMount>,
}

/// Who a file of a mount belongs to.
#[derive(Clone, Copy)]
struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Builder<'_> {
    /// Adds everything to a key on which the outcome of the step depends: what is mounted where, and
    /// the files of bind mounts. Caches, secrets and agents may change.
    pub(super) fn add_mounts(&self, key: &mut KeyMaker, run: &RunAction) -> Result<()> {
        for mount in &run.mounts {
            key.add(format!(
                "{:?} {:?} {}",
                mount.kind, mount.target, mount.read_only
            ));
            if let MountKind::Bind { from, source } = &mount.kind {
                let source = source.as_deref().unwrap_or("/");
                let layer = self.bound((from, source))?;
                key.add(layer.to_string());
            }
        }
        Ok(())
    }

    /// Makes everything that the step's mounts need, below a directory.
    pub(super) fn mounts(&self, run: &RunAction, dir: &Path) -> Result<Mounted> {
        let mut mounted = Mounted::default();
        for (number, mount) in run.mounts.iter().enumerate() {
            self.mount(mount, &dir.join(number.to_string()), &mut mounted)
                .map_err(self.text.locate(mount.span))?;
        }
        if let Some(script) = &run.script {
            let path = dir.join("script");
            write(&path, script.content.as_bytes(), 0o755)?;
            let place = format!("/dev/pipes/{}", script.name);
            mounted.mounts.push(Mount::bind(path, place, true));
        }
        Ok(mounted)
    }

    fn mount(&self, mount: &StepMount, place: &Path, mounted: &mut Mounted) -> Result<()> {
        let target = mount.target.clone().unwrap_or_default();
        match &mount.kind {
            MountKind::Bind { from, source } => {
                let source = source.as_deref().unwrap_or("/");
                let path = self.bind_source((from, source), mount.read_only, place)?;
                mounted
                    .mounts
                    .push(Mount::bind(path, target, mount.read_only));
            }
            MountKind::Cache { .. } => {
                let cache = self.cache(&mount.kind)?;
                let path = cache.path.clone();
                mounted
                    .mounts
                    .push(Mount::bind(path, target, mount.read_only));
                mounted.caches.push(cache);
            }
            MountKind::Tmpfs { size } => mounted.mounts.push(Mount {
                read_only: mount.read_only,
                ..Mount::tmpfs(target, *size, 0o1777)
            }),
            MountKind::Secret { .. } => self.secret(mount, place, mounted)?,
            MountKind::Ssh { .. } => self.agent(mount, mounted)?,
        }
        Ok(())
    }

    /// A layer with what a bind mount brings, below [`ROOT`]: its files, or the one file.
    fn bound(&self, (from, source): (&From, &str)) -> Result<smidge_image::DiffId> {
        let context = self.source(from)?;
        let manner = Manner {
            keep_owner: self.keeps_owners(from),
            ..Manner::all(ROOT, build_time(&self.engine.host), "a bind mount")
        };
        let lower = crate::build::layer::RootFs::default();
        let mut copying = Copying::new(&lower, &manner, self.scratch);
        copying.copy(&context, source)?;
        let (mut layer, _): (Layer, _) = copying.finish();
        layer.complete(&lower, manner.mtime);
        Ok(self.packer(None).pack(&layer, self.progress)?.diff_id)
    }

    fn bind_source(&self, source: (&From, &str), read_only: bool, place: &Path) -> Result<PathBuf> {
        let diff_id = self.bound(source)?;
        let descriptor = self.stored(diff_id)?;
        let layer = self
            .engine
            .store
            .checkout_layers(&[(descriptor, diff_id)])?;
        let path = layer
            .into_iter()
            .next()
            .unwrap_or_default()
            .join(&ROOT[1..]);
        if read_only {
            return Ok(path);
        }
        // What is written is not kept.
        copy_tree(&path, place)?;
        Ok(place.to_owned())
    }

    fn cache(&self, kind: &MountKind) -> Result<CacheMount> {
        let MountKind::Cache {
            id,
            from,
            source,
            sharing,
            mode,
            uid,
            gid,
        } = kind
        else {
            return Err(Error::new(Kind::Bug, "it is no cache mount"));
        };
        let sharing = match sharing {
            plan::Sharing::Shared => Sharing::Shared,
            plan::Sharing::Private => Sharing::Private,
            plan::Sharing::Locked => Sharing::Locked,
        };
        self.exchange.fill(id);
        let cache = self.engine.store.cache_mount(id, sharing)?;
        if !cache.is_new {
            return Ok(cache);
        }
        if let Some(from) = from {
            let source = source.as_deref().unwrap_or("/");
            let from = self.bind_source((from, source), true, Path::new(""))?;
            copy_tree(&from, &cache.path)?;
        }
        let owner = Owner {
            mode: mode.unwrap_or(0o755),
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
        };
        self.own(&cache.path, owner)?;
        Ok(cache)
    }

    fn secret(&self, mount: &StepMount, place: &Path, mounted: &mut Mounted) -> Result<()> {
        let MountKind::Secret {
            id,
            env,
            required,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            return Ok(());
        };
        let Some(secret) = self.secrets.get(id) else {
            if !required {
                return Ok(());
            }
            let message = format!("the secret `{id}` is required, and was not given");
            return Err(Error::new(Kind::Input, message)
                .with_hint(format!("give it: `--secret id={id},src=PATH`")));
        };
        if let Some(name) = env {
            let text = String::from_utf8_lossy(secret);
            mounted.env.push(format!("{name}={text}"));
        }
        if let Some(target) = &mount.target {
            let owner = Owner {
                mode: mode.unwrap_or(0o400),
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
            };
            write(place, secret, 0o600)?;
            self.own(place, owner)?;
            mounted
                .mounts
                .push(Mount::bind(place.to_owned(), target.clone(), true));
        }
        Ok(())
    }

    fn agent(&self, mount: &StepMount, mounted: &mut Mounted) -> Result<()> {
        let MountKind::Ssh { id, required, .. } = &mount.kind else {
            return Ok(());
        };
        let Some(socket) = self.agents.get(id) else {
            if !required {
                return Ok(());
            }
            let message = format!("the ssh agent `{id}` is required, and was not given");
            return Err(
                Error::new(Kind::Input, message).with_hint(format!("give it: `--ssh {id}`"))
            );
        };
        let place = mount.target.clone();
        let place = place.unwrap_or_else(|| {
            let number = mounted.mounts.len();
            format!("/run/buildkit/ssh_agent.{number}")
        });
        mounted.env.push(format!("SSH_AUTH_SOCK={place}"));
        mounted
            .mounts
            .push(Mount::bind(socket.clone(), place, false));
        Ok(())
    }

    /// Where a mount's or copy's files come from.
    pub(super) fn source(&self, from: &From) -> Result<Context> {
        match from {
            From::Context => Ok(self.context.clone()),
            From::Stage(stage) => {
                let done = self.finished(*stage)?;
                Ok(Context::stage(done.rootfs.clone(), &done.name))
            }
            From::Image(name) => Ok(Context::stage(self.files(name)?, name)),
            From::Named(name) => match self.named(name)? {
                Named::Files(context) => Ok(context.clone()),
                Named::Image(files) => Ok(Context::stage(files.clone(), name)),
            },
        }
    }

    /// Gives a file that the sandbox will show an owner and a mode.
    fn own(&self, path: &Path, owner: Owner) -> Result<()> {
        let failed = |source| Error::io(format!("cannot prepare `{}`", path.display()), source);
        if Ownership::of_caller() == Ownership::Layer {
            chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
        } else {
            let claim = Claim {
                uid: owner.uid,
                gid: owner.gid,
                ..Claim::default()
            };
            let text = claim.to_string();
            setxattr(path, Claim::ATTRIBUTE, text.as_bytes(), XattrFlags::empty())
                .map_err(|errno| failed(errno.into()))?;
        }
        // Last: a file that cannot be written to takes no attribute, and a new owner loses bits.
        fs::set_permissions(path, fs::Permissions::from_mode(owner.mode)).map_err(failed)
    }
}

/// Writes a file that has this mode, whatever the umask.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = |source| Error::io(format!("cannot write `{}`", path.display()), source);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, bytes).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// Copies a file or a directory with all that is in it, as far as the caller may own it.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let failed = |source| Error::io(format!("cannot copy `{}`", from.display()), source);
    let metadata = from.symlink_metadata().map_err(failed)?;
    if metadata.is_dir() {
        fs::create_dir_all(to).map_err(failed)?;
        for entry in fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        return fs::set_permissions(to, metadata.permissions()).map_err(failed);
    }
    if metadata.is_symlink() {
        let target = fs::read_link(from).map_err(failed)?;
        return std::os::unix::fs::symlink(target, to).map_err(failed);
    }
    fs::copy(from, to).map(drop).map_err(failed)
}
