//! Registries and networks that fail: what passes is overcome, what does not is told, and the store is
//! as it was.

use std::time::{Duration, Instant};

use smidge_tests::InTime as _;

use crate::context::{Context, SELF, skip};
use crate::craft::{self, Crafted};
use crate::login::login;
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;
use crate::wire::Message;

const ALWAYS: usize = usize::MAX;
const BLOBS: (&str, &str) = ("GET", "/blobs/");
const MANIFESTS: (&str, &str) = ("GET", "/manifests/");

/// A registry with an image, and a proxy before it.
struct Scene {
    registry: Registry,
    proxy: Proxy,
    image: Crafted,
}

impl Scene {
    fn new() -> Option<Self> {
        let registry = Registry::plain()?;
        let image = craft::hello();
        registry.put("hello", "latest", &image);
        let proxy = Proxy::before(&registry);
        Some(Self {
            registry,
            proxy,
            image,
        })
    }

    fn name(&self) -> String {
        format!("{}/hello", self.proxy.host())
    }

    /// Pulls, and runs what came.
    fn succeeds(&self, what: &str) {
        let context = Context::new();
        let pulled = context.line(&format!("pull -q {}", self.name()));
        assert_eq!(pulled.code(), 0, "{what}: {}", pulled.stderr());
        let ran = context.line(&format!("run --rm {}", self.name()));
        assert_eq!(ran.ok(), "hello crafted", "{what}");
        no_leavings(&context);
        self.proxy.heal();
    }

    /// Pulls in vain; afterwards the store is as it was, and once all is well, pulls with success.
    fn fails(&self, what: &str, texts: &[&str]) {
        let context = Context::new();
        let pulled = context.line(&format!("pull {}", self.name()));
        assert_eq!(pulled.code(), 1, "{what}: {}", pulled.stdout());
        pulled.says(1, &["error: "]);
        for text in texts {
            let said = pulled.stderr();
            assert!(said.contains(text), "{what}: no `{text}` in:\n{said}");
        }
        assert_eq!(context.line("images -aq").ok(), "", "{what}");
        self.proxy.heal();
        context.line(&format!("pull -q {}", self.name())).ok();
        let ran = context.line(&format!("run --rm {}", self.name()));
        assert_eq!(ran.ok(), "hello crafted", "{what}");
        no_leavings(&context);
    }
}

/// Nothing is left over that `prune` would have to remove, or that is half written.
fn no_leavings(context: &Context) {
    let left = std::fs::read_dir(context.store().join("tmp"))
        .into_iter()
        .flatten();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn turned_away(status: u16) -> Fault {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    Fault::Answer(Message::answer(status, body).with("Retry-After", "0"))
}

#[test]
fn a_blob_arrives_although_its_connection_breaks() {
    let Some(scene) = Scene::new() else {
        return;
    };
    for (what, fault) in [
        ("reset at once", Fault::Reset(0)),
        ("reset in the middle", Fault::Reset(100_000)),
        ("closed in the middle", Fault::Cut(100_000)),
        ("closed without an answer", Fault::Refuse),
        ("slow", Fault::Trickle(8 << 10)),
        ("429", turned_away(429)),
        ("500", turned_away(500)),
        ("502", turned_away(502)),
        ("503", turned_away(503)),
    ] {
        scene.proxy.fault(BLOBS, 2, fault);
        scene.succeeds(what);
    }
}

#[test]
fn a_manifest_arrives_although_its_connection_breaks() {
    let Some(scene) = Scene::new() else {
        return;
    };
    for (what, fault) in [
        ("reset", Fault::Reset(10)),
        ("closed", Fault::Cut(10)),
        ("refused", Fault::Refuse),
        ("429", turned_away(429)),
        ("503", turned_away(503)),
    ] {
        for method in ["GET", "HEAD"] {
            scene.proxy.fault((method, "/manifests/"), 1, fault.clone());
        }
        scene.succeeds(what);
    }
}

#[test]
fn what_came_before_a_break_is_not_fetched_again() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let after = 200_000;
    scene.proxy.fault(BLOBS, 2, Fault::Cut(after));
    let context = Context::new();
    context.line(&format!("pull -q {}", scene.name())).ok();
    let requests = scene.proxy.requests("GET", "/blobs/");
    let ranges: Vec<_> = requests.iter().filter_map(|r| r.header("range")).collect();
    // Config and program are smaller than what came; the noise is not.
    assert!(
        ranges.contains(&format!("bytes={after}-").as_str()),
        "{ranges:?}"
    );
}

