use std::io::{Cursor, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::{io, thread};

use smidge_image::{Effort, Entry, EntryKind, LayerPath, LayerWriter, compress_gzip};

use super::*;
use crate::build::scratch::Scratch;
use crate::registry::Connection;
use crate::{Engine, Silent};

#[test]
fn contexts_are_told_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let host = crate::host::test_host(dir.path());
    fs::create_dir_all(dir.path().join("github.com/a/b")).unwrap();
    let kind = |text: &str| match ContextSource::parse(text, &host).unwrap().0 {
        Place::Path(_) => "path",
        Place::Input => "input",
        Place::Http(_) => "http",
        Place::Git(_) => "git",
    };
    for (text, expected) in [
        (".", "path"),
        ("missing", "path"),
        ("-", "input"),
        ("https://h/x.tar.gz", "http"),
        ("http://h/Dockerfile", "http"),
        ("https://h/r.git#v1:d", "git"),
        ("git@h:r", "git"),
        ("file:///r", "git"),
        ("github.com/a/c", "git"),
        // It is there.
        ("github.com/a/b", "path"),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
    assert!(ContextSource::parse("https://h/r.git#--x", &host).is_err());
}

/// A store, and a directory to work in.
struct Bench {
    dir: tempfile::TempDir,
    engine: Engine,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::host::test_host(dir.path());
        let engine = Engine::open(&dir.path().join("store"), host).unwrap();
        let scratch = Scratch::new(&engine.store).unwrap();
        Self {
            dir,
            engine,
            scratch,
        }
    }

    fn bring(&self, source: &str, file: Option<&str>, input: &[u8]) -> Result<Option<Brought>> {
        let connection = Connection::default();
        let fetcher = Fetcher {
            engine: &self.engine,
            connection: &connection,
            scratch: &self.scratch,
            progress: &Silent,
        };
        let source = ContextSource::parse(source, &self.engine.host)?;
        let file = file.map(Path::new);
        bring((&source, file), &fetcher, &mut Cursor::new(input), false)
    }

    /// The Dockerfile's text, and the names in the context.
    fn seen(&self, source: &str, file: Option<&str>, input: &[u8]) -> (String, Vec<String>) {
        let brought = self.bring(source, file, input);
        let brought = brought.unwrap_or_else(|e| panic!("{source}: {e} {:?}", e.facts()));
        let brought = brought.unwrap();
        let mut names: Vec<String> = fs::read_dir(&brought.context)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        (fs::read_to_string(&brought.file).unwrap(), names)
    }
}

const TEXT: &str = "FROM scratch\n";

fn archive(extra: &[(&str, EntryKind)]) -> Vec<u8> {
    let mut tar = LayerWriter::new(Vec::new());
    let mut append = |path: &str, kind: EntryKind, content: &str| {
        let entry = Entry::new(LayerPath::try_from(path).unwrap(), kind);
        tar.append(&entry, &mut content.as_bytes()).unwrap();
    };
    let size = TEXT.len() as u64;
    append("Dockerfile", EntryKind::File { size }, TEXT);
    append("sub/x.Dockerfile", EntryKind::File { size: 1 }, "#");
    append(".dockerignore", EntryKind::File { size: 4 }, "sub\n");
    for (path, kind) in extra {
        append(path, kind.clone(), "");
    }
    tar.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    compress_gzip(&mut &*bytes, &mut packed, Effort::Canonical, 1).unwrap();
    packed
}

#[test]
fn standard_input_is_a_dockerfile_or_an_archive() {
    let place = Bench::new();
    let names = [".dockerignore", "Dockerfile", "sub"].map(str::to_owned);
    let tar = archive(&[]);
    assert_eq!(
        place.seen("-", None, TEXT.as_bytes()),
        (TEXT.to_owned(), vec![])
    );
    assert_eq!(
        place.seen("-", None, &tar),
        (TEXT.to_owned(), names.to_vec())
    );
    assert_eq!(
        place.seen("-", None, &gzip(&tar)),
        (TEXT.to_owned(), names.to_vec())
    );
    let (text, _) = place.seen("-", Some("sub/x.Dockerfile"), &tar);
    assert_eq!(text, "#");
    for program in ["bzip2", "xz", "zstd"] {
        let path = place.dir.path().join(program);
        fs::write(&path, &tar).unwrap();
        let Ok(packed) = Command::new(program).arg("-c").arg(&path).output() else {
            continue;
        };
        let seen = place.seen("-", None, &packed.stdout);
        assert_eq!(seen, (TEXT.to_owned(), names.to_vec()), "{program}");
    }
}

#[test]
fn a_dockerfile_from_standard_input_goes_with_any_context() {
    let place = Bench::new();
    fs::write(place.dir.path().join("file"), "").unwrap();
    let (text, names) = place.seen(".", Some("-"), TEXT.as_bytes());
    assert_eq!((text.as_str(), names.len()), (TEXT, 2));
    assert_eq!(place.bring(".", None, b"").unwrap(), None);
    assert!(place.bring("-", Some("-"), b"x").is_err());
}

