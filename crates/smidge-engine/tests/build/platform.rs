//! One build for several kinds of machines: an image for each, and an index that joins them.

use smidge_engine::Kind;
use smidge_engine::build::{BuildRequest, Output, Product, SourceKind};
use smidge_image::{Index, Platform};

use crate::support::{Context, example, have, static_program};

fn platforms(texts: &[&str]) -> Vec<Platform> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn request(path: impl Into<std::path::PathBuf>, texts: &[&str]) -> BuildRequest {
    BuildRequest {
        platforms: platforms(texts),
        tags: vec!["app".parse().unwrap()],
        ..BuildRequest::new(path)
    }
}

/// What the stored index says, checked against the images.
fn index(context: &Context, product: &Product) -> Vec<String> {
    let store = &context.engine.store;
    let descriptor = product.index.as_ref().unwrap();
    assert_eq!(product.id, descriptor.digest);
    let (found, bytes) = store.document("app").unwrap();
    assert_eq!(
        (found.digest, found.size),
        (descriptor.digest, descriptor.size)
    );
    let index: Index = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(index.to_bytes(), bytes);
    let entries = index.manifests.iter().zip(&product.images);
    entries
        .map(|(entry, built)| {
            assert_eq!(entry.digest, built.image.digest);
            let platform = entry.platform.clone().unwrap();
            assert_eq!(platform, built.image.config.platform());
            let image = store.image_for("app", Some(&platform)).unwrap();
            assert_eq!(image.id, built.image.id);
            platform.to_string()
        })
        .collect()
}

/// The machine that an image's only program is for (elf(5), `e_machine`).
fn machine(context: &Context, built: &smidge_engine::build::Built) -> u16 {
    let tree = context.engine.store.tree(&built.image).unwrap();
    let program = built.image.config.config.entrypoint.clone().unwrap();
    let path = smidge_image::LayerPath::parse(program[0].as_bytes()).unwrap();
    let mut bytes = [0; 2];
    smidge_image::Tree::open(&tree, &path)
        .unwrap()
        .read_exact_at(18, &mut bytes)
        .unwrap();
    u16::from_le_bytes(bytes)
}

const AMD64: u16 = 62;
const ARM64: u16 = 183;
const ARM: u16 = 40;

#[test]
fn a_go_package_becomes_an_index_of_images() {
    let context = Context::new();
    if !have(&context, "go") {
        return;
    }
    let request = request(
        example("go/helloworld"),
        &["linux/arm64", "linux/amd64", "linux/arm/v6", "linux/arm64"],
    );
    let product = context.build_all(&request).unwrap();
    // In the order asked for; what is asked for twice is built once.
    let expected = ["linux/arm64", "linux/amd64", "linux/arm/v6"];
    assert_eq!(index(&context, &product), expected);
    let machines: Vec<_> = product
        .images
        .iter()
        .map(|built| machine(&context, built))
        .collect();
    assert_eq!(machines, [ARM64, AMD64, ARM]);
    for built in &product.images {
        assert_eq!(context.layers(built), [["/helloworld 755"]]);
        assert!(built.sizes.program.unwrap() > 1 << 20, "{:?}", built.sizes);
    }
    // The store lists one image, and nothing that lies about without a name.
    let listed = context.engine.store.images().unwrap();
    assert_eq!(listed.len(), 1, "{listed:#?}");

    // The same again, and each by itself, are the same bytes.
    let again = context.build_all(&request).unwrap();
    assert_eq!(again.id, product.id);
    let alone = BuildRequest {
        platforms: platforms(&["linux/arm64"]),
        tags: Vec::new(),
        ..request
    };
    let alone = context.build(&alone).unwrap();
    assert_eq!(alone.image.digest, product.images[0].image.digest);
}