#[test]
fn a_registry_without_ranges_is_no_obstacle() {
    let Some(scene) = Scene::new() else {
        return;
    };
    scene.proxy.fault(BLOBS, 3, Fault::Cut(150_000));
    scene.proxy.fault(BLOBS, ALWAYS, Fault::IgnoreRange);
    scene.succeeds("the whole in place of a part");
    scene.proxy.fault(BLOBS, 3, Fault::Cut(150_000));
    scene.proxy.fault(BLOBS, 3, Fault::WrongRange);
    scene.fails(
        "another part than the one asked for",
        &["bytes from 150000"],
    );
}

#[test]
fn retry_after_is_waited_for() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let later = Message::answer(429, "").with("Retry-After", "2");
    scene.proxy.fault(BLOBS, 1, Fault::Answer(later));
    let start = Instant::now();
    scene.succeeds("429");
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[test]
fn what_never_gets_better_is_told_and_leaves_nothing() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let denied = r#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;
    let unknown = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    for (what, fault, texts) in [
        (
            "403",
            Fault::Answer(Message::answer(403, denied)),
            &["403", "not for you"][..],
        ),
        (
            "404",
            Fault::Answer(Message::answer(404, unknown)),
            &["blob"],
        ),
        (
            "418",
            Fault::Answer(Message::answer(418, "<html>teapot</html>")),
            &["418"],
        ),
        ("wrong bytes", Fault::Corrupt(1000), &["sha256:", "corrupt"]),
        ("too short", Fault::Shorten(1), &["sha256:"]),
        ("too long", Fault::Lengthen(1), &["sha256:"]),
    ] {
        scene.proxy.fault(("GET", "/blobs/"), ALWAYS, fault);
        scene.fails(what, texts);
    }
}

#[test]
fn asking_again_ends_at_some_point() {
    let Some(scene) = Scene::new() else {
        return;
    };
    for (what, fault, texts) in [
        ("500", turned_away(500), &["500"][..]),
        ("reset", Fault::Reset(0), &[]),
    ] {
        scene.proxy.fault(BLOBS, ALWAYS, fault);
        scene.fails(what, texts);
    }
}

#[test]
fn a_manifest_that_is_not_what_it_was_asked_for_is_refused() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let wrong = format!("sha256:{}", "1".repeat(64));
    let lie = Fault::Header("Docker-Content-Digest", Some(wrong.clone()));
    for method in ["GET", "HEAD"] {
        scene
            .proxy
            .fault((method, "/manifests/"), ALWAYS, lie.clone());
    }
    scene.fails("wrong digest", &[&wrong]);
    // Asked for by its digest, the manifest is checked whatever the headers say.
    let digest = &scene.image.manifest.digest;
    scene.proxy.fault(MANIFESTS, ALWAYS, Fault::Corrupt(5));
    let context = Context::new();
    let pulled = context.line(&format!("pull {}@{digest}", scene.name()));
    pulled.says(1, &["error: ", digest]);
    assert_eq!(context.line("images -aq").ok(), "");
}

#[test]
fn headers_that_are_missing_or_wrong_do_no_harm() {
    let Some(scene) = Scene::new() else {
        return;
    };
    for method in ["GET", "HEAD"] {
        let without = Fault::Header("Docker-Content-Digest", None);
        scene.proxy.fault((method, "/manifests/"), ALWAYS, without);
    }
    scene.succeeds("no digest");
    let less = Fault::Header("Content-Length", Some("1000".to_owned()));
    scene.proxy.fault(BLOBS, ALWAYS, less);
    scene.fails("a length that is too small", &[]);
    let more = Fault::Header("Content-Length", Some("99999999".to_owned()));
    scene.proxy.fault(BLOBS, 1, more);
    scene.fails("a length that is too large", &["99999999"]);
}

