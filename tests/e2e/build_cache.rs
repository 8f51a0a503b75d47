//! `build --cache-to` and `--cache-from`: what a program has made on one machine, another does not make
//! again. Every `RUN` here writes a number that is never the same twice: an equal image was not built.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::context::{Context, Identity, SELF, have, identities};
use crate::fixture::load_busybox;
use crate::login::login;
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;
use crate::registry_server::Server;
use crate::tool::skopeo;
use crate::wire::Message;

/// Writes what nobody can foresee.
const UUID: &str = "cat /proc/sys/kernel/random/uuid";

/// Two stages, the first of which is in the image only by a file.
fn dockerfile() -> String {
    format!(
        "FROM busybox AS build\nCOPY source /source\nRUN {UUID} > /built\n\
         FROM busybox\nRUN {UUID} > /own\nCOPY --from=build /built /built\n"
    )
}

/// A machine of its own: a store with nothing but the base image, and the same context.
fn machine(identity: Identity, dockerfile: &str) -> Option<Context> {
    if !Path::new("/bin/busybox").exists() {
        crate::context::skip("`/bin/busybox` is not there");
        return None;
    }
    let context = Context::of(identity);
    load_busybox(&context);
    context.write("d/source", "the same everywhere");
    context.write("d/Dockerfile", dockerfile);
    Some(context)
}

fn two(identity: Identity, dockerfile: &str) -> Option<(Context, Context)> {
    Some((
        machine(identity, dockerfile)?,
        machine(identity, dockerfile)?,
    ))
}

fn build(context: &Context, options: &str) -> String {
    context
        .line(&format!("build --progress plain -t built {options} d"))
        .ok()
}

