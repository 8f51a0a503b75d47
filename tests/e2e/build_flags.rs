//! `smidge build`'s flags, each by what a program in the build sees, what the image keeps, and what is said.

use std::io::Write as _;
use std::process::{Child, Command};

use serde_json::Value;
use smidge_tests::InTime as _;

use crate::context::{Context, have, smidge_binary};
use crate::craft;
use crate::fixture::{compiled, with_busybox};
use crate::registry::Registry;

fn write(context: &Context, text: &str) {
    context.write("c/Dockerfile", format!("FROM busybox\n{text}"));
}

/// What an image's program prints.
fn printed(context: &Context, image: &str, command: &str) -> String {
    context.line(&format!("run --rm {image} {command}")).ok()
}

#[test]
fn arguments_come_from_the_command_line_and_the_environment() {
    with_busybox(|context| {
        write(
            context,
            "ARG given=default\nARG taken=default\nARG unset=default\nARG NO_PROXY\n\
             RUN echo $given $taken $unset $https_proxy > /args\n",
        );
        let mut build = context.line_command(
            "build -q -t args --build-arg given=1=2 --build-arg taken --build-arg unset \
             --build-arg https_proxy=http://user:hidden@proxy.test --label l=m --label n c",
        );
        build.env("taken", "outside").env("UNSET", "no");
        context.finish(build).ok();
        let args = printed(context, "args", "cat /args");
        assert_eq!(args, "1=2 outside default http://user:hidden@proxy.test");
        // A proxy is no part of the image, as in Docker.
        let history = context.line("history --no-trunc args").ok();
        let config = context.line("inspect args").ok();
        assert!(!history.contains("hidden") && !config.contains("hidden"));
        let labels = ["inspect", "-f", "{{json .Config.Labels}}", "args"];
        assert_eq!(context.smidge(labels).ok(), r#"{"l":"m","n":""}"#);
    });
}

#[test]
fn programs_of_any_user_read_their_hosts_whatever_the_umask() {
    with_busybox(|context| {
        write(
            context,
            "USER 1000\nRUN cat /etc/hosts /etc/resolv.conf > /dev/null\n",
        );
        let mut shell = context.program("sh");
        shell
            .args(["-c", "umask 077; exec \"$0\" build -q c"])
            .arg(smidge_binary());
        context.finish(shell).ok();
    });
}

#[test]
fn programs_get_the_network_hosts_memory_and_limits_that_are_asked_for() {
    with_busybox(|context| {
        write(
            context,
            "RUN readlink /proc/self/ns/net > /net; tail -n +3 /proc/net/dev | wc -l > /devices\n\
             RUN grep -q '10.1.2.3.*db.test' /etc/hosts && grep -q '::2.*six.test' /etc/hosts\n\
             RUN df -k /dev/shm | tail -n 1 | awk '{ print $2 }' > /shm\n\
             RUN ulimit -n > /soft; ulimit -H -n > /hard\n",
        );
        let flags = "--add-host db.test:10.1.2.3 --add-host six.test=[::2] --shm-size 8m \
                     --ulimit nofile=123:456";
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        for (network, is_hosts) in [("none", false), ("host", true), ("default", true)] {
            let line = format!("build -q -t flags --network {network} {flags} c");
            context.line(&line).ok();
            let said = printed(context, "flags", "cat /shm /soft /hard");
            assert_eq!(said, "8192\n123\n456", "{network}");
            let net = printed(context, "flags", "cat /net");
            assert_eq!(
                net == own.display().to_string(),
                is_hosts,
                "{network}: {net}"
            );
            if !is_hosts {
                assert_eq!(printed(context, "flags", "cat /devices"), "1");
            }
        }
        context.line("build --network moon c").says(1, &["moon"]);
        context
            .line("build --ulimit nofile=no c")
            .says(1, &["nofile=no"]);
        context.line("build --add-host db c").says(1, &["db"]);
    });
}

#[test]
fn secrets_are_seen_by_programs_and_by_nobody_else() {
    with_busybox(|context| {
        let (file, variable) = ("s3cret-of-a-file", "s3cret-of-a-variable");
        context.write("c/key", file);
        write(
            context,
            "RUN --mount=type=secret,id=file --mount=type=secret,id=var,env=VAR \
             test $(cat /run/secrets/file) = s3cret-of-a-$(echo file) && \
             test $VAR = s3cret-of-a-$(echo variable)\n\
             RUN test ! -e /run/secrets/file && test -z \"$VAR\"\n",
        );
        context.write("c/.dockerignore", "key\n");
        let mut build = context.line_command(
            "build --progress plain -t secret --secret id=file,src=c/key --secret id=var,env=V \
             --metadata-file meta --iidfile id c",
        );
        build.env("V", variable);
        let ran = context.finish(build);
        let said = format!("{}{}", ran.ok(), ran.stderr());
        let history = context.line("history --no-trunc secret").ok();
        let config = context.line("inspect secret").ok();
        let meta = std::fs::read_to_string(context.path().join("meta")).unwrap();
        for secret in [file, variable] {
            for text in [&said, &history, &config, &meta] {
                assert!(!text.contains(secret), "{text}");
            }
            let store = context.store().display().to_string();
            let mut grep = Command::new("grep");
            let found = grep
                .args(["-rlaF", secret, &store])
                .output_in_time()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        }
    });
}

/// Asks an agent for its keys (draft-miller-ssh-agent, section 4.4), and prints how many there are.
const KEYS: &str = r#"#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un address = { AF_UNIX };
    unsigned char answer[9] = {0};
    strncpy(address.sun_path, getenv("SSH_AUTH_SOCK"), sizeof address.sun_path - 1);
    int agent = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(agent, (void *)&address, sizeof address)) { perror("agent"); return 1; }
    if (write(agent, "\0\0\0\1\013", 5) != 5) return 2;
    for (int got = 0, more; got < 9; got += more)
        if ((more = read(agent, answer + got, 9 - got)) <= 0) return 3;
    printf("%d keys\n", answer[8]);
    return 0;
}"#;

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.status_in_time();
    }
}