#[test]
fn a_pull_that_was_killed_goes_on_where_it_was() {
    let Some(scene) = Scene::new() else {
        return;
    };
    scene
        .proxy
        .fault(("GET", "/blobs/"), ALWAYS, Fault::Stall(300_000));
    let context = Context::new();
    let mut pull = context.spawn(context.line_command(&format!("pull {}", scene.name())));
    // The two layers are larger than that; the config is not, and came whole.
    scene.proxy.wait_for_stalls(2);
    let arrived = || {
        let entries = std::fs::read_dir(context.store().join("tmp")).into_iter();
        let blobs = entries
            .flatten()
            .map(|entry| entry.unwrap().path().join("blob"));
        let sizes = blobs.filter_map(|blob| Some(blob.metadata().ok()?.len()));
        sizes.filter(|size| *size >= 200_000).count() >= 2
    };
    smidge_tests::until("something arrives", arrived);
    pull.kill().unwrap();
    pull.output_in_time().unwrap();
    assert_eq!(context.line("images -aq").ok(), "");
    scene.proxy.heal();
    context.line(&format!("pull -q {}", scene.name())).ok();
    let requests = scene.proxy.requests("GET", "/blobs/");
    let starts: Vec<u64> = requests
        .iter()
        .map(|request| {
            let range = request.header("range").unwrap_or("bytes=0-");
            range["bytes=".len()..range.len() - 1].parse().unwrap()
        })
        .collect();
    let resumed = starts.iter().filter(|start| **start >= 200_000).count();
    assert_eq!(resumed, 2, "{starts:?}");
    context.line("prune -f").ok();
    let ran = context.line(&format!("run --rm {}", scene.name()));
    assert_eq!(ran.ok(), "hello crafted");
    no_leavings(&context);
}

#[test]
fn a_pull_killed_at_any_moment_leaves_a_good_store() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let context = Context::new();
    context.copy(crate::fixture::hello(), "program");
    context.line("build -q -t good program").ok();
    for n in 0..25 {
        let command = context.line_command(&format!("pull {}", scene.name()));
        let mut child = context.spawn(command);
        std::thread::sleep(Duration::from_micros(n * n * 100));
        child.kill().unwrap();
        child.output_in_time().unwrap();
        assert_eq!(context.line("run --rm good").ok(), "hello");
        let named = context.smidge(["images", "--format", "{{.Repository}}"]);
        assert!(named.ok().lines().count() <= 2);
    }
    context.line("prune -f").ok();
    context.line(&format!("pull -q {}", scene.name())).ok();
    let ran = context.line(&format!("run --rm {}", scene.name()));
    assert_eq!(ran.ok(), "hello crafted");
}

#[test]
fn a_pull_that_hangs_ends_at_once_when_asked_to() {
    let Some(scene) = Scene::new() else {
        return;
    };
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        scene.proxy.fault(BLOBS, ALWAYS, Fault::Stall(0));
        let context = Context::new();
        let pull = context.spawn(context.line_command(&format!("pull {}", scene.name())));
        scene.proxy.wait_for_stalls(1);
        let pid = rustix::process::Pid::from_child(&pull);
        rustix::process::kill_process(pid, signal).unwrap();
        assert!(!pull.output_in_time().unwrap().status.success());
        assert_eq!(context.line("images -aq").ok(), "");
        scene.proxy.heal();
    }
}

