//! Two images side by side: every difference as a line `WHERE: what one has, what the other has`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::image::{Entry, Files, Image, hexadecimal};

/// What of a config is compared, beside the platform.
const FIELDS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "WorkingDir",
    "User",
    "Healthcheck",
    "StopSignal",
    "Shell",
    "OnBuild",
];

/// A difference: where, and the two sides.
#[derive(Debug)]
pub(crate) struct Difference {
    /// A path with its slash, or `config FIELD`.
    pub(crate) place: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            place,
            ours,
            theirs,
        } = self;
        write!(f, "{place}: smidge {ours}; expected {theirs}")
    }
}

/// Everything in which two images differ, but for times.
pub(crate) fn images(ours: &Image, theirs: &Image) -> Vec<Difference> {
    let mut all = files(&ours.files, &theirs.files);
    all.extend(links(ours, theirs));
    all.extend(configs(&ours.config, &theirs.config));
    all
}

fn files(ours: &Files, theirs: &Files) -> Vec<Difference> {
    let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    // The root is in few layers: who has it says 0755.
    paths
        .into_iter()
        .filter(|path| !path.is_empty())
        .filter_map(|path| {
            let (one, other) = (ours.get(path), theirs.get(path));
            let (one, other) = (
                one.map_or("nothing".into(), shown),
                other.map_or("nothing".into(), shown),
            );
            difference(format!("/{path}"), one, other)
        })
        .collect()
}

fn difference(place: String, ours: String, theirs: String) -> Option<Difference> {
    (ours != theirs).then_some(Difference {
        place,
        ours,
        theirs,
    })
}

/// An entry as a line of a listing, without its path.
pub(crate) fn shown(entry: &Entry) -> String {
    let (uid, gid) = entry.owner;
    let mut text = format!("{} {:04o} {uid}:{gid}", entry.kind, entry.mode);
    match entry.kind {
        "file" => text += &format!(" {} sha256:{}", entry.size, entry.digest),
        "link" => text += &format!(" -> {}", entry.target),
        "char" | "block" => text += &format!(" {}:{}", entry.device.0, entry.device.1),
        _ => {}
    }
    for (name, value) in &entry.attributes {
        text += &format!(" {name}={}", hexadecimal(value));
    }
    text
}

fn links(ours: &Image, theirs: &Image) -> Option<Difference> {
    let (one, other) = (ours.links(), theirs.links());
    let only = |a: &BTreeSet<Vec<&str>>, b: &BTreeSet<Vec<&str>>| {
        format!("{:?}", a.difference(b).collect::<Vec<_>>())
    };
    difference(
        "hard links".to_owned(),
        only(&one, &other),
        only(&other, &one),
    )
}

fn configs(ours: &Value, theirs: &Value) -> Vec<Difference> {
    let inside = |config: &Value, field: &str| field_of(config, field).to_string();
    let mut all: Vec<_> = FIELDS
        .into_iter()
        .filter_map(|field| {
            difference(
                format!("config {field}"),
                inside(ours, field),
                inside(theirs, field),
            )
        })
        .collect();
    for field in ["architecture", "os"] {
        let place = format!("config {field}");
        all.extend(difference(
            place,
            ours[field].to_string(),
            theirs[field].to_string(),
        ));
    }
    all.extend(difference(
        "config layers".to_owned(),
        layers(ours).to_string(),
        layers(theirs).to_string(),
    ));
    all
}

/// A field of the inner config; what is empty is as what is not there.
pub(crate) fn field_of(config: &Value, field: &str) -> Value {
    let mut value = config["config"][field].clone();
    if field == "Labels"
        && let Some(labels) = value.as_object_mut()
    {
        labels.remove("io.buildah.version");
    }
    if field == "Healthcheck"
        && let Some(check) = value.as_object_mut()
    {
        check.retain(|_, value| *value != 0);
    }
    let empty = match &value {
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if empty { Value::Null } else { sorted(value) }
}

/// The same with keys in their order, which means nothing.
pub(crate) fn sorted(value: Value) -> Value {
    let Value::Object(all) = value else {
        return value;
    };
    let all: BTreeMap<String, Value> = all.into_iter().collect();
    all.into_iter().collect()
}

/// How many entries of the history have a layer. Those of `WORKDIR` do not count: BuildKit always makes
/// one, others never.
pub(crate) fn layers(config: &Value) -> usize {
    let history = config["history"].as_array().map_or(&[][..], Vec::as_slice);
    let counts = |entry: &&Value| {
        let by = entry["created_by"].as_str().unwrap_or_default();
        entry["empty_layer"] != true && !by.contains("WORKDIR")
    };
    history.iter().filter(counts).count()
}
