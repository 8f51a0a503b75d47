//! What a spec may ask for, as the program sees it.

use smidge_run::{Limit, Mount};

use crate::stage::Stage;

#[test]
fn limits_hold() {
    let Some(stage) = Stage::new() else { return };
    let mut spec = stage.sh(
        "limits",
        "grep -E 'open files|core file|cpu time' /proc/self/limits",
    );
    spec.limits = ["nofile=64:100", "core=0", "cpu=-1"]
        .map(|text| Limit::parse(text).unwrap())
        .to_vec();
    let lines = stage.run(&[spec]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = lines.iter().map(|line| words(line)).collect();
    for line in [
        "Max core file size 0 0 bytes",
        "Max cpu time unlimited unlimited seconds",
        "Max open files 64 100 files",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
}

#[test]
fn a_limit_that_is_refused_is_named() {
    let Some(stage) = Stage::new() else { return };
    let mut spec = stage.spec("limits", &["true"]);
    // Above `fs.nr_open`: nobody gets it.
    spec.limits = vec![Limit::parse("nofile=4000000000").unwrap()];
    let lines = stage.run(&[spec]);
    assert!(
        lines[0].starts_with(
            "limits: cannot set the limit `nofile=4000000000:4000000000`, where the hard limit is"
        ),
        "{lines:?}"
    );
}

#[test]
fn shared_memory_has_the_size_that_is_asked_for() {
    let Some(stage) = Stage::new() else { return };
    let script =
        "dd if=/dev/zero of=/dev/shm/a bs=1024 count=200 2>/dev/null; stat -c %s /dev/shm/a";
    let mut small = stage.sh("small", script);
    small.shm_size = Some(100 << 10);
    let mut large = stage.sh("large", "df -k /dev/shm | grep -o ' 65536 '");
    let lines = stage.run(&[small]);
    assert!(lines.contains(&"102400".to_owned()), "{lines:?}");
    large.shm_size = Some(0);
    let lines = stage.run(&[large]);
    assert!(lines.contains(&" 65536 ".to_owned()), "{lines:?}");
}

#[test]
fn an_insecure_program_is_hardly_shut_in() {
    let Some(stage) = Stage::new() else { return };
    let script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; grep -q ' /proc/sys ' /proc/mounts || echo open; \
                  mount -t tmpfs tmpfs /bin && echo mounted";
    let mut free = stage.sh("free", script);
    free.insecure = true;
    let lines = stage.run(&[free, stage.sh("shut", script)]);
    let has = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(has("Seccomp:\t0"), 1, "{lines:?}");
    assert_eq!(has("Seccomp:\t2"), 1, "{lines:?}");
    assert_eq!(has("00000000a80425fb"), 1, "{lines:?}");
    assert_eq!((has("mounted"), has("open")), (1, 1), "{lines:?}");
}

#[test]
fn mounts_are_as_they_are_asked_for() {
    let Some(stage) = Stage::new() else { return };
    std::fs::write(stage.path("secret"), "hidden\n").unwrap();
    std::fs::create_dir(stage.path("tree")).unwrap();
    std::fs::write(stage.path("tree/file"), "").unwrap();
    let bind = |name: &str, to: &str| Mount::bind(stage.path(name), to.to_owned(), true);
    let script = "cat /run/secrets/key; touch /tree/file 2>/dev/null || echo read-only; \
                  touch /tree/under/x && echo writable; df -k /tree/under | grep -o ' 128 '";
    let mut spec = stage.sh("mounts", script);
    std::fs::create_dir(stage.path("tree/under")).unwrap();
    spec.mounts = vec![
        bind("secret", "/run/secrets/key"),
        bind("tree", "/tree"),
        Mount::tmpfs("/tree/under".to_owned(), Some(128 << 10), 0o755),
    ];
    let lines = stage.run(&[spec]);
    for line in [
        "hidden",
        "read-only",
        "writable",
        " 128 ",
        "mounts: status 0",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
}