#[test]
fn two_pulls_at_once_do_not_get_in_each_others_way() {
    let Some(scene) = Scene::new() else {
        return;
    };
    scene.proxy.fault(BLOBS, ALWAYS, Fault::Trickle(32 << 10));
    let context = Context::new();
    let pull = || context.spawn(context.line_command(&format!("pull -q {}", scene.name())));
    let pulls = [pull(), pull(), pull()];
    for pull in pulls {
        let output = pull.output_in_time().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
    }
    let ran = context.line(&format!("run --rm {}", scene.name()));
    assert_eq!(ran.ok(), "hello crafted");
    no_leavings(&context);
    // Each layer came once: whoever came second waited for it.
    for layer in &scene.image.layers {
        assert_eq!(scene.proxy.requests("GET", &layer.digest).len(), 1);
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can make a small disk");
    }
    let Some(scene) = Scene::new() else {
        return;
    };
    let context = Context::of(SELF);
    let script = format!(
        "mkdir store && mount -t tmpfs -o size=1m none store && \"$0\" pull {}; code=$?; \
         \"$0\" images -aq >listed; \"$0\" prune -f >pruned && mount -o remount,size=64m store && \
         \"$0\" pull -q {} && \"$0\" run --rm {} >said; exit $code",
        scene.name(),
        scene.name(),
        scene.name()
    );
    let mut shell = context.program("unshare");
    shell.args(["--mount", "sh", "-c", &script]);
    shell.arg(crate::context::smidge_binary());
    let ran = context.finish(shell);
    ran.says(1, &["error: ", "no space left", "smidge prune"]);
    let read = |name: &str| std::fs::read_to_string(context.path().join(name)).unwrap();
    assert_eq!(
        (read("listed"), read("said")),
        (String::new(), "hello crafted\n".to_owned())
    );
}

#[test]
fn redirects_are_followed_without_credentials() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    let image = craft::hello();
    registry.put("hello", "latest", &image);
    let (proxy, storage) = (Proxy::before(&registry), Proxy::storage(&registry));
    let context = Context::new();
    login(&context, &proxy.host()).ok();
    let name = format!("{}/hello", proxy.host());
    for status in [301, 302, 303, 307, 308] {
        proxy.heal();
        storage.heal();
        let elsewhere = format!("http://{}/storage", storage.address());
        proxy.fault(BLOBS, ALWAYS, Fault::Redirect(status, elsewhere));
        // A part is fetched from there, too.
        storage.fault(("GET", "/storage/"), 2, Fault::Cut(100_000));
        let other = Context::new();
        other.copy(
            &context.path().join(".docker/config.json"),
            ".docker/config.json",
        );
        let pulled = other.line(&format!("pull -q {name}"));
        assert_eq!(pulled.code(), 0, "{status}: {}", pulled.stderr());
        assert_eq!(
            other.line(&format!("run --rm {name}")).ok(),
            "hello crafted"
        );
        let asked = storage.requests("GET", "/storage/");
        assert!(asked.len() >= 3, "{status}");
        for request in &asked {
            assert_eq!(request.header("authorization"), None, "{status}");
            assert_eq!(request.header("cookie"), None, "{status}");
        }
        let first = proxy.requests("GET", "/blobs/");
        assert!(first.iter().any(|r| r.header("authorization").is_some()));
    }
}

#[test]
fn redirects_to_the_same_host_keep_credentials_and_never_go_round() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    registry.put("hello", "latest", &craft::hello());
    let proxy = Proxy::before(&registry);
    let context = Context::new();
    login(&context, &proxy.host()).ok();
    let name = format!("{}/hello", proxy.host());
    let same = "/v2/hello/blobs".to_owned();
    proxy.fault(BLOBS, 3, Fault::Redirect(307, same.clone()));
    context.line(&format!("pull -q {name}")).ok();
    let other = Context::new();
    other.copy(
        &context.path().join(".docker/config.json"),
        ".docker/config.json",
    );
    proxy.fault(BLOBS, ALWAYS, Fault::Redirect(307, same));
    other
        .line(&format!("pull {name}"))
        .says(1, &["error: ", "redirect"]);
    // What a storage signs is as good as a password.
    proxy.heal();
    proxy.fault(
        BLOBS,
        ALWAYS,
        Fault::Redirect(307, "http://127.0.0.3:1/x".to_owned()),
    );
    let failed = other.line(&format!("pull {name}"));
    failed.says(1, &["127.0.0.3:1"]);
    assert!(
        !failed.stderr().contains("s1gned-s3cret"),
        "{}",
        failed.stderr()
    );
}

#[test]
fn a_registry_that_went_away_is_named() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let Scene {
        registry, proxy, ..
    } = scene;
    let name = format!("{}/hello", proxy.host());
    drop(registry);
    let context = Context::new();
    context
        .line(&format!("pull {name}"))
        .says(1, &["error: ", &proxy.host()]);
}
