//! Files of images that belong to many users, and containers that run as one of them.

use crate::context::{Context, Identity, identities};
use crate::fixture::load_busybox;

/// As everybody who has ids to give away.
fn with_many_ids(body: impl Fn(&Context)) {
    let many = |who: &Identity| who.name != "smidge-single";
    for identity in identities().into_iter().filter(many) {
        println!("as {}", identity.name);
        let context = Context::of(identity);
        load_busybox(&context);
        context.write("c/secret", "mine\n");
        context.write(
            "c/Dockerfile",
            "FROM busybox\n\
             RUN mkdir -p /tmp /data/closed && chmod 1777 /tmp && echo kept > /data/closed/file && \
                 ln -s file /data/closed/link && ln /data/closed/file /data/closed/twin && \
                 chown -R 5:6 /data && chown -h 7:8 /data/closed/link && \
                 chmod 700 /data/closed && chmod 2750 /data\n\
             COPY --chown=5:6 --chmod=640 secret /etc/secret\n\
             COPY --chown=70000:70000 secret /etc/nobodys\n\
             USER 5:6\n\
             VOLUME /data\n",
        );
        context.line("build -q --no-prove -t many c").ok();
        body(&context);
    }
}

/// `smidge run OPTIONS many sh -c SCRIPT`.
fn shell(context: &Context, options: &str, script: &str) -> String {
    let mut run = context.line_command(&format!("run --rm {options} many sh -c"));
    run.arg(script);
    context.finish(run).ok()
}

const LOOK: &str = "cd /data/closed; stat -c '%n %u:%g %a %h' /data . file twin link /etc/secret";

const SEEN: &str = "/data 5:6 2750 3\n. 5:6 700 2\nfile 5:6 644 2\ntwin 5:6 644 2\n\
                    link 7:8 777 1\n/etc/secret 5:6 640 1";

#[test]
fn files_have_their_owners() {
    with_many_ids(|context| {
        // Twice: what was made for the first is there for the second.
        for _ in 0..2 {
            assert_eq!(shell(context, "--tmpfs /tmp", LOOK), volume(SEEN));
        }
        let own = "cat /etc/secret /data/closed/file && echo more >> /data/closed/file && \
                   chmod 755 /data/closed && stat -c %u /etc /bin";
        assert_eq!(shell(context, "", own), "mine\nkept\n0\n0");
        assert_eq!(shell(context, "-u 9", "cat /etc/secret || id -u"), "9");
    });
}

/// What is copied to a volume is no longer one file with two names.
fn volume(seen: &str) -> String {
    seen.replace("644 2", "644 1")
}

#[test]
fn a_volume_starts_with_the_owners_of_the_image() {
    with_many_ids(|context| {
        let write = "echo first > /data/closed/new && stat -c %u:%g /data /data/closed/new";
        assert_eq!(shell(context, "-v kept:/data", write), "5:6\n5:6");
        // It is nobody's who could look into it from outside, and not filled again.
        assert_eq!(
            shell(context, "-v kept:/data", "cat /data/closed/new"),
            "first"
        );
        let other = "stat -c %u:%g /empty; touch /empty/x";
        shell(context, "-u 0 -v empty:/empty", other);
        context.line("volume rm kept empty").ok();
        assert_eq!(context.line("volume ls -q").ok(), "");
    });
}

#[test]
fn owners_are_no_change_and_go_where_the_files_go() {
    with_many_ids(|context| {
        context
            .line("run --name box -v /data many touch /tmp/new /etc/secret")
            .ok();
        let changes = context.line("diff box").ok();
        assert!(!changes.contains("nobodys"), "{changes}");
        assert!(changes.contains("A /tmp/new"), "{changes}");
        context.line("commit box again").ok();
        let look = "stat -c '%n %u:%g %a' /etc/secret /etc/nobodys /tmp/new";
        let said = context
            .smidge(["run", "--rm", "again", "sh", "-c", look])
            .ok();
        assert_eq!(said.lines().next(), Some("/etc/secret 5:6 640"), "{said}");
        assert_eq!(said.lines().last(), Some("/tmp/new 5:6 644"), "{said}");
        context.line("cp box:/etc/secret copied").ok();
        assert_eq!(
            std::fs::read(context.path().join("copied")).unwrap(),
            b"mine\n"
        );
        context.line("rm -v box").ok();
        context.line("rmi again many busybox").ok();
        let left = |place: &str| {
            let files = std::fs::read_dir(context.store().join(place)).unwrap();
            files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
        };
        context.line("builder prune -af").ok();
        context.line("prune -af").ok();
        for place in ["layers", "tmp"] {
            assert_eq!(left(place), Vec::<std::path::PathBuf>::new(), "{place}");
        }
    });
}