#[test]
fn programs_talk_to_the_user_s_ssh_agent() {
    if !["ssh-agent", "ssh-add", "ssh-keygen"].into_iter().all(have) {
        return;
    }
    let keys = compiled("keys", KEYS, &["-static"]);
    with_busybox(|context| {
        let socket = context.path().join("agent");
        let mut agent = context.program("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket);
        let _agent = Agent(context.spawn(agent));
        smidge_tests::until("the agent listens", || socket.exists());
        let mut make = context.program("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f", "key"]);
        context.finish(make).ok();
        let mut add = context.program("ssh-add");
        add.arg("key").env("SSH_AUTH_SOCK", &socket);
        context.finish(add).exits(0);

        context.copy(&keys, "c/keys");
        let text = "COPY keys /bin/keys\nRUN --mount=type=ssh keys > /keys\n\
             RUN --mount=type=ssh,id=other keys >> /keys\nRUN test -z \"$SSH_AUTH_SOCK\"\n";
        write(context, text);
        let socket = socket.display();
        let mut build = context.line_command(&format!(
            "build -q -t agent --ssh default --ssh other={socket} c"
        ));
        build.env("SSH_AUTH_SOCK", socket.to_string());
        context.finish(build).ok();
        assert_eq!(printed(context, "agent", "cat /keys"), "1 keys\n1 keys");
    });
}

#[test]
fn results_are_written_where_scripts_look_for_them() {
    with_busybox(|context| {
        write(context, "LABEL a=b\n");
        let ran = context.line("build -q -t one:1 -t two --iidfile id --metadata-file meta c");
        let id = ran.ok();
        assert_eq!(ran.stderr(), "");
        assert_eq!(
            std::fs::read_to_string(context.path().join("id")).unwrap(),
            id
        );
        let meta = std::fs::read(context.path().join("meta")).unwrap();
        let meta: Value = serde_json::from_slice(&meta).unwrap();
        assert_eq!(meta["containerimage.config.digest"], id);
        assert!(
            meta["containerimage.digest"]
                .as_str()
                .unwrap()
                .starts_with("sha256:")
        );
        assert_eq!(
            meta["image.name"],
            "docker.io/library/one:1,docker.io/library/two:latest"
        );
        // A build that fails writes none, and leaves none that speaks of another build.
        write(context, "RUN false\n");
        for (id, meta) in [("none", "nor"), ("id", "meta")] {
            context
                .line(&format!("build -q --iidfile {id} --metadata-file {meta} c"))
                .exits(1);
            assert!(!context.path().join(id).exists() && !context.path().join(meta).exists());
        }
    });
}

