//! Archives that no layer may be.

use super::*;

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
