//! Bad input: a clear error, and nothing lost.

use std::io::Write as _;
use std::process::Command;

use smidge_tests::InTime as _;

use crate::context::{Context, have, skip};
use crate::fixture;

/// A store with one good image, whose survival each test checks.
fn with_good() -> Context {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context.line("build -q -t good hello").ok();
    context
}

/// Asserts that a command failed clearly, and that the store is whole.
#[track_caller]
fn refused(context: &Context, line: &str, texts: &[&str]) {
    let ran = context.line(line);
    assert!(
        [1, 2, 125].contains(&ran.code()),
        "{line}: {}: {}",
        ran.code(),
        ran.stderr()
    );
    assert!(
        ran.stderr().starts_with("error: "),
        "{line}: {}",
        ran.stderr()
    );
    for text in texts {
        assert!(
            ran.stderr().contains(text),
            "{line}: no `{text}` in:\n{}",
            ran.stderr()
        );
    }
    whole(context);
}

#[track_caller]
fn whole(context: &Context) {
    assert_eq!(
        context
            .smidge(["images", "--format", "{{.Repository}}"])
            .ok(),
        "good"
    );
    assert_eq!(context.line("run --rm good").ok(), "hello");
    let temporary = std::fs::read_dir(context.store().join("tmp"));
    assert_eq!(
        temporary.map_or(0, Iterator::count),
        0,
        "temporary files are left"
    );
}

#[test]
fn truncated_programs() {
    let context = with_good();
    let program = std::fs::read(fixture::hello()).unwrap();
    for length in [0, 1, 4, 16, 63, 64, 100, 1000] {
        context.write("short", &program[..length]);
        refused(&context, "build -t short short", &["short"]);
    }
}

#[test]
fn programs_with_every_header_byte_changed() {
    let context = with_good();
    let program = std::fs::read(fixture::hello()).unwrap();
    for place in 0..64 + 56 {
        for value in [0, 0x7f, 0xff] {
            let mut bad = program.clone();
            bad[place] = value;
            context.write("bad", bad);
            let ran = context.line("build -q --no-prove bad");
            assert!(
                [0, 1].contains(&ran.code()),
                "byte {place} = {value}: {}",
                ran.stderr()
            );
            let ran = context.line("ldd bad");
            assert!(
                [0, 1].contains(&ran.code()),
                "byte {place} = {value}: {}",
                ran.stderr()
            );
        }
    }
}

#[test]
fn things_that_are_no_program() {
    let context = with_good();
    context.write("text", "hello\n");
    context.write("script", "#!/bin/sh\necho\n");
    std::fs::create_dir(context.path().join("empty")).unwrap();
    refused(&context, "build text", &["text"]);
    refused(&context, "build script", &["script"]);
    refused(&context, "build empty", &["empty"]);
    refused(&context, "build absent", &["absent"]);
    refused(&context, "build /dev/null", &["/dev/null"]);
    refused(&context, "build --include absent:/x hello", &["absent"]);
    refused(&context, "build -t Bad:Tag hello", &["Bad:Tag"]);
    refused(
        &context,
        "build --output type=nonsense hello",
        &["nonsense"],
    );
    refused(&context, "ldd absent", &["absent"]);
}

#[test]
fn files_that_cannot_be_read() {
    let Some(user) = crate::context::identities()
        .into_iter()
        .find(|i| i.ids.is_some())
    else {
        skip("root reads everything");
        return;
    };
    let context = Context::of(user);
    context.copy(fixture::hello(), "hello");
    context.line("build -q -t good hello").ok();
    let mode = |mode| <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
    std::fs::set_permissions(context.path().join("hello"), mode(0)).unwrap();
    refused(&context, "build hello", &["hello", "denied"]);
}

#[test]
fn references_that_break_the_grammar() {
    let context = with_good();
    for name in [
        "UPPER",
        "a:b:c",
        "a//b",
        "-x",
        "a@sha256:12",
        "..",
        "x/",
        ":tag",
        "a:-",
    ] {
        for verb in [
            "tag good",
            "run --rm",
            "rmi",
            "save -o x.tar",
            "inspect --type image",
        ] {
            let mut command = context.line_command(verb);
            if name.starts_with('-') {
                command.arg("--");
            }
            command.arg(name);
            let ran = context.finish(command);
            assert!(
                [1, 125].contains(&ran.code()),
                "{verb} {name}: {}",
                ran.code()
            );
            assert!(!ran.stderr().is_empty());
        }
    }
    whole(&context);
}

