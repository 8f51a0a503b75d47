//! `smidge system df`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use smidge_engine::Error;
use smidge_engine::image::{CacheKind, CacheRecord};
use smidge_engine::system::{ContainerUse, DiskUse, ImageUse};

use super::session::{Outcome, Session};
use crate::render::listing::{self, Columns, row};
use crate::render::words;

/// Show what takes up how much of the disk
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge system df
  smidge system df -v                     every image, container and volume")]
pub(super) struct Args {
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show each thing; a template has `.Images`, `.Containers`, `.Volumes` and `.BuildCache`
    #[arg(short, long)]
    verbose: bool,
}

const COLUMNS: Columns = Columns {
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};
const IMAGES: Columns = Columns {
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
};
const CONTAINERS: Columns = Columns {
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
};
const VOLUMES: Columns = Columns {
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
    ],
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
};
const CACHE: Columns = Columns {
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
};

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let found = session.engine()?.disk_use()?;
    match args.verbose {
        true => verbose(session, &found, args.format.as_deref())?,
        false => {
            let rows = summary(&found);
            listing::print(&mut session.out(), &COLUMNS, args.format.as_deref(), &rows)?;
        }
    }
    Ok(0)
}

fn summary(found: &DiskUse) -> Vec<listing::Row> {
    let in_use = found.images.iter().filter(|row| row.image.containers > 0);
    let mut in_use: Vec<_> = in_use.map(|row| row.image.id).collect();
    in_use.sort_unstable();
    in_use.dedup();
    let containers = &found.containers;
    let ended = containers.iter().filter(|one| !one.is_active());
    let unused = found.volumes.iter().filter(|(row, _)| row.users.is_empty());
    let cache = &found.cache;
    let idle = cache
        .iter()
        .filter(|record| !record.in_use && !record.shared);
    vec![
        line(
            "Images",
            (found.image_count, in_use.len()),
            (found.image_bytes, found.image_bytes_free),
        ),
        line(
            "Containers",
            (
                containers.len(),
                containers.iter().filter(|one| one.is_active()).count(),
            ),
            (
                containers.iter().map(|one| one.size).sum(),
                ended.map(|one| one.size).sum(),
            ),
        ),
        line(
            "Local Volumes",
            (
                found.volumes.len(),
                found.volumes.len() - unused.clone().count(),
            ),
            (
                found.volumes.iter().map(|(_, size)| size).sum(),
                unused.map(|(_, size)| size).sum(),
            ),
        ),
        line(
            "Build Cache",
            (
                cache.len(),
                cache.iter().filter(|record| record.in_use).count(),
            ),
            (
                cache.iter().map(|record| record.size).sum(),
                idle.map(|record| record.size).sum(),
            ),
        ),
    ]
}

fn line(kind: &str, (total, active): (usize, usize), (size, free): (u64, u64)) -> listing::Row {
    let share = (free * 100).checked_div(size);
    let reclaimable = match share {
        Some(share) => format!("{} ({share}%)", words::size(free)),
        None => words::size(free),
    };
    row([
        ("Active", active.to_string().into()),
        ("Reclaimable", reclaimable.into()),
        ("Size", words::size(size).into()),
        ("TotalCount", total.to_string().into()),
        ("Type", kind.into()),
    ])
}

/// Things of one kind.
struct Section {
    /// What templates call it.
    name: &'static str,
    title: String,
    columns: &'static Columns,
    rows: Vec<listing::Row>,
}

fn verbose(session: &Session, found: &DiskUse, format: Option<&str>) -> Result<(), Error> {
    let sections = sections(found, session.host.now);
    let mut out = session.out();
    if let Some(format) = format.filter(|format| !["", "table"].contains(format)) {
        let list = |rows: Vec<listing::Row>| rows.into_iter().map(|row| row.value).collect();
        let lists = sections.map(|section| (section.name.to_owned(), list(section.rows)));
        let value = Value::Object(lists.into_iter().collect());
        return listing::print_value(&mut out, Some(format), value, |_| String::new());
    }
    for section in sections {
        listing::write(&mut out, &section.title)?;
        listing::print(&mut out, section.columns, None, &section.rows)?;
    }
    Ok(())
}

