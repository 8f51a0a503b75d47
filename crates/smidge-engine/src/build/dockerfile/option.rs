//! Options of `smidge build` that hold more than one thing.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use smidge_run::Limit;

use crate::build::request::BuildRequest;
use crate::{Error, Host, Kind, Result};

/// A secret beyond this is none.
const MOST: u64 = 500 << 10;

/// Reads `id=ID[,src=PATH|,env=NAME]`. Without either, it is the variable of that name, or the file.
pub(super) fn secrets(request: &BuildRequest, host: &Host) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut secrets = BTreeMap::new();
    for text in &request.dockerfile.secrets {
        let refused = |why: &str| {
            Error::new(Kind::Input, format!("invalid secret `{text}`: {why}"))
                .with_hint("write `--secret id=ID,src=PATH` or `--secret id=ID,env=NAME`")
        };
        let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
        for pair in text.split(',') {
            match pair.split_once('=') {
                Some(("id", value)) => id = Some(value),
                Some(("src" | "source", value)) => source = Some(value),
                Some(("env", value)) => variable = Some(value),
                Some(("type", value @ ("file" | "env"))) => kind = Some(value),
                Some(("type", _)) => return Err(refused("its type is `file` or `env`")),
                _ => return Err(refused(&format!("unexpected `{pair}`"))),
            }
        }
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| refused("it has no `id`"))?;
        if kind == Some("env") {
            variable = variable.or(source.take());
        }
        if source.is_none() && variable.is_none() {
            match host.env.contains_key(id) {
                true => variable = Some(id),
                false => source = Some(id),
            }
        }
        let secret = match (source, variable) {
            (Some(path), _) => read(path, host)?,
            (None, Some(name)) => {
                let value = host.env.get(name).cloned();
                let unset = || refused(&format!("the variable `{name}` is not set"));
                value.ok_or_else(unset)?.into_bytes()
            }
            (None, None) => Vec::new(),
        };
        secrets.insert(id.to_owned(), secret);
    }
    Ok(secrets)
}

fn read(path: &str, host: &Host) -> Result<Vec<u8>> {
    let place = host.absolute(&PathBuf::from(path));
    let failed = |source| Error::io(format!("cannot read the secret `{path}`"), source);
    let metadata = fs::metadata(&place).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MOST {
        let message = format!("the secret `{path}` is no file of up to 500 kB");
        return Err(Error::new(Kind::Input, message));
    }
    fs::read(&place).map_err(failed)
}

/// Reads `default`, `ID` or `ID=SOCKET`: sockets of ssh agents.
pub(super) fn agents(request: &BuildRequest, host: &Host) -> Result<BTreeMap<String, PathBuf>> {
    let mut agents = BTreeMap::new();
    for text in &request.dockerfile.ssh {
        let (id, path) = match text.split_once('=') {
            Some((id, path)) => (id, Some(path.to_owned())),
            None => (text.as_str(), host.env.get("SSH_AUTH_SOCK").cloned()),
        };
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            let message = format!("cannot use the ssh agent `{id}`: `SSH_AUTH_SOCK` is not set");
            return Err(Error::new(Kind::Input, message).with_hint(
                "start one (`eval $(ssh-agent)`), or name its socket: `--ssh default=SOCKET`",
            ));
        };
        let path = host.absolute(&PathBuf::from(path));
        let is_socket = fs::metadata(&path)
            .is_ok_and(|of| std::os::unix::fs::FileTypeExt::is_socket(&of.file_type()));
        if !is_socket {
            let message = format!(
                "cannot use `{}` for ssh: it is no agent's socket",
                path.display()
            );
            return Err(Error::new(Kind::Input, message)
                .with_hint("add the key to an agent: `ssh-add KEY`, then `--ssh default`"));
        }
        agents.insert(id.to_owned(), path);
    }
    Ok(agents)
}

/// Reads `NAME:ADDRESS` and `NAME=ADDRESS`.
pub(super) fn hosts(request: &BuildRequest) -> Result<Vec<(String, String)>> {
    let read = |text: &String| {
        let pair = text.split_once('=').or_else(|| text.split_once(':'));
        let pair = pair.filter(|(name, _)| !name.is_empty());
        let pair = pair.map(|(name, address)| (name, address.trim_matches(['[', ']'])));
        let pair = pair
            .filter(|(_, address)| *address == "host-gateway" || address.parse::<IpAddr>().is_ok());
        let refused = || {
            Error::new(Kind::Input, format!("invalid host `{text}`"))
                .with_hint("write `--add-host NAME:ADDRESS`")
        };
        let (name, address) = pair.ok_or_else(refused)?;
        // A program that builds is on the host's own network.
        let address = if address == "host-gateway" {
            "127.0.0.1"
        } else {
            address
        };
        Ok((name.to_owned(), address.to_owned()))
    };
    request.dockerfile.add_hosts.iter().map(read).collect()
}

/// Reads `NAME=SOFT[:HARD]`.
pub(super) fn limits(request: &BuildRequest) -> Result<Vec<Limit>> {
    let read = |text: &String| {
        Limit::parse(text).map_err(|why| {
            Error::new(Kind::Input, format!("invalid limit `{text}`: {why}"))
                .with_hint("write `--ulimit NAME=SOFT[:HARD]`, as `--ulimit nofile=1024:2048`")
        })
    };
    request.dockerfile.ulimits.iter().map(read).collect()
}
