//! smidge in containers, of its own and of others: what it can do there, and what it says it cannot.

use crate::context::{Context, Ran, have, identities, skip, smidge_binary};
use crate::fixture::with_busybox;
use crate::tool::{RUN, podman};

/// Changes of every kind, below directories and at the top.
const STEPS: &str = r#"FROM busybox
RUN mkdir -p /new/deep && echo one > /new/deep/file
RUN rm /bin/vi && rm -r /home && echo other > /home && chmod 700 /root
RUN chown 7:8 /new/deep/file && echo two >> /etc/passwd && mv /new/deep /new/moved
RUN --mount=type=bind,target=/context --mount=type=cache,target=/cache \
    --mount=type=secret,id=key --mount=type=tmpfs,target=/memory \
    cp /context/given /given && date > /cache/date && touch /memory/file && wc -c < /run/secrets/key > /length
RUN ln -s given /symbolic && : > /dev/null && echo local > /etc/hosts
CMD ["cat", "/etc/passwd", "/given", "/new/moved/file", "/home", "/length"]
"#;

/// No step of its own, as the smallest images have none.
const PLAIN: &str = "FROM scratch\nADD given /given\nADD busybox /busybox\nCMD [\"/busybox\", \"cat\", \"/given\"]\n";

/// An image with a shell, smidge, and a directory to build.
fn make_builder(context: &Context) {
    context.copy(smidge_binary(), "outer/smidge");
    context.copy(std::path::Path::new("/bin/busybox"), "outer/inner/busybox");
    context.write("outer/inner/given", "given\n");
    context.write("outer/inner/Dockerfile", STEPS);
    context.write("outer/inner/plain.Dockerfile", PLAIN);
    context.write("outer/inner/key", "secret text");
    let outer = "FROM busybox\nCOPY smidge /bin/smidge\nCOPY inner /inner\nWORKDIR /inner\n\
                 CMD [\"smidge\", \"build\", \"--secret\", \"id=key,src=key\", \"-t\", \"second\", \".\"]\n";
    context.write("outer/Dockerfile", outer);
    context.line("build -q -t builder outer").ok();
}

/// `smidge run` of the builder with the host's store.
fn run_builder(context: &Context, options: &str, script: &[&str]) -> Ran {
    let volume = format!("{}:/var/lib/smidge", context.store().display());
    // A network that comes on demand takes the one listener that a container's calls may have.
    let mut line: Vec<&str> = vec!["run", "--rm", "--network", "none", "-v", &volume];
    line.extend(options.split_whitespace());
    line.push("builder");
    line.extend(script);
    context.smidge(line)
}

#[test]
fn a_container_builds_images_for_the_host() {
    with_busybox(|context| {
        make_builder(context);
        let said = run_builder(context, "", &[]).exits(0);
        assert_eq!(said.matches("no namespaces here").count(), 1, "{said}");
        let output = context.line("run --rm second").ok();
        assert!(output.ends_with("two\ngiven\none\nother\n11"), "{output}");
        let plain = "smidge build -q -f plain.Dockerfile -t plain .";
        run_builder(context, "", &["sh", "-c", plain]).ok();
        assert_eq!(context.line("run --rm plain").ok(), "given");
        // A directory in place of another one.
        let replace = "printf 'FROM busybox\nRUN rm -r /home && mkdir /home /home/new\n' > d; \
                       smidge build -q -f d -t third .";
        run_builder(context, "", &["sh", "-c", replace]).ok();
        assert_eq!(context.line("run --rm third ls /home").ok(), "new");
        // The same bytes as with namespaces.
        let id = "image inspect --format {{.Id}}";
        for (name, file) in [("second", "Dockerfile"), ("plain", "plain.Dockerfile")] {
            let inner = context.line(&format!("{id} {name}")).ok();
            let build = format!(
                "build -q --no-cache --secret id=key,src=outer/inner/key -f outer/inner/{file} outer/inner"
            );
            assert_eq!(context.line(&build).ok(), inner, "{name}");
        }
    });
}

/// Down to one of somebody who has a single id, where root may not even change its groups.
#[test]
fn a_container_whose_calls_pass_runs_containers() {
    with_busybox(|context| {
        make_builder(context);
        let script = "smidge --root /s load -q -i /busybox.tar; \
             smidge --root /s run --rm --network none busybox echo first; \
             smidge --root /s run -d --name second busybox sleep 1000 > /dev/null; \
             smidge --root /s exec second id -u; smidge --root /s rm -f second";
        context.line("save -o busybox.tar busybox").ok();
        let archive = context.path().join("busybox.tar");
        let options = format!(
            "-v {}:/busybox.tar --security-opt seccomp=unconfined",
            archive.display()
        );
        let ran = run_builder(context, &options, &["sh", "-c", script]);
        assert_eq!(ran.ok(), "Loaded image: busybox:latest\nfirst\n0\nsecond");
    });
}

#[test]
fn nothing_that_a_step_has_started_outlives_it_without_namespaces() {
    with_busybox(|context| {
        make_builder(context);
        let script = "printf 'FROM busybox\\nRUN setsid sleep 4711 & (sleep 4712 &) ; true\\n' > d; \
                      smidge build -q -f d . && ps";
        let listed = run_builder(context, "", &["sh", "-c", script]).ok();
        let alive = |line: &&str| line.contains("sleep 471") && !line.contains("printf");
        assert!(listed.contains("PID"), "{listed}");
        assert_eq!(listed.lines().find(alive), None, "{listed}");
    });
}

