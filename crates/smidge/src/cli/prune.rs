//! `smidge prune`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use smidge_engine::image::{Filter, PruneRequest};
use smidge_engine::{Error, Kind, Swept};

use super::session::{Outcome, Session, all_of};
use crate::render::listing::unwritable;
use crate::render::words;

/// Remove what nothing needs: ended containers, empty networks, nameless images, what builds have left
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge prune
  smidge prune -a -f                      also images that no container was made from; do not ask")]
pub(super) struct Args {
    /// Remove all images that no container was made from, not just nameless ones
    #[arg(short, long)]
    all: bool,
    /// Remove only what meets a condition: until, label or label!; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Remove volumes that nobody named and no container has, too
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    #[arg(skip = Scope::Everything)]
    scope: Scope,
}

/// What may be removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everything,
    Images,
    Containers,
}

impl Scope {
    fn command(self) -> &'static str {
        match self {
            Self::Everything => "prune",
            Self::Images => "image prune",
            Self::Containers => "container prune",
        }
    }
}

/// Remove images that nothing needs
#[derive(clap::Args)]
pub(super) struct Images {
    /// Remove all images that no container was made from, not just nameless ones
    #[arg(short, long)]
    all: bool,
    /// Remove only what meets a condition: until, label or label!; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove containers that have ended
#[derive(clap::Args)]
pub(super) struct Containers {
    /// Remove only what meets a condition: until, label or label!; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl From<Images> for Args {
    fn from(args: Images) -> Self {
        Self {
            all: args.all,
            filter: args.filter,
            volumes: false,
            force: args.force,
            scope: Scope::Images,
        }
    }
}

impl From<Containers> for Args {
    fn from(args: Containers) -> Self {
        Self {
            all: false,
            filter: args.filter,
            volumes: false,
            force: args.force,
            scope: Scope::Containers,
        }
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    if !args.force && !confirmed(&doomed(args), args.scope.command())? {
        return Ok(1);
    }
    let engine = session.engine()?;
    if args.scope == Scope::Containers {
        return told(
            session,
            "Containers",
            engine.prune_containers(&args.filter)?,
        );
    }
    let containers = args.scope == Scope::Everything;
    let report = engine.prune(&PruneRequest {
        containers,
        all: args.all,
        // What builds have left has no labels, and ages of its own: `builder prune`.
        build_cache: args.scope == Scope::Everything && args.filter.is_empty(),
        volumes: args.volumes,
        filters: args.filter.clone(),
    })?;
    list(session, "Containers", &report.containers)?;
    list(session, "Networks", &report.networks)?;
    list(session, "Volumes", &report.volumes)?;
    let untagged = report.untagged.iter();
    let untagged = untagged.map(|name| format!("untagged: {}", name.familiar()));
    let deleted = report.deleted.iter().map(|id| format!("deleted: {id}"));
    let images: Vec<String> = untagged.chain(deleted).collect();
    list(session, "Images", &images)?;
    session.print(&format!(
        "Total reclaimed space: {}",
        words::size(report.bytes)
    ))?;
    all_of(report.faults.into_iter())
}

/// Tells what was removed, what that has freed, and what was not to be removed.
pub(super) fn told(session: &Session, what: &str, swept: Swept) -> Outcome {
    list(session, what, &swept.names)?;
    let bytes = words::size(swept.bytes);
    session.print(&format!("Total reclaimed space: {bytes}"))?;
    all_of(swept.faults.into_iter())
}

/// Tells what was removed, as Docker does.
pub(super) fn list(session: &Session, what: &str, removed: &[String]) -> Result<(), Error> {
    match removed.is_empty() {
        true => Ok(()),
        false => session.print(&format!("Deleted {what}:\n{}\n", removed.join("\n"))),
    }
}

/// What would be removed.
fn doomed(args: &Args) -> String {
    let images = match args.all {
        true => "all images that no container was made from",
        false => "all nameless images",
    };
    match args.scope {
        Scope::Everything => {
            format!(
                "all ended containers, networks that none is on, {images} and what builds have left of no image"
            )
        }
        Scope::Images => images.to_owned(),
        Scope::Containers => "all ended containers".to_owned(),
    }
}

/// Asks, where there is somebody to answer, whether `what` may be removed by `command`.
pub(super) fn confirmed(what: &str, command: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Input, format!("this would remove {what}"))
            .with_hint(format!("say that you mean it: `smidge {command} -f`")));
    }
    write!(std::io::stderr(), "This will remove {what}. Go on? [y/N] ").map_err(unwritable)?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Error::io("cannot read the answer", source))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