/// What a build says.
fn said(context: &Context, options: &str) -> String {
    let line = format!("build --progress plain -t built {options} d");
    context.line(&line).exits(0)
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs/sha256").join(&digest["sha256:".len()..])
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Digest, manifest and config of what a layout has under a tag.
fn documents(layout: &Path, tag: &str) -> (String, Value, Value) {
    let index = json(&layout.join("index.json"));
    let entries = index["manifests"].as_array().unwrap();
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let digest = entries.iter().find(named).unwrap()["digest"]
        .as_str()
        .unwrap();
    let manifest = json(&blob(layout, digest));
    let config = json(&blob(
        layout,
        manifest["config"]["digest"].as_str().unwrap(),
    ));
    (digest.to_owned(), manifest, config)
}

fn records(config: &Value) -> usize {
    let list = &config["smidge.build.cache.v1"]["records"];
    list.as_array().unwrap().len()
}

/// How often a text occurs.
fn times(said: &str, text: &str) -> usize {
    said.matches(text).count()
}

#[test]
fn a_directory_carries_what_programs_have_made() {
    for identity in identities() {
        let Some((ours, theirs)) = two(identity, &dockerfile()) else {
            return;
        };
        let layout = ours.path().join("cache");
        let to = format!("--cache-to type=local,dest={},mode=max", layout.display());
        let id = build(&ours, &to);
        let from = format!("--cache-from type=local,src={}", layout.display());
        let said = said(&theirs, &from);
        let name = format!("importing cache manifest from {}:latest", layout.display());
        assert!(said.contains(&name), "{said}");
        assert_eq!(times(&said, "CACHED"), 2, "{said}");
        assert!(!said.contains("note:"), "{said}");
        // It is kept: the next build needs nothing but its own store.
        fs::remove_dir_all(&layout).unwrap();
        assert_eq!(build(&theirs, ""), id);
    }
}

#[test]
fn the_same_steps_give_the_same_cache_whoever_exports_it() {
    let file = "FROM busybox\nRUN --mount=type=cache,target=/c echo 1 > /a && mkdir -m 700 /c/d && \
                echo 2 > /c/d/x && ln -s x /c/d/l && chown 1000:2000 /c/d /c/d/x && chmod 4755 /c/d/x && \
                touch -d @5 /c/d/x && touch -h -d @6 /c/d/l\n";
    let mut digests = Vec::new();
    for identity in identities() {
        let Some(context) = machine(identity, file) else {
            return;
        };
        let layout = context.path().join("cache");
        let to = format!(
            "--cache-to type=local,dest={},mounts=true",
            layout.display()
        );
        build(&context, &to);
        let (digest, manifest, config) = documents(&layout, "latest");
        let kind = "application/vnd.smidge.buildcache.v1";
        assert_eq!(manifest["artifactType"], kind);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        for layer in manifest["layers"].as_array().unwrap() {
            let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
            assert_eq!(layer["mediaType"], kind);
        }
        let list = &config["smidge.build.cache.v1"];
        assert_eq!(list["mounts"][0]["id"], "/c");
        // Again, with all that is known by now.
        let again = context.path().join("again");
        let to = format!(
            "--cache-to type=local,dest={},mounts=/c;/c",
            again.display()
        );
        build(&context, &to);
        assert_eq!(documents(&again, "latest").0, digest);
        digests.push(digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_registry_carries_what_programs_have_made() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let Some((ours, theirs)) = two(SELF, &dockerfile()) else {
        return;
    };
    let name = format!("{}/some/cache:1", registry.host());
    let to = format!("--cache-to type=registry,ref={name},mode=max,compression=zstd");
    let said = said(&ours, &to);
    let (_, digest) = registry.manifest("some/cache", "1");
    assert!(
        said.contains(&format!("exporting cache to {name}")),
        "{said}"
    );
    let manifest = format!("writing cache image manifest {digest}");
    assert!(said.contains(&manifest), "{said}");
    let id = build(&ours, "");
    assert_eq!(build(&theirs, &format!("--cache-from {name}")), id);
    // What comes from there goes there again.
    let Some(third) = machine(SELF, &dockerfile()) else {
        return;
    };
    let both = format!("--cache-from {name} --cache-to {name}");
    assert_eq!(build(&third, &both), id);
    assert_eq!(records(&config_of(&registry, "some/cache", "1")), 1);
}

/// The config of what a registry has.
fn config_of(registry: &Registry, repository: &str, tag: &str) -> Value {
    let (manifest, _) = registry.manifest(repository, tag);
    let config = manifest.json()["config"]["digest"].clone();
    let path = format!("/v2/{repository}/blobs/{}", config.as_str().unwrap());
    registry.get(&path).json()
}

#[test]
fn a_registry_of_smidges_own_carries_it_too() {
    let host = Context::new();
    let server = Server::over(&host);
    let file = dockerfile();
    for identity in identities() {
        let Some((ours, theirs)) = two(identity, &file) else {
            return;
        };
        let name = format!("{}/cache:{}", server.host, identity.name);
        let id = build(&ours, &format!("--cache-to {name}"));
        // Of the last stage alone: the other one is carried out here, and gives another file.
        let said = said(&theirs, &format!("--cache-from {name}"));
        assert_eq!(times(&said, "CACHED"), 1, "{said}");
        assert_ne!(build(&theirs, ""), id);
        let own = |context: &Context| context.line("run --rm built cat /own").ok();
        assert_eq!(own(&ours), own(&theirs));
    }
}

#[test]
fn an_image_carries_its_own_cache() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let file = format!("FROM busybox AS base\nRUN {UUID} > /a\nFROM base\nRUN {UUID} > /b\n");
    let Some((ours, theirs)) = two(SELF, &file) else {
        return;
    };
    let name = format!("{}/app:1", registry.host());
    let id = build(&ours, &format!("-t {name} --cache-to type=inline"));
    let other = "--build-arg BUILDKIT_INLINE_CACHE=1";
    assert_eq!(build(&ours, &format!("-t {name} {other}")), id);
    ours.line(&format!("push -q {name}")).ok();
    assert_eq!(records(&config_of(&registry, "app", "1")), 2);
    let options = format!("--cache-to type=inline --cache-from {name}");
    assert_eq!(build(&theirs, &options), id);
    // Who starts from it has not got its records.
    ours.write("d/Dockerfile", "FROM built\nRUN true\n");
    build(&ours, &format!("-t {}/next", registry.host()));
    ours.line(&format!("push -q {}/next", registry.host())).ok();
    let config = config_of(&registry, "next", "latest");
    assert_eq!(config["smidge.build.cache.v1"], Value::Null);
    let said = said(&theirs, &format!("--cache-from {}/next", registry.host()));
    assert!(
        said.contains("the image has no build cache in it"),
        "{said}"
    );
}

#[test]
fn stages_that_want_the_same_layer_fetch_it_once() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let stage = |name: &str| format!("FROM busybox AS {name}\nRUN {UUID} > /same\n");
    let last =
        "FROM scratch\nCOPY --from=a /same /a\nCOPY --from=b /same /b\nCOPY --from=c /same /c\n";
    let file = [stage("a"), stage("b"), stage("c"), last.to_owned()].concat();
    let Some((ours, theirs)) = two(SELF, &file) else {
        return;
    };
    // Of three that are made at once, one is kept.
    build(&ours, "");
    let id = build(
        &ours,
        &format!("--cache-to {}/c,", registry.host()).replace("c,", "c"),
    );
    let to = format!(
        "--cache-to type=registry,ref={}/c,mode=max",
        registry.host()
    );
    assert_eq!(build(&ours, &to), id);
    assert_eq!(
        build(&theirs, &format!("--cache-from {}/c", proxy.host())),
        id
    );
    // The list, and the one layer.
    assert_eq!(proxy.requests("GET", "/blobs/").len(), 2);
}

#[test]
fn skopeo_reads_what_was_exported() {
    if !have("skopeo") {
        return;
    }
    let Some(context) = machine(SELF, &dockerfile()) else {
        return;
    };
    build(&context, "--cache-to type=local,dest=cache,tag=one");
    build(
        &context,
        "--cache-to type=local,dest=cache,tag=two,mode=max",
    );
    let layout = context.path().join("cache");
    for (tag, count) in [("one", 1), ("two", 2)] {
        let (_, manifest, config) = documents(&layout, tag);
        let raw = skopeo(&context, &format!("inspect --raw oci:cache:{tag}")).ok();
        let raw: Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(raw, manifest);
        assert_eq!(records(&config), count);
    }
}

#[test]
fn cache_mounts_go_along_when_that_is_asked_for() {
    for identity in identities() {
        let run = |command: &str| {
            format!(
                "FROM busybox\nRUN --mount=type=cache,id=m,target=/c,uid=7,mode=750 {command}\n"
            )
        };
        let fill =
            "mkdir /c/d && echo kept > /c/d/x && chown 1000:2000 /c/d/x && chmod 4701 /c/d/x";
        let Some((ours, theirs)) = two(identity, &run(fill)) else {
            return;
        };
        let layout = ours.path().join("cache");
        let to = |mounts: &str| {
            let to = format!("--cache-to type=local,dest={}{mounts}", layout.display());
            build(&ours, &to);
        };
        to(",mounts=m");
        let from = format!("--cache-from type=local,src={}", layout.display());
        let look = "{ stat -c '%u %g %a' /c /c/d/x; cat /c/d/x; } > /seen";
        theirs.write("d/Dockerfile", run(look));
        let passed = theirs.path().join("passed");
        build(&theirs, &from);
        let seen = |context: &Context| context.line("run --rm built cat /seen").ok();
        assert_eq!(
            seen(&theirs),
            "7 0 750\n1000 2000 4701\nkept",
            "{}",
            identity.name
        );
        let to_passed = format!(
            "--cache-to type=local,dest={},mounts=true",
            passed.display()
        );
        build(&theirs, &to_passed);
        let mount = |layout: &Path| {
            documents(layout, "latest").2["smidge.build.cache.v1"]["mounts"].clone()
        };
        assert_eq!(mount(&passed), mount(&layout));

        // What is there stays.
        let Some(third) = machine(identity, &run("echo own > /c/own")) else {
            return;
        };
        build(&third, "");
        third.write("d/Dockerfile", run("ls /c > /seen"));
        build(&third, &from);
        assert_eq!(seen(&third), "own");

        // Without being asked for, none goes along.
        to("");
        assert_eq!(mount(&layout), Value::Null);
    }
}

#[test]
fn cache_mounts_are_handed_on_where_no_step_is_carried_out() {
    let file = "FROM busybox\nRUN --mount=type=cache,id=m,target=/c echo 1 > /c/x; echo 2 > /y\n";
    let Some((ours, theirs)) = two(SELF, file) else {
        return;
    };
    let (first, second) = (ours.path().join("cache"), theirs.path().join("cache"));
    let to = |layout: &Path| {
        format!(
            "--cache-to type=local,dest={},mounts=true",
            layout.display()
        )
    };
    build(&ours, &to(&first));
    let from = format!("--cache-from type=local,src={}", first.display());
    build(&theirs, &format!("{from} {}", to(&second)));
    assert_eq!(
        documents(&second, "latest").0,
        documents(&first, "latest").0
    );
}

#[test]
fn what_cannot_be_had_is_made_here() {
    let Some((ours, theirs)) = two(SELF, &dockerfile()) else {
        return;
    };
    let layout = ours.path().join("cache");
    let shown = layout.display();
    let id = build(
        &ours,
        &format!("--cache-to type=local,dest={shown},mode=max"),
    );
    let from = format!("--cache-from type=local,src={shown}");
    let gone = "the build goes on without it";
    for (source, why) in [
        ("type=local,src=nowhere", "No such file"),
        (
            &*format!("type=local,src={shown},tag=other"),
            "it has no tag `other`",
        ),
        ("localhost:1/a/b", "the registry cannot be reached"),
    ] {
        let said = said(&theirs, &format!("--cache-from {source}"));
        assert!(said.contains(why) && said.contains(gone), "{said}");
        theirs.line("builder prune -a -f").ok();
    }
    // A layer that is damaged is told of; the others are taken.
    let (digest, manifest, _) = documents(&layout, "latest");
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    let path = blob(&layout, layers[0]["digest"].as_str().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&path, bytes).unwrap();
    let output = said(&theirs, &from);
    assert!(
        output.contains("is damaged") && output.contains("carried out here"),
        "{output}"
    );
    assert_eq!(times(&output, "CACHED"), 1, "{output}");
    assert_ne!(build(&theirs, ""), id);
    // As is a list.
    fs::write(blob(&layout, &digest), "{}").unwrap();
    let output = said(&theirs, &from);
    assert!(
        output.contains("is damaged") && output.contains(gone),
        "{output}"
    );
}

#[test]
fn what_cannot_be_exported_is_an_error_unless_that_is_not_to_matter() {
    let Some(context) = machine(SELF, &dockerfile()) else {
        return;
    };
    let line = |more: &str| {
        context.line(&format!(
            "build -t built --cache-to type=registry,ref=localhost:1/a{more} d"
        ))
    };
    line("").says(1, &["cannot export the build cache", "ignore-error=true"]);
    line(",ignore-error=true").says(0, &["cannot export the build cache"]);
    context.line("run --rm built true").ok();
}

#[test]
fn who_wants_no_cache_gets_none() {
    let Some((ours, theirs)) = two(SELF, &dockerfile()) else {
        return;
    };
    let layout = ours.path().join("cache");
    let shown = layout.display();
    let id = build(
        &ours,
        &format!("--cache-to type=local,dest={shown},mode=max"),
    );
    let said = said(
        &theirs,
        &format!("--no-cache --cache-from type=local,src={shown}"),
    );
    assert!(
        !said.contains("importing") && !said.contains("CACHED"),
        "{said}"
    );
    assert_ne!(build(&theirs, ""), id);
}

#[test]
fn options_that_make_no_sense_are_told() {
    let Some(context) = machine(SELF, &dockerfile()) else {
        return;
    };
    for (option, why) in [
        ("--cache-to type=gha", "cannot keep a cache in `type=gha`"),
        (
            "--cache-from type=s3,bucket=b",
            "cannot keep a cache in `type=s3`",
        ),
        ("--cache-to type=tape", "unknown type `tape`"),
        ("--cache-to ref=a", "it has no type"),
        ("--cache-to type=registry", "it names no image"),
        ("--cache-to type=registry,ref=a,mode=most", "`min` or `max`"),
        ("--cache-to type=registry,ref=a,src=b", "unknown `src`"),
        (
            "--cache-to type=registry,ref=a,dest=b",
            "`type=registry` has no `dest`",
        ),
        ("--cache-to type=local", "it names no directory"),
        (
            "--cache-to type=local,dest=a,compression=lzma",
            "unknown compression `lzma`",
        ),
        (
            "--cache-to type=local,dest=a,ignore-error=maybe",
            "`true` or `false`",
        ),
        (
            "--cache-to type=inline,mounts=true",
            "does not carry cache mounts",
        ),
        ("--cache-from type=inline", "found in a registry"),
        ("--cache-from type=local,src=a,digest=b", "digest"),
    ] {
        context
            .line(&format!("build {option} d"))
            .says(1, &["error: invalid", why]);
    }
    context.copy(crate::fixture::hello(), "hello");
    let line = "build --cache-to type=local,dest=a hello";
    context.line(line).says(1, &["are for Dockerfiles"]);
}

#[test]
fn a_step_is_known_by_what_it_sees_and_not_by_where_that_lies() {
    let file = "FROM busybox AS one\nRUN mkdir /d && echo 1 > /d/one\n\
        FROM busybox\nCOPY <<EOF /inline\ntext\nEOF\nADD more.tar /more/\nWORKDIR /w\nENV A=b\n\
        RUN --mount=type=bind,target=/src --mount=type=bind,from=one,source=/d,target=/one \\\n\
        --mount=type=secret,id=s --mount=type=tmpfs,target=/t \\\n\
        cat /src/source /one/one /proc/sys/kernel/random/uuid > /seen\n\
        RUN <<EOF\ncat /proc/sys/kernel/random/uuid > /script\nEOF\n";
    let Some((ours, theirs)) = two(SELF, file) else {
        return;
    };
    ours.write("secret", "one");
    theirs.write("secret", "another");
    for context in [&ours, &theirs] {
        // Made in another order, at another time, with other modes above it.
        context.write("d/more/a", "a");
        let archive = context.path().join("d/more.tar");
        let mut tar = context.program("tar");
        tar.args([
            "--mtime=@9",
            "--owner=0",
            "--group=0",
            "-C",
            "d/more",
            "-cf",
        ]);
        tar.arg(archive).arg("a");
        context.finish(tar).ok();
        fs::remove_dir_all(context.path().join("d/more")).unwrap();
    }
    let source = theirs.path().join("d/source");
    fs::remove_file(&source).unwrap();
    theirs.write("d/source", "the same everywhere");
    let name = ours.path().join("cache");
    let to = format!(
        "--secret id=s,src=secret --cache-to type=local,dest={},mode=max",
        name.display()
    );
    let id = build(&ours, &to);
    let from = format!(
        "--secret id=s,src=secret --cache-from type=local,src={}",
        name.display()
    );
    let output = said(&theirs, &from);
    assert_eq!(times(&output, "CACHED"), 3, "{output}");
    assert_eq!(build(&theirs, "--secret id=s,src=secret"), id);
    // Another file is another step.
    theirs.write("d/source", "another one");
    let output = said(&theirs, &from);
    assert_eq!(times(&output, "CACHED"), 1, "{output}");
}

#[test]
fn what_comes_compressed_goes_on_as_it_came() {
    let Some((ours, theirs)) = two(SELF, &dockerfile()) else {
        return;
    };
    let (first, second) = (ours.path().join("cache"), theirs.path().join("cache"));
    let more = "mode=max,compression=zstd";
    build(
        &ours,
        &format!("--cache-to type=local,dest={},{more}", first.display()),
    );
    let from = format!("--cache-from type=local,src={}", first.display());
    build(
        &theirs,
        &format!(
            "{from} --cache-to type=local,dest={},{more}",
            second.display()
        ),
    );
    assert_eq!(
        documents(&second, "latest").0,
        documents(&first, "latest").0
    );
    // Nothing was compressed for it.
    assert!(!theirs.store().join("cache/transfer").exists());
    // In another form, it is.
    build(
        &theirs,
        &format!(
            "{from} --cache-to type=local,dest={},mode=max",
            second.display()
        ),
    );
    let (_, manifest, _) = documents(&second, "latest");
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    assert_eq!(manifest["layers"][0]["mediaType"], kind);
}

#[test]
fn platforms_share_a_cache() {
    let file = format!(
        "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\n\
         RUN {UUID} > /$TARGETARCH\nFROM scratch\nARG TARGETARCH\nCOPY --from=build /$TARGETARCH /made\n"
    );
    let Some((ours, theirs)) = two(SELF, &file) else {
        return;
    };
    let layout = ours.path().join("cache");
    let platforms = "--no-prove --platform linux/amd64,linux/arm64";
    let to = format!(
        "{platforms} --cache-to type=local,dest={},mode=max",
        layout.display()
    );
    let id = build(&ours, &to);
    assert_eq!(records(&documents(&layout, "latest").2), 2);
    let from = format!(
        "{platforms} --cache-from type=local,src={}",
        layout.display()
    );
    assert_eq!(build(&theirs, &from), id);
}

#[test]
fn a_registry_that_fails_half_way_fails_no_build() {
    let Some(registry) = Registry::plain() else {
        return;
    };
    let proxy = Proxy::before(&registry);
    let Some((ours, theirs)) = two(SELF, &dockerfile()) else {
        return;
    };
    let id = build(
        &ours,
        &format!(
            "--cache-to type=registry,ref={}/c,mode=max",
            registry.host()
        ),
    );
    let answer = Message::new("HTTP/1.1 403 Forbidden", "");
    // The list comes, no layer does.
    proxy.later(("GET", "/blobs/"), 1, usize::MAX, Fault::Answer(answer));
    let from = format!("--cache-from {}/c", proxy.host());
    let output = said(&theirs, &from);
    assert!(output.contains("the step is carried out here"), "{output}");
    assert_eq!(times(&output, "CACHED"), 0, "{output}");
    assert_ne!(build(&theirs, ""), id);
}

#[test]
fn a_registry_that_wants_a_login_gets_it() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    let Some((ours, theirs)) = two(SELF, &dockerfile()) else {
        return;
    };
    let name = format!("{}/some/cache", registry.host());
    let to = format!("build -t built --cache-to type=registry,ref={name},mode=max d");
    ours.line(&to).says(1, &["access denied", "smidge login"]);
    login(&ours, &registry.host()).ok();
    let id = build(
        &ours,
        &format!("--cache-to type=registry,ref={name},mode=max"),
    );
    let output = said(&theirs, &format!("--cache-from {name}"));
    assert!(
        output.contains("access denied") && output.contains("goes on without it"),
        "{output}"
    );
    theirs.line("builder prune -a -f").ok();
    login(&theirs, &registry.host()).ok();
    assert_eq!(build(&theirs, &format!("--cache-from {name}")), id);
}