#[test]
fn unknown_names() {
    let context = with_good();
    refused(&context, "run --rm --pull never goood", &["goood"]);
    refused(&context, "rmi absent", &["absent"]);
    refused(&context, "rm absent", &["absent"]);
    refused(&context, "stop absent", &["absent"]);
    refused(&context, "save -o x.tar absent", &["absent"]);
    assert!(
        !context.path().join("x.tar").exists(),
        "no empty archive is left"
    );
    refused(&context, "load -i absent.tar", &["absent.tar"]);
    refused(&context, "import absent.tar", &["absent.tar"]);
}

/// Writes a tar with Python, which lets one write what no tool writes.
fn archive(context: &Context, name: &str, body: &str) {
    let script = format!(
        "import io, json, tarfile, hashlib, gzip\n\
         out = tarfile.open('{name}', 'w', format=tarfile.PAX_FORMAT)\n\
         def add(name, data=b'', **more):\n\
         \x20   info = tarfile.TarInfo(name); info.size = len(data)\n\
         \x20   for key, value in more.items(): setattr(info, key, value)\n\
         \x20   out.addfile(info, io.BytesIO(data))\n\
         def layer(*members):\n\
         \x20   buffer = io.BytesIO(); tar = tarfile.open(fileobj=buffer, mode='w')\n\
         \x20   for name, data, more in members:\n\
         \x20       info = tarfile.TarInfo(name); info.size = len(data)\n\
         \x20       for key, value in more.items(): setattr(info, key, value)\n\
         \x20       tar.addfile(info, io.BytesIO(data))\n\
         \x20   tar.close(); return buffer.getvalue()\n\
         def image(layers, diffs=None, **more):\n\
         \x20   diffs = diffs or ['sha256:' + hashlib.sha256(l).hexdigest() for l in layers]\n\
         \x20   config = json.dumps(dict(architecture='amd64', os='linux', config=dict(Cmd=['/x']), rootfs=dict(type='layers', diff_ids=diffs), **more)).encode()\n\
         \x20   add('config.json', config)\n\
         \x20   for n, l in enumerate(layers): add(f'{{n}}/layer.tar', l)\n\
         \x20   add('manifest.json', json.dumps([dict(Config='config.json', RepoTags=['evil:latest'], Layers=[f'{{n}}/layer.tar' for n in range(len(layers))])]).encode())\n\
         {body}\n\
         out.close()\n"
    );
    let mut python = context.program("python3");
    python.args(["-c", &script]);
    context.finish(python).ok();
}

#[test]
fn archives_that_reach_outside() {
    if !have("python3") {
        return;
    }
    let context = with_good();
    for (name, body) in [
        ("dotdot", "image([layer(('../../escaped', b'x', {}))])"),
        (
            "link",
            "image([layer(('l', b'', dict(type=tarfile.SYMTYPE, linkname='/')), ('l/../../escaped', b'x', {}))])",
        ),
        (
            "hardlink",
            "image([layer(('h', b'', dict(type=tarfile.LNKTYPE, linkname='../../../etc/passwd')))])",
        ),
    ] {
        archive(&context, "evil.tar", body);
        let ran = context.line("load -i evil.tar");
        if ran.code() == 0 {
            context.line("run --rm evil").exits(127);
            context.line("rmi -f evil").ok();
        }
        for escaped in ["escaped", "store/escaped", "store/layers/escaped"] {
            assert!(!context.path().join(escaped).exists(), "{name}");
        }
        whole(&context);
    }
    // A name that nobody else has beside the test's directory.
    let own = context.path().file_name().unwrap().to_str().unwrap();
    let outer = format!("{own}-outer");
    let body = format!("add('../{outer}', b'x')\nimage([layer()])");
    archive(&context, "outer.tar", &body);
    let _ = context.line("load -i outer.tar").code();
    for place in ["..", ".", "store", "store/tmp"] {
        assert!(!context.path().join(place).join(&outer).exists(), "{place}");
    }
}

#[test]
fn symlinks_in_a_layer_do_not_lead_out() {
    if !have("python3") {
        return;
    }
    let context = with_good();
    let target = context.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let body = format!(
        "image([layer(('d', b'', dict(type=tarfile.SYMTYPE, linkname='{}')), ('d/planted', b'x', {{}}), ('x', b'y', dict(mode=0o755)))])",
        target.display()
    );
    archive(&context, "evil.tar", &body);
    if context.line("load -i evil.tar").code() == 0 {
        let _ = context.line("run --rm evil").code();
        context.line("rmi -f evil").ok();
    }
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    whole(&context);
}

