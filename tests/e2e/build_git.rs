//! Contexts that are git repositories: from a path, and from a server.

use std::net::TcpListener;
use std::process::{Child, Stdio};

use smidge_tests::{InTime as _, until};

use crate::context::{Context, have};
use crate::fixture::{self, load_busybox, with_busybox};
use crate::process::running;

/// Runs git as the user of a test, with an author.
#[track_caller]
fn git(context: &Context, directory: &str, args: &[&str]) -> String {
    let mut git = context.program("git");
    git.args([
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@e",
        "-c",
        "protocol.file.allow=always",
    ]);
    git.args(args).current_dir(context.path().join(directory));
    git.env("HOME", context.path());
    context.finish(git).ok()
}

fn commit(context: &Context, directory: &str) -> String {
    git(context, directory, &["add", "."]);
    git(context, directory, &["commit", "-q", "-m", "more"]);
    git(context, directory, &["rev-parse", "HEAD"])
}

/// A repository: a tag `v1`, then a branch `dev` with a directory that is built by itself, then `main`.
/// Gives the three commits.
fn repository(context: &Context) -> [String; 3] {
    let dockerfile = "FROM busybox\nCOPY file /file\nCMD [\"cat\", \"/file\"]\n";
    context.write("served/r/Dockerfile", dockerfile);
    context.write("served/r/file", "first");
    git(context, "served/r", &["init", "-q", "-b", "main", "."]);
    let first = commit(context, "served/r");
    git(context, "served/r", &["tag", "v1"]);
    git(context, "served/r", &["checkout", "-q", "-b", "dev"]);
    context.write("served/r/deep/sub/Dockerfile", dockerfile);
    context.write("served/r/deep/sub/file", "below");
    context.write("served/r/file", "of dev");
    let dev = commit(context, "served/r");
    git(context, "served/r", &["checkout", "-q", "main"]);
    context.write("served/r/file", "last");
    let last = commit(context, "served/r");
    [first, dev, last]
}

/// `git daemon`, on a port that was free.
struct Daemon {
    process: Child,
    host: String,
}

impl Daemon {
    fn start(context: &Context) -> Self {
        let port = smidge_tests::free_ports(1);
        let mut daemon = context.program("git");
        daemon
            .args([
                "daemon",
                "--reuseaddr",
                "--export-all",
                "--listen=127.0.0.1",
            ])
            .arg(format!("--port={port}"))
            .arg(format!(
                "--base-path={}",
                context.path().join("served").display()
            ))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = daemon.spawn().unwrap();
        let host = format!("127.0.0.1:{port}");
        until("git serves", || std::net::TcpStream::connect(&host).is_ok());
        Self { process, host }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to end, it ends its children.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.status_in_time();
    }
}

#[test]
fn repositories_are_built_at_any_commit_and_directory() {
    if !have("git") {
        return;
    }
    with_busybox(|context| {
        let [first, dev, last] = repository(context);
        let daemon = Daemon::start(context);
        let served = format!("git://{}/r", daemon.host);
        let local = format!("file://{}", context.path().join("served/r").display());
        let short = &first[..9];
        for url in [&served, &local] {
            let cases = [
                (url.clone(), "last"),
                (format!("{url}#main"), "last"),
                (format!("{url}#v1"), "first"),
                (format!("{url}#refs/tags/v1"), "first"),
                (format!("{url}#{first}"), "first"),
                (format!("{url}#{short}"), "first"),
                (format!("{url}#{last}"), "last"),
                (format!("{url}#dev"), "of dev"),
                (format!("{url}#dev:deep/sub"), "below"),
                (format!("{url}#{dev}:deep/sub"), "below"),
            ];
            for (context_url, expected) in cases {
                let id = context.line(&format!("build -q {context_url}")).ok();
                assert_eq!(
                    context.line(&format!("run --rm {id}")).ok(),
                    expected,
                    "{context_url}"
                );
            }
            let tagged = format!("build -q -t web -f deep/sub/Dockerfile {url}#dev");
            context.line(&tagged).ok();
            assert_eq!(context.line("run --rm web").ok(), "of dev");
            for (fragment, words) in [
                ("#none", "none"),
                ("#dev:none", "there is no `none`"),
                ("#dev:file", "`file` is not a directory"),
                ("#0123456789", "cannot fetch"),
            ] {
                let ran = context.line(&format!("build -t none {url}{fragment}"));
                ran.says(1, &[words]);
            }
        }
        context
            .line(&format!("build -t none git://{}/absent", daemon.host))
            .says(1, &["cannot fetch", "absent"]);
        assert_eq!(context.line("images -q none").ok(), "");
        assert_eq!(context.store().join("tmp").read_dir().unwrap().count(), 0);
    });
}