fn sections(found: &DiskUse, now: SystemTime) -> [Section; 4] {
    let section = |name, title: &str, columns, rows| Section {
        name,
        title: title.to_owned(),
        columns,
        rows,
    };
    let images = found.images.iter().map(|one| image(one, now)).collect();
    let containers = found.containers.iter().map(|one| container(one, now));
    let volumes = found.volumes.iter().map(|(volume, size)| {
        row([
            ("Name", volume.volume.name.clone().into()),
            ("Links", volume.users.len().to_string().into()),
            ("Size", words::size(*size).into()),
        ])
    });
    let total: u64 = found.cache.iter().map(|record| record.size).sum();
    let cache = found.cache.iter().map(|record| cached(record, now));
    let cached = format!("\nBuild cache usage: {}\n\n", words::size(total));
    [
        section("Images", "Images space usage:\n\n", &IMAGES, images),
        section(
            "Containers",
            "\nContainers space usage:\n\n",
            &CONTAINERS,
            containers.collect(),
        ),
        section(
            "Volumes",
            "\nLocal Volumes space usage:\n\n",
            &VOLUMES,
            volumes.collect(),
        ),
        section("BuildCache", &cached, &CACHE, cache.collect()),
    ]
}

fn cached(record: &CacheRecord, now: SystemTime) -> listing::Row {
    let at = |seconds: u64| words::ago(now, UNIX_EPOCH + Duration::from_secs(seconds));
    let kind = match record.kind {
        CacheKind::Step => "step",
        CacheKind::Mount => "mount",
    };
    row([
        ("ID", words::short_id(&record.id).into()),
        ("CacheType", kind.into()),
        ("Size", words::size(record.size).into()),
        ("CreatedSince", at(record.created).into()),
        ("LastUsedSince", at(record.last_used).into()),
        ("UsageCount", record.uses.to_string().into()),
        ("Shared", record.shared.to_string().into()),
    ])
}

fn image(one: &ImageUse, now: SystemTime) -> listing::Row {
    const NONE: &str = "<none>";
    let image = &one.image;
    let name = image.name.as_ref();
    let repository = name.map_or_else(|| NONE.to_owned(), |name| name.familiar_name());
    let created = image.created.as_deref().and_then(words::moment);
    row([
        ("Repository", repository.into()),
        (
            "Tag",
            name.and_then(|name| name.tag()).unwrap_or(NONE).into(),
        ),
        ("ID", image.id.short().into()),
        (
            "CreatedSince",
            created
                .map_or_else(|| "N/A".to_owned(), |then| words::ago(now, then))
                .into(),
        ),
        ("Size", words::size(image.size).into()),
        ("SharedSize", words::size(one.shared).into()),
        ("UniqueSize", words::size(one.unique).into()),
        ("Containers", image.containers.to_string().into()),
    ])
}

fn container(one: &ContainerUse, now: SystemTime) -> listing::Row {
    let record = &one.known.record;
    let created = words::moment(&record.created).unwrap_or(now);
    let volumes = record.mounts.iter().filter(|mount| !mount.name.is_empty());
    let command = words::ellipsis(&record.spec.args.join(" "), 20);
    row([
        ("ID", words::short_id(&one.known.container.id).into()),
        ("Image", record.image.clone().into()),
        ("Command", format!("{command:?}").into()),
        ("LocalVolumes", volumes.count().to_string().into()),
        ("Size", words::size(one.size).into()),
        ("RunningFor", words::ago(now, created).into()),
        ("Status", words::status(&one.known.state, now).into()),
        ("Names", one.known.container.name.clone().into()),
    ])
}
