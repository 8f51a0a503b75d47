//! `ADD` from URLs and repositories of Git.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use smidge_engine::build::{BuildRequest, Built, DockerfileOptions};
use smidge_engine::{Error, Kind};
use smidge_image::{Digest, Entry, EntryKind, LayerPath, LayerWriter};
use smidge_tests::InTime as _;

use crate::support::{Context, have};

/// A server that has a few files, and ends with the test.
fn serve(files: &[(&'static str, Vec<u8>)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let files = files.to_vec();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    read => request.extend_from_slice(&buffer[..read]),
                }
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| *name == path);
            let (status, body) = match found {
                Some((_, body)) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", &b""[..]),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    format!("http://{address}")
}

fn archive() -> Vec<u8> {
    let mut tar = LayerWriter::new(Vec::new());
    let path = LayerPath::try_from("dir/in").unwrap();
    let entry = Entry::new(path, EntryKind::File { size: 4 });
    tar.append(&entry, &mut &b"text"[..]).unwrap();
    tar.finish().unwrap()
}

fn layer(context: &Context, instruction: &str) -> Result<Vec<String>, Error> {
    let built = context.dockerfile(&format!("FROM scratch\n{instruction}\n"))?;
    Ok(context.layers(&built).pop().unwrap_or_default())
}

#[test]
fn urls_are_added_as_files() {
    let context = Context::new();
    let tar = archive();
    let digest = Digest::of(b"hello");
    let server = serve(&[
        ("/dir/hello.txt", b"hello".to_vec()),
        ("/a%20b?x=1", b"hello".to_vec()),
        ("/", b"hello".to_vec()),
        ("/x.tar", tar),
    ]);
    let cases: &[(String, &[&str])] = &[
        (format!("ADD {server}/dir/hello.txt /"), &["/hello.txt 600"]),
        (
            format!("ADD {server}/dir/hello.txt /d/"),
            &["/d/ 755", "/d/hello.txt 600"],
        ),
        (
            format!("ADD {server}/dir/hello.txt /d/x"),
            &["/d/ 755", "/d/x 600"],
        ),
        (
            format!("ADD [\"{server}/a%20b?x=1\", \"/\"]"),
            &["/a b 600"],
        ),
        (format!("ADD {server} /"), &["/__unnamed__ 600"]),
        (
            format!("ADD --chown=5:6 --chmod=u+x --checksum={digest} {server}/dir/hello.txt /"),
            &["/hello.txt 700 5:6"],
        ),
        (format!("ADD {server}/x.tar /"), &["/x.tar 600"]),
        (
            format!("ADD --unpack {server}/x.tar /"),
            &["/dir/ 755", "/dir/in 644"],
        ),
        (
            format!("ADD --unpack=true {server}/dir/hello.txt /"),
            &["/hello.txt 600"],
        ),
        (
            format!("ADD --link {server}/dir/hello.txt /"),
            &["/hello.txt 600"],
        ),
    ];
    for (instruction, expected) in cases {
        let layer = layer(&context, instruction).unwrap_or_else(|e| panic!("{instruction}: {e}"));
        assert_eq!(layer, *expected, "{instruction}");
    }
}

#[test]
fn what_cannot_be_fetched_is_shown_at_its_place() {
    let context = Context::new();
    let server = serve(&[("/x", b"hello".to_vec())]);
    let error = layer(&context, &format!("ADD {server}/none /")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.to_string(), format!("cannot fetch `{server}/none`"));
    assert_eq!(error.snippet().unwrap().column, 5);
    let wrong = Digest::of(b"other");
    let error = layer(&context, &format!("ADD --checksum={wrong} {server}/x /")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`{server}/x` is not what it should be")
    );
    let expected = [
        format!("expected: {wrong}"),
        format!("received: {}", Digest::of(b"hello")),
    ];
    assert_eq!(error.facts(), expected);
    let error = layer(&context, &format!("ADD --checksum=md5:00 {server}/x /")).unwrap_err();
    assert_eq!(error.to_string(), "`md5:00` is no checksum of a file");
}

#[test]
fn archives_of_every_packing_are_unpacked() {
    let context = Context::new();
    std::fs::write(context.at("x.tar"), archive()).unwrap();
    for (program, ending) in [
        ("gzip", "gz"),
        ("bzip2", "bz2"),
        ("xz", "xz"),
        ("zstd", "zst"),
    ] {
        if !have(&context, program) {
            continue;
        }
        let packed = Command::new(program)
            .args(["-c", "x.tar"])
            .current_dir(context.at(""))
            .output_in_time()
            .unwrap();
        assert!(packed.status.success());
        let name = format!("x.tar.{ending}");
        std::fs::write(context.at(&name), &packed.stdout).unwrap();
        let expected = ["/d/ 755", "/d/dir/ 755", "/d/dir/in 644"];
        assert_eq!(
            layer(&context, &format!("ADD {name} /d/")).unwrap(),
            expected,
            "{program}"
        );
        // Copied as it is, where that is said; and not unpacked where it is broken.
        assert_eq!(
            layer(&context, &format!("ADD --unpack=false {name} /"))
                .unwrap()
                .len(),
            1
        );
        let broken = &packed.stdout[..packed.stdout.len() / 3];
        std::fs::write(context.at("broken"), broken).unwrap();
        let outcome = layer(&context, "ADD broken /d/");
        let copied = outcome
            .as_ref()
            .is_ok_and(|layer| layer[1] == "/d/broken 644");
        assert!(copied || outcome.is_err(), "{program}: {outcome:?}");
    }
}

/// Makes a repository with two commits, a tag and a branch; gives its URL and the first commit.
fn repository(context: &Context) -> (String, String) {
    let work = context.at("repository");
    context.write("repository/one", "1");
    context.write_mode("repository/bin/run", "#!", 0o755);
    std::os::unix::fs::symlink("bin/run", work.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", work.join("away")).unwrap();
    git(&work, &["init", "-q", "-b", "main", "."]);
    commit(&work, "first");
    git(&work, &["tag", "v1"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    context.write("repository/two", "2");
    commit(&work, "second");
    git(&work, &["branch", "feature/x"]);
    (format!("file://{}", work.display()), first)
}

fn commit(work: &Path, message: &str) {
    git(work, &["add", "."]);
    let who = ["-c", "user.name=n", "-c", "user.email=e@e"];
    git(work, &[&who[..], &["commit", "-q", "-m", message]].concat());
}

fn git(work: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(work)
        .output_in_time()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn repositories_are_added_without_their_history() {
    let context = Context::new();
    if !have(&context, "git") {
        return;
    }
    let (url, first) = repository(&context);
    let short = &first[..10];
    let old = [
        "/r/ 755",
        "/r/away -> /etc 777",
        "/r/bin/ 755",
        "/r/bin/run 755",
        "/r/link -> bin/run 777",
        "/r/one 644",
    ];
    let new = [&old[..], &["/r/two 644"]].concat();
    let cases: &[(String, &[&str])] = &[
        (format!("ADD {url} /r/"), &new),
        (format!("ADD {url}#main /r"), &new),
        (format!("ADD {url}#feature/x /r"), &new),
        (format!("ADD {url}#v1 /r"), &old),
        (format!("ADD {url}#refs/tags/v1 /r"), &old),
        (format!("ADD {url}#{first} /r"), &old),
        (format!("ADD {url}#{short} /r"), &old),
        (format!("ADD {url}?tag=v1 /r"), &old),
        (
            format!("ADD {url}?branch=main&subdir=bin /r/"),
            &["/r/ 755", "/r/run 755"],
        ),
        (format!("ADD {url}#v1:bin /r/"), &["/r/ 755", "/r/run 755"]),
        (
            format!("ADD {url}#:bin/../bin /r/"),
            &["/r/ 755", "/r/run 755"],
        ),
        (
            format!("ADD --exclude=away --exclude=link {url}#v1 /r/"),
            &["/r/ 755", "/r/bin/ 755", "/r/bin/run 755", "/r/one 644"],
        ),
    ];
    for (instruction, expected) in cases {
        let layer = layer(&context, instruction)
            .unwrap_or_else(|e| panic!("{instruction}: {e} {:?}", e.facts()));
        assert_eq!(layer, *expected, "{instruction}");
    }
    let kept = layer(&context, &format!("ADD --keep-git-dir {url}#v1 /r/")).unwrap();
    assert!(kept.contains(&"/r/.git/HEAD 644".to_owned()), "{kept:?}");
}

#[test]
fn repositories_are_checked_and_lead_nowhere_else() {
    let context = Context::new();
    if !have(&context, "git") {
        return;
    }
    let (url, first) = repository(&context);
    let checked = |checksum: &str| layer(&context, &format!("ADD {url}?checksum={checksum}#v1 /"));
    assert!(checked(&first).is_ok());
    assert!(checked(&first[..12]).is_ok());
    let error = checked(&"0".repeat(40)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot fetch `{url}`: it is another commit than it should be")
    );
    assert_eq!(error.facts()[1], format!("received: {first}"));

    let marker = context.at("marker");
    let hostile = format!("--upload-pack=touch${{IFS}}{}", marker.display());
    for source in [
        format!("{url}#{hostile}"),
        format!("{url}#:away"),
        format!("{url}#:../../.."),
        format!("{url}#:none"),
        format!("{url}#:one"),
        format!("{url}#none"),
        format!("{url}none"),
    ] {
        let outcome = layer(&context, &format!("ADD [\"{source}\", \"/r/\"]"));
        match outcome {
            // What leads above the root starts at it.
            Ok(layer) => {
                assert!(source.ends_with("..") && layer.contains(&"/r/one 644".to_owned()))
            }
            Err(error) => assert!(error.snippet().is_some(), "{error}"),
        }
    }
    assert!(!marker.exists());
    let mut poor = Context::new();
    poor.engine.host.path = "/nowhere".into();
    let error = layer(&poor, &format!("ADD {url} /")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot fetch `{url}`: there is no `git` on the PATH")
    );
}

#[test]
fn submodules_come_along_but_not_from_this_machine() {
    let context = Context::new();
    if !have(&context, "git") {
        return;
    }
    let (url, _) = repository(&context);
    let outer = context.at("outer");
    std::fs::create_dir(&outer).unwrap();
    git(&outer, &["init", "-q", "-b", "main", "."]);
    let allow = ["-c", "protocol.file.allow=always"];
    git(
        &outer,
        &[&allow[..], &["submodule", "--quiet", "add", &url, "sub"]].concat(),
    );
    commit(&outer, "outer");
    let outer = format!("file://{}", outer.display());
    let error = layer(&context, &format!("ADD {outer} /")).unwrap_err();
    assert!(
        error
            .facts()
            .iter()
            .any(|fact| fact.contains("not allowed")),
        "{:?}",
        error.facts()
    );
    let without = layer(&context, &format!("ADD {outer}?submodules=false /")).unwrap();
    assert_eq!(without, ["/.gitmodules 644", "/sub/ 755"]);
}

/// Builds what a context's own Dockerfile says.
fn built(context: &Context, request: BuildRequest) -> Result<Built, Error> {
    context.build(&BuildRequest {
        prove: false,
        ..request
    })
}

#[test]
fn contexts_come_from_urls_and_repositories_with_what_they_ignore() {
    let context = Context::new();
    let mut tar = LayerWriter::new(Vec::new());
    let mut add = |path: &str, text: &str| {
        let size = text.len() as u64;
        let path = LayerPath::try_from(path).unwrap();
        let entry = Entry::new(path, EntryKind::File { size });
        tar.append(&entry, &mut text.as_bytes()).unwrap();
    };
    add("Dockerfile", "FROM scratch\nCOPY . /c/\n");
    add(".dockerignore", "*\n!kept\n");
    add("gone", "g");
    add("kept", "k");
    let tar = tar.finish().unwrap();
    let server = serve(&[
        ("/c.tar", tar),
        ("/Dockerfile", b"FROM scratch\nCOPY <<x /x\nx\n".to_vec()),
    ]);
    let seen = |request| {
        let built = built(&context, request).unwrap_or_else(|e| panic!("{e} {:?}", e.facts()));
        context.contents(&built).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(
        seen(BuildRequest::new(format!("{server}/c.tar"))),
        ["/c/kept"]
    );
    assert_eq!(
        seen(BuildRequest::new(format!("{server}/Dockerfile"))),
        ["/x"]
    );
    let error = built(&context, BuildRequest::new(format!("{server}/none"))).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    if !have(&context, "git") {
        return;
    }
    context.write("repository/Dockerfile", "FROM scratch\nCOPY . /c/\n");
    context.write("repository/.dockerignore", "*\n!bin\n");
    let (url, _) = repository(&context);
    assert_eq!(seen(BuildRequest::new(&url)), ["/c/bin/run"]);
    let missing = built(&context, BuildRequest::new(format!("{url}#v1:bin"))).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "there is no `Dockerfile` in the build context"
    );
    let named = BuildRequest {
        dockerfile: DockerfileOptions {
            build_contexts: vec![format!("other={url}#v1:bin"), format!("far={server}/c.tar")],
            ..DockerfileOptions::default()
        },
        ..BuildRequest::new(".")
    };
    context.write(
        "Dockerfile",
        "FROM scratch\nCOPY --from=other . /o/\nCOPY --from=far . /f/\n",
    );
    assert_eq!(seen(named), ["/f/kept", "/o/run"]);
}
