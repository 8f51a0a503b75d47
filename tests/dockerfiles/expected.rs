//! A listing written by hand: what Docker documents, where buildah cannot be asked.
//!
//! A line is one thing in which the image differs from its base, all of them together:
//!
//! ```text
//! file MODE UID:GID PATH TEXT       or `sha256:…`, or `size:N`, in place of the text
//! dir MODE UID:GID PATH             link UID:GID PATH -> TARGET
//! same PATH PATH…                   names of one file
//! gone PATH                         config FIELD JSON
//! layers NUMBER                     of this build, without the base's
//! mtime SECONDS PATH                in its layer
//! ```

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::compare::{Difference, field_of, layers, shown};
use crate::image::{Files, Image, hexadecimal};
use crate::words::{lines, mode, owner};

/// Everything in which an image differs from a listing; `base` is what it was built from.
pub(crate) fn check(image: &Image, base: Option<&Image>, listing: &str) -> Vec<Difference> {
    let empty = Files::new();
    let before = base.map_or(&empty, |base| &base.files);
    let mut all = Vec::new();
    let mut listed = std::collections::BTreeSet::new();
    let mut miss = |place: String, ours: String, theirs: String| {
        if ours != theirs {
            all.push(Difference {
                place,
                ours,
                theirs,
            });
        }
    };
    for line in lines(listing) {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        match line[..] {
            ["config", field, ..] => {
                let json = listing_value(listing, field);
                miss(
                    format!("config {field}"),
                    field_of(&image.config, field).to_string(),
                    json.to_string(),
                );
            }
            ["layers", number] => {
                let own = layers(&image.config) - base.map_or(0, |base| layers(&base.config));
                miss("layers".to_owned(), own.to_string(), number.to_owned());
            }
            ["same", ref paths @ ..] => {
                let found = image.links().into_iter().any(|group| group == paths);
                miss(
                    "hard links".to_owned(),
                    found.to_string(),
                    "true".to_owned(),
                );
            }
            ["mtime", seconds, path] => {
                let time = image
                    .files
                    .get(path)
                    .map_or(String::new(), |e| e.mtime.to_string());
                miss(format!("mtime of /{path}"), time, seconds.to_owned());
            }
            ["gone", path] => {
                listed.insert(path.to_owned());
                let ours = image.files.get(path).map_or("nothing".to_owned(), shown);
                miss(format!("/{path}"), ours, "nothing".to_owned());
            }
            _ => {
                let (path, theirs) = entry(&line, image);
                listed.insert(path.to_owned());
                let ours = image.files.get(path).map_or("nothing".to_owned(), shown);
                miss(format!("/{path}"), ours, theirs);
            }
        }
    }
    let paths: std::collections::BTreeSet<&String> =
        before.keys().chain(image.files.keys()).collect();
    for path in paths {
        let now = image.files.get(path).map(shown);
        let was = before.get(path).map(shown);
        if now != was && !path.is_empty() && !listed.contains(path) {
            let name = |entry: Option<String>| entry.unwrap_or("nothing".to_owned());
            miss(format!("/{path}"), name(now), name(was));
        }
    }
    all
}

/// The JSON of a line `config FIELD JSON`, which is not split into words.
fn listing_value(listing: &str, field: &str) -> Value {
    let start = format!("config {field} ");
    let line = listing
        .lines()
        .find_map(|line| line.strip_prefix(&start))
        .unwrap();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}`: {error}"))
}

fn entry<'a>(line: &[&'a str], image: &Image) -> (&'a str, String) {
    match *line {
        ["dir", bits, owned, path] => {
            let (uid, gid) = owner(owned);
            (path, format!("dir {:04o} {uid}:{gid}", mode(bits)))
        }
        ["link", owned, path, "->", target] => {
            let (uid, gid) = owner(owned);
            (path, format!("link 0777 {uid}:{gid} -> {target}"))
        }
        ["file", bits, owned, path, ref text @ ..] => {
            let (uid, gid) = owner(owned);
            let text = text.concat();
            let found = image.files.get(path);
            let (size, digest) = match text.split_once(':') {
                Some(("sha256", digest)) => {
                    (found.map_or(0, |entry| entry.size), digest.to_owned())
                }
                Some(("size", size)) => (
                    size.parse().unwrap(),
                    found.map_or(String::new(), |e| e.digest.clone()),
                ),
                _ => (
                    text.len() as u64,
                    hexadecimal(&Sha256::digest(text.as_bytes())),
                ),
            };
            let mode = mode(bits);
            (
                path,
                format!("file {mode:04o} {uid}:{gid} {size} sha256:{digest}"),
            )
        }
        _ => panic!("`{}`: no such line of a listing", line.join(" ")),
    }
}
