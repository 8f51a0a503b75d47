//! What the process finds around it: environment, user, directory, name. Read once, passed down.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use smidge_engine::{Error, Host, Kind};

/// The name that smidge was called by: `docker` through a symbolic link of that name.
pub(crate) fn called(argv0: Option<&OsString>) -> &'static str {
    let name = argv0.and_then(|argv0| Path::new(argv0).file_name());
    if name.is_some_and(|name| name == "docker") {
        "docker"
    } else {
        "smidge"
    }
}

/// The command line of one who called smidge through a link named `smidge-runtime`, as callers do that take
/// a path alone: that of `smidge runtime`.
pub(crate) fn spelled_out(mut argv: Vec<OsString>) -> Vec<OsString> {
    let name = argv.first().and_then(|argv0| Path::new(argv0).file_name());
    if name.is_some_and(|name| name == "smidge-runtime") {
        argv.insert(1, OsString::from("runtime"));
    }
    argv
}

/// Who runs smidge, where and when.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn host() -> Result<Host, Error> {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let source_date_epoch = env
        .get("SOURCE_DATE_EPOCH")
        .filter(|text| !text.is_empty())
        .map(|text| epoch(text))
        .transpose()?;
    Ok(Host {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        path: std::env::var_os("PATH").unwrap_or_default(),
        home: std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from),
        env,
        source_date_epoch,
        now: SystemTime::now(),
        cwd: std::env::current_dir()
            .map_err(|source| Error::io("cannot tell the working directory", source))?,
    })
}

/// Reads the value of `SOURCE_DATE_EPOCH`.
pub(crate) fn epoch(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| {
        let fault = format!("`SOURCE_DATE_EPOCH` is `{text}`: expected seconds since 1970");
        Error::new(Kind::Input, fault)
    })
}

/// Where images and containers are kept: `--root`, else `$SMIDGE_ROOT`, else the system's place for
/// root and the user's for others.
pub(crate) fn store_root(option: Option<PathBuf>, host: &Host) -> Result<PathBuf, Error> {
    let variable = |name: &str| {
        host.env
            .get(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(root) = option.or_else(|| variable("SMIDGE_ROOT")) {
        return Ok(host.absolute(&root));
    }
    if host.uid == 0 {
        return Ok(PathBuf::from("/var/lib/smidge"));
    }
    // XDG: a relative path is to be ignored.
    let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = data.or_else(|| host.home.as_ref().map(|home| home.join(".local/share")));
    data.map(|data| data.join("smidge")).ok_or_else(|| {
        Error::new(
            Kind::Input,
            "cannot tell where to keep images: there is no home directory",
        )
        .with_hint("name a directory: `smidge --root DIR images`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_part_of_the_name_counts() {
        for (argv0, expected) in [
            (Some("/usr/local/bin/docker"), "docker"),
            (Some("docker"), "docker"),
            (Some("/docker/smidge"), "smidge"),
            (Some("smidge-2"), "smidge"),
            (Some(""), "smidge"),
            (None, "smidge"),
        ] {
            assert_eq!(called(argv0.map(OsString::from).as_ref()), expected);
        }
    }

    #[test]
    fn the_store_is_where_the_user_may_write() {
        let host = |uid, env: &[(&str, &str)]| Host {
            uid,
            gid: uid,
            path: OsString::new(),
            home: Some("/home/me".into()),
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            source_date_epoch: None,
            now: SystemTime::UNIX_EPOCH,
            cwd: "/work".into(),
        };
        let root = |option: Option<&str>, host: &Host| {
            store_root(option.map(PathBuf::from), host)
                .unwrap()
                .display()
                .to_string()
        };
        assert_eq!(
            root(Some("s"), &host(0, &[("SMIDGE_ROOT", "/x")])),
            "/work/s"
        );
        assert_eq!(root(None, &host(0, &[("SMIDGE_ROOT", "/x")])), "/x");
        assert_eq!(
            root(None, &host(0, &[("XDG_DATA_HOME", "/x")])),
            "/var/lib/smidge"
        );
        assert_eq!(
            root(None, &host(1, &[("XDG_DATA_HOME", "/x")])),
            "/x/smidge"
        );
        assert_eq!(
            root(None, &host(1, &[("XDG_DATA_HOME", "x")])),
            "/home/me/.local/share/smidge"
        );
        assert!(
            store_root(
                None,
                &Host {
                    home: None,
                    ..host(1, &[])
                }
            )
            .is_err()
        );
    }
}