#[test]
fn caches_and_failures_survive_without_namespaces() {
    with_busybox(|context| {
        make_builder(context);
        let build = |command: &str| {
            let file = format!("FROM busybox\\nRUN --mount=type=cache,target=/cache {command}\\n");
            let script = format!("printf '{file}' > d; smidge build --progress=plain -f d .");
            run_builder(context, "", &["sh", "-c", &script])
        };
        let failed = build("echo kept > /cache/a; exit 3").exits(1);
        assert!(failed.contains("exit status 3"), "{failed}");
        assert!(failed.contains("no namespaces here"), "{failed}");
        let said = build("cat /cache/a").exits(0);
        assert!(said.contains("kept"), "{said}");
    });
}

#[test]
fn what_a_container_lacks_is_said_precisely() {
    with_busybox(|context| {
        make_builder(context);
        let network = "printf 'FROM busybox\\nRUN --network=none true\\n' > d; smidge build -f d .";
        let said = run_builder(context, "", &["sh", "-c", network]).exits(1);
        let expected = "`RUN --network=none` needs namespaces, which cannot be made here";
        assert!(said.contains(expected), "{said}");
        let said =
            run_builder(context, "", &["smidge", "run", "--rm", "busybox", "true"]).exits(125);
        for part in [
            "cannot create the namespaces",
            "CAP_SYS_ADMIN",
            "seccomp=unconfined",
            "hostUsers: false",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
}

#[test]
fn an_ordinary_user_of_a_container_is_told_what_is_missing() {
    with_busybox(|context| {
        make_builder(context);
        let script = "export HOME=/tmp/home SMIDGE_ROOT=/tmp/home/store; mkdir -p /tmp/home && \
                      printf 'FROM scratch\\nADD busybox /bin/sh\\nRUN true\\n' > /tmp/home/Dockerfile && \
                      cp busybox /tmp/home && smidge build /tmp/home";
        let user = match context.identity().name {
            "smidge-single" => return skip("no other user exists there"),
            _ => "--user 1000 --tmpfs /tmp",
        };
        let said = run_builder(context, user, &["sh", "-c", script]).exits(1);
        for part in [
            "CAP_SYS_CHROOT",
            "docker run --security-opt seccomp=unconfined",
            "procMount",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
}

/// Where the store's own file system is an overlay, as in most containers, overlayfs does not lie on it.
#[test]
fn a_store_on_an_overlay_works() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can mount an overlay");
        return;
    }
    with_busybox(|context| {
        make_builder(context);
        let id = "--secret id=key,src=outer/inner/key outer/inner";
        let expected = context.line(&format!("build -q --no-cache {id}")).ok();
        let script = "cd \"$0\" && mkdir -m 755 lower upper work merged && chown --reference=. upper work merged && \
                      mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none merged && \
                      export SMIDGE_ROOT=$PWD/merged/store && exec setpriv --reuid=\"$1\" --regid=\"$2\" \
                      --clear-groups --inh-caps=-all sh -ec \"$3\"";
        context.line("save -o busybox.tar busybox").ok();
        let steps = format!(
            "s={}; $s load -qi busybox.tar; $s build -q {id}; \
             $s run --name kept busybox sh -c 'cat /file 2>&1; echo kept > /file; rm -rf /home; ls /home 2>&1; true'; \
             $s start -a kept; $s export kept | tar xO file; $s cp kept:/file -; $s debug kept cat /target/file; \
             $s ps -as --format 'size {{{{.Size}}}}'; echo diff $($s diff kept); $s commit kept made; \
             $s run --rm made sh -c 'cat /file; test ! -e /home && ls -d /bin'; \
             ! ls $SMIDGE_ROOT/containers/*/ | grep changes; $s rm kept",
            smidge_binary().display()
        );
        let (uid, gid) = context.identity().ids.unwrap_or((0, 0));
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(context.path());
        command.args([uid.to_string(), gid.to_string(), steps]);
        command
            .env("HOME", context.path())
            .env("XDG_RUNTIME_DIR", context.path().join(".run"));
        let ran = context.finish(command);
        let output = ran.ok();
        assert!(output.contains(&expected), "{output}");
        assert!(
            output.contains("\nkept\n") && !output.contains("\napp\n"),
            "{output}"
        );
        // By the program, of all files, of one, beside them, and in an image that is made of them.
        assert_eq!(output.matches("kept\n").count(), 5, "{output}");
        assert!(!output.contains("size 0B"), "{output}");
        assert!(output.contains("diff A /file D /home\n"), "{output}");
        assert!(output.contains("/bin\nkept"), "{output}");
    });
}

#[test]
fn podman_containers_build_and_run() {
    if !rustix::process::geteuid().is_root() || !have("podman") {
        skip("only root can run podman here");
        return;
    }
    let context = Context::of(identities()[0]);
    crate::fixture::load_busybox(&context);
    make_builder(&context);
    context.line("save -o builder.tar builder busybox").ok();
    podman(&context, "load -q -i builder.tar").ok();
    let expected = context
        .line("build -q --no-cache --secret id=key,src=outer/inner/key outer/inner")
        .ok();
    let volume = format!("-v {}:/var/lib/smidge", context.store().display());
    for (options, level) in [
        ("", "as it is"),
        ("--security-opt seccomp=unconfined", "unfiltered"),
        ("--security-opt unmask=ALL", "unmasked"),
        (
            "--cap-drop all --cap-add sys_chroot,mknod,chown,fowner,dac_override,setuid,setgid",
            "with less",
        ),
    ] {
        let line = format!(
            "{RUN} {volume} {options} builder smidge build -q --no-cache --secret id=key,src=key ."
        );
        assert_eq!(podman(&context, &line).ok(), expected, "{level}");
    }
    let line = format!("{RUN} {volume} builder smidge run --rm busybox echo hello");
    assert_eq!(podman(&context, &line).ok(), "hello");
    podman(&context, "rmi -af").ok();
}
