//! Many containers at once: none is lost, and nothing of them is left.

use std::collections::BTreeSet;

use smidge_tests::{InTime as _, until};

use crate::context::Context;
use crate::fixture::with_busybox;
use crate::leftover::{Groups, nothing_is_left};
use crate::process::{marker, running};

/// How many clients there are at once, and how many containers each has.
const CLIENTS: usize = 10;
const EACH: usize = 10;

/// Lets every client do something with each of its containers, all at the same time.
fn at_once(act: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let act = &act;
            scope.spawn(move || (0..EACH).for_each(|one| act(&format!("c{client}-{one}"))));
        }
    });
}

fn listed(context: &Context, options: &str) -> BTreeSet<String> {
    let line = format!("ps {options} --format");
    let shown = context
        .smidge(line.split_whitespace().chain(["{{.Names}}"]))
        .ok();
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn a_hundred_containers_of_ten_clients_come_and_go() {
    with_busybox(|context| {
        let (marker, groups) = (marker(), Groups::new(context, "many"));
        let limits = groups.options();
        let all: BTreeSet<String> = (0..CLIENTS)
            .flat_map(|client| (0..EACH).map(move |one| format!("c{client}-{one}")))
            .collect();
        at_once(|name| {
            let options = "-v shared:/shared -v /own -p 127.0.0.1::80";
            let run = format!("run -d --name {name} {limits} {options} busybox sleep {marker}");
            let id = context.line(&run).ok();
            assert!(listed(context, "").contains(name), "{name}: {id}");
        });
        assert_eq!(listed(context, ""), all);
        let ports: BTreeSet<String> = all
            .iter()
            .map(|name| context.line(&format!("port {name} 80")).ok())
            .collect();
        assert_eq!(ports.len(), all.len(), "{ports:?}");
        at_once(|name| {
            context
                .line(&format!("exec {name} touch /shared/{name}"))
                .ok();
            context.line(&format!("stop -t 0 {name}")).ok();
        });
        assert_eq!(listed(context, "-a --filter status=exited"), all);
        until("the end of all programs", || running(&marker) == 0);
        let seen = context
            .line("run --rm -v shared:/shared busybox ls /shared")
            .ok();
        assert_eq!(
            seen.lines().map(str::to_owned).collect::<BTreeSet<_>>(),
            all
        );
        at_once(|name| {
            // Some are started again, and removed while they run.
            if name.ends_with('5') {
                context.line(&format!("start {name}")).ok();
            }
            context.line(&format!("rm -f -v {name}")).ok();
        });
        nothing_is_left(context, &marker, &groups);
        assert_eq!(context.line("volume ls -q").ok(), "shared");
    });
}

#[test]
fn many_that_throw_themselves_away_leave_nothing() {
    with_busybox(|context| {
        let (marker, groups) = (marker(), Groups::new(context, "brief"));
        at_once(|name| {
            let said = context.line(&format!(
                "run --rm -v /own --name {name} busybox echo {name}"
            ));
            assert_eq!(said.ok(), name);
        });
        nothing_is_left(context, &marker, &groups);
        assert_eq!(context.line("volume ls -q").ok(), "");
    });
}

/// Of many who want one name, one gets it.
#[test]
fn a_name_is_given_once() {
    with_busybox(|context| {
        for _ in 0..5 {
            let children: Vec<_> = (0..CLIENTS)
                .map(|_| context.spawn(context.line_command("create --name only busybox true")))
                .collect();
            let outputs = children
                .into_iter()
                .map(|child| child.output_in_time().unwrap());
            let (made, refused): (Vec<_>, Vec<_>) =
                outputs.partition(|output| output.status.success());
            assert_eq!(made.len(), 1);
            for output in refused {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains("in use"), "{said}");
            }
            assert_eq!(context.line("ps -aq").ok().lines().count(), 1);
            context.line("rm only").ok();
        }
        nothing_is_left(context, &marker(), &Groups::new(context, "only"));
    });
}
