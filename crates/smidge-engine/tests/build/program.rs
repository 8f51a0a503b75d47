//! Ready programs become images.

use smidge_engine::Kind;
use smidge_engine::build::{
    BuildRequest, ConfigOptions, Output, OutputFormat, Sink, Stripped, Transfer,
};
use smidge_engine::{Error, Silent};
use smidge_tests::InTime as _;

use crate::support::{Context, have, static_program};

fn lines(error: &Error) -> String {
    let facts = error.facts().iter().map(|fact| format!("\n  {fact}"));
    let hints = error.hints().iter().map(|hint| format!("\nhint: {hint}"));
    format!(
        "{error}{}{}",
        facts.collect::<String>(),
        hints.collect::<String>()
    )
}

#[test]
fn a_program_is_all_there_is_in_its_image() {
    let context = Context::new();
    context.write_mode("bin/server", static_program(1000), 0o700);
    let mut request = BuildRequest::new("bin/server");
    request.tags = vec!["me/server:1".parse().unwrap(), "server".parse().unwrap()];
    request.args = vec!["-p".into(), "80".into()];
    let built = context.build(&request).unwrap();
    assert_eq!(context.layers(&built), [["/server 755"]]);
    assert_eq!(built.contents[0].size, 132);
    assert_eq!(
        built.stripped,
        Some(Stripped {
            before: 1352,
            after: 132
        })
    );
    assert_eq!(
        String::from_utf8(built.image.config.to_bytes()).unwrap(),
        format!(
            concat!(
                r#"{{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","#,
                r#""config":{{"Entrypoint":["/server"],"Cmd":["-p","80"]}},"#,
                r#""rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#
            ),
            built.image.config.rootfs.diff_ids[0]
        )
    );
    for name in ["me/server:1", "server", &built.image.id.short()] {
        assert_eq!(
            context.engine.store.image(name).unwrap().id,
            built.image.id,
            "{name}"
        );
    }
    assert_eq!(built.sizes.program, Some(132));
    assert_eq!(built.sizes.disk, built.image.size());
    let Transfer::Exact(transfer) = built.sizes.transfer else {
        panic!("small images are exact")
    };
    assert!(transfer < 1000, "{transfer}");
    assert_eq!(built.contents[0].reason, "the program");
}