#[test]
fn the_plan_tells_what_is_done_for_each_platform() {
    let context = Context::new();
    if !have(&context, "go") {
        return;
    }
    let plan = |texts: &[&str]| {
        let request = request(example("go/helloworld"), texts);
        context.engine.plan_build(&request).unwrap().steps
    };
    let steps = plan(&["linux/amd64/v3", "linux/arm/v7"]);
    let expected = [
        "for linux/amd64/v3: run `CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOAMD64=v3 go build ",
        "for linux/amd64/v3: strip the program",
        "for linux/amd64/v3: make an image of it, as `/helloworld`",
        "for linux/amd64/v3: prove that the program can start",
        "for linux/arm/v7: run `CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7 go build ",
        "for linux/arm/v7: strip the program",
        "for linux/arm/v7: make an image of it, as `/helloworld`",
        "for linux/arm/v7: prove that the program can start",
        "join the 2 images in one index",
        "store them in `",
    ];
    assert_eq!(steps.len(), expected.len(), "{steps:#?}");
    for (step, expected) in steps.iter().zip(expected) {
        assert!(step.starts_with(expected), "{step}");
    }
    let steps = plan(&["linux/arm64"]);
    assert!(steps[0].starts_with("run `CGO_ENABLED=0 "), "{steps:#?}");
    assert!(steps.last().unwrap().starts_with("store the image in"));
}

#[test]
fn a_dockerfile_is_carried_out_for_each_platform() {
    let context = Context::new();
    let mut arm64 = static_program(0);
    arm64[18..20].copy_from_slice(&ARM64.to_le_bytes());
    context.write_mode("app-amd64", static_program(0), 0o755);
    context.write_mode("app-arm64", arm64, 0o755);
    let dockerfile = "FROM scratch\nARG TARGETARCH\nARG TARGETPLATFORM\n\
        COPY app-$TARGETARCH /app\nENV ON=$TARGETPLATFORM\nCMD [\"/app\"]\n";
    context.write("Dockerfile", dockerfile);
    let all = request(".", &["linux/amd64", "linux/arm64"]);
    let product = context.build_all(&all).unwrap();
    assert_eq!(index(&context, &product), ["linux/amd64", "linux/arm64"]);
    for (built, platform) in product.images.iter().zip(["linux/amd64", "linux/arm64"]) {
        let env = &built.image.config.config.env;
        assert!(env.contains(&format!("ON={platform}")), "{env:?}");
    }

    // The proof holds for every platform: here the second is given the first one's program.
    context.write(
        "Dockerfile",
        dockerfile.replace("$TARGETARCH /app", "amd64 /app"),
    );
    let error = context.build_all(&all).unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    assert!(
        error.message().starts_with("`/app` cannot start"),
        "{error}"
    );
    assert!(
        error.facts().contains(&"platform: linux/arm64".to_owned()),
        "{:?}",
        error.facts()
    );
    // Nothing of it was stored: the name means what it meant.
    assert_eq!(
        context.engine.store.document("app").unwrap().0.digest,
        product.id
    );
}

