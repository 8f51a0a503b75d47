//! Health probes: Docker's command, and those that need nothing inside.

use crate::context::Context;
use crate::fixture::with_busybox;

const QUICK: &str = "--health-interval 100ms --health-retries 2";

fn start(context: &Context, options: &[&str], script: &str) {
    let mut command = context.line_command(&format!("run -d --name box {QUICK}"));
    command.args(options).args(["busybox", "sh", "-c", script]);
    context.finish(command).ok();
}

fn shown(context: &Context, format: &str) -> String {
    let mut command = context.line_command("inspect box --format");
    command.arg(format);
    context.finish(command).ok()
}

/// Asks until the verdict is as expected.
fn until(context: &Context, expected: &str) {
    smidge_tests::until(expected, || {
        println!("{}", shown(context, "{{json .State.Health}}"));
        shown(context, "{{.State.Health.Status}}") == expected
    });
}

#[test]
fn a_command_tells_whether_the_program_is_well() {
    with_busybox(|context| {
        let check = ["--health-cmd", "echo looked; test -e /tmp/well"];
        start(context, &check, "while :; do sleep 0.1; done");
        until(context, "unhealthy");
        assert!(context.line("ps").ok().contains("(unhealthy)"));
        context.line("exec box touch /tmp/well").ok();
        until(context, "healthy");
        assert!(context.line("ps").ok().contains("(healthy)"));
        assert_eq!(shown(context, "{{.State.Health.FailingStreak}}"), "0");
        let log = shown(context, "{{json .State.Health.Log}}");
        assert!(
            log.contains("looked") && log.contains("\"ExitCode\":0"),
            "{log}"
        );
        assert_eq!(context.line("ps -q --filter health=healthy").ok().len(), 12);
        assert_eq!(context.line("ps -q --filter health=unhealthy").ok(), "");
        context.line("rm -f box").ok();
    });
}

#[test]
fn a_command_that_takes_too_long_has_failed() {
    with_busybox(|context| {
        // It may sleep, or talk without an end.
        for command in ["sleep 1000", "while :; do echo well; done"] {
            let check = ["--health-cmd", command, "--health-timeout", "50ms"];
            start(context, &check, "while :; do sleep 0.1; done");
            until(context, "unhealthy");
            let log = shown(context, "{{json .State.Health.Log}}");
            assert!(
                log.contains("Health check exceeded timeout (0.05s)"),
                "{command}: {log}"
            );
            context.line("rm -f box").ok();
        }
    });
}

#[test]
fn probes_need_nothing_inside() {
    with_busybox(|context| {
        let serve = "mkdir /www; echo fine > /www/index.html; httpd -f -p 8080 -h /www";
        for (option, value, verdict, said) in [
            (
                "--health-tcp",
                "8080",
                "healthy",
                "port 8080 accepts connections",
            ),
            (
                "--health-tcp",
                "8081",
                "unhealthy",
                "cannot connect to port 8081",
            ),
            (
                "--health-http",
                ":8080/",
                "healthy",
                "GET :8080/: HTTP/1.1 200 OK",
            ),
            ("--health-http", ":8080/none", "unhealthy", "404 Not Found"),
            (
                "--health-http",
                ":8080/none=404",
                "healthy",
                "404 Not Found",
            ),
            (
                "--health-exec",
                "grep -q ' 0A ' /proc/net/tcp* && echo listens",
                "healthy",
                "listens",
            ),
        ] {
            start(context, &[option, value], serve);
            until(context, verdict);
            let log = shown(context, "{{json .State.Health.Log}}");
            assert!(log.contains(said), "{value}: no `{said}` in {log}");
            context.line("rm -f box").ok();
        }
    });
}

#[test]
fn images_say_how_they_are() {
    with_busybox(|context| {
        let check = "HEALTHCHECK --interval=100ms CMD [\"true\"]";
        for change in [check, "LABEL smidge.health.http=\":8080/\""] {
            context.write("image/Dockerfile", format!("FROM busybox\n{change}\n"));
            context.line("build -q -t checked image").ok();
            let mut run = context.line_command("run -d --name box --health-interval 100ms checked");
            run.args(["sh", "-c", "httpd -f -p 8080 -h /etc"]);
            context.finish(run).ok();
            if change == check {
                until(context, "healthy");
            } else {
                // The directory has no index, and is no answer that pleases.
                until(context, "unhealthy");
            }
            context.line("rm -f box").ok();
            let mut run = context.line_command("run -d --name box --no-healthcheck checked");
            run.args(["sh", "-c", "while :; do sleep 0.1; done"]);
            context.finish(run).ok();
            assert!(!context.line("ps").ok().contains("health"));
            context.line("rm -f box").ok();
        }
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    with_busybox(|context| {
        for (options, said) in [
            (
                "--no-healthcheck --health-tcp 80",
                "--no-healthcheck conflicts with --health-* options",
            ),
            ("--health-http 80", "`80` is no health request"),
            ("--health-tcp 80 --health-http :80/", "only one of"),
            (
                "--health-tcp 80 --health-interval 5",
                "invalid `--health-interval 5`",
            ),
        ] {
            let ran = context.line(&format!("run --rm {options} busybox true"));
            ran.says(125, &[said]);
        }
    });
}

#[test]
fn a_program_may_fail_while_it_starts() {
    with_busybox(|context| {
        let check = [
            "--health-cmd",
            "test -e /tmp/well",
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "50ms",
        ];
        start(context, &check, "sleep 1; touch /tmp/well; sleep 1000");
        until(context, "healthy");
        // One that failed now and then meanwhile has not failed: nothing counts before it is well.
        assert_eq!(shown(context, "{{.State.Health.FailingStreak}}"), "0");
        let asked = "{{.Config.Healthcheck.StartPeriod}} {{.Config.Healthcheck.StartInterval}}";
        assert_eq!(shown(context, asked), "3600000000000 50000000");
        context.line("rm -f box").ok();
    });
}
