//! How a container calls itself and others: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr};

use smidge_run::Network;
use smidge_store::Container;

use super::create::CreateRequest;
use super::record::lock;
use crate::network::{self, Endpoint, NetworkMode};
use crate::{Error, Host, Kind, Result};

/// Names that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `--add-host NAME:IP`.
    pub hosts: Vec<String>,
    /// `--dns`.
    pub servers: Vec<String>,
    /// `--dns-search`.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// A container's files in `/etc`, by name.
pub(super) struct Files {
    hostname: String,
    hosts: String,
    resolver: String,
}

/// Bytes of a host's or a domain's name (sethostname(2)).
const LONGEST: usize = 64;

impl Files {
    /// Their texts for a container with this host name, for root or not, on a network where the machine has this
    /// address.
    ///
    /// # Errors
    /// [`Kind::Input`] when an option cannot be understood.
    pub(super) fn new(
        request: &CreateRequest,
        hostname: &str,
        (is_root, gateway): (bool, Option<IpAddr>),
    ) -> Result<Self> {
        let names = &request.names;
        let own = names.hostname.is_some() || names.domainname.is_some();
        if request.isolation.host_names && own {
            let fault = "conflicting options: hostname and the UTS mode";
            return Err(Error::new(Kind::Input, fault));
        }
        for (flag, name) in [
            ("hostname", &names.hostname),
            ("domainname", &names.domainname),
        ] {
            if name.as_ref().is_some_and(|name| name.len() > LONGEST) {
                let fault = format!("invalid `--{flag}`: the kernel takes {LONGEST} bytes at most");
                return Err(Error::new(Kind::Input, fault));
            }
        }
        let full = full_name(hostname, names.domainname.as_deref().unwrap_or_default());
        let mut hosts = match request.network.endpoints() {
            [] => hosts(&full, request.network.namespace()),
            // The name stands for the addresses that it is given at its start.
            _ => hosts("", Network::Private),
        };
        for entry in &names.hosts {
            let gateway = match request.network {
                NetworkMode::Host => Some(Ipv4Addr::LOCALHOST.into()),
                _ => gateway,
            };
            let (name, address) = added_host(entry, gateway)?;
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
        Ok(Self {
            hostname: format!("{hostname}\n"),
            hosts,
            resolver: match request.network.endpoints() {
                [] if request.network == NetworkMode::Pasta && names.servers.is_empty() => {
                    network::forwarded(&names.resolver()?)
                }
                [] if request.network == NetworkMode::Private => {
                    names.resolver_by_default(is_root)?
                }
                [] => names.resolver()?,
                endpoints => names.resolver_on(endpoints)?,
            },
        })
    }

    /// Writes them to a container's directory `etc`, which is made.
    ///
    /// # Errors
    /// When it cannot be written to, and when somebody has removed the container meanwhile.
    pub(super) fn write(&self, container: &Container) -> Result<()> {
        use std::io::ErrorKind::{AlreadyExists, NotFound};
        let etc = container.dir.join("etc");
        std::fs::create_dir(&etc).map_err(|source| match source.kind() {
            // Who removes it makes this directory, too.
            AlreadyExists | NotFound => {
                let name = &container.name;
                let fault = format!("container `{name}` was removed while it was made");
                Error::new(Kind::Conflict, fault)
            }
            _ => Error::io(format!("cannot create `{}`", etc.display()), source),
        })?;
        // Nobody removes it in between.
        let _turn = lock(container)?;
        let files = [
            ("hostname", &self.hostname),
            ("hosts", &self.hosts),
            ("resolv.conf", &self.resolver),
        ];
        for (name, text) in files {
            let path = etc.join(name);
            std::fs::write(&path, text).map_err(|source| {
                Error::io(format!("cannot write `{}`", path.display()), source)
            })?;
        }
        Ok(())
    }
}

impl Names {
    /// `/etc/resolv.conf`: the host's, but for what was asked for.
    fn resolver(&self) -> Result<String> {
        let host = network::host_resolver();
        for server in &self.servers {
            if server.parse::<IpAddr>().is_err() {
                let fault =
                    format!("invalid `--dns {server}`: IP address is not correctly formatted");
                return Err(Error::new(Kind::Input, fault));
            }
        }
        if self.servers.is_empty() && self.search.is_empty() && self.options.is_empty() {
            return Ok(match host.is_empty() {
                true => "# the host has none\n".to_owned(),
                false => host,
            });
        }
        Ok(self.changed(&host))
    }

    /// That of a container on networks: its own name server asks those that were asked for.
    fn resolver_on(&self, endpoints: &[Endpoint]) -> Result<String> {
        let text = self.resolver()?;
        let is_lone = || self.servers.is_empty() && !network::lone_servers(&text).is_empty();
        Ok(
            match endpoints.iter().all(Endpoint::is_default) && !is_lone() {
                true => text,
                false => network::resolver(&text),
            },
        )
    }

