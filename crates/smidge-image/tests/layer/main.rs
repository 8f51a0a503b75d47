//! Layers, written and read back, by smidge and by others.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helpers are tests"
)]

mod foreign;
mod hostile;

use std::error::Error as _;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use expect_test::expect;
use proptest::prelude::*;
use smidge_image::{
    Digest, Entry, EntryKind, LayerError, LayerPath, LayerWriter, MemoryTree, Tree, read_layer,
};

fn path(text: &str) -> LayerPath {
    LayerPath::try_from(text).unwrap()
}

fn file(name: &str, content: &str) -> (Entry, Vec<u8>) {
    let kind = EntryKind::File {
        size: content.len() as u64,
    };
    (Entry::new(path(name), kind), content.as_bytes().to_vec())
}

fn other(name: &str, kind: EntryKind) -> (Entry, Vec<u8>) {
    (Entry::new(path(name), kind), Vec::new())
}

fn written(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// Reads a layer with the first 64 KiB of each content.
fn read(archive: impl Read) -> Result<Vec<(Entry, Vec<u8>)>, io::Error> {
    let mut entries = Vec::new();
    read_layer(archive, |entry, content| {
        let mut bytes = Vec::new();
        content.take(64 * 1024).read_to_end(&mut bytes)?;
        entries.push((entry, bytes));
        Ok::<_, io::Error>(())
    })?;
    Ok(entries)
}

/// One of everything, in fields and in PAX records.
fn everything() -> Vec<(Entry, Vec<u8>)> {
    let mut owned = file("srv/data", "content\n");
    owned.0 = Entry {
        mode: 0o4750,
        uid: 1000,
        gid: 2_000_000_000,
        mtime: -1,
        ..owned.0
    };
    owned
        .0
        .xattrs
        .insert(b"user.note".to_vec(), b"a\nb=\0".to_vec());
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let longer = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    vec![
        other("/", EntryKind::Directory),
        other("srv", EntryKind::Directory),
        owned,
        file("srv/empty", ""),
        other(
            "srv/hard",
            EntryKind::Hardlink {
                target: path("srv/data"),
            },
        ),
        other(
            "srv/soft",
            EntryKind::Symlink {
                target: b"../srv/./data".to_vec(),
            },
        ),
        other(
            "srv/far",
            EntryKind::Symlink {
                target: b"/x".repeat(300),
            },
        ),
        other("dev/null", EntryKind::CharDevice { major: 1, minor: 3 }),
        other(
            "dev/sda",
            EntryKind::BlockDevice {
                major: 8,
                minor: 0x0f_ffff,
            },
        ),
        other("run/pipe", EntryKind::Fifo),
        file(&long, "long"),
        file(&longer, "longer"),
    ]
}

#[test]
fn what_is_written_is_read() {
    let entries = everything();
    assert_eq!(read(written(&entries).as_slice()).unwrap(), entries);
}

/// If this fails, the ids of all images change: see `LayerWriter`.
#[test]
fn the_bytes_are_frozen() {
    let archive = written(&[file("server", "program")]);
    let runs = archive
        .split(|byte| *byte == 0)
        .filter(|run| !run.is_empty());
    let shown: String = runs
        .map(|run| {
            let at = run.as_ptr() as usize - archive.as_ptr() as usize;
            format!("{at}: {}\n", run.escape_ascii())
        })
        .collect();
    expect![[r#"
        0: server
        100: 0000644
        108: 0000000
        116: 0000000
        124: 00000000007
        136: 00000000000
        148: 0007173
        156: 0
        257: ustar
        263: 00
        512: program
    "#]]
    .assert_eq(&shown);
    assert_eq!(archive.len(), 512 + 512 + 1024);
    expect!["c0258b6e0ee35bc0a17cc8b14d6cbdcb2bc2feac0343f1ae079a605afe3cc730"]
        .assert_eq(&Digest::of(&archive).hex());
    expect!["f4c6cc00f52297f47e48ed8d744eba7ae96b35a7394979d96855682cb30f0e86"]
        .assert_eq(&Digest::of(&written(&everything())).hex());
    expect!["5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]
        .assert_eq(&Digest::of(&written(&[])).hex());
}

#[test]
fn what_tar_cannot_express_is_refused() {
    let big = EntryKind::File { size: u64::MAX };
    let mut odd_name = file("a", "");
    odd_name.0.xattrs.insert(b"user.a=b".to_vec(), vec![]);
    let mut huge = file("a", "");
    huge.0.xattrs.insert(b"user.a".to_vec(), vec![0; 1 << 20]);
    for (bad, _) in [
        other("/", EntryKind::Fifo),
        other("a", EntryKind::Symlink { target: vec![] }),
        other(
            "a",
            EntryKind::Symlink {
                target: b"b\0c".to_vec(),
            },
        ),
        other("a", EntryKind::Hardlink { target: path("/") }),
        other(
            "a",
            EntryKind::CharDevice {
                major: 1 << 21,
                minor: 0,
            },
        ),
        other("a", big),
        odd_name,
        huge,
    ] {
        let error = LayerWriter::new(Vec::new())
            .append(&bad, &mut io::empty())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
    }
    for content in ["12", "1234"] {
        let (entry, _) = file("a", "123");
        let error = LayerWriter::new(Vec::new()).append(&entry, &mut content.as_bytes());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

/// An archive of one raw header, sealed after `change`, and the given content.
fn raw(kind: u8, content: &[u8], change: impl FnOnce(&mut tar::GnuHeader)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..4].copy_from_slice(b"name");
    change(gnu);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive
}

fn set(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    field[..text.len()].copy_from_slice(text);
}

fn named(kind: u8, name: &str, link: &str) -> Vec<u8> {
    raw(kind, b"", |header| {
        set(&mut header.name, name.as_bytes());
        set(&mut header.linkname, link.as_bytes());
    })
}

type Case = (&'static str, Vec<u8>);

fn any_bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(1_u8.., 1..most),
        "[a-z]{1,8}(/[a-z.]{0,20}){0,30}".prop_map(String::into_bytes),
    ]
}

fn any_path() -> impl Strategy<Value = LayerPath> {
    any_bytes(400).prop_filter_map("a file's path below the root", |bytes| {
        let path = LayerPath::parse(&bytes).ok()?;
        // Names of whiteouts are not any file's, and some of them mean nothing.
        let name = path.file_name()?;
        (!name.starts_with(b".wh.")).then_some(path)
    })
}

prop_compose! {
    fn any_entry()(
        path in any_path(),
        (kind, content) in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000).prop_map(|content| {
                (EntryKind::File { size: content.len() as u64 }, content)
            }),
            Just((EntryKind::Directory, vec![])),
            Just((EntryKind::Fifo, vec![])),
            any_bytes(300).prop_map(|target| (EntryKind::Symlink { target }, vec![])),
            any_path().prop_map(|target| (EntryKind::Hardlink { target }, vec![])),
            (0..1_u32 << 21, 0..1_u32 << 21)
                .prop_map(|(major, minor)| (EntryKind::CharDevice { major, minor }, vec![])),
        ],
        mode in 0..=0o7777_u32,
        uid in any::<u32>(),
        gid in any::<u32>(),
        mtime in any::<i64>(),
        xattrs in prop::collection::btree_map(
            "[a-z.%]{1,20}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..50),
            0..3,
        ),
    ) -> (Entry, Vec<u8>) {
        (Entry { path, kind, mode, uid, gid, mtime, xattrs }, content)
    }
}

fn has_newline(entry: &Entry) -> bool {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target,
        EntryKind::Hardlink { target } => target.as_bytes(),
        _ => &[],
    };
    let texts = entry.xattrs.values().map(Vec::as_slice);
    texts
        .chain([entry.path.as_bytes(), target])
        .any(|text| text.contains(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_come_back(entries in prop::collection::vec(any_entry(), 0..5)) {
        let archive = written(&entries);
        prop_assert_eq!(archive.len() % 512, 0);
        prop_assert_eq!(read(archive.as_slice()).unwrap(), entries);
    }

    #[test]
    fn another_reader_sees_the_same(mut entries in prop::collection::vec(any_entry(), 0..5)) {
        // The tar crate takes a newline for the end of a PAX record.
        entries.retain(|(entry, _)| !has_newline(entry));
        let archive = written(&entries);
        let mut reader = tar::Archive::new(archive.as_slice());
        let mut seen = reader.entries().unwrap();
        for (entry, content) in &entries {
            let mut theirs = seen.next().unwrap().unwrap();
            let path = LayerPath::parse(&theirs.path_bytes()).unwrap();
            prop_assert_eq!(&path, &entry.path);
            if let EntryKind::Symlink { target } = &entry.kind {
                let theirs = theirs.link_name_bytes().unwrap().into_owned();
                prop_assert_eq!(&theirs, target);
            }
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).unwrap();
            prop_assert_eq!(&bytes, content);
        }
        prop_assert!(seen.next().is_none());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(bytes.as_slice());
    }
}

#[test]
fn a_layer_becomes_a_tree() {
    let mut tree = MemoryTree::new();
    for (entry, content) in everything() {
        tree.insert(entry, content);
    }
    let (found, _) = tree.resolve(b"/srv/soft").unwrap().unwrap();
    assert_eq!(found, path("srv/data"));
    assert_eq!(tree.read(&path("srv/hard"), 100).unwrap(), b"content\n");
}
