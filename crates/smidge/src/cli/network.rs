//! `smidge network`: networks with names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smidge_engine::image::Filter;
use smidge_engine::network::{Endpoint, NetworkRequest, NetworkRow};
use smidge_engine::{Error, Kind, Note};

use super::inspect;
use super::prune::{confirmed, list};
use super::session::{Outcome, Session, all_of, each};
use crate::render::listing::{self, Columns, row};
use crate::render::words;

/// Make a network
///
/// Containers on it reach each other, by name as well; those on other networks do not reach them. For
/// root it leads out, under this machine's address. For other users it leads out where the program `pasta` is
/// installed; without it, ports of containers on it can be published all the same.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network create back
  smidge network create --internal db     nothing leads out of it
  smidge network create --subnet 10.1.0.0/16 --ip-range 10.1.5.0/24 office")]
pub(super) struct Create {
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
    /// What drives it: there is `bridge`
    #[arg(
        short,
        long,
        value_name = "DRIVER",
        default_value = "bridge",
        hide_default_value = true
    )]
    driver: String,
    /// A range of addresses for it, one of each family [default: one that is free]
    #[arg(long, value_name = "ADDRESS/BITS", value_delimiter = ',')]
    subnet: Vec<String>,
    /// This machine's address in a subnet [default: the first]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// The part of a subnet for containers that ask for no address
    #[arg(long, value_name = "ADDRESS/BITS", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// An address that no container gets; repeatable
    #[arg(long, value_name = "NAME=IP", value_delimiter = ',')]
    aux_address: Vec<String>,
    /// Let nothing lead out of it, and nothing in
    #[arg(long)]
    internal: bool,
    /// Give out IPv6 addresses, too
    #[arg(long)]
    ipv6: bool,
    /// Label the network; repeatable
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// com.docker.network.driver.mtu, .bridge.name or .container_iface_prefix; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Note that containers may be put on it by hand, which they always may
    #[arg(long)]
    attachable: bool,
    #[command(flatten)]
    refused: Refused,
}

/// Options of Docker's that cannot be met here.
#[derive(clap::Args)]
struct Refused {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    ipam_driver: Option<String>,
    #[arg(long, hide = true)]
    ipam_opt: Vec<String>,
    #[arg(long, hide = true)]
    scope: Option<String>,
}

impl Refused {
    fn check(&self) -> Result<(), Error> {
        let ipam = self.ipam_driver.as_deref();
        let scope = self.scope.as_deref();
        let swarm = "there is no swarm";
        let refusals = [
            (
                "ipv4=false",
                self.ipv4 == Some(false),
                "networks have IPv4 addresses",
            ),
            ("config-from", self.config_from.is_some(), swarm),
            ("config-only", self.config_only, swarm),
            ("ingress", self.ingress, swarm),
            (
                "ipam-driver",
                ipam.is_some_and(|name| name != "default"),
                "addresses are given out by smidge itself: there is `default`",
            ),
            (
                "ipam-opt",
                !self.ipam_opt.is_empty(),
                "`default` takes no options",
            ),
            ("scope", scope.is_some_and(|scope| scope != "local"), swarm),
        ];
        match refusals.into_iter().find(|(_, asked, _)| *asked) {
            Some((name, _, why)) => {
                let fault = format!("`--{name}` cannot be met: {why}");
                Err(Error::new(Kind::Input, fault))
            }
            None => Ok(()),
        }
    }
}

/// List networks
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network ls
  smidge network ls -q -f type=custom     ids of those that were made
  smidge network ls --format '{{.Name}}: {{.Driver}}'")]
pub(super) struct Ls {
    /// Show those that meet a condition: dangling, driver, id, label, name, scope or type; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
}

/// Show everything about networks
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network inspect back
  smidge network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' back")]
pub(super) struct Inspect {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Accepted for Docker's sake: there is no more to show
    #[arg(short, long, hide = true)]
    verbose: bool,
}

/// Remove networks that no running container is on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network rm back")]
pub(super) struct Rm {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
    /// Do not mind if it does not exist
    #[arg(short, long)]
    force: bool,
}

/// Remove all networks that no running container is on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network prune -f
  smidge network prune -f --filter until=24h --filter label!=keep")]