    /// That of a container on the default network: only where the machine's own servers cannot be reached from
    /// other machines, what leads out passes questions on to them.
    fn resolver_by_default(&self, is_root: bool) -> Result<String> {
        let text = self.resolver()?;
        let is_lone = self.servers.is_empty() && !network::lone_servers(&text).is_empty();
        Ok(match (is_lone, is_root) {
            (false, _) => text,
            (true, true) => network::resolver(&text),
            (true, false) => network::forwarded(&text),
        })
    }

    /// The host's text with other servers, domains or options.
    fn changed(&self, host: &str) -> String {
        let words = |key: &str| -> Vec<String> {
            let lines = host.lines().map(str::split_whitespace);
            let lines = lines.filter_map(|mut words| (words.next() == Some(key)).then_some(words));
            lines.flatten().map(str::to_owned).collect()
        };
        let or = |asked: &[String], key: &str| match asked {
            [] => words(key),
            asked => asked.to_vec(),
        };
        let mut text = String::new();
        for server in or(&self.servers, "nameserver") {
            text.push_str(&format!("nameserver {server}\n"));
        }
        let search = or(&self.search, "search");
        // A dot alone means that there is none.
        if !search.is_empty() && search != ["."] {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        let options = or(&self.options, "options");
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        text
    }
}

/// The container's host name.
pub(super) fn hostname(request: &CreateRequest, id: &str, host: &Host) -> String {
    let of_host = request.network == NetworkMode::Host || request.isolation.host_names;
    match (&request.names.hostname, of_host) {
        (Some(name), _) => name.clone(),
        (None, true) => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .ok()
            .or_else(|| host.env.get("HOSTNAME").cloned())
            .unwrap_or_else(|| id[..12].to_owned()),
        (None, false) => id[..12].to_owned(),
    }
}

/// `NAME:IP` or `NAME=IP`.
fn added_host(text: &str, gateway: Option<IpAddr>) -> Result<(&str, String)> {
    let invalid = |why: &str| {
        Error::new(Kind::Input, format!("invalid `--add-host {text}`: {why}"))
            .with_hint("as in `--add-host db:10.0.0.5`")
    };
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| invalid("bad format for add-host: expected NAME:IP"))?;
    if address == "host-gateway" {
        let address = gateway.ok_or_else(|| {
            invalid(
                "no address leads from this network to the host; `--network host` has the host's own, and root's `--network bridge` has one",
            )
        });
        return address.map(|address| (name, address.to_string()));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let parsed = bare.unwrap_or(address).parse::<IpAddr>();
    let address =
        parsed.map_err(|_| invalid(&format!("invalid IP address in add-host: \"{address}\"")))?;
    Ok((name, address.to_string()))
}

/// `/etc/hosts` of a container that has no address but the loopback's.
fn hosts(hostname: &str, network: Network) -> String {
    if network == Network::Host
        && let Ok(hosts) = std::fs::read_to_string("/etc/hosts")
    {
        return hosts;
    }
    // On a line of its own: the first name of a line is the one in full (`hostname -f`).
    let hostname = match hostname {
        "" => String::new(),
        name => format!("{}\t{name}\n", Ipv4Addr::LOCALHOST),
    };
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         {hostname}"
    )
}

/// A container's name with its domain, and without: one that has dots has its domain in it.
pub(crate) fn full_name(hostname: &str, domain: &str) -> String {
    let full = match domain {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain}"),
    };
    let short = match domain {
        "" => hostname.split('.').next().unwrap_or_default(),
        _ => hostname,
    };
    match short == full || short.is_empty() {
        true => full,
        false => format!("{full} {short}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_takes_the_place_of_the_hosts() {
        let host = "# c\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch a b\noptions ndots:2\n";
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let names = Names {
            servers: texts(&["9.9.9.9"]),
            ..Names::default()
        };
        let expected = "nameserver 9.9.9.9\nsearch a b\noptions ndots:2\n";
        assert_eq!(names.changed(host), expected);
        let names = Names {
            search: texts(&["."]),
            options: texts(&["rotate", "debug"]),
            ..Names::default()
        };
        let expected = "nameserver 1.1.1.1\nnameserver 2.2.2.2\noptions rotate debug\n";
        assert_eq!(names.changed(host), expected);
    }

    #[test]
    fn hosts_are_added_as_docker_reads_them() {
        let shown = |text: &str| match added_host(text, None) {
            Ok((name, address)) => format!("{name} {address}"),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            ("a:1.2.3.4", "a 1.2.3.4"),
            ("a=1.2.3.4", "a 1.2.3.4"),
            ("a:::1", "a ::1"),
            ("a:[::1]", "a ::1"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(shown("a").contains("expected NAME:IP"));
        assert!(shown("a:b").contains("invalid IP address in add-host: \"b\""));
        assert!(shown("a:host-gateway").contains("no address leads"));
        let own = added_host("a:host-gateway", Some(Ipv4Addr::LOCALHOST.into())).unwrap();
        assert_eq!(own, ("a", "127.0.0.1".to_owned()));
    }
}
