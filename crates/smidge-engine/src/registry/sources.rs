//! Which files tell about registries in these surroundings.

use std::path::{Path, PathBuf};

use smidge_registry::Sources;

use super::Connection;
use crate::Host;

/// Where systems keep the certificates of the authorities they trust; the first that exists counts.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Host {
    /// The value of a variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.env.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// The path that a variable gives. XDG's must be absolute, or are to be ignored.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.variable(name)?);
        path.is_absolute().then_some(path)
    }

    /// Where the user's settings are.
    fn settings(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        self.directory("XDG_CONFIG_HOME").or_else(home)
    }

    /// Docker's file with settings and credentials.
    fn docker_config(&self) -> Option<PathBuf> {
        let docker = match self.variable("DOCKER_CONFIG") {
            Some(directory) => self.absolute(Path::new(directory)),
            None => self.home.as_ref()?.join(".docker"),
        };
        Some(docker.join("config.json"))
    }
}

/// The file that options or the environment name for credentials.
pub(super) fn named_auth_file(host: &Host, connection: &Connection) -> Option<PathBuf> {
    let variable = || host.variable("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let named = connection.auth_file.clone().or_else(variable)?;
    Some(host.absolute(&named))
}

/// All files that tell about registries, whether they exist or not.
pub(super) fn sources(host: &Host, connection: &Connection) -> Sources {
    let settings = host.settings();
    let user = |path: &str| settings.as_ref().map(|settings| settings.join(path));
    let places = |system: &[&str], own: &str| -> Vec<PathBuf> {
        system.iter().map(PathBuf::from).chain(user(own)).collect()
    };
    let named = named_auth_file(host, connection);
    let (named_bundles, ca_bundles) = ca_bundles(host);
    Sources {
        registries_toml: places(&["/etc/smidge/registries.toml"], "smidge/registries.toml"),
        registries_conf: registries_conf(host, settings.as_deref()),
        certs_dirs: certs_dirs(host, settings.as_deref()),
        ca_bundles,
        named_bundles,
        auth_files: match &named {
            Some(named) => vec![named.clone()],
            None => auth_files(host, settings.as_deref()),
        },
        login_file: named.or_else(|| host.docker_config()),
        path: host.path.clone(),
        env: host.env.clone(),
        tls_verify: connection.tls_verify,
    }
}

/// Docker's directories of certificates, then Podman's; the user's after the system's.
fn certs_dirs(host: &Host, settings: Option<&Path>) -> Vec<PathBuf> {
    let system = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
    let docker = host.docker_config();
    let docker = docker.map(|config| config.with_file_name("certs.d"));
    let own = ["docker/certs.d", "containers/certs.d"];
    let own = settings.map(|settings| own.map(|path| settings.join(path)));
    system
        .into_iter()
        .chain(docker)
        .chain(own.into_iter().flatten())
        .collect()
}

/// Podman's files (containers-registries.conf(5)); a variable may name another one. The user's file
/// stands in for the system's; the directories of both add to it.
fn registries_conf(host: &Host, settings: Option<&Path>) -> Vec<PathBuf> {
    let named = ["CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"]
        .iter()
        .find_map(|name| host.variable(name));
    if let Some(named) = named {
        return vec![host.absolute(Path::new(named))];
    }
    let system = Path::new("/etc/containers");
    let own = settings.map(|settings| settings.join("containers"));
    let main = own.as_ref().map(|own| own.join("registries.conf"));
    let main = main.filter(|path| path.exists());
    let main = main.unwrap_or_else(|| system.join("registries.conf"));
    let directories = [Some(system.to_owned()), own].into_iter().flatten();
    std::iter::once(main)
        .chain(directories.map(|directory| directory.join("registries.conf.d")))
        .collect()
}

/// Docker's file, then the places of containers-auth.json(5).
fn auth_files(host: &Host, settings: Option<&Path>) -> Vec<PathBuf> {
    let runtime = match host.directory("XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("containers"),
        None => PathBuf::from(format!("/run/containers/{}", host.uid)),
    };
    let own = settings.map(|settings| settings.join("containers"));
    let podmans = [Some(runtime), own].into_iter().flatten();
    host.docker_config()
        .into_iter()
        .chain(podmans.map(|directory| directory.join("auth.json")))
        .collect()
}

/// The bundles that somebody named and that must be there, and those that may be.
type Bundles = (Vec<PathBuf>, Vec<PathBuf>);

/// The system's authorities, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name in their place, as
/// OpenSSL and Go have it.
fn ca_bundles(host: &Host) -> Bundles {
    let file = host.variable("SSL_CERT_FILE");
    let list = host.variable("SSL_CERT_DIR");
    let mut named: Vec<PathBuf> = file
        .map(|file| host.absolute(Path::new(file)))
        .into_iter()
        .collect();
    let Some(list) = list else {
        let system = SYSTEM_BUNDLES.iter().map(PathBuf::from);
        let usual = system.filter(|path| named.is_empty() && path.is_file());
        let usual = usual.take(1).collect();
        return (named, usual);
    };
    let directories: Vec<PathBuf> = list
        .split(':')
        .map(|path| host.absolute(Path::new(path)))
        .collect();
    let lists: Vec<_> = directories
        .iter()
        .filter_map(|path| std::fs::read_dir(path).ok())
        .collect();
    if lists.is_empty() {
        // Of several one may be missing, not all: the first is then missed like a file.
        named.extend(directories.into_iter().take(1));
    }
    let paths = lists
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    (named, paths.filter(|path| path.is_file()).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;

    fn host(env: &[(&str, &str)]) -> Host {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Host {
            uid: 1000,
            gid: 1000,
            path: "/bin".into(),
            home: Some("/home/me".into()),
            env: env.iter().map(pair).collect::<BTreeMap<_, _>>(),
            source_date_epoch: None,
            now: SystemTime::UNIX_EPOCH,
            cwd: "/work".into(),
        }
    }

    fn shown(paths: &[PathBuf]) -> String {
        let texts: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        texts.join(" ")
    }

    #[test]
    fn files_are_where_docker_and_podman_keep_them() {
        let found = sources(&host(&[]), &Connection::default());
        assert_eq!(
            shown(&found.registries_toml),
            "/etc/smidge/registries.toml /home/me/.config/smidge/registries.toml"
        );
        assert_eq!(
            shown(&found.registries_conf),
            "/etc/containers/registries.conf /etc/containers/registries.conf.d \
             /home/me/.config/containers/registries.conf.d"
        );
        assert_eq!(
            shown(&found.certs_dirs),
            "/etc/docker/certs.d /etc/containers/certs.d /home/me/.docker/certs.d \
             /home/me/.config/docker/certs.d /home/me/.config/containers/certs.d"
        );
        assert_eq!(
            shown(&found.auth_files),
            "/home/me/.docker/config.json /run/containers/1000/auth.json \
             /home/me/.config/containers/auth.json"
        );
        assert_eq!(
            found.login_file,
            Some("/home/me/.docker/config.json".into())
        );
        assert!(found.ca_bundles.len() <= 1);
        assert!(found.named_bundles.is_empty());
    }

    #[test]
    fn the_users_registries_conf_stands_in_for_the_systems() {
        let directory = tempfile::tempdir().unwrap();
        let settings = directory.path().join("containers");
        std::fs::create_dir(&settings).unwrap();
        std::fs::write(settings.join("registries.conf"), "").unwrap();
        let home = directory.path().display().to_string();
        let found = sources(&host(&[("XDG_CONFIG_HOME", &home)]), &Connection::default());
        assert_eq!(
            shown(&found.registries_conf),
            format!(
                "{home}/containers/registries.conf /etc/containers/registries.conf.d \
                 {home}/containers/registries.conf.d"
            )
        );
    }

    #[test]
    fn the_environment_moves_them() {
        let moved = host(&[
            ("XDG_CONFIG_HOME", "/cfg"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("DOCKER_CONFIG", "docker"),
            ("CONTAINERS_REGISTRIES_CONF", "/r.conf"),
            ("SSL_CERT_FILE", "ca.pem"),
        ]);
        let found = sources(&moved, &Connection::default());
        assert_eq!(
            shown(&found.auth_files),
            "/work/docker/config.json /run/user/1000/containers/auth.json /cfg/containers/auth.json"
        );
        assert_eq!(found.login_file, Some("/work/docker/config.json".into()));
        assert_eq!(shown(&found.registries_conf), "/r.conf");
        assert_eq!(shown(&found.named_bundles), "/work/ca.pem");
        assert_eq!(shown(&found.ca_bundles), "");
        assert_eq!(
            shown(&found.registries_toml),
            "/etc/smidge/registries.toml /cfg/smidge/registries.toml"
        );
        let relative = host(&[("XDG_CONFIG_HOME", "cfg")]);
        let found = sources(&relative, &Connection::default());
        assert!(shown(&found.registries_toml).ends_with("/home/me/.config/smidge/registries.toml"));
    }

    #[test]
    fn a_named_auth_file_stands_in_for_all_others() {
        let by_variable = host(&[("REGISTRY_AUTH_FILE", "v.json")]);
        let found = sources(&by_variable, &Connection::default());
        assert_eq!(shown(&found.auth_files), "/work/v.json");
        let connection = Connection {
            auth_file: Some("o.json".into()),
            tls_verify: Some(false),
        };
        let found = sources(&by_variable, &connection);
        assert_eq!(shown(&found.auth_files), "/work/o.json");
        assert_eq!(found.login_file, Some("/work/o.json".into()));
        assert_eq!(found.tls_verify, Some(false));
    }

    #[test]
    fn directories_of_certificates_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("one.pem"), "").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let list = format!("{}:/no/such", directory.path().display());
        let found = ca_bundles(&host(&[("SSL_CERT_DIR", &list)]));
        assert_eq!(found, (vec![], vec![directory.path().join("one.pem")]));
        // What was named and is not there at all is not passed over.
        let found = ca_bundles(&host(&[("SSL_CERT_DIR", "/no/such:/nor/this")]));
        assert_eq!(found, (vec!["/no/such".into()], vec![]));
    }
}
