//! What becomes of a Dockerfile's image in the end: layers that are made one, files that are left out,
//! and bases that come out of OCI layouts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use smidge_tests::InTime as _;

use crate::context::{Context, have, skip};
use crate::fixture::{self, with_busybox};
use crate::tool;

/// Steps that undo and redo each other's work, over a base with files to remove.
const BUSY: &str = "\
FROM busybox
RUN mkdir /d && echo a > /d/a && ln /d/a /d/hard && echo b > /d/b && chown 1000:2000 /d/a && chmod 4755 /d/a
RUN rm /etc/group && rm -r /home && mkdir /home && echo new > /home/n && ln -s n /home/link
COPY f own /d/
RUN rm /d/b && echo more >> /d/f && mkfifo -m 600 /d/pipe && rm /d/n && mkdir /d/n && touch /d/n/below
RUN rm /d/a && mv /d/hard /d/moved && ln /d/moved /d/twin && chmod 700 /d
ENV A=1
COPY --chown=7:8 f /bin/added
";

/// Writes what [`BUSY`] copies.
fn busy(context: &Context, dockerfile: &str) {
    context.write("Dockerfile", dockerfile);
    context.write("f", "file\n");
    context.write("own/n", "a file first\n");
}

/// Builds with the words of a line; gives the image's files: what `tar` says of each of them.
fn files(context: &Context, line: &str) -> BTreeMap<String, String> {
    context
        .line(&format!("build -q -o type=tar,dest=files.tar {line}"))
        .ok();
    listed(context, &context.path().join("files.tar"))
}

/// What `tar` says of each member: mode, owner, size, time, link.
fn listed(context: &Context, archive: &Path) -> BTreeMap<String, String> {
    let mut tar = context.program("tar");
    tar.args(["--numeric-owner", "--full-time", "-tvf"])
        .arg(archive);
    let listed = context.finish(tar).ok();
    let member = |line: &str| {
        // mode, owner, size, date, time, name
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words[5..].join(" ");
        let path = name.split(" link to ").next().unwrap();
        let path = path.split(" -> ").next().unwrap();
        (
            path.trim_end_matches('/').to_owned(),
            line.split_whitespace().collect::<Vec<_>>().join(" "),
        )
    };
    listed.lines().map(member).collect()
}

fn inspect(context: &Context, image: &str) -> Value {
    let text = context.line(&format!("inspect {image}")).ok();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[0].clone()
}

/// The members of an image's uppermost layer, sorted.
fn top_layer(context: &Context, image: &str) -> Vec<String> {
    let image = inspect(context, image);
    let layers = image["RootFS"]["Layers"].as_array().unwrap();
    let hex = layers.last().unwrap().as_str().unwrap();
    let hex = hex.strip_prefix("sha256:").unwrap();
    let blob = context.store().join("blobs/sha256").join(hex);
    let names = listed(context, &blob);
    names.into_keys().collect()
}

fn layers(context: &Context, image: &str) -> usize {
    inspect(context, image)["RootFS"]["Layers"]
        .as_array()
        .unwrap()
        .len()
}

#[test]
fn squashed_layers_hold_what_the_layers_held() {
    with_busybox(|context| {
        busy(context, BUSY);
        let apart = files(context, ".");
        let squashed = files(context, "--squash .");
        assert_eq!(apart, squashed);
        context.line("build -q -t apart .").ok();
        context.line("build -q --squash -t squashed .").ok();
        assert_eq!(layers(context, "apart"), 7, "{BUSY}");
        assert_eq!(layers(context, "squashed"), 2);
        let expected = [
            "bin",
            "bin/added",
            "d",
            "d/f",
            "d/moved",
            "d/n",
            "d/n/below",
            "d/pipe",
            "d/twin",
            "etc",
            "etc/.wh.group",
            "home",
            "home/.wh..wh..opq",
            "home/link",
            "home/n",
        ];
        assert_eq!(top_layer(context, "squashed"), expected);
        context
            .line("run --rm squashed sh -c ls\u{20}-l\u{20}/d")
            .exits(0);
    });
}