#[test]
fn submodules_come_along() {
    if !have("git") {
        return;
    }
    with_busybox(|context| {
        repository(context);
        let daemon = Daemon::start(context);
        context.write(
            "served/outer/Dockerfile",
            "FROM busybox\nCOPY part/file /file\n",
        );
        git(context, "served/outer", &["init", "-q", "-b", "main", "."]);
        let url = format!("git://{}/r", daemon.host);
        git(
            context,
            "served/outer",
            &["submodule", "--quiet", "add", &url, "part"],
        );
        commit(context, "served/outer");
        let outer = format!("git://{}/outer", daemon.host);
        context.line(&format!("build -q -t outer {outer}")).ok();
        assert_eq!(context.line("run --rm outer cat /file").ok(), "last");
    });
}

/// A server that takes a request and never answers.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let open: Vec<_> = listener.incoming().collect();
        drop(open);
    });
    format!("git://{address}/r")
}

#[test]
fn git_ends_with_the_build_that_wants_it() {
    if !have("git") {
        return;
    }
    let context = Context::new();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let url = silent();
        let build = context.spawn(context.line_command(&format!("build -t none {url}")));
        until("git fetches", || running(&url) >= 2);
        let pid = rustix::process::Pid::from_child(&build);
        rustix::process::kill_process(pid, signal).unwrap();
        build.output_in_time().unwrap();
        until("git has ended", || running(&url) == 0);
    }
}

/// The article's chain: an image that is built from a repository, and whose container builds the image
/// that it is for, into the store that it was given.
#[test]
fn an_image_from_a_repository_builds_an_image() {
    if !have("git") {
        return;
    }
    let context = Context::new();
    load_busybox(&context);
    let smidge = crate::context::smidge_binary();
    context.copy(smidge, "served/builder/smidge");
    context.copy(fixture::hello(), "served/builder/gopath/hello.bin");
    context.write(
        "served/builder/Dockerfile",
        "FROM busybox\nCOPY smidge /bin/\nCOPY gopath /gopath\n\
         RUN cp /gopath/hello.bin /gopath/hello && rm /gopath/hello.bin\n\
         CMD [\"smidge\", \"build\", \"-t\", \"adejonge/helloworld\", \"/gopath\"]\n",
    );
    let inner = "FROM scratch\nADD hello /hello\nCMD [\"/hello\"]\n";
    context.write("served/builder/gopath/Dockerfile", inner);
    git(
        &context,
        "served/builder",
        &["init", "-q", "-b", "main", "."],
    );
    commit(&context, "served/builder");
    let daemon = Daemon::start(&context);
    let url = format!("git://{}/builder", daemon.host);
    context
        .line(&format!("build -q -t adejonge/hellobuild {url}"))
        .ok();
    let store = context.store();
    let mount = format!("{}:/var/lib/smidge", store.display());
    let built = context.smidge(["run", "--rm", "-v", &mount, "adejonge/hellobuild"]);
    built.ok();
    assert_eq!(context.line("run --rm adejonge/helloworld").ok(), "hello");
    // It is the image that is built out here, and holds the program alone.
    context.copy(fixture::hello(), "served/builder/gopath/hello");
    let here = context.line("build -q served/builder/gopath").ok();
    assert_eq!(here, built.stdout());
}
