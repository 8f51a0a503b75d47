//! Several builds at once, of one context and of several: they share what is known, and spoil nothing of
//! each other's, whatever is cleared up meanwhile.

use std::process::{Child, Output};

use smidge_tests::InTime as _;

use crate::context::Context;
use crate::fixture::with_busybox;

const DOCKERFILE: &str = "FROM busybox AS one\n\
     RUN for n in 1 2 3 4 5 6 7 8 9; do echo $n ROUND > /$n; done\n\
     FROM busybox AS two\nCOPY data /data\nRUN cat /data /data > /twice\n\
     FROM busybox\nCOPY --from=one /9 /nine\nCOPY --from=two /twice /twice\nRUN rm /bin/vi; mkdir /made\n\
     CMD [\"cat\", \"/nine\", \"/twice\"]\n";

fn write(context: &Context, directory: &str, round: usize) {
    let text = DOCKERFILE.replace("ROUND", &round.to_string());
    context.write(&format!("{directory}/Dockerfile"), text);
    context.write(&format!("{directory}/data"), "data\n");
}

fn start(context: &Context, line: &str) -> Child {
    context.spawn(context.line_command(line))
}

/// The id that a build printed.
#[track_caller]
fn id(build: Child) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = build.output_in_time().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {said}");
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

#[test]
fn builds_of_one_context_at_once_give_one_image() {
    with_busybox(|context| {
        for (round, count) in [2, 5, 5].into_iter().enumerate() {
            write(context, "c", round);
            let tags = (0..count).map(|n| format!("-t same -t same:{n}"));
            let builds: Vec<Child> = tags
                .map(|tags| start(context, &format!("build -q {tags} c")))
                .collect();
            let ids: Vec<String> = builds.into_iter().map(id).collect();
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            for tag in 0..count {
                let said = context.line(&format!("run --rm same:{tag}")).ok();
                assert_eq!(said, format!("9 {round}\ndata\ndata"));
            }
            // They have left what the next one needs.
            let again = context.line("build --progress plain c");
            again.ok();
            assert_eq!(again.stdout(), ids[0]);
            assert_eq!(
                again.stderr().matches(" CACHED").count(),
                3,
                "{}",
                again.stderr()
            );
        }
    });
}

#[test]
fn clearing_up_takes_nothing_that_a_build_is_about_to_need() {
    with_busybox(|context| {
        write(context, "c", 0);
        let expected = context.line("build -q c").ok();
        let mut builds: Vec<Child> = Vec::new();
        for round in 0..12 {
            builds.push(start(context, &format!("build -q -t kept:{round} c")));
            let clear = ["builder prune -a -f", "prune -f", "image prune -f"][round % 3];
            id(start(context, clear));
        }
        for (round, build) in builds.into_iter().enumerate() {
            assert_eq!(id(build), expected, "round {round}");
            let said = context.line(&format!("run --rm kept:{round}")).ok();
            assert_eq!(said, "9 0\ndata\ndata");
        }
    });
}

#[test]
fn builds_of_several_contexts_at_once_are_all_kept() {
    with_busybox(|context| {
        let builds: Vec<Child> = (0..6)
            .map(|n| {
                write(context, &format!("c{n}"), n);
                start(context, &format!("build -q -t each:{n} c{n}"))
            })
            .collect();
        let ids: Vec<String> = builds.into_iter().map(id).collect();
        for (n, id) in ids.iter().enumerate() {
            let found = ["inspect", "-f", "{{.Id}}", &format!("each:{n}")].map(str::to_owned);
            assert_eq!(context.smidge(found).ok(), *id);
            let said = context.line(&format!("run --rm each:{n}")).ok();
            assert_eq!(said, format!("9 {n}\ndata\ndata"));
        }
    });
}