#[test]
fn a_squashed_image_tells_what_was_done_as_docker_does() {
    with_busybox(|context| {
        busy(context, BUSY);
        let apart = context.line("build -q -t apart .").ok();
        context.line("build -q --squash -t squashed .").ok();
        let base = inspect(context, "busybox")["Id"]
            .as_str()
            .unwrap()
            .to_owned();
        let history = |image: &str| -> Vec<Value> {
            let hex = inspect(context, image)["Id"].as_str().unwrap()[7..].to_owned();
            let config = context.store().join("blobs/sha256").join(hex);
            let config = std::fs::read(config).unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            config["history"].as_array().unwrap().clone()
        };
        let (old, mut new) = (history("apart"), history("squashed"));
        let last = new.pop().unwrap();
        assert_eq!(last["comment"], format!("merge {apart} to {base}"));
        assert_eq!(last.get("empty_layer"), None);
        assert_eq!(new.len(), old.len());
        for (number, (old, new)) in old.iter().zip(&new).enumerate() {
            assert_eq!(old["created_by"], new["created_by"]);
            // The first entry is the base's.
            assert_eq!(new["empty_layer"] == true, number > 0, "{number}: {new}");
        }
        let config = |image: &str| inspect(context, image)["Config"].clone();
        assert_eq!(config("apart"), config("squashed"));
    });
}

#[test]
fn squashed_images_are_the_same_for_everybody_and_again() {
    let ids = std::sync::Mutex::new(BTreeMap::new());
    with_busybox(|context| {
        busy(context, BUSY);
        let first = context.line("build -q --squash .").ok();
        assert_eq!(context.line("build -q --squash .").ok(), first);
        let again = context.line("build -q --squash --no-cache .").ok();
        assert_eq!(again, first);
        // The cache of the steps is as it was.
        let mut build = context.line_command("build --progress=plain .");
        build.arg("--squash");
        let shown = context.finish(build).exits(0);
        assert!(shown.contains("CACHED"), "{shown}");
        ids.lock().unwrap().insert(first, context.identity().name);
    });
    let ids = ids.into_inner().unwrap();
    assert!(ids.len() <= 1, "{ids:?}");
}

#[test]
fn what_is_only_copied_is_squashed_too() {
    let context = Context::new();
    context.write("a", "a\n");
    context.write("b", "b\n");
    context.write(
        "Dockerfile",
        "FROM scratch AS one\nCOPY a b /x/\nFROM one\nCOPY b /x/a\nCOPY --chown=5 --chmod=600 a /y\nCMD [\"/y\"]\n",
    );
    let apart = files(&context, "--no-prove .");
    assert_eq!(files(&context, "--no-prove --squash ."), apart);
    let id = context.line("build -q --no-prove -t apart .").ok();
    context.line("build -q --no-prove --squash -t one .").ok();
    assert_eq!(layers(&context, "one"), 1);
    let history = context
        .line("history --no-trunc --format {{.Comment}} one")
        .ok();
    assert!(
        history.contains(&format!("create new from {id}")),
        "{history}"
    );
    // Nothing to squash.
    context.write("Dockerfile", "FROM one\nENV A=1\n");
    context.line("build -q --no-prove --squash -t two .").ok();
    assert_eq!(layers(&context, "two"), 1);
}

#[test]
fn every_platform_is_squashed() {
    let context = Context::new();
    context.write("a", "a\n");
    context.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\nCOPY a /all\n",
    );
    let platforms = "--platform linux/amd64,linux/arm64";
    context
        .line(&format!(
            "build -q --squash {platforms} -o type=oci,dest=layout ."
        ))
        .ok();
    context.line("load -i layout").ok();
    let list = context.path().join("layout/index.json");
    assert!(list.is_file());
    for (platform, file) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64")] {
        context
            .line(&format!(
                "build -q --squash --platform {platform} -t {file} ."
            ))
            .ok();
        assert_eq!(top_layer(&context, file), ["all", file]);
        assert_eq!(layers(&context, file), 1);
    }
}

#[test]
fn other_tools_unpack_a_squashed_image_to_the_same_files() {
    if !have("umoci") || !rustix::process::geteuid().is_root() {
        return;
    }
    let context = Context::new();
    fixture::load_busybox(&context);
    busy(&context, BUSY);
    let mut unpacked = Vec::new();
    for (name, options) in [("apart", ""), ("squashed", "--squash")] {
        context
            .line(&format!("build -q {options} -t {name} ."))
            .ok();
        context
            .line(&format!("save --format oci -o {name}.oci {name}"))
            .ok();
        let mut umoci = context.program("umoci");
        let image = format!("{name}.oci:docker.io/library/{name}:latest");
        umoci.args(["unpack", "--image", &image, &format!("{name}.d")]);
        context.finish(umoci).ok();
        let mut find = context.program("find");
        find.args([".", "-printf", "%p %y %m %U:%G %n %l\n"]);
        find.current_dir(context.path().join(format!("{name}.d/rootfs")));
        let found = context.finish(find).ok();
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        unpacked.push(found);
    }
    assert_eq!(unpacked[0], unpacked[1]);
}