pub(super) struct Prune {
    /// Remove those that meet a condition: until, label or label!; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Put a container on a network, at once if it runs
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network connect back web
  smidge network connect --alias db --ip 10.1.0.5 back postgres")]
pub(super) struct Connect {
    /// The network's name or id
    network: String,
    /// The container's name or id
    container: String,
    /// What the others on the network call it, too; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    alias: Vec<String>,
    /// Its IPv4 address there
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
}

/// Take a container off a network, at once if it runs
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge network disconnect back web")]
pub(super) struct Disconnect {
    /// The network's name or id
    network: String,
    /// The container's name or id
    container: String,
    /// Do not mind if the container does not exist
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: Columns = Columns {
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

pub(super) fn create(session: &Session, args: &Create) -> Outcome {
    args.refused.check()?;
    if args.driver != "bridge" {
        let fault = format!(
            "there is no network driver `{}`: there is `bridge`",
            args.driver
        );
        let hint = "the machine's own network: `smidge run --network host IMAGE`";
        return Err(Error::new(Kind::NotFound, fault).with_hint(hint));
    }
    let engine = session.engine()?;
    let id = engine.create_network(&NetworkRequest {
        name: args.name.clone(),
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        ranges: args.ip_range.clone(),
        reserved: args.aux_address.clone(),
        internal: args.internal,
        ipv6: args.ipv6,
        attachable: args.attachable,
        labels: args.label.clone(),
        options: args.opt.clone(),
    })?;
    if let (false, Err(why)) = (args.internal || session.host.uid == 0, engine.way_out()) {
        let message = format!("nothing leads out of `{}`: {why}", args.name);
        session.note(&Note::new(message));
    }
    session.print(&id)?;
    Ok(0)
}

pub(super) fn ls(session: &Session, args: &Ls) -> Outcome {
    let networks = session.engine()?.networks(&args.filter)?;
    let rows: Vec<_> = networks
        .iter()
        .map(|line| shown(line, args.no_trunc))
        .collect();
    let mut out = session.out();
    match args.quiet {
        true => listing::write(&mut out, &listing::lines(&rows, "{{.ID}}")?)?,
        false => listing::print(&mut out, &COLUMNS, args.format.as_deref(), &rows)?,
    }
    Ok(0)
}

fn shown(line: &NetworkRow, full: bool) -> listing::Row {
    let record = &line.record;
    let id = match full {
        true => record.id.as_str(),
        false => words::short_id(&record.id),
    };
    let labels: Vec<String> = record
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let created = words::moment(&record.created);
    let mut row = row([
        (
            "CreatedAt",
            created.map(words::stamp).unwrap_or_default().into(),
        ),
        ("Driver", line.driver.into()),
        ("ID", id.into()),
        ("IPv4", line.has_ipv4().to_string().into()),
        ("IPv6", line.has_ipv6().to_string().into()),
        ("Internal", record.internal.to_string().into()),
        ("Labels", labels.join(",").into()),
        ("Name", line.name.clone().into()),
        ("Scope", "local".into()),
    ]);
    row.labels.clone_from(&record.labels);
    row
}

pub(super) fn inspect(session: &Session, args: &Inspect) -> Outcome {
    let _ = args.verbose;
    let engine = session.engine()?;
    inspect::show(session, &args.names, args.format.as_deref(), &|name| {
        inspect::json(engine.inspect_network(name)?)
    })
}

pub(super) fn rm(session: &Session, args: &Rm) -> Outcome {
    let engine = session.engine()?;
    each(&args.names, |name| match engine.remove_network(name) {
        // As in Docker: what is gone already is what was wanted.
        Err(fault) if args.force && fault.kind() == Kind::NotFound => Ok(()),
        Err(fault) => Err(fault),
        Ok(()) => session.print(name),
    })
}

pub(super) fn prune(session: &Session, args: &Prune) -> Outcome {
    if !args.force
        && !confirmed(
            "all networks that no running container is on",
            "network prune",
        )?
    {
        return Ok(1);
    }
    let swept = session.engine()?.prune_networks(&args.filter)?;
    list(session, "Networks", &swept.names)?;
    all_of(swept.faults.into_iter())
}

pub(super) fn connect(session: &Session, args: &Connect) -> Outcome {
    let endpoint = Endpoint {
        network: args.network.clone(),
        aliases: args.alias.clone(),
        ipv4: args.ip,
        ipv6: args.ip6,
        mac: None,
    };
    session.engine()?.connect(&args.container, &endpoint)?;
    Ok(0)
}

pub(super) fn disconnect(session: &Session, args: &Disconnect) -> Outcome {
    let engine = session.engine()?;
    match engine.disconnect(&args.container, &args.network) {
        Err(fault) if args.force && fault.kind() == Kind::NotFound => Ok(0),
        done => done.map(|()| 0),
    }
}