#[test]
fn an_index_leaves_smidge_as_a_whole() {
    let context = Context::new();
    let mut arm64 = static_program(0);
    arm64[18..20].copy_from_slice(&ARM64.to_le_bytes());
    context.write_mode("app-amd64", static_program(0), 0o755);
    context.write_mode("app-arm64", arm64, 0o755);
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY app-$TARGETARCH /app\nCMD [\"/app\"]\n";
    context.write("Dockerfile", dockerfile);
    let exported = |output: &str| {
        let request = BuildRequest {
            output: output.parse::<Output>().unwrap(),
            ..request(".", &["linux/arm64", "linux/amd64"])
        };
        context.build_all(&request).unwrap()
    };
    let product = exported("type=oci-archive,dest=app.tar");
    let layout = exported("type=oci,dest=layout");
    assert_eq!(layout.id, product.id);
    assert!(context.engine.store.images().unwrap().is_empty());
    let other = Context::new();
    let mut archive = std::fs::File::open(context.at("app.tar")).unwrap();
    other.engine.load(&mut archive, None).unwrap();
    let (found, bytes) = other.engine.store.document("app").unwrap();
    assert_eq!(found.digest, product.id);
    let index: Index = serde_json::from_slice(&bytes).unwrap();
    let platforms = index.manifests.iter().map(|entry| entry.platform.clone());
    let platforms = platforms.map(|platform| platform.unwrap().to_string());
    assert!(platforms.eq(["linux/arm64", "linux/amd64"]));

    exported("type=rootfs,dest=files");
    for platform in ["linux_arm64", "linux_amd64"] {
        assert!(context.at("files").join(platform).join("app").is_file());
    }
}

#[test]
fn what_cannot_be_for_several_platforms_is_refused_at_once() {
    let context = Context::new();
    context.write_mode("app", static_program(0), 0o755);
    context.write("g/main.go", "package main\nfunc main() {}\n");
    let both = ["linux/amd64", "linux/arm64"];
    let refused = |request: &BuildRequest| {
        let error = context.build_all(request).unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
        assert_eq!(
            context.engine.plan_build(request).unwrap_err().to_string(),
            error.to_string()
        );
        error.to_string()
    };
    assert_eq!(
        refused(&request("app", &both)),
        "cannot build `app` for several platforms: it is one program"
    );
    for (output, what) in [
        ("type=docker,dest=a.tar", "a docker-archive"),
        ("-", "a tar archive of an image's files"),
    ] {
        let request = BuildRequest {
            output: output.parse::<Output>().unwrap(),
            ..request("g", &both)
        };
        assert_eq!(
            refused(&request),
            format!("{what} cannot hold images for several platforms")
        );
    }
    assert_eq!(
        refused(&request("g", &["windows/amd64"])),
        "cannot build for `windows/amd64`: smidge builds for Linux alone"
    );
}

#[test]
fn a_c_file_becomes_a_small_static_program_for_any_machine() {
    let context = Context::new();
    let file = example("c/hello.c");
    if !(have(&context, "musl-gcc") || have(&context, "cc") || have(&context, "zig")) {
        return;
    }
    let product = context.build_all(&BuildRequest::new(&file)).unwrap();
    let built = &product.images[0];
    assert_eq!(built.source, "C program");
    assert_eq!(context.layers(built), [["/hello 755"]]);
    if context.engine.host.find_program("musl-gcc").is_some() {
        let size = built.sizes.program.unwrap();
        assert!(size < 40_000, "{size} bytes");
    }
    // Where it lies does not matter, nor when it is compiled.
    let other = Context::new();
    other.write("d/e/hello.c", std::fs::read(&file).unwrap());
    let there = other.build(&BuildRequest::new("d/e/hello.c")).unwrap();
    assert_eq!(there.image.id, built.image.id);

    let all = request(&file, &["linux/amd64", "linux/arm64"]);
    match context.build_all(&all) {
        Ok(product) => {
            assert_eq!(index(&context, &product), ["linux/amd64", "linux/arm64"]);
            let machines = product.images.iter().map(|built| machine(&context, built));
            assert!(machines.eq([AMD64, ARM64]));
        }
        // Said with what would help.
        Err(error) => {
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
            assert!(
                error
                    .hints()
                    .iter()
                    .any(|hint| hint.contains("apt install gcc-"))
            );
        }
    }
}

#[test]
fn the_users_words_for_the_compiler_are_heeded_and_times_are_not() {
    let mut context = Context::new();
    if !have(&context, "cc") {
        return;
    }
    context.write(
        "p.c",
        "#include <stdio.h>\nint main(void) { puts(__DATE__ \" \" __FILE__ \" \" WORD); }\n",
    );
    let error = context.build(&BuildRequest::new("p.c")).unwrap_err();
    assert_eq!(error.kind(), Kind::Compile);
    let flags = "-DWORD=\"heeded\"".to_owned();
    context.engine.host.env.insert("CFLAGS".to_owned(), flags);
    let built = context.build(&BuildRequest::new("p.c")).unwrap();
    let text = &context.contents(&built)["/p"];
    assert!(text.contains("Jan  1 1970 p.c heeded"), "{text}");
    let plan = context
        .engine
        .plan_build(&BuildRequest::new("p.c"))
        .unwrap();
    assert!(plan.steps[0].contains("-DWORD="), "{plan}");
}

#[test]
fn missing_compilers_are_named_with_what_brings_them() {
    let mut context = Context::new();
    context.write("p.c", "int main(void) { return 0; }\n");
    context.write("p.zig", "pub fn main() void {}\n");
    context.engine.host.path = "tools".into();
    let said = |context: &Context, path: &str, platforms: &[&str]| {
        let error = context.build_all(&request(path, platforms)).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        let lines = error.facts().iter().chain(error.hints());
        std::iter::once(error.to_string())
            .chain(lines.cloned())
            .collect::<Vec<_>>()
    };
    let zig = "or install Zig, which compiles for every machine: https://ziglang.org/download";
    assert_eq!(
        said(&context, "p.c", &[]),
        [
            "cannot compile `p.c`: there is no C compiler for it on the PATH",
            "looked for: zig, musl-gcc, cc, gcc",
            "install a small one: `apt install musl-tools`",
            zig,
        ]
    );
    assert_eq!(
        said(&context, "p.c", &["linux/s390x"]),
        [
            "cannot compile `p.c` for `linux/s390x`: there is no C compiler for it on the PATH",
            "looked for: zig, s390x-linux-musl-gcc, s390x-linux-gnu-gcc",
            "install it: `apt install gcc-s390x-linux-gnu libc6-dev-s390x-cross`",
            zig,
        ]
    );
    assert_eq!(
        said(&context, "p.zig", &["linux/s390x"])[0],
        "cannot compile the Zig program: there is no `zig` on the PATH"
    );
    // A compiler that has no library to link with.
    std::fs::create_dir(context.at("tools")).unwrap();
    let gcc = context.at("tools/s390x-linux-gnu-gcc");
    smidge_tests::write_program(&gcc, "#!/bin/sh\necho libc.a\n").unwrap();
    assert_eq!(
        said(&context, "p.c", &["linux/s390x"])[0],
        "cannot compile `p.c` for `linux/s390x`: `s390x-linux-gnu-gcc` has no static C library"
    );
}

#[test]
fn a_zig_file_is_compiled_where_zig_is() {
    let context = Context::new();
    if !have(&context, "zig") {
        return;
    }
    context.write("p.zig", "pub fn main() void {}\n");
    let all = request("p.zig", &["linux/amd64", "linux/arm64"]);
    let product = context.build_all(&all).unwrap();
    let machines = product.images.iter().map(|built| machine(&context, built));
    assert!(machines.eq([AMD64, ARM64]));
    assert_eq!(product.images[0].source, "Zig program");
}

/// A Cargo package, and a compiler that says it has its standard library where a test puts it.
struct Rust {
    context: Context,
}

const MUSL: &str = "riscv64gc-unknown-linux-musl";
const GNU: &str = "riscv64gc-unknown-linux-gnu";

impl Rust {
    /// `None`, with the reason on standard output, where there is no Rust.
    fn new() -> Option<Self> {
        let mut context = Context::new();
        if !have(&context, "cargo") || !have(&context, "rustc") || !cfg!(target_arch = "x86_64") {
            return None;
        }
        let manifest = "[package]\nname = \"p\"\nversion = \"0.1.0\"\n\n[workspace]\n";
        context.write("p/Cargo.toml", manifest);
        context.write("p/src/main.rs", "fn main() {}");
        let real = context.engine.host.find_program("rustc").unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n--print=sysroot) echo {0};;\n\
             --print=target-libdir*) echo {0}/lib/rustlib/$3/lib;;\n*) exec {1} \"$@\";;\nesac\n",
            context.at("sysroot").display(),
            real.display(),
        );
        let mut path = context.at("tools").into_os_string();
        path.push(":");
        path.push(&context.engine.host.path);
        context.engine.host.path = path;
        let rust = Self { context };
        rust.tool("rustc", &script);
        Some(rust)
    }

    fn tool(&self, name: &str, text: &str) {
        let path = self.context.at(&format!("tools/{name}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        smidge_tests::write_program(&path, text).unwrap();
    }

    fn install(&self, triple: &str) {
        let library = format!("sysroot/lib/rustlib/{triple}/lib/libstd-1.rlib");
        self.context.write(&library, "");
    }

    /// What would be run.
    fn step(&self, platform: &str) -> String {
        self.plan(platform).unwrap()
    }

    /// Why nothing would be run, line by line.
    fn refusal(&self, platform: &str) -> Vec<String> {
        let error = self.plan(platform).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        let lines = error.facts().iter().chain(error.hints());
        std::iter::once(error.to_string())
            .chain(lines.cloned())
            .collect()
    }

    fn plan(&self, platform: &str) -> Result<String, smidge_engine::Error> {
        let request = BuildRequest {
            kind: Some(SourceKind::Cargo),
            ..request("p", &[platform])
        };
        let plan = self.context.engine.plan_build(&request)?;
        Ok(plan.steps[0].clone())
    }
}

#[test]
fn what_rust_lacks_for_another_machine_is_named() {
    let Some(rust) = Rust::new() else { return };
    assert_eq!(
        rust.refusal("linux/riscv64"),
        [
            "cannot compile Rust for `linux/riscv64`: its standard library is not installed",
            "looked for: riscv64gc-unknown-linux-musl, riscv64gc-unknown-linux-gnu",
            "install it: `rustup target add riscv64gc-unknown-linux-musl`",
        ]
    );
    rust.install(GNU);
    let refused = rust.refusal("linux/riscv64");
    for part in [
        "cannot link Rust for `linux/riscv64`: there is no linker for that machine",
        "standard library: riscv64gc-unknown-linux-gnu",
        "looked for: cargo-zigbuild, riscv64-linux-gnu-gcc",
        "not configured: target.riscv64gc-unknown-linux-gnu.linker",
        "let Rust link by itself, with musl: `rustup target add riscv64gc-unknown-linux-musl`",
        "install a cross compiler: `apt install gcc-riscv64-linux-gnu libc6-dev-riscv64-cross`",
        "or Zig and `cargo install cargo-zigbuild`",
    ] {
        assert!(
            refused.iter().any(|line| line == part),
            "{part} in {refused:#?}"
        );
    }
}

#[test]
fn cargo_is_told_what_links_for_another_machine() {
    let Some(rust) = Rust::new() else { return };
    let linker = |name: &str| format!("target.{MUSL}.linker=\"{name}\"");
    let step = || rust.step("linux/riscv64");
    rust.install(GNU);
    rust.install(MUSL);
    // With musl, Rust's own linker will do.
    let lld = "sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld";
    rust.context.write(lld, "");
    assert!(step().contains(&linker("rust-lld")), "{}", step());
    // A compiler for that machine is better, one for musl best.
    rust.tool("riscv64-linux-gnu-gcc", "#!/bin/sh\necho libc.a\n");
    assert!(
        step().contains(&linker("riscv64-linux-gnu-gcc")),
        "{}",
        step()
    );
    rust.tool("riscv64-linux-musl-gcc", "");
    assert!(
        step().contains(&linker("riscv64-linux-musl-gcc")),
        "{}",
        step()
    );
    // Zig links everything; and the user's own configuration is left alone.
    rust.tool("cargo-zigbuild", "");
    assert!(step().starts_with("run `cargo zigbuild "), "{}", step());
    let own = format!("[target.{MUSL}]\nlinker = \"mine\"\n");
    rust.context.write("p/.cargo/config.toml", own);
    let step = step();
    assert!(
        step.starts_with("run `cargo build ") && !step.contains("linker="),
        "{step}"
    );
}

#[test]
fn this_machines_own_linker_is_cargos_business() {
    let Some(rust) = Rust::new() else { return };
    rust.install("x86_64-unknown-linux-musl");
    rust.tool("cargo-zigbuild", "");
    let step = rust.step("linux/amd64/v3");
    assert!(
        step.starts_with("run `cargo build ") && !step.contains("linker="),
        "{step}"
    );
    assert!(step.contains("target-cpu=x86-64-v3"), "{step}");
}
