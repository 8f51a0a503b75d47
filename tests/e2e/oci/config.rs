//! What is read of a bundle, and when.

use serde_json::json;

use super::bundle::{each, ours};

#[test]
fn config_updates_without_affect() {
    each(|bundle| {
        bundle.script("echo before");
        let id = bundle.create();
        bundle.script("echo after");
        bundle.save();
        bundle.line(&format!("start {id}")).exits(0);
        bundle.until(&id, "stopped");
        assert_eq!(bundle.said(), "before");
    });
}

#[test]
fn misc_props() {
    each(|bundle| {
        // What the specification does not know is ignored, and what is annotated is shown.
        bundle.config["unknown"] = json!({"property": [1, 2]});
        bundle.config["annotations"] = json!({"org.example": "value"});
        bundle.script("true");
        let id = bundle.create();
        assert_eq!(bundle.state(&id)["annotations"]["org.example"], "value");
    });
}

#[test]
fn pidfile() {
    each(|bundle| {
        bundle.script("sleep 1000");
        bundle.save();
        let id = bundle.id();
        bundle
            .quietly(&format!("create --bundle b --pid-file pid {id}"))
            .exits(0);
        let pid = std::fs::read_to_string(bundle.context.path().join("pid")).unwrap();
        assert_eq!(bundle.state(&id)["pid"].to_string(), pid);
    });
}

#[test]
fn no_description_makes_it_panic() {
    ours(|bundle| {
        let texts = [
            "",
            "{",
            "[]",
            "null",
            "3",
            "\"\"",
            "{}",
            "{\"ociVersion\":\"1.0.0\"}",
            "{\"ociVersion\":\"9.0.0\",\"root\":{\"path\":\"rootfs\"},\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"}}",
            "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"rootfs\"},\"process\":{\"args\":[],\"cwd\":\"/\"}}",
            "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"\\u0000\"},\"process\":{\"args\":[\"x\"]}}",
        ];
        let deep = "[".repeat(100_000);
        for text in texts.into_iter().chain([deep.as_str()]) {
            bundle.context.write("b/config.json", text);
            let ran = bundle.line(&format!("run --bundle b {}", bundle.id()));
            let fault = ran.exits(1);
            assert!(fault.starts_with("error: "), "{text:.80}: {fault}");
            assert!(!fault.contains("panicked"), "{text:.80}: {fault}");
        }
    });
}

/// Properties, and values that make no sense for them.
fn senseless() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("/process/cwd", json!("relative")),
        ("/process/args", json!(["a\u{0}b"])),
        ("/process/env", json!(["A=\u{0}"])),
        ("/process/user", json!({"uid": -1, "gid": 0})),
        (
            "/process/user",
            json!({"uid": 99_999_999_999_u64, "gid": 0}),
        ),
        ("/mounts", json!([{"destination": "/../../etc"}])),
        (
            "/mounts",
            json!([{"destination": "/x", "type": "nosuchfs"}]),
        ),
        (
            "/mounts",
            json!([{"destination": "/x\u{0}", "type": "tmpfs"}]),
        ),
        (
            "/mounts",
            json!([{"destination": "/x", "type": "tmpfs", "options": ["nosuchoption=3"]}]),
        ),
        ("/linux/namespaces", json!([])),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "mount"}]),
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "user"}]),
        ),
        (
            "/linux/devices",
            json!([{"path": "/", "type": "c", "major": 1, "minor": 3}]),
        ),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "?"}])),
        ("/linux/cgroupsPath", json!("/../../x")),
        (
            "/linux/sysctl",
            json!({"net/../../kernel/core_pattern": "x"}),
        ),
        ("/linux/personality", json!({"domain": "WINDOWS"})),
        ("/hostname", json!("x".repeat(1000))),
    ]
}

#[test]
fn no_property_makes_it_panic() {
    ours(|bundle| {
        let original = bundle.config.clone();
        for (pointer, value) in senseless() {
            bundle.config = original.clone();
            bundle.script("true");
            *bundle
                .config
                .pointer_mut(pointer)
                .unwrap_or(&mut json!(null)) = value.clone();
            if bundle.config.pointer(pointer).is_none() {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                bundle.config.pointer_mut(parent).unwrap()[name] = value.clone();
            }
            let ran = bundle.run();
            assert_eq!(ran.code(), 1, "{pointer} {value:.80}: {}", ran.stderr());
            assert!(!ran.stderr().contains("panicked"), "{}", ran.stderr());
            assert!(bundle.line("list -q").ok().is_empty());
        }
    });
}

/// What stands in the place of a bundle's files.
#[test]
fn what_is_no_description_is_neither_waited_for_nor_swallowed() {
    ours(|bundle| {
        bundle.script("true");
        bundle.save();
        let path = bundle.context.path().join("b/config.json");
        let refused = |bundle: &super::bundle::Bundle<'_>, says: &str| {
            let ran = bundle.line(&format!("run --bundle b {}", bundle.id()));
            let fault = ran.exits(1);
            assert!(fault.contains(says), "{fault}");
            assert!(fault.contains("config.json"), "{fault}");
            assert!(bundle.line("list -q").ok().is_empty());
        };
        std::fs::remove_file(&path).unwrap();
        refused(bundle, "No such file");
        let (fifo, mode) = (
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
        );
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        refused(bundle, "no regular file");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused(bundle, "no regular file");
        std::fs::remove_dir(&path).unwrap();
        for device in ["/dev/zero", "/dev/full"] {
            std::os::unix::fs::symlink(device, &path).unwrap();
            refused(bundle, "no regular file");
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::File::create(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        refused(bundle, "more than");
        // Valid, and of a size that nobody needs.
        bundle.config["annotations"] = json!({"a": "x".repeat(17 << 20)});
        bundle.save();
        refused(bundle, "more than");
    });
}

/// The root is what a link leads to, as with any other path of the host's; runc refuses it.
#[test]
fn a_root_may_be_behind_a_link() {
    ours(|bundle| {
        let directory = bundle.context.path().join("b");
        std::fs::rename(directory.join("rootfs"), directory.join("real")).unwrap();
        std::os::unix::fs::symlink("real", directory.join("rootfs")).unwrap();
        assert_eq!(bundle.runs("echo ran"), "ran");
        std::fs::remove_file(directory.join("rootfs")).unwrap();
        for target in ["rootfs", "nowhere", "config.json"] {
            std::os::unix::fs::symlink(target, directory.join("rootfs")).unwrap();
            assert_ne!(bundle.run().code(), 0, "{target}");
            std::fs::remove_file(directory.join("rootfs")).unwrap();
        }
        std::fs::rename(directory.join("real"), directory.join("rootfs")).unwrap();
    });
}

#[test]
fn ids_lead_nowhere() {
    ours(|bundle| {
        bundle.script("true");
        bundle.save();
        for id in ["..", ".", "../x", "a/b", "/etc", "a b", "ä", "a\nb"] {
            for verb in [
                "create --bundle b",
                "start",
                "state",
                "kill",
                "delete",
                "delete --force",
                "exec",
            ] {
                let mut command = bundle.command(verb);
                command.arg(id);
                if verb == "exec" {
                    command.arg("true");
                }
                let code = if verb == "exec" { 255 } else { 1 };
                let fault = bundle.context.finish(command).exits(code);
                assert!(
                    fault.contains("invalid container id"),
                    "{verb} {id}: {fault}"
                );
            }
        }
    });
}