#[test]
fn what_comes_and_makes_no_sense_is_refused() {
    let place = Bench::new();
    let error = |input: &[u8], file| place.bring("-", file, input).unwrap_err().to_string();
    assert!(error(b"", None).contains("it is empty"));
    assert!(error(b"\xff\xfe", None).contains("neither an archive nor text"));
    assert!(error(&archive(&[]), Some("none")).contains("no `none` in the build context"));
    assert!(error(&archive(&[]), Some("sub")).contains("not a file"));
    let packed = gzip(&archive(&[]));
    assert!(error(&packed[..packed.len() / 2], None).contains("context from standard input"));
    assert!(error(&gzip(b"no archive"), None).contains("context from standard input"));
}

#[test]
fn links_of_a_context_lead_to_no_files_of_the_machine() {
    let place = Bench::new();
    fs::write(place.dir.path().join("secret"), "secret").unwrap();
    let target = place.dir.path().join("secret");
    let link = EntryKind::Symlink {
        target: target.to_str().unwrap().into(),
    };
    let tar = archive(&[
        ("away", link.clone()),
        (
            "up",
            EntryKind::Symlink {
                target: "../../..".into(),
            },
        ),
        ("up/escaped", EntryKind::Directory),
    ]);
    let error = place.bring("-", Some("away"), &tar).unwrap_err();
    assert!(error.to_string().contains("no `away`"), "{error}");
    let brought = place.bring("-", None, &tar).unwrap().unwrap();
    assert!(brought.context.join("escaped").is_dir());
    symlink("Dockerfile", brought.context.join("inner")).unwrap();
    assert_eq!(
        inside(&brought.context, Path::new("inner")).unwrap(),
        brought.file
    );
}

/// A server that answers each request with the same bytes, after breaking off a number of times.
fn serve(body: Vec<u8>, mut broken: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let _ = io::Read::read(&mut stream, &mut buffer).unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            let whole = match broken {
                0 => body.len(),
                _ => body.len() / 2,
            };
            broken = broken.saturating_sub(1);
            stream.write_all(&body[..whole]).unwrap();
        }
    });
    format!("http://{address}/context")
}

#[test]
fn urls_are_archives_or_dockerfiles() {
    let place = Bench::new();
    let url = serve(gzip(&archive(&[])), 1);
    let (text, names) = place.seen(&url, None, b"");
    assert_eq!((text.as_str(), names.len()), (TEXT, 3));
    let (text, names) = place.seen(&serve(TEXT.into(), 0), None, b"");
    assert_eq!((text.as_str(), names.len()), (TEXT, 0));
    let error = place.bring(&serve(TEXT.into(), 9), None, b"").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot fetch `http://127.0.0.1"),
        "{error}"
    );
}

#[test]
fn a_dockerfile_may_be_elsewhere_than_its_context() {
    let place = Bench::new();
    let here = place.dir.path().join("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("dockerfile"), "FROM other").unwrap();
    let seen = place.seen("here", Some(&serve(TEXT.into(), 0)), b"");
    assert_eq!(seen, (TEXT.to_owned(), vec!["dockerfile".to_owned()]));
    let context = serve(gzip(&archive(&[])), 0);
    let (text, names) = place.seen(&context, Some(&serve("#".into(), 0)), b"");
    assert_eq!((text.as_str(), names.len()), ("#", 3));
}

#[test]
fn repositories_are_contexts() {
    let place = Bench::new();
    let Some(git) = place.engine.host.find_program("git") else {
        return;
    };
    let work = place.dir.path().join("work");
    let run = |directory: &Path, args: &[&str]| {
        let who = ["-c", "user.name=n", "-c", "user.email=e@e"];
        let output = Command::new(&git)
            .args(who)
            .args(args)
            .current_dir(directory)
            .output();
        assert!(output.unwrap().status.success(), "{args:?}");
    };
    fs::create_dir_all(work.join("sub")).unwrap();
    fs::write(work.join("Dockerfile"), TEXT).unwrap();
    fs::write(work.join(".dockerignore"), "x").unwrap();
    fs::write(work.join("sub/Dockerfile"), "#").unwrap();
    symlink("/etc/passwd", work.join("away")).unwrap();
    run(&work, &["init", "-q", "-b", "main", "."]);
    run(&work, &["add", "."]);
    run(&work, &["commit", "-q", "-m", "m"]);
    run(
        place.dir.path(),
        &["clone", "-q", "--bare", "work", "bare.git"],
    );
    let url = format!("file://{}/bare.git", place.dir.path().display());
    let (text, names) = place.seen(&url, None, b"");
    assert_eq!(
        (text.as_str(), names),
        (
            TEXT,
            [".dockerignore", "Dockerfile", "away", "sub"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    let (text, names) = place.seen(&format!("{url}#main:sub"), None, b"");
    assert_eq!((text.as_str(), names.len()), ("#", 1));
    assert!(place.bring(&url, Some("away"), b"").is_err());
    assert!(place.bring(&format!("{url}#main:away"), None, b"").is_err());
}