#[test]
fn progress_is_shown_as_it_is_asked_for() {
    with_busybox(|context| {
        write(context, "RUN echo said by the program\n");
        let plain = context.line("build --no-cache --progress plain c");
        plain.says(
            0,
            &[
                "#2 [2/2] RUN echo said by the program",
                "said by the program\n",
                "#2 DONE",
            ],
        );
        let again = context.line("build --progress plain c");
        again.says(0, &["#2 CACHED"]);
        let json = context.line("build --no-cache --progress rawjson c");
        json.ok();
        let events: Vec<Value> = json
            .stderr()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert!(events.len() > 2, "{}", json.stderr());
        assert!(json.stderr().contains("said by the program"));
        let quiet = context.line("build --no-cache --quiet c");
        quiet.ok();
        assert_eq!(quiet.stderr(), "");
    });
}

#[test]
fn what_is_known_is_used_unless_it_is_not_to_be() {
    with_busybox(|context| {
        let text = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\n\
             FROM busybox AS two\nRUN cat /proc/sys/kernel/random/uuid > /two\n\
             FROM busybox\nCOPY --from=one /one /one\nCOPY --from=two /two /two\n";
        context.write("c/Dockerfile", text);
        let build = |options: &str| {
            context.line(&format!("build -q -t known {options} c")).ok();
            let said = printed(context, "known", "cat /one /two");
            let (one, two) = said.split_once('\n').unwrap();
            (one.to_owned(), two.to_owned())
        };
        let first = build("");
        assert_eq!(build(""), first);
        assert_eq!(build("--label a=b"), first);
        let filtered = build("--no-cache-filter two");
        assert_eq!(filtered.0, first.0);
        assert_ne!(filtered.1, first.1);
        let fresh = build("--no-cache");
        assert!(fresh.0 != first.0 && fresh.1 != filtered.1);
        assert_eq!(build(""), fresh);
    });
}

#[test]
fn newer_bases_are_looked_for_when_that_is_asked_for() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let base = |text: &str| {
        let archive = craft::archive(&[("file", 0o644, text.as_bytes())]);
        craft::image_of(&craft::OCI, &[archive], &["/file"])
    };
    registry.put("base", "latest", &base("old"));
    let context = Context::new();
    let dockerfile = format!("FROM {}/base\nLABEL a=b\n", registry.host());
    context.write("c/Dockerfile", dockerfile);
    let build = |options: &str| {
        context
            .line(&format!("build -q --no-prove {options} c"))
            .ok()
    };
    let old = build("");
    registry.put("base", "latest", &base("new"));
    assert_eq!(build(""), old);
    let new = build("--pull");
    assert_ne!(new, old);
    assert_eq!(build(""), new);
}

#[test]
fn a_shell_shows_what_a_program_left_that_failed() {
    if !have("script") {
        return;
    }
    with_busybox(|context| {
        write(
            context,
            "ENV WHERE=inside\nRUN echo evidence > /left; exit 9\n",
        );
        let mut script = context.program("script");
        let command = format!(
            "{} build --debug-shell -t failed c",
            smidge_binary().display()
        );
        script.args(["-q", "-e", "-c", &command, "/dev/null"]);
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        let mut terminal = context.spawn(script);
        let input = terminal.stdin.as_mut().unwrap();
        input
            .write_all(b"echo found $(cat /left) $WHERE\nexit\n")
            .unwrap();
        let output = terminal.output_in_time().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(shown.contains("found evidence inside"), "{shown}");
        assert!(shown.contains("exit status 9"), "{shown}");
        assert_eq!(context.line("images -q failed").ok(), "");
    });
}

#[test]
fn a_check_says_what_could_be_better_and_builds_nothing() {
    with_busybox(|context| {
        write(context, "RUN exit 1\nMAINTAINER me\n");
        for flag in ["--check", "--call check", "--call=check"] {
            let ran = context.line(&format!("build {flag} -t checked c"));
            ran.says(
                1,
                &[
                    "MaintainerDeprecated",
                    "c/Dockerfile:3",
                    "Check complete, 1 warning",
                ],
            );
        }
        // What is checked may be said outside of the file, and may come from standard input.
        let skip = "--build-arg BUILDKIT_DOCKERFILE_CHECK=skip=MaintainerDeprecated";
        let line = format!("build --check {skip} c");
        context.line(&line).says(0, &["no warnings found"]);
        let error = "--build-arg BUILDKIT_DOCKERFILE_CHECK=error=true";
        let ran = context.line(&format!("build {error} c"));
        ran.says(1, &["error: `MAINTAINER` is deprecated"]);
        let mut child = context.spawn(context.line_command("build --check -"));
        let text = b"FROM busybox\nMAINTAINER me\n";
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.output_in_time().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Dockerfile:2"), "{said}");
        write(context, "RUN exit 1\n");
        context
            .line("build --check c")
            .says(0, &["no warnings found"]);
        assert_eq!(context.line("images -q").ok().lines().count(), 1);
    });
}

