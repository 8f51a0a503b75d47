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
                let fault = bundle.context.finish(command).exits(1);
                assert!(
                    fault.contains("invalid container id"),
                    "{verb} {id}: {fault}"
                );
            }
        }
    });
}