#[test]
fn options_end_up_in_the_config() {
    let context = Context::new();
    context.write_mode("p", static_program(0), 0o755);
    context.write("conf/a.txt", "a");
    let mut request = BuildRequest::new("p");
    request.includes = vec!["conf:/etc/p".parse().unwrap()];
    request.config = ConfigOptions {
        entrypoint: Some("/p --config /etc/p".into()),
        cmd: Some(r#"["serve"]"#.into()),
        env: vec!["A=1".into()],
        labels: vec!["l=1".into()],
        user: Some("65534".into()),
        workdir: Some("/".into()),
        expose: vec!["80".into()],
        volumes: vec!["/data".into()],
        stop_signal: Some("SIGQUIT".into()),
    };
    let built = context.build(&request).unwrap();
    assert_eq!(
        context.layers(&built),
        [["/etc/ 755", "/etc/p/ 755", "/etc/p/a.txt 644", "/p 755"]]
    );
    assert_eq!(
        serde_json::to_string(&built.image.config.config).unwrap(),
        concat!(
            r#"{"User":"65534","ExposedPorts":{"80/tcp":{}},"Env":["A=1"],"#,
            r#""Entrypoint":["/p","--config","/etc/p"],"Cmd":["serve"],"Volumes":{"/data":{}},"#,
            r#""WorkingDir":"/","Labels":{"l":"1"},"StopSignal":"SIGQUIT"}"#
        )
    );
}

#[test]
fn payloads_are_left_alone_unless_that_is_refused() {
    let context = Context::new();
    let mut program = static_program(100);
    program.extend(b"PAYLOAD");
    context.write_mode("p", &program, 0o755);
    let built = context.build(&BuildRequest::new("p")).unwrap();
    assert_eq!(built.contents[0].size, program.len() as u64);
    assert_eq!(built.stripped, None);
    assert!(
        built.notes[0]
            .message
            .starts_with("not stripped: 7 bytes follow"),
        "{:?}",
        built.notes
    );
    let request = BuildRequest {
        strip: Some(true),
        ..BuildRequest::new("p")
    };
    let error = context.build(&request).unwrap_err();
    assert_eq!(
        lines(&error),
        "cannot strip `p`\nhint: pack it as it is: `smidge build --no-strip p`"
    );
    let request = BuildRequest {
        strip: Some(false),
        ..BuildRequest::new("p")
    };
    assert!(context.build(&request).unwrap().notes.is_empty());
}

#[test]
fn a_dynamic_program_is_refused_or_gets_its_libraries() {
    let context = Context::new();
    if !have(&context, "cc") {
        return;
    }
    context.write(
        "d.c",
        "#include <math.h>\nint main(int n, char **a) { return (int)cos(n); }\n",
    );
    let mut cc = std::process::Command::new("cc");
    cc.args(["-o", "d", "d.c", "-lm", "-fno-builtin"])
        .current_dir(context.at(""));
    assert!(cc.status_in_time().unwrap().success());

    let error = context.build(&BuildRequest::new("d")).unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    let message = lines(&error);
    assert!(message.starts_with(
        "`/d` cannot start: it is dynamically linked, but its loader is not in the image"
    ));
    for part in [
        "libc.so.6",
        "libm.so.6",
        "let smidge add the loader and 2 libraries (+",
        "MiB): `smidge build --with-libs d`",
        "or link it statically: ",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(
        context.engine.store.images().unwrap().is_empty(),
        "nothing is left of it"
    );

    let request = BuildRequest {
        with_libs: true,
        ..BuildRequest::new("d")
    };
    let built = context.build(&request).unwrap();
    let layers = context.layers(&built);
    assert_eq!(layers.len(), 1);
    let files = layers[0].iter().filter(|line| !line.contains("/ "));
    assert_eq!(files.count(), 4, "{layers:?}");
    assert!(
        built
            .contents
            .iter()
            .any(|c| c.reason.starts_with("loader of")),
        "{:?}",
        built.contents
    );

    let request = BuildRequest {
        prove: false,
        ..BuildRequest::new("d")
    };
    assert_eq!(
        context.layers(&context.build(&request).unwrap()),
        [["/d 755"]]
    );
}

#[test]
fn what_is_no_program_is_refused() {
    let context = Context::new();
    context.write("t", "just text");
    context.write("cut", &static_program(0)[..50]);
    let error = |path: &str| lines(&context.build(&BuildRequest::new(path)).unwrap_err());
    assert_eq!(
        error("t"),
        "cannot make an image of `t`: it is not an ELF program"
    );
    assert!(error("cut").contains("it is damaged"));
    assert_eq!(error("none"), "cannot build `none`");
    context.write_mode("p", static_program(0), 0o755);
    let request = BuildRequest {
        platforms: vec!["linux/arm64".parse().unwrap()],
        ..BuildRequest::new("p")
    };
    let message = lines(&context.build(&request).unwrap_err());
    assert!(message.contains("is not for `linux/arm64`"), "{message}");
}

#[test]
fn outputs_do_not_touch_the_store() {
    let context = Context::new();
    context.write_mode("p", static_program(10), 0o755);
    for (format, name) in [
        (OutputFormat::DockerArchive, "d.tar"),
        (OutputFormat::OciArchive, "o.tar"),
        (OutputFormat::Oci, "layout"),
        (OutputFormat::Rootfs, "rootfs"),
        (OutputFormat::Tar, "r.tar"),
    ] {
        let output = Output::Export {
            format,
            sink: Sink::Path(name.into()),
        };
        let request = BuildRequest {
            output,
            ..BuildRequest::new("p")
        };
        context.build(&request).unwrap();
        assert!(context.at(name).exists(), "{name}");
    }
    assert!(context.at("layout/index.json").exists());
    assert_eq!(std::fs::read(context.at("rootfs/p")).unwrap().len(), 132);
    assert!(context.engine.store.images().unwrap().is_empty());
    assert_eq!(
        std::fs::read_dir(context.engine.store.root().join("tmp"))
            .unwrap()
            .count(),
        0
    );

    let output = Output::Export {
        format: OutputFormat::Tar,
        sink: Sink::Stdout,
    };
    let mut stdout = Vec::new();
    let request = BuildRequest {
        output,
        ..BuildRequest::new("p")
    };
    context
        .engine
        .build(&request, &Silent, &mut stdout)
        .unwrap();
    assert_eq!(stdout, std::fs::read(context.at("r.tar")).unwrap());
}

#[test]
fn the_plan_does_nothing() {
    let context = Context::new();
    context.write_mode("p", static_program(10), 0o755);
    let plan = context
        .engine
        .plan_build(&BuildRequest::new("p"))
        .unwrap()
        .to_string();
    let store = context.engine.store.root().display();
    assert_eq!(
        plan,
        format!(
            "p: ELF program\n  1. strip the program\n  2. make an image of it, as `/p`\n  \
             3. prove that the program can start\n  4. store the image in `{store}`\n"
        )
    );
    assert!(context.engine.store.images().unwrap().is_empty());
}