#[test]
fn the_stages_of_a_dockerfile_are_listed() {
    with_busybox(|context| {
        context.write(
            "c/Dockerfile",
            "# build compiles the program\n\
             FROM busybox AS Build\n\
             # this is about nothing\n\
             FROM busybox AS other\n\
             RUN exit 1\n\
             FROM busybox\n\
             # something else\n\
             # last ships it\n\
             FROM build AS last\n",
        );
        let listed = "TARGET           DESCRIPTION\n\
                      build            compiles the program\n\
                      other            \n\
                      \u{20}                \n\
                      last (default)   ships it";
        assert_eq!(context.line("build --call targets c").ok(), listed);
        let ran = context.line("build --call targets --target other c").ok();
        assert!(ran.contains("other (default)"), "{ran}");
        context
            .line("build --call outline c")
            .says(125, &["outline"]);
        assert_eq!(context.line("images -q").ok().lines().count(), 1);
    });
}

#[test]
fn arguments_that_buildkit_knows_need_no_declaration() {
    with_busybox(|context| {
        write(
            context,
            "RUN { echo $(hostname); cat /etc/hosts; } > /names\n\
             ARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /time\n",
        );
        let epoch = "--build-arg SOURCE_DATE_EPOCH=1500000001";
        let name = "--build-arg BUILDKIT_SANDBOX_HOSTNAME=elsewhere";
        context
            .line(&format!("build -q -t known {epoch} {name} c"))
            .ok();
        let names = printed(context, "known", "cat /names");
        assert!(names.starts_with("elsewhere\n"), "{names}");
        assert!(names.contains("localhost elsewhere\n"), "{names}");
        let when = printed(context, "known", "stat -c %Y /names /time");
        assert_eq!(when, "1500000001\n1500000001");
        assert_eq!(printed(context, "known", "cat /time"), "1500000001");
        let created = ["inspect", "-f", "{{.Created}}", "known"];
        assert_eq!(context.smidge(created).ok(), "2017-07-14T02:40:01Z");

        // What the environment says is such an argument, too.
        let mut build = context.line_command("build -q -t known c");
        build.env("SOURCE_DATE_EPOCH", "1500000002");
        context.finish(build).ok();
        assert_eq!(printed(context, "known", "cat /time"), "1500000002");
        let names = printed(context, "known", "cat /names");
        assert!(names.starts_with("buildkitsandbox\n"), "{names}");
        context
            .line("build --build-arg SOURCE_DATE_EPOCH=yesterday c")
            .says(1, &["SOURCE_DATE_EPOCH", "yesterday"]);
    });
}

#[test]
fn dockerfiles_and_contexts_come_from_standard_input() {
    with_busybox(|context| {
        let piped = |line: &str, input: &[u8]| {
            let mut child = context.spawn(context.line_command(line));
            // It may not read all of what is wrong.
            let _ = child.stdin.take().unwrap().write_all(input);
            let output = child.output_in_time().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), said)
        };
        context.write("c/file", "of the context");
        let copies = b"FROM busybox\nCOPY file /file\n";
        let (code, said) = piped("build -t piped -f - c", copies);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(printed(context, "piped", "cat /file"), "of the context");

        // Alone, it has no files.
        let (code, said) = piped("build -t piped -", copies);
        assert!(code == Some(1) && said.contains("`file`"), "{said}");
        let (code, said) = piped(
            "build -t alone -",
            b"FROM busybox\nRUN echo alone > /file\n",
        );
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(printed(context, "alone", "cat /file"), "alone");

        let files: [(&str, u32, &[u8]); 3] = [
            ("Dockerfile", 0o644, copies),
            ("sub/Other", 0o644, b"FROM busybox\nCOPY sub/file /file\n"),
            ("file", 0o644, b"of the archive"),
        ];
        let mut files = files.to_vec();
        files.push(("sub/file", 0o644, b"from below"));
        let archive = craft::archive(&files);
        for archive in [archive.clone(), craft::gzip(&archive)] {
            let (code, said) = piped("build -t packed -", &archive);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(printed(context, "packed", "cat /file"), "of the archive");
            let (code, said) = piped("build -t packed -f sub/Other -", &archive);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(printed(context, "packed", "cat /file"), "from below");
        }
        let (code, said) = piped("build -", &archive[..700]);
        assert!(code == Some(1) && said.contains("archive"), "{said}");
        let (code, said) = piped("build -f - -", copies);
        assert!(code == Some(1), "{said}");
    });
}
