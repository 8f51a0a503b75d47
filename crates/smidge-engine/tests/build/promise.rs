//! The same input gives the same image, whoever builds it, wherever and whenever.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use smidge_engine::build::BuildRequest;
use smidge_store::Compression;
use smidge_tests::InTime as _;

use crate::support::{Context, static_program};

/// What must not change: the image's id, and the digest of what travels.
fn identity(context: &Context, request: &BuildRequest) -> String {
    let built = context.build(request).unwrap();
    let store = &context.engine.store;
    let transfer = store.transfer(&built.image, Compression::Gzip).unwrap();
    format!("{} {}", built.image.id, transfer.descriptor.digest)
}

/// A program beside a Dockerfile and a directory, written in the given order under a given name.
fn input(context: &Context, directory: &str, reversed: bool) {
    let mut files: Vec<(String, Vec<u8>)> = (0..50)
        .map(|n| (format!("data/{n}/f"), vec![n; 100]))
        .collect();
    files.push(("p".into(), static_program(5000)));
    files.push((
        "Dockerfile".into(),
        b"FROM scratch\nCOPY . /\nCMD [\"/p\"]\n".to_vec(),
    ));
    if reversed {
        files.reverse();
    }
    for (name, content) in files {
        let mode = if name == "p" { 0o755 } else { 0o644 };
        context.write_mode(&format!("{directory}/{name}"), content, mode);
    }
    // The modes of a context's directories are part of the input.
    let open = std::fs::Permissions::from_mode(0o755);
    let data = (0..50).map(|n| format!("{directory}/data/{n}"));
    for name in data.chain([format!("{directory}/data"), directory.to_owned()]) {
        std::fs::set_permissions(context.at(&name), open.clone()).unwrap();
    }
}

fn requests(directory: &str) -> [BuildRequest; 2] {
    let mut program = BuildRequest::new(format!("{directory}/p"));
    program.includes = vec![format!("{directory}/data:/data").parse().unwrap()];
    [program, BuildRequest::new(directory)]
}

#[test]
fn path_order_and_time_leave_no_trace() {
    let one = Context::new();
    input(&one, "a", false);
    let mut two = Context::new();
    input(&two, "deep/er/b", true);
    two.engine.host.now = SystemTime::now() + Duration::from_secs(1_000_000);
    two.engine.host.uid = 12345;
    for (here, there) in requests("a").iter().zip(requests("deep/er/b")) {
        assert_eq!(identity(&one, here), identity(&two, &there));
    }
}

#[test]
fn the_time_that_counts_is_the_one_that_is_given() {
    let mut context = Context::new();
    input(&context, "a", false);
    let [request, _] = requests("a");
    let without = identity(&context, &request);
    context.engine.host.source_date_epoch = Some(1_700_000_000);
    let built = context.build(&request).unwrap();
    assert_eq!(
        built.image.config.created.as_deref(),
        Some("2023-11-14T22:13:20Z")
    );
    assert!(context.layers(&built)[0][0].ends_with("@1700000000"));
    assert_ne!(identity(&context, &request), without);
    context.engine.host.source_date_epoch = Some(i64::MAX);
    assert!(
        context
            .build(&request)
            .unwrap_err()
            .to_string()
            .starts_with("SOURCE_DATE_EPOCH")
    );
}

/// Run by the test below in processes of their own, with other settings.
#[test]
fn print_identity() {
    let context = Context::new();
    input(&context, "a", false);
    for request in requests("a") {
        println!("identity: {}", identity(&context, &request));
    }
}

#[test]
fn umask_time_zone_and_locale_leave_no_trace() {
    let identities = |umask: &str, environment: &[(&str, &str)]| {
        let test = std::env::current_exe().unwrap();
        let script = format!(
            "umask {umask}; exec {} --exact promise::print_identity --nocapture",
            test.display()
        );
        let mut sh = Command::new("sh");
        sh.args(["-c", &script]).envs(environment.iter().copied());
        let output = sh.output_in_time().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once("identity: ").map(|(_, id)| id.to_owned()))
            .collect();
        assert_eq!(found.len(), 2, "{text}");
        found
    };
    let plain = identities("022", &[]);
    let other = [
        ("TZ", "Asia/Kathmandu"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("LANG", "C"),
        ("USER", "x"),
    ];
    assert_eq!(plain, identities("077", &other));
    assert_eq!(plain, identities("000", &[("TZ", "")]));
}

#[test]
fn a_large_program_is_read_in_little_memory() {
    let context = Context::new();
    let size = 300 << 20;
    context.write_mode("p", static_program(0), 0o755);
    let file = std::fs::File::options()
        .write(true)
        .open(context.at("p"))
        .unwrap();
    file.set_len(size).unwrap();
    let before = peak_memory();
    let built = context.build(&BuildRequest::new("p")).unwrap();
    assert_eq!(
        built.sizes.program,
        Some(size),
        "a payload is never cut off"
    );
    let grown = peak_memory() - before;
    assert!(grown < 64 << 10, "{grown} kB more than before");
}

/// The most memory that this process has held, in kB (proc_pid_status(5)).
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