#[test]
fn archives_that_lie() {
    if !have("python3") {
        return;
    }
    let context = with_good();
    for body in [
        "image([layer(('x', b'1', {}))], diffs=['sha256:' + 'a' * 64])",
        "image([layer(), layer()], diffs=['sha256:' + hashlib.sha256(layer()).hexdigest()])",
        "image([b'no tar at all, just bytes' * 100])",
        "image([gzip.compress(layer(('x', b'1', {})))[:-9]])",
        "add('manifest.json', b'{')",
        "add('manifest.json', b'[' * 100000)",
        "add('manifest.json', json.dumps([dict(Config='absent', RepoTags=None, Layers=[])]).encode())",
        "add('manifest.json', json.dumps([dict(Config='../../etc/passwd', RepoTags=['a:b'], Layers=[])]).encode())",
        "add('manifest.json', b'', type=tarfile.SYMTYPE, linkname='/etc/passwd')",
        "add('manifest.json', b'[]')",
        "add('nothing', b'here')",
    ] {
        archive(&context, "evil.tar", body);
        refused(&context, "load -i evil.tar", &[]);
    }
    context.write("cut.tar", vec![0x1f, 0x8b, 8, 0]);
    refused(&context, "load -i cut.tar", &[]);
    context.write("cut.tar", []);
    refused(&context, "load -i cut.tar", &[]);
    context.line("save -o good.tar good").ok();
    let good = std::fs::read(context.path().join("good.tar")).unwrap();
    for part in [1, 2, 3] {
        context.write("cut.tar", &good[..good.len() * part / 4]);
        refused(&context, "load -i cut.tar", &[]);
    }
}

#[test]
fn device_nodes_and_duplicates_do_no_harm() {
    if !have("python3") {
        return;
    }
    let context = with_good();
    let body = "image([layer(('dev/sda', b'', dict(type=tarfile.BLKTYPE, devmajor=8, devminor=0)), ('x', b'first', {}), ('x', b'second', {}), ('x', b'', dict(type=tarfile.DIRTYPE)), ('x', b'last', {}))])";
    archive(&context, "odd.tar", body);
    if context.line("load -i odd.tar").code() == 0 {
        let ran = context.line("run --rm evil");
        assert_eq!(ran.code(), 126, "{}", ran.stderr());
        context.line("rmi -f evil").ok();
    }
    whole(&context);
}

#[test]
fn gzip_bombs_are_bounded() {
    if !have("python3") {
        return;
    }
    let context = with_good();
    // 4 GiB of zeros that no tar header announces, in 4 MB.
    let body = "import zlib\nc = zlib.compressobj(9, zlib.DEFLATED, 31)\nz = bytes(1 << 24)\nbomb = b''.join(c.compress(z) for _ in range(256)) + c.flush()\nimage([bomb], diffs=['sha256:' + 'b' * 64])";
    archive(&context, "bomb.tar", body);
    refused(&context, "load -i bomb.tar", &[]);
}

#[test]
fn full_disk() {
    if !rustix::process::geteuid().is_root() {
        skip("only root mounts a small file system");
        return;
    }
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    let mut big = std::fs::read(fixture::hello()).unwrap();
    big.resize(12 << 20, 1);
    context.write("big", big);
    std::fs::create_dir(context.store()).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(context.store())
        .status_in_time();
    if !mounted.unwrap().success() {
        skip("this machine lets no one mount");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        context.line("build -q -t good hello").ok();
        refused(
            &context,
            "build -q --no-strip -t big big",
            &["no space", "store"],
        );
        refused(&context, "import big", &[]);
        context.line("prune -f").ok();
        whole(&context);
    });
    context.line("rm -f good").code();
    assert!(
        Command::new("umount")
            .arg("-l")
            .arg(context.store())
            .status_in_time()
            .unwrap()
            .success()
    );
    outcome.unwrap();
}

#[test]
fn read_only_store() {
    let Some(user) = crate::context::identities()
        .into_iter()
        .find(|i| i.ids.is_some())
    else {
        skip("root writes everywhere");
        return;
    };
    let context = Context::of(user);
    context.copy(fixture::hello(), "hello");
    context.line("build -q -t good hello").ok();
    context.copy(fixture::exits(), "other");
    let chmod = |mode: &str| {
        let mut command = context.program("chmod");
        command.args(["-R", mode, "store"]);
        context.finish(command).ok();
    };
    chmod("a-w");
    let listed = context.line("images").ok();
    let refused = context.line("build -q -t other other");
    chmod("u+w");
    assert!(listed.contains("good"), "{listed}");
    refused.says(1, &["error: ", "store"]);
    whole(&context);
}

