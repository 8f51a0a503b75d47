//! Layouts and archives that hold several images, and those who write them at the same time.

use serde_json::json;
use smidge_tests::InTime as _;

use super::{Two, copy, is_tidy, laid, names, write_blob, write_index};
use crate::context::Context;
use crate::craft::{self, Crafted, OCI};

fn small(seed: u64) -> Crafted {
    let noise = craft::noise(seed, 50_000);
    craft::image(&OCI, &[craft::archive(&[("noise", 0o644, &noise)])])
}

/// A layout with a named image, an image whose name is no reference, and a nameless one.
fn three(context: &Context) -> [Crafted; 3] {
    let images = [small(1), small(2), small(3)];
    for image in &images {
        for blob in image.blobs().chain([&image.manifest]) {
            write_blob(context, "three", blob);
        }
    }
    let mut entries = images.each_ref().map(|image| image.manifest.descriptor());
    for (entry, name) in entries.iter_mut().zip(["one:1", "Release_2"]) {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    write_index(context, "three", &entries);
    images
}

#[test]
fn one_of_several_is_named() {
    let context = Context::new();
    let [one, second, third] = three(&context);
    for (name, image) in [
        ("one:1", &one),
        ("docker.io/library/one:1", &one),
        ("Release_2", &second),
        (&third.manifest.digest, &third),
        (&*format!("@{}", third.manifest.digest), &third),
    ] {
        let digest = copy(&context, &format!("oci:three:{name} store:a"));
        assert_eq!(digest, image.manifest.digest, "{name}");
    }
    let mut tar = context.program("tar");
    tar.args("-C three -cf three.tar .".split(' '));
    context.finish(tar).ok();
    let digest = copy(&context, "oci-archive:three.tar:Release_2 oci:out:b");
    assert_eq!(digest, second.manifest.digest);
    // No blob of another image came along.
    assert_eq!(names(&context.path().join("out/blobs/sha256")).len(), 3);
    let list = format!("there is: one:1, Release_2, {}", third.manifest.digest);
    context.line("copy oci:three store:a").says(
        1,
        &[
            "error: cannot copy from `oci:three`: it holds 3 images\n",
            &list,
            "hint: say which: `oci:three:one:1`",
        ],
    );
    context.line("copy oci-archive:three.tar:none store:a").says(
        1,
        &[
            "error: cannot copy from `oci-archive:three.tar:none`: there is no image `none` in it\n",
            &list,
        ],
    );
    is_tidy(&context);
}

#[test]
fn one_of_several_in_a_docker_archive_is_named() {
    let context = Context::new();
    let images = three(&context);
    copy(&context, "oci:three:one:1 store:one:1");
    copy(&context, "oci:three:Release_2 store:two");
    context.line("tag one:1 uno").ok();
    context.line("save -o all.tar one:1 uno two").ok();
    for (name, image) in [("one:1", 0), ("uno", 0), ("two:latest", 1)] {
        copy(
            &context,
            &format!("docker-archive:all.tar:{name} store:back"),
        );
        let id = context.smidge(["inspect", "-f", "{{.Id}}", "back"]).ok();
        assert_eq!(id, images[image].id(), "{name}");
    }
    context.line("copy docker-archive:all.tar store:a").says(
        1,
        &[
            "error: cannot copy from `docker-archive:all.tar`: it holds 2 images\n",
            "there is: one:1, two:latest",
            "hint: say which: `docker-archive:all.tar:one:1`",
        ],
    );
    // One image under two names is one image.
    context.line("save -o one.tar one:1 uno").ok();
    copy(&context, "docker-archive:one.tar oci:layout:a");
}

#[test]
fn images_are_added_to_a_layout_by_many_at_once() {
    let context = Context::new();
    three(&context);
    copy(&context, "oci:three:one:1 store:one");
    let two = Two::new();
    two.lay(&context, "two", None);
    let lines: Vec<String> = (0..6)
        .map(|number| match number % 2 {
            0 => format!("copy -q store:one oci:out:n{number}"),
            _ => format!("copy -q --all oci:two oci:out:n{number}"),
        })
        .collect();
    let started = lines
        .iter()
        .map(|line| context.spawn(context.line_command(line)));
    let started: Vec<_> = started.collect();
    for (line, child) in lines.iter().zip(started) {
        let output = child.output_in_time().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
    }
    let out = context.path().join("out");
    for number in 0..6 {
        let digest = laid(&out, &format!("n{number}"));
        assert_eq!(digest == two.index.digest, number % 2 == 1);
    }
    assert_eq!(names(&out), ["blobs", "index.json", "oci-layout"]);
    let whole = |name: &String| name.len() == 64;
    assert!(names(&out.join("blobs/sha256")).iter().all(whole));
    // A name moves to what was copied last.
    copy(&context, "oci:three:Release_2 oci:out:n1");
    assert_ne!(laid(&out, "n1"), two.index.digest);
}

#[test]
fn files_are_replaced_whole_and_links_stay() {
    let context = Context::new();
    let [one, ..] = three(&context);
    context.write("real/out.tar", "old");
    std::os::unix::fs::symlink("real/out.tar", context.path().join("link.tar")).unwrap();
    for kind in ["oci-archive", "docker-archive"] {
        copy(&context, &format!("oci:three:one:1 {kind}:link.tar"));
        assert!(context.path().join("link.tar").is_symlink());
        let digest = copy(&context, &format!("{kind}:real/out.tar oci:back:a"));
        assert_eq!(digest, one.manifest.digest);
        assert_eq!(names(&context.path().join("real")), ["out.tar"]);
    }
    // To a pipe, it is written as it comes.
    let mut shell = context.program("sh");
    let script = "\"$0\" copy -q oci:three:one:1 docker-archive:/dev/stdout | tar -t";
    shell
        .args(["-c", script])
        .arg(crate::context::smidge_binary());
    let listed = context.finish(shell).ok();
    assert!(listed.contains("manifest.json"), "{listed}");
}

#[test]
fn an_image_may_be_copied_onto_itself() {
    let (context, two) = (Context::new(), Two::new());
    two.lay(&context, "two", Some("two"));
    let expected = &two.index.digest;
    for line in [
        "oci:two:two oci:two:two",
        "oci:two:two oci:two:other",
        "oci:two:two oci-archive:a.tar:x",
        "oci-archive:a.tar oci-archive:a.tar:y",
        "oci-archive:a.tar:y store:z",
        "store:z store:z",
        "store:z store:w",
    ] {
        assert_eq!(
            copy(&context, &format!("--all {line}")),
            *expected,
            "{line}"
        );
    }
    assert_eq!(laid(&context.path().join("two"), "two"), *expected);
    assert_eq!(laid(&context.path().join("two"), "other"), *expected);
}
