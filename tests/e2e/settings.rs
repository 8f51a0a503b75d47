//! Where images come from, as settings and the environment say.

use crate::certificate::Authority;
use crate::context::Context;
use crate::craft::{self, OCI, archive};
use crate::proxy::{Fault, Proxy};
use crate::registry::{Kind, Registry};
use crate::relay::Forward;
use crate::wire::Message;

/// The command that pulls and runs what came.
fn works(context: &Context, name: &str) {
    context.line(&format!("pull -q {name}")).ok();
    assert_eq!(
        context.line(&format!("run --rm {name}")).ok(),
        "hello crafted"
    );
}

#[test]
fn mirrors_are_asked_first_and_the_registry_itself_last() {
    let (Some(main), Some(mirror)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    main.put("x", "both", &craft::hello());
    main.put("x", "main", &craft::hello());
    mirror.put("m/x", "both", &craft::hello());
    let (main, mirror) = (Proxy::before(&main), Proxy::before(&mirror));
    let context = Context::new();
    context.settings(&format!(
        "[registry.\"{}\"]\nmirrors = [\"localhost:1\", \"{}/m\"]\n",
        main.host(),
        mirror.host()
    ));
    works(&context, &format!("{}/x:both", main.host()));
    assert_eq!(main.count(), 0, "{:?}", main.requests("GET", ""));
    assert_ne!(mirror.count(), 0);
    context.line(&format!("rmi -f {}/x:both", main.host())).ok();
    works(&context, &format!("{}/x:main", main.host()));
    assert_ne!(main.count(), 0);
    // What is pushed goes to the registry itself.
    mirror.heal();
    context
        .line(&format!("push -q {}/x:main", main.host()))
        .ok();
    assert_eq!(
        mirror.requests("PUT", "").len() + mirror.requests("POST", "").len(),
        0
    );
}

#[test]
fn a_mirror_that_breaks_in_the_middle_is_left_for_the_next() {
    let (Some(main), Some(mirror)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    for (registry, repository) in [(&main, "x"), (&mirror, "x")] {
        registry.put(repository, "latest", &craft::hello());
    }
    let proxy = Proxy::before(&mirror);
    let name = format!("{}/x", main.host());
    for fault in [Fault::Reset(0), Fault::Refuse] {
        proxy.heal();
        proxy.fault(("GET", "/blobs/"), usize::MAX, fault);
        let context = Context::new();
        context.settings(&format!(
            "[registry.\"{}\"]\nmirrors = [\"{}\"]\n",
            main.host(),
            proxy.host()
        ));
        works(&context, &name);
    }
}

#[test]
fn containers_registries_conf_is_understood() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    registry.put("real/x", "latest", &craft::hello());
    let context = Context::new();
    let host = registry.host();
    let conf = format!(
        "unqualified-search-registries = [\"quay.io\"]\n\n\
         [[registry]]\nprefix = \"pretty.example/team\"\nlocation = \"{host}/real\"\ninsecure = true\n\n\
         [[registry]]\nprefix = \"mirrored.example\"\nlocation = \"nowhere.invalid\"\n\
         [[registry.mirror]]\nlocation = \"{host}/real\"\ninsecure = true\n\n\
         [[registry]]\nprefix = \"forbidden.example\"\nblocked = true\n"
    );
    context.write(".config/containers/registries.conf", conf);
    works(&context, "pretty.example/team/x");
    works(&context, "mirrored.example/x");
    let blocked = context.line("pull forbidden.example/x");
    blocked.says(1, &["error: ", "forbidden.example", "blocked"]);
    // smidge's own settings win.
    context.settings("[registry.\"pretty.example\"]\nblocked = true\n");
    let context = context;
    context
        .line("pull pretty.example/other/x")
        .says(1, &["blocked"]);
}

#[test]
fn a_fault_in_the_settings_has_a_line() {
    let context = Context::new();
    context.settings("[registry.\"docker.io\"]\nmirror = [\"x\"]\n");
    let ran = context.line("pull localhost:1/x");
    ran.says(1, &["error: ", "registries.toml", "2", "mirror"]);
}

#[test]
fn proxies_of_the_environment_are_used_but_for_this_machine() {
    let Some(authority) = Authority::new() else {
        return;
    };
    let Some(secure) = Registry::start(&Kind {
        tls: Some(&authority),
        ..Kind::default()
    }) else {
        return;
    };
    let plain = Registry::plain().unwrap();
    secure.place("x", &craft::hello());
    plain.put("x", "latest", &craft::hello());
    let forward = Forward::start(&[("registry.test:443", secure.address())]);
    let context = Context::new();
    context.settings(&format!(
        "[registry.\"registry.test\"]\nca = \"{}\"\n",
        authority.certificate().display()
    ));
    let pull = |name: &str, variables: &[(&str, String)]| {
        let mut command = context.line_command(&format!("pull -q {name}"));
        command.envs(variables.iter().map(|(k, v)| (k, v)));
        context.finish(command)
    };
    let with = |name: &'static str| (name, forward.url_of("me", "s3cret"));
    pull("registry.test/x", &[with("HTTPS_PROXY")]).ok();
    assert_eq!(
        context.line("run --rm registry.test/x").ok(),
        "hello crafted"
    );
    let asked = forward.requests();
    assert!(
        asked
            .iter()
            .all(|r| r.line.starts_with("CONNECT registry.test:443 "))
    );
    let authorization = asked[0].header("proxy-authorization");
    assert_eq!(authorization, Some("Basic bWU6czNjcmV0"));
    // In lower case, too. This machine, and whatever NO_PROXY names, is asked directly.
    let lower = [
        ("https_proxy", forward.url()),
        ("http_proxy", forward.url()),
    ];
    pull("registry.test/x", &lower).ok();
    let before = forward.requests().len();
    assert!(before > asked.len());
    pull(&format!("{}/x", plain.host()), &lower).ok();
    let none = [
        with("HTTPS_PROXY"),
        ("NO_PROXY", "registry.test".to_owned()),
    ];
    pull("registry.test/x:2", &none).exits(1);
    assert_eq!(forward.requests().len(), before);
}

#[test]
fn a_registry_without_tls_is_reached_through_a_proxy() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    registry.put("x", "latest", &craft::hello());
    let forward = Forward::start(&[("plain.test", registry.address())]);
    let context = Context::new();
    let both = [
        ("HTTPS_PROXY", forward.url()),
        ("HTTP_PROXY", forward.url()),
    ];
    let mut command = context.line_command("pull -q --tls-verify=false plain.test/x");
    command.envs(both);
    context.finish(command).ok();
    let plain = |r: &Message| r.line.starts_with("GET http://plain.test/v2/x/blobs/");
    assert!(forward.requests().iter().any(plain));
    assert_eq!(context.line("run --rm plain.test/x").ok(), "hello crafted");
}

#[test]
fn a_digest_only_mirror_is_asked_for_digests_only() {
    let (Some(main), Some(mirror)) = (Registry::plain(), Registry::plain()) else {
        return;
    };
    let image = craft::image(&OCI, &[archive(&[("x", 0o644, b"x")])]);
    let digest = main.put("x", "latest", &image);
    mirror.put("x", "latest", &image);
    let (main, mirror) = (Proxy::before(&main), Proxy::before(&mirror));
    let (context, name) = (Context::new(), format!("{}/x", main.host()));
    context.settings(&format!(
        "[registry.\"{}\"]\nmirrors = [{{ location = \"{}\", digests-only = true }}]\n",
        main.host(),
        mirror.host()
    ));
    context.line(&format!("pull -q {name}")).ok();
    assert_eq!(mirror.requests("GET", "/manifests/latest").len(), 0);
    let other = Context::new();
    other.copy(
        &context.path().join(".config/smidge/registries.toml"),
        ".config/smidge/registries.toml",
    );
    main.heal();
    other.line(&format!("pull -q {name}@{digest}")).ok();
    assert_eq!(main.count(), 0);
}