#[test]
fn corrupt_blobs_are_found() {
    let context = with_good();
    let blobs = context.store().join("blobs/sha256");
    let largest = std::fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(
        &largest,
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    std::fs::File::create(&largest)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap();
    context
        .line("save -o out.tar good")
        .says(1, &["corrupt", name]);
    assert!(
        !context.path().join("out.tar").exists(),
        "no half archive is left"
    );
}

#[test]
fn dockerfiles_that_are_nonsense() {
    let context = with_good();
    for text in [
        "",
        "\n\n",
        "FROM",
        "FROM a b",
        "COPY a b",
        "FROM scratch\nCOPY",
        "FROM scratch\nCOPY a",
        "FROM scratch\nENV",
        "FROM scratch\nLABEL =x",
        "FROM scratch\nEXPOSE abc",
        "FROM scratch\nADD --nonsense a b",
        "FROM scratch\nUSER",
        "FROM scratch\nWORKDIR",
        "FROM scratch\nVOLUME",
        "FROM scratch\nSTOPSIGNAL",
        "FROM scratch AS",
        "FROM scratch\n\u{0}",
        "FROM scratch\nCOPY <<EOF /x\nnever ends",
        "FROM ${",
    ] {
        context.write("d/Dockerfile", text);
        refused(&context, "build d", &[]);
    }
}

#[test]
fn control_characters_of_images_stay_off_the_screen() {
    let context = with_good();
    context.copy(fixture::hello(), "d/hello");
    let dockerfile =
        "FROM scratch\nCOPY hello /\nLABEL a=\"\u{1b}[2J\"\nCMD [\"/x\u{1b}[2J\\n\"]\n";
    context.write("d/Dockerfile", dockerfile);
    context.line("build -q --no-prove -t evil d").ok();
    context.line("run --name evil evil").exits(127);
    for line in [
        "images",
        "history --no-trunc evil",
        "ps -a --no-trunc",
        "run --rm evil",
    ] {
        let ran = context.line(line);
        let shown = ran.stdout() + &ran.stderr();
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(steers), "{line}: {shown:?}");
    }
    context.line("rm evil").ok();
    context.line("rmi evil").ok();
    whole(&context);
}

#[test]
fn an_image_that_has_too_much_of_everything() {
    if !have("python3") {
        return;
    }
    let context = with_good();
    let many =
        "import struct\nlayers = [layer(('x', open('hello', 'rb').read(), dict(mode=0o755)))]\n";
    for (body, code) in [
        // More than the kernel hands to a program.
        ("Env=[f'K{n}=' + 'v' * 20 for n in range(120000)]", 126),
        ("ExposedPorts={f'{n}/tcp': {} for n in range(1, 65536)}", 0),
        ("Labels={f'l{n}': 'v' for n in range(40000)}", 0),
    ] {
        let config = format!(
            "{many}config = json.dumps(dict(architecture='amd64', os='linux', config=dict(Cmd=['/x'], {body}), rootfs=dict(type='layers', diff_ids=['sha256:' + hashlib.sha256(l).hexdigest() for l in layers]))).encode()\nadd('c', config)\nadd('l', layers[0])\nadd('manifest.json', json.dumps([dict(Config='c', RepoTags=['evil:latest'], Layers=['l'])]).encode())"
        );
        archive(&context, "evil.tar", &config);
        context.line("load -i evil.tar").ok();
        let ran = context.line("run --rm evil");
        assert_eq!(ran.code(), code, "{body}: {}", ran.stderr());
        context.line("rmi -f evil").ok();
    }
    whole(&context);
}

#[test]
fn a_file_size_limit_is_an_error() {
    let context = with_good();
    for verb in ["build -t other hello", "save -o out.tar good"] {
        let mut command = context.program("sh");
        let binary = crate::context::smidge_binary().display();
        command.args(["-c", &format!("ulimit -f 8; exec {binary} {verb}")]);
        context
            .finish(command)
            .says(1, &["error: ", "File too large"]);
    }
    assert!(!context.path().join("out.tar").exists());
    whole(&context);
}

#[test]
fn endless_names_are_cut_in_errors() {
    let context = with_good();
    let name = "a".repeat(100_000);
    for verb in ["run", "rmi", "rm", "inspect", "history", "tag good"] {
        let mut command = context.line_command(verb);
        command.arg(&name);
        let ran = context.finish(command);
        assert!([1, 125].contains(&ran.code()), "{verb}: {}", ran.code());
        assert!(
            ran.stderr().len() < 10_000,
            "{verb}: {}",
            ran.stderr().len()
        );
    }
    whole(&context);
}

#[test]
fn removal_races_with_the_containers_own() {
    for identity in crate::context::identities() {
        let context = Context::of(identity);
        context.copy(fixture::hello(), "hello");
        context.line("build -q -t good hello").ok();
        for number in 0..30 {
            let name = format!("c{number}");
            let mut command = context.line_command("run --rm -v /data --name");
            let mut client = context.spawn({
                command.arg(&name).arg("good");
                command
            });
            if number % 2 == 0 {
                client.kill().unwrap();
            }
            context.smidge(["rm", "-f", &name]).ok();
            client.status_in_time().unwrap();
            context.smidge(["rm", "-f", &name]).ok();
        }
        context.line("prune -f").ok();
        assert_eq!(context.line("ps -aq").ok(), "");
        whole(&context);
    }
}
