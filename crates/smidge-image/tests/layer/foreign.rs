//! Archives of other programs, and ours as they see them.

use smidge_tests::InTime as _;

use super::*;

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

/// What a program prints when given an archive; `None` if the program is not there.
fn output(program: &str, args: &[&str], input: Option<&Path>) -> Option<String> {
    let stdin = input.map_or_else(Stdio::null, |path| {
        std::fs::File::open(path).unwrap().into()
    });
    let output = match Command::new(program)
        .args(args)
        .env("TZ", "UTC")
        .stdin(stdin)
        .output_in_time()
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