/// A small distribution with glibc: a shell, two libraries that nobody needs, data, users, and a program
/// that is linked to a library which only the loader's cache finds. Gives the program's place.
fn distribution(context: &Context) -> bool {
    if !have("gcc") || !have("ldconfig") {
        return false;
    }
    let dynamic = fixture::dynamic();
    let ldd = Command::new("ldd").arg(dynamic).output_in_time().unwrap();
    let ldd = String::from_utf8(ldd.stdout).unwrap();
    let libraries: Vec<PathBuf> = ldd
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect();
    for library in &libraries {
        context.copy(library, &format!("base{}", library.display()));
    }
    context.write("base/usr/share/doc/big", vec![7; 1 << 20]);
    context.write("base/usr/lib/python3/os.py", "pass\n");
    context.write("base/etc/nsswitch.conf", "hosts: files dns\n");
    context.write("base/etc/ssl/certs/ca-certificates.crt", "certificates\n");
    context.write("base/usr/share/zoneinfo/Europe/Berlin", "zone\n");
    context.write("base/usr/share/zoneinfo/UTC", "zone\n");
    context.copy(dynamic, "base/usr/bin/hello");
    context.write(
        "base.Dockerfile",
        "FROM busybox\nCOPY base /\nRUN ln -s hello /usr/bin/greet\n",
    );
    context.line("build -q -f base.Dockerfile -t base .").ok();
    true
}

/// What is said of a slim image's weight is its own, not its base's.
fn weighs_less_in_transit(context: &Context) {
    let described = context.line("build --slim-final -t told --json .").ok();
    let described: Value = serde_json::from_str(&described).unwrap();
    let sizes = &described["sizes"];
    let about = sizes["transfer"]["about"].as_u64().unwrap();
    assert!(about < sizes["disk"].as_u64().unwrap(), "{described}");
}

#[test]
fn a_slim_image_holds_what_its_program_needs_and_starts() {
    with_busybox(|context| {
        if !distribution(context) {
            return;
        }
        context.write("data/conf", "setting\n");
        context.write(
            "Dockerfile",
            "FROM base\nRUN touch /made\nCOPY data /srv/\nWORKDIR /work\nVOLUME /var/data\nUSER app\nENV TZ=UTC\nENTRYPOINT [\"greet\"]\nCMD [\"there\"]\n",
        );
        context.line("build -q -t full .").ok();
        let mut build = context.line_command("build --slim-final -t slim --metadata-file m.json .");
        build.env("SOURCE_DATE_EPOCH", "1000");
        let told = context.finish(build).exits(0);
        assert!(
            told.contains("kept ") && told.contains(" files, "),
            "{told}"
        );
        assert!(told.contains("needed by `/usr/bin/hello`"), "{told}");
        weighs_less_in_transit(context);
        assert_eq!(context.line("run --rm slim").ok(), "hello there");
        assert_eq!(context.line("run --rm slim you").ok(), "hello you");
        assert_eq!(layers(context, "slim"), 1);
        let names = top_layer(context, "slim");
        for wanted in [
            "usr/bin/greet",
            "usr/bin/hello",
            "srv/conf",
            "work",
            "etc/passwd",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/ssl/certs/ca-certificates.crt",
            "tmp",
            "home/app",
            "usr/share/zoneinfo/UTC",
        ] {
            assert!(
                names.iter().any(|name| name == wanted),
                "{wanted}: {names:?}"
            );
        }
        for gone in [
            "usr/share/doc/big",
            "bin/busybox",
            "made",
            "usr/lib/python3",
            "usr/share/zoneinfo/Europe",
        ] {
            assert!(!names.iter().any(|name| name == gone), "{gone}: {names:?}");
        }
        let config = |image: &str| inspect(context, image)["Config"].clone();
        assert_eq!(config("full"), config("slim"));
        // Each file as it was.
        let (full, slim) = (files(context, "."), files(context, "--slim-final ."));
        for (name, member) in &slim {
            assert_eq!(full.get(name), Some(member));
        }
        assert!(slim.len() < full.len() / 4, "{} {}", slim.len(), full.len());
    });
}

