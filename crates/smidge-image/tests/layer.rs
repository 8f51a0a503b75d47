//! Layers, written and read back, by smidge and by others.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helpers are tests"
)]

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

/// What the reader says of each archive, all of them broken.
fn complaints(cases: impl IntoIterator<Item = Case>) -> String {
    let complaint = |(what, archive): Case| {
        let result = read_layer(archive.as_slice(), |_, _| Ok::<_, LayerError>(()));
        let error = result.expect_err(what);
        let source = error.source().map(|source| format!(": {source}"));
        format!("{what}: {error}{}\n", source.unwrap_or_default())
    };
    cases.into_iter().map(complaint).collect()
}

#[test]
fn entries_that_no_layer_has_are_refused() {
    expect![[r#"
        parent: the entry at byte 0 cannot be in a layer: path `a/../../b` contains `..`
        link out: the entry at byte 0 cannot be in a layer: path `../b` contains `..`
        link to root: malformed `linkname` in the tar header at byte 0
        empty link: malformed `linkname` in the tar header at byte 0
        root file: malformed `name` in the tar header at byte 0
        whiteout of parent: `/a/.wh...` is not a whiteout: it removes no name
        unknown kind: `a` has the unsupported tar entry type `M`
    "#]]
    .assert_eq(&complaints([
        ("parent", named(b'0', "a/../../b", "")),
        ("link out", named(b'1', "a", "../b")),
        ("link to root", named(b'1', "a", "/")),
        ("empty link", named(b'2', "a", "")),
        ("root file", named(b'0', "./", "")),
        ("whiteout of parent", named(b'0', "a/.wh...", "")),
        ("unknown kind", named(b'M', "a", "")),
    ]));
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let size = |size: &[u8]| raw(b'0', b"", |header| set(&mut header.size, size));
    let sparse = |map: &[u8]| raw(b'S', b"", |header| set(&mut header.sparse[0].offset, map));
    expect![[r#"
        negative size: malformed `size` in the tar header at byte 0
        huge size: malformed `size` in the tar header at byte 0
        octal: malformed `size` in the tar header at byte 0
        uid: malformed `uid` in the tar header at byte 0
        device: malformed `devmajor` in the tar header at byte 0
        sparse offset: malformed `size` in the tar header at byte 0
        sparse digit: malformed `sparse` in the tar header at byte 0
        sparse map: the layer is truncated: it ends at byte 512
    "#]]
    .assert_eq(&complaints([
        ("negative size", size(&[0xff; 12])),
        ("huge size", size(b"\x80\0\0\0\x80\0\0\0\0\0\0\0")),
        ("octal", size(b"12345678")),
        (
            "uid",
            raw(b'0', b"", |header| {
                set(&mut header.uid, b"\x80\0\0\x01\0\0\0\0")
            }),
        ),
        (
            "device",
            raw(b'3', b"", |header| set(&mut header.dev_major, &[0xff; 8])),
        ),
        ("sparse offset", sparse(b"1")),
        ("sparse digit", sparse(b"x")),
        (
            "sparse map",
            raw(b'S', b"", |header| set(&mut header.isextended, b"1")),
        ),
    ]));
}

#[test]
fn extended_headers_are_bounded_and_checked() {
    let size = |kind, size: &[u8]| raw(kind, b"", |header| set(&mut header.size, size));
    let pax = |records: &str| {
        [
            raw(b'x', records.as_bytes(), |_| {}),
            raw(b'0', b"", |_| {}),
        ]
        .concat()
    };
    expect![[r#"
        long name: the extended header at byte 0 is larger than 1048576 bytes
        long link: the extended header at byte 0 is larger than 1048576 bytes
        long pax: the extended header at byte 0 is larger than 1048576 bytes
        record: malformed `pax` in the tar header at byte 0
        number: malformed `uid` in the tar header at byte 0
        NUL: the entry at byte 1024 cannot be in a layer: path `a\u{0}b` contains a NUL byte
        parent: the entry at byte 1024 cannot be in a layer: path `../b` contains `..`
        odd map: malformed `GNU.sparse.map` in the tar header at byte 0
    "#]]
    .assert_eq(&complaints([
        ("long name", size(b'L', b"00004000001")),
        ("long link", size(b'K', b"77777777777")),
        ("long pax", size(b'x', b"77777777777")),
        ("record", pax("7 path\n")),
        ("number", pax("8 uid=x\n")),
        ("NUL", pax("12 path=a\0b\n")),
        ("parent", pax("13 path=../b\n")),
        ("odd map", pax("20 GNU.sparse.map=5\n")),
    ]));
}

#[test]
fn what_is_no_archive_or_not_all_of_it_is_refused() {
    let whole = raw(b'0', b"content", |_| {});
    expect![[r#"
        text: the layer is not a tar archive: the block at byte 0 is not a header
        one zero block: the layer is not a tar archive: the block at byte 0 is not a header
        short header: the layer is truncated: it ends at byte 511
        short content: the layer is truncated: it ends at byte 516
        short padding: the layer is truncated: it ends at byte 600
        short name: the layer is truncated: it ends at byte 600
    "#]]
    .assert_eq(&complaints([
        ("text", vec![b'x'; 512]),
        ("one zero block", [vec![0; 512], whole.clone()].concat()),
        ("short header", whole[..511].to_vec()),
        ("short content", whole[..516].to_vec()),
        ("short padding", whole[..600].to_vec()),
        ("short name", raw(b'L', b"name", |_| {})[..600].to_vec()),
    ]));
}

#[test]
fn a_short_content_is_an_error_of_its_reader() {
    let archive = &raw(b'0', b"content", |_| {})[..516];
    let error = read(archive).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// What the reader makes of each archive.
fn understood(cases: impl IntoIterator<Item = Case>) -> String {
    let mut shown = String::new();
    for (what, archive) in cases {
        for (entry, _) in read(archive.as_slice()).expect(what) {
            let Entry {
                path,
                kind,
                mode,
                mtime,
                ..
            } = entry;
            shown += &format!("{what}: {path:?} {kind:?} {mode:o} {mtime}\n");
        }
    }
    shown
}

#[test]
fn archives_need_not_be_ours() {
    let long = [
        raw(b'L', "long/".repeat(25).as_bytes(), |_| {}),
        named(b'0', "a", ""),
    ];
    let file = || named(b'0', "a", "");
    expect![[r#"
        leading slash: /a/b File { size: 0 } 644 0
        old directory: /a File { size: 0 } 644 0
        contiguous: /a File { size: 0 } 644 0
        no end: /a File { size: 0 } 644 0
        short end: /a File { size: 0 } 644 0
        junk after the end: /a File { size: 0 } 644 0
        twice: /a File { size: 0 } 644 0
        twice: /a Directory 644 0
        global: /a File { size: 0 } 644 0
        GNU: /long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long File { size: 0 } 644 0
    "#]]
    .assert_eq(&understood([
        ("leading slash", named(b'0', "//a/./b", "")),
        ("old directory", named(0, "a/", "")),
        ("contiguous", named(b'7', "a", "")),
        ("no end", file()),
        ("short end", [file(), vec![0; 512]].concat()),
        (
            "junk after the end",
            [file(), vec![0; 1024], vec![1; 700]].concat(),
        ),
        ("twice", [file(), named(b'5', "a", "")].concat()),
        (
            "global",
            [raw(b'g', b"12 path=none\n", |_| {}), file()].concat(),
        ),
        ("GNU", long.concat()),
    ]));
}

#[test]
fn fields_need_not_be_as_we_write_them() {
    let link = |header: &mut tar::GnuHeader| {
        set(&mut header.linkname, b"target");
        set(&mut header.size, b"00000000006");
    };
    expect![[r#"
        type in mode: /name File { size: 0 } 755 0
        no number: /name File { size: 0 } 644 0
        negative time: /name File { size: 0 } 644 -1
        size of a link: /name Symlink { target: [116, 97, 114, 103, 101, 116] } 644 0
        not UTF-8: /\xff\xfe File { size: 0 } 644 0
    "#]]
    .assert_eq(&understood([
        (
            "type in mode",
            raw(b'0', b"", |header| set(&mut header.mode, b"0100755")),
        ),
        ("no number", raw(b'0', b"", |header| header.uid.fill(b' '))),
        (
            "negative time",
            raw(b'0', b"", |header| set(&mut header.mtime, &[0xff; 12])),
        ),
        ("size of a link", raw(b'2', b"", link)),
        (
            "not UTF-8",
            raw(b'0', b"", |header| set(&mut header.name, b"\xff\xfe")),
        ),
    ]));
}

/// Every byte of every kind of header, changed in several ways, the checksum made right again.
#[test]
fn no_changed_byte_breaks_the_reader() {
    let sparse = raw(b'S', b"data", |header| {
        set(&mut header.sparse[0].offset, b"00000001000");
        set(&mut header.sparse[0].numbytes, b"00000000004");
        set(&mut header.realsize, b"00000002000");
    });
    let map = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n28 GNU.sparse.realsize=1000\n";
    let mut content = b"1\n500\n4\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"data");
    let pax_sparse = [
        raw(b'x', map.as_bytes(), |_| {}),
        raw(b'0', &content, |_| {}),
    ]
    .concat();
    let long = raw(b'L', &[b'x'; 300], |_| {});
    let mut archive = [sparse, pax_sparse, long].concat();
    archive.extend(written(&everything()));
    assert_eq!(
        read(archive.as_slice()).unwrap().len(),
        2 + everything().len()
    );

    for at in 0..archive.len() - 1024 {
        for change in [0x01, 0x90] {
            let mut changed = archive.clone();
            changed[at] ^= change;
            let block = at - at % 512;
            let header = tar::Header::from_byte_slice(&archive[block..block + 512]);
            if header.cksum().is_ok_and(|sum| sum > 0) {
                let mut header = tar::Header::from_byte_slice(&changed[block..block + 512]).clone();
                header.set_cksum();
                changed[block..block + 512].copy_from_slice(header.as_bytes());
            }
            let _ = read(changed.as_slice());
        }
    }
}

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

/// What a program prints when given an archive; `None` if the program is not there.
fn output(program: &str, args: &[&str], input: Option<&Path>) -> Option<String> {
    let stdin = input.map_or_else(Stdio::null, |path| {
        std::fs::File::open(path).unwrap().into()
    });
    let output = match Command::new(program)
        .args(args)
        .env("TZ", "UTC")
        .stdin(stdin)
        .output()
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("skipped: `{program}` is not installed");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn other_programs_read_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("layer.tar");
    std::fs::write(&archive, written(&everything())).unwrap();

    let list = ["--list", "--verbose", "--numeric-owner", "--file=-"];
    if let Some(list) = output("tar", &list, Some(&archive)) {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: Vec<_> = list
            .lines()
            .map(words)
            .filter(|line| line.len() < 100)
            .collect();
        assert_eq!(list.lines().count(), everything().len());
        expect![[r#"
            drwxr-xr-x 0/0 0 1970-01-01 00:00 ./
            drwxr-xr-x 0/0 0 1970-01-01 00:00 srv/
            -rwsr-x--- 1000/2000000000 8 1969-12-31 23:59 srv/data
            -rw-r--r-- 0/0 0 1970-01-01 00:00 srv/empty
            hrw-r--r-- 0/0 0 1970-01-01 00:00 srv/hard link to srv/data
            lrwxrwxrwx 0/0 0 1970-01-01 00:00 srv/soft -> ../srv/./data
            crw-r--r-- 0/0 1,3 1970-01-01 00:00 dev/null
            brw-r--r-- 0/0 8,1048575 1970-01-01 00:00 dev/sda
            prw-r--r-- 0/0 0 1970-01-01 00:00 run/pipe"#]]
        .assert_eq(&short.join("\n"));
    }
    let script = "import sys, tarfile
for m in tarfile.open(fileobj=sys.stdin.buffer, mode='r|'):
    print(m.type.decode(), m.name[-9:], m.linkname[-9:], oct(m.mode), m.uid, m.gid, m.size, m.mtime)";
    if let Some(list) = output("python3", &["-c", script], Some(&archive)) {
        expect![[r#"
            5 .  0o755 0 0 0 0
            5 srv  0o755 0 0 0 0
            0 srv/data  0o4750 1000 2000000000 8 -1.0
            0 srv/empty  0o644 0 0 0 0
            1 srv/hard srv/data 0o644 0 0 0 0
            2 srv/soft rv/./data 0o777 0 0 0 0
            2 srv/far x/x/x/x/x 0o777 0 0 0 0
            3 dev/null  0o644 0 0 0 0
            4 dev/sda  0o644 0 0 0 0
            6 run/pipe  0o644 0 0 0 0
            0 fffffffff  0o644 0 0 4 0
            0 fffffffff  0o644 0 0 6 0
        "#]]
        .assert_eq(&list);
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_filled_up() {
    let directory = tempfile::tempdir().unwrap();
    let holes = directory.path().join("holes");
    let mut expected = Vec::new();
    for hole in 0..40 {
        expected.extend(vec![0; 128 * 1024]);
        expected.extend(vec![b'a' + hole; 4096]);
    }
    expected.extend(vec![0; 300_000]);
    {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::create(&holes).unwrap();
        for (at, block) in expected
            .chunks(4096)
            .enumerate()
            .filter(|(_, block)| block[0] != 0)
        {
            file.write_all_at(block, at as u64 * 4096).unwrap();
        }
        file.set_len(expected.len() as u64).unwrap();
    }
    for format in ["gnu", "0.0", "0.1", "1.0"] {
        let archive = directory.path().join(format);
        let format = match format {
            "gnu" => vec!["--format=gnu".to_owned()],
            version => vec![
                "--format=pax".to_owned(),
                format!("--sparse-version={version}"),
            ],
        };
        let archive = archive.to_str().unwrap();
        let mut args = vec!["--create", "--sparse", "--file", archive];
        args.extend(format.iter().map(String::as_str));
        args.extend(["--directory", directory.path().to_str().unwrap(), "holes"]);
        if output("tar", &args, None).is_none() {
            return;
        }
        assert!(
            std::fs::metadata(archive).unwrap().len() < 1 << 20,
            "{format:?} is not sparse"
        );
        let mut files = 0;
        read_layer(std::fs::File::open(archive).unwrap(), |entry, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            assert_eq!(entry.path, path("holes"), "{format:?}");
            assert_eq!(entry.size(), expected.len() as u64, "{format:?}");
            assert!(bytes == expected, "{format:?}");
            files += 1;
            Ok::<_, io::Error>(())
        })
        .unwrap();
        assert_eq!(files, 1);
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
