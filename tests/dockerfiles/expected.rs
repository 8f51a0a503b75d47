//! A listing written by hand: what Docker documents, where buildah cannot be asked.
//!
//! A line is one thing in which the image differs from its base, all of them together:
//!
//! ```text
//! file MODE UID:GID PATH TEXT       or `size:N`, or `any`, in place of the text
//! dir MODE UID:GID PATH             link UID:GID PATH -> TARGET
//! same PATH PATH…                   names of one file
//! gone PATH                         config FIELD JSON
//! layers NUMBER                     of this build, without the base's
//! mtime SECONDS PATH                in its layer
//! ```

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::compare::{Difference, field_of, layers, shown, sorted};
use crate::image::{Files, Image, hexadecimal};
use crate::words::{lines, mode, owner};

/// Everything in which an image differs from a listing; `base` is what it was built from.
pub(crate) fn check(image: &Image, base: Option<&Image>, listing: &str) -> Vec<Difference> {
    let empty = Files::new();
    let before = base.map_or(&empty, |base| &base.files);
    let mut all = Vec::new();
    let mut listed = BTreeSet::new();
    for line in lines(listing) {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let (place, ours, theirs) = match line[..] {
            ["config", field, ..] => config(image, field, listing),
            ["layers", number] => {
                let own = layers(&image.config) - base.map_or(0, |base| layers(&base.config));
                ("layers".to_owned(), own.to_string(), number.to_owned())
            }
            ["same", ref paths @ ..] => {
                let found = image.links().into_iter().any(|group| group == paths);
                (
                    "hard links".to_owned(),
                    found.to_string(),
                    "true".to_owned(),
                )
            }
            ["mtime", seconds, path] => {
                let time = image.files.get(path).map_or(0, |entry| entry.mtime);
                (
                    format!("mtime of /{path}"),
                    time.to_string(),
                    seconds.to_owned(),
                )
            }
            _ => {
                let (path, theirs) = entry(&line, image);
                listed.insert(path.to_owned());
                (format!("/{path}"), at(&image.files, path), theirs)
            }
        };
        all.push(Difference {
            place,
            ours,
            theirs,
        });
    }
    let paths: BTreeSet<&String> = before.keys().chain(image.files.keys()).collect();
    let unlisted = paths
        .into_iter()
        .filter(|path| !path.is_empty() && !listed.contains(*path));
    all.extend(unlisted.map(|path| Difference {
        place: format!("/{path}"),
        ours: at(&image.files, path),
        theirs: at(before, path),
    }));
    all.retain(|difference| difference.ours != difference.theirs);
    all
}

fn at(files: &Files, path: &str) -> String {
    files.get(path).map_or("nothing".to_owned(), shown)
}

fn config(image: &Image, field: &str, listing: &str) -> (String, String, String) {
    let ours = field_of(&image.config, field).to_string();
    let theirs = sorted(listing_value(listing, field)).to_string();
    (format!("config {field}"), ours, theirs)
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
        ["gone", path] => (path, "nothing".to_owned()),
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
            let content = found.map_or(String::new(), |entry| entry.digest.clone());
            let (size, digest) = match text.split_once(':') {
                Some(("size", size)) => (size.parse().unwrap(), content),
                _ if text == "any" => (found.map_or(0, |entry| entry.size), content),
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