#[test]
fn scripts_cannot_be_slimmed_without_a_word_from_their_author() {
    with_busybox(|context| {
        context.write("run.sh", "#!/bin/sh\ncat /etc/passwd\n");
        context.write("notes", "notes\n");
        let dockerfile = "FROM busybox\nCOPY --chmod=755 run.sh /\nCOPY notes /opt/\nRUN mkdir /lib && touch /lib/one /lib/two\nENTRYPOINT [\"/run.sh\"]\n";
        context.write("Dockerfile", dockerfile);
        context.line("build -q --slim-final -t slim .").says(
            1,
            &["cannot tell what the image needs", "/bin/sh", "--keep PATH"],
        );
        context.line("inspect slim").exits(1);
        context
            .line("build -q --slim-final --keep /bin/c* --keep lib -t slim .")
            .ok();
        let said = context.line("run --rm slim").ok();
        assert!(said.starts_with("root:"), "{said}");
        let names = top_layer(context, "slim");
        for wanted in [
            "run.sh",
            "bin/sh",
            "bin/busybox",
            "bin/cat",
            "opt/notes",
            "lib/one",
            "lib/two",
        ] {
            assert!(
                names.iter().any(|name| name == wanted),
                "{wanted}: {names:?}"
            );
        }
        assert!(!names.iter().any(|name| name == "bin/vi"), "{names:?}");
        context
            .line("build -q --slim-final --keep /none* .")
            .says(1, &["`/none*` is not in the image"]);
        // The same for the shell form, and for a health check.
        context.write("Dockerfile", "FROM busybox\nCMD cat /etc/passwd\n");
        context
            .line("build -q --slim-final .")
            .says(1, &["cannot tell"]);
        context.write(
            "Dockerfile",
            "FROM busybox\nHEALTHCHECK CMD cat /x\nENTRYPOINT [\"/bin/cat\"]\n",
        );
        context
            .line("build -q --slim-final .")
            .says(1, &["cannot tell"]);
        context.write(
            "Dockerfile",
            "FROM busybox\nHEALTHCHECK CMD [\"ls\", \"/\"]\nENTRYPOINT [\"/bin/cat\", \"/etc/hosts\"]\n",
        );
        context.line("build -q --slim-final -t slim .").ok();
        let names = top_layer(context, "slim");
        assert!(names.iter().any(|name| name == "bin/ls"), "{names:?}");
    });
}

#[test]
fn what_cannot_be_slimmed_is_told() {
    let context = Context::new();
    context.write("Dockerfile", "FROM scratch\nENV A=1\n");
    context
        .line("build -q --slim-final .")
        .says(1, &["there is nothing to keep", "--keep PATH"]);
    context.line("build -q --keep /x .").exits(1);
    context.copy(fixture::hello(), "hello");
    context
        .line("build -q --slim-final hello")
        .says(1, &["`--slim-final` is for Dockerfiles"]);
    context.write(
        "Dockerfile",
        "FROM scratch\nCOPY hello /\nENTRYPOINT [\"/helo\"]\n",
    );
    context
        .line("build -q --slim-final .")
        .says(1, &["`/helo`"]);
    context.write(
        "Dockerfile",
        "FROM scratch\nCOPY hello /\nENTRYPOINT [\"/hello\"]\n",
    );
    context.line("build -q --slim-final -t slim .").ok();
    assert_eq!(context.line("run --rm slim x").ok(), "hello x");
    assert_eq!(top_layer(&context, "slim"), ["hello"]);
}

