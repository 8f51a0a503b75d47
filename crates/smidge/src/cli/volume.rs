//! `smidge volume`: directories that outlive the containers that they are shown to.

use smidge_engine::image::Filter;
use smidge_engine::volume::{VolumePruneRequest, VolumeRow, labels};
use smidge_engine::{Error, Kind};

use super::inspect;
use super::prune::{confirmed, told};
use super::session::{Outcome, Session, each};
use crate::render::listing::{self, Columns, row};

/// Make a volume
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge volume create data
  smidge volume create --label keep=yes data")]
pub(super) struct Create {
    /// Its name [default: a random one]
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
    /// Its name, as it was given once
    #[arg(long = "name", value_name = "VOLUME", hide = true)]
    named: Option<String>,
    /// What keeps it: there is `local`
    #[arg(
        short,
        long,
        value_name = "DRIVER",
        default_value = "local",
        hide_default_value = true
    )]
    driver: String,
    /// Label the volume; repeatable
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Not offered: a `local` volume is a directory of the store
    #[arg(short, long, value_name = "KEY=VALUE", hide = true)]
    opt: Vec<String>,
}

/// List volumes
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge volume ls
  smidge volume ls -q -f dangling=true    names of those that no container has")]
pub(super) struct Ls {
    /// Show those that meet a condition: dangling, driver, label or name; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show names alone
    #[arg(short, long)]
    quiet: bool,
}

/// Show everything about volumes
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge volume inspect data
  smidge volume inspect -f '{{.Mountpoint}}' data")]
pub(super) struct Inspect {
    /// Name; repeatable
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Remove volumes that no container has
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge volume rm data")]
pub(super) struct Rm {
    /// Name; repeatable
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
    /// Do not mind if it does not exist
    #[arg(short, long)]
    force: bool,
}

/// Remove all volumes that no container has
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge volume prune -f                  those that nobody named
  smidge volume prune -af --filter label!=keep")]
pub(super) struct Prune {
    /// Remove those with a name, too
    #[arg(short, long)]
    all: bool,
    /// Remove those that meet a condition: label or label!; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: Columns = Columns {
    headers: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Scope", "SCOPE"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
};

pub(super) fn create(session: &Session, args: &Create) -> Outcome {
    if args.driver != "local" {
        let fault = format!(
            "there is no volume driver `{}`: there is `local`",
            args.driver
        );
        return Err(Error::new(Kind::NotFound, fault));
    }
    if let Some(option) = args.opt.first() {
        let fault = format!(
            "`--opt {option}`: a volume is a directory of the store, which takes no options"
        );
        return Err(Error::new(Kind::Input, fault).with_hint(
            "show a container another file system: `smidge run -v /DIRECTORY:/inside IMAGE`, \
             `smidge run --tmpfs /inside IMAGE`",
        ));
    }
    if args.name.is_some() && args.named.is_some() {
        let fault = "conflicting options: cannot specify a volume-name through both --name and as a positional arg";
        return Err(Error::new(Kind::Input, fault));
    }
    let name = args.name.as_deref().or(args.named.as_deref());
    let name = name.filter(|name| !name.is_empty());
    let name = session.engine()?.create_volume(name, &args.label)?;
    session.print(&name)?;
    Ok(0)
}

pub(super) fn ls(session: &Session, args: &Ls) -> Outcome {
    let rows: Vec<_> = session
        .engine()?
        .volumes(&args.filter)?
        .iter()
        .map(shown)
        .collect();
    let mut out = session.out();
    match args.quiet {
        true => listing::write(&mut out, &listing::lines(&rows, "{{.Name}}")?)?,
        false => listing::print(&mut out, &COLUMNS, args.format.as_deref(), &rows)?,
    }
    Ok(0)
}

fn shown(line: &VolumeRow) -> listing::Row {
    let labels = labels(&line.volume);
    let shown: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut row = row([
        ("Availability", "N/A".into()),
        ("Driver", "local".into()),
        ("Group", "N/A".into()),
        ("Labels", shown.join(",").into()),
        ("Links", "N/A".into()),
        ("Mountpoint", line.volume.data.display().to_string().into()),
        ("Name", line.volume.name.clone().into()),
        ("Scope", "local".into()),
        ("Size", "N/A".into()),
        ("Status", "N/A".into()),
    ]);
    row.labels = labels;
    row
}

pub(super) fn inspect(session: &Session, args: &Inspect) -> Outcome {
    let engine = session.engine()?;
    inspect::show(session, &args.names, args.format.as_deref(), &|name| {
        inspect::json(engine.inspect_volume(name)?)
    })
}

pub(super) fn rm(session: &Session, args: &Rm) -> Outcome {
    let engine = session.engine()?;
    each(&args.names, |name| match engine.remove_volume(name) {
        // As in Docker: what is gone already is what was wanted.
        Err(fault) if args.force && fault.kind() == Kind::NotFound => session.print(name),
        Err(fault) => Err(fault),
        Ok(()) => session.print(name),
    })
}

pub(super) fn prune(session: &Session, args: &Prune) -> Outcome {
    let what = match args.all {
        true => "all volumes that no container has",
        false => "all volumes that nobody named and no container has",
    };
    if !args.force && !confirmed(what, "volume prune")? {
        return Ok(1);
    }
    let swept = session.engine()?.prune_volumes(&VolumePruneRequest {
        all: args.all,
        filters: args.filter.clone(),
    })?;
    told(session, "Volumes", swept)
}
