//! Options that say which networks a container is on.

use std::net::{Ipv4Addr, Ipv6Addr};

use smidge_engine::container::CreateRequest;
use smidge_engine::network::Mac;
use smidge_engine::network::{Endpoint, NetworkMode};
use smidge_engine::{Error, Kind};

/// Which networks the container is on.
#[derive(clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// A network that was made, or bridge, pasta (an ordinary user's way out, with the program of that name), host,
    /// none or container:NAME; repeatable [default: root's bridge or an ordinary user's pasta, from the first socket on]
    #[arg(
        long,
        value_name = "NETWORK|name=NETWORK[,alias=…][,ip=…][,ip6=…][,mac-address=…]",
        alias = "net"
    )]
    network: Vec<Endpoint>,
    /// What the others on the first network call it, too; repeatable
    #[arg(long, value_name = "NAME", alias = "net-alias")]
    network_alias: Vec<String>,
    /// Its IPv4 address on the first network
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address on the first network
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
    /// Its hardware address on the first network
    #[arg(long, value_name = "MAC", value_parser = mac)]
    mac_address: Option<Mac>,
}

fn mac(text: &str) -> Result<Mac, String> {
    text.parse()
        .map_err(|_| "expected six bytes, as in 02:42:ac:11:00:02".to_owned())
}

impl NetworkArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), Error> {
        let mut networks = self.network.clone();
        if networks.is_empty() && self.has_wishes() {
            networks.push(Endpoint::on("default"));
        }
        if let Some(first) = networks.first_mut() {
            self.apply_to(first)?;
        }
        request.network = NetworkMode::new(networks)?;
        Ok(())
    }

    fn has_wishes(&self) -> bool {
        !self.network_alias.is_empty()
            || self.ip.is_some()
            || self.ip6.is_some()
            || self.mac_address.is_some()
    }

    /// What is said without a network's name is about the first one.
    fn apply_to(&self, first: &mut Endpoint) -> Result<(), Error> {
        let twice = |flag: &str, what: &str| {
            let fault =
                format!("conflicting options: cannot specify both --{flag} and per-network {what}");
            Err(Error::new(Kind::Input, fault))
        };
        if !first.aliases.is_empty() && !self.network_alias.is_empty() {
            return twice("network-alias", "alias");
        }
        if first.ipv4.is_some() && self.ip.is_some() {
            return twice("ip", "IPv4 address");
        }
        if first.ipv6.is_some() && self.ip6.is_some() {
            return twice("ip6", "IPv6 address");
        }
        if first.mac.is_some() && self.mac_address.is_some() {
            return twice("mac-address", "MAC address");
        }
        first.aliases.extend(self.network_alias.iter().cloned());
        first.ipv4 = first.ipv4.or(self.ip);
        first.ipv6 = first.ipv6.or(self.ip6);
        first.mac = first.mac.or(self.mac_address);
        Ok(())
    }
}