#[test]
fn an_image_in_a_layout_is_a_build_context() {
    with_busybox(|context| {
        context.write(
            "Dockerfile",
            "FROM busybox\nENV FROM_BASE=yes\nWORKDIR /made\nRUN echo text > file && chown 1000:2000 file\nONBUILD RUN touch /triggered\n",
        );
        context.line("build -q -t made:v1 .").ok();
        context.line("save --format oci -o in/layout made:v1").ok();
        context.line("rmi made:v1").ok();
        context.write(
            "Dockerfile",
            "FROM base\nRUN echo $FROM_BASE > seen && ls /triggered\nCOPY --from=other /made/file /copied\n",
        );
        for value in ["in/layout", "./in/layout:v1"] {
            let images = context.line("images -a -q").ok();
            context
                .line(&format!(
                    "build -q -t got --build-context base=oci-layout://{value} --build-context other=oci-layout://{value} ."
                ))
                .ok();
            let seen = context.line("run --rm got cat /made/seen").ok();
            assert_eq!(seen, "yes", "the base's environment and directory");
            let names = top_layer(context, "got");
            assert_eq!(names, ["copied"]);
            let built = files(
                context,
                &format!(
                    "--build-context base=oci-layout://{value} --build-context other=oci-layout://{value} ."
                ),
            );
            assert!(built["copied"].contains(" 1000/2000 "), "{built:?}");
            context.line("rmi got").ok();
            assert_eq!(context.line("images -a -q").ok(), images, "no other name");
        }
        context
            .line("build -q --build-context base=oci-layout://in/layout:v2 --build-context other=docker-image://busybox .")
            .says(1, &["v2", "oci-layout://in/layout:v2"]);
        context
            .line("build -q --build-context base=oci-layout://nowhere --build-context other=docker-image://busybox .")
            .says(1, &["nowhere"]);
        context
            .line("build -q --build-context base=target:x .")
            .says(1, &["`target:` is for bake files alone", "FROM x"]);
    });
}

/// The digest that the index of the only image in `layout` has for an architecture.
fn listed_for(context: &Context, architecture: &str) -> String {
    let read = |path: &str| -> Value {
        let text = std::fs::read(context.path().join("layout").join(path)).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let index = read("index.json");
    let list = index["manifests"][0]["digest"].as_str().unwrap();
    let list = read(&format!("blobs/{}", list.replace(':', "/")));
    let mut entries = list["manifests"].as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["platform"]["architecture"] == architecture);
    entry.unwrap()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_layout_of_several_platforms_gives_each_its_own() {
    let context = Context::new();
    context.write("a", "a\n");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n";
    context.write("Dockerfile", dockerfile);
    let platforms = "--platform linux/amd64,linux/arm64";
    context
        .line(&format!(
            "build -q -t two:v1 {platforms} -o type=oci,dest=layout ."
        ))
        .ok();
    context.write("Dockerfile", "FROM base\nCOPY --from=base / /again/\n");
    context
        .line(&format!(
            "build -q -t got {platforms} --build-context base=oci-layout://layout ."
        ))
        .ok();
    for arch in ["amd64", "arm64"] {
        let mut save = context.line_command("save --platform");
        save.arg(format!("linux/{arch}"))
            .args(["-o", "got.tar", "got"]);
        context.finish(save).ok();
        let names = files(
            &context,
            &format!("--platform linux/{arch} --build-context base=oci-layout://layout ."),
        );
        let names: Vec<_> = names.into_keys().collect();
        assert_eq!(names, ["again", &format!("again/{arch}"), arch]);
    }
    // One of them, by its digest.
    let digest = listed_for(&context, "arm64");
    let names = files(
        &context,
        &format!("--platform linux/arm64 --build-context base=oci-layout://layout@{digest} ."),
    );
    assert!(names.contains_key("arm64"), "{names:?}");
    context
        .line(&format!(
            "build -q --platform linux/amd64 --build-context base=oci-layout://layout@{digest} ."
        ))
        .says(1, &["linux/amd64"]);
    context
        .line("build -q --platform linux/s390x --build-context base=oci-layout://layout .")
        .says(1, &["linux/s390x"]);
    if have("skopeo") {
        tool::skopeo(&context, "copy --all oci:layout oci:copied:latest").ok();
        context
            .line("build -q --build-context base=oci-layout://copied .")
            .ok();
    } else {
        skip("no layout of another tool");
    }
}

#[test]
fn hard_links_stay_from_stage_to_stage() {
    with_busybox(|context| {
        context.write("d/one", "text\n");
        let mut link = context.program("ln");
        link.args(["d/one", "d/two"]);
        context.finish(link).ok();
        context.write(
            "Dockerfile",
            "FROM scratch AS copied\nCOPY d /d/\nFROM busybox\nCOPY --from=copied /d /e/\n",
        );
        let names = files(context, ".");
        assert!(names["e/two"].ends_with("link to e/one"), "{names:?}");
    });
}
