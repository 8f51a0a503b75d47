//! `smidge build`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map, Value, json};
use smidge_engine::build::{
    BuildRequest, Built, CargoOptions, ConfigOptions, Include, Output, Product, SourceKind, Target,
    Transfer,
};
use smidge_engine::registry::{Compression, PushRequest};
use smidge_engine::{Engine, Error, Kind, Note, Progress};
use smidge_image::{Platform, Reference};

use super::dockerfile::DockerfileArgs;
use super::progress::ProgressArgs;
use super::session::{Outcome, Session};
use crate::render::{progress, table, words};
use crate::surroundings;

/// Make an image from a program, its source or a Dockerfile
///
/// PATH is a program (an ELF file), a Cargo package, a Go package, a file of C or Zig, or a directory
/// with a Dockerfile. What it is, is found out; --as decides. Source is compiled by your own compilers,
/// statically. The image's id goes to standard output, everything else to standard error. For several
/// platforms there is an image for each, under one name; then it is the digest of their index.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge build -t hello .                 compile and pack this directory's program
  smidge build -t hello --small .         the same, optimised for size
  smidge build -t tool /usr/local/bin/tool --with-libs
                                          pack a ready program with its libraries
  smidge build -t web . -- --port 8080    arguments the program is started with
  smidge build -t web --platform linux/amd64,linux/arm64 .
                                          one image for two kinds of machines
  smidge build --target test --secret id=key,src=key.pem --build-arg V=2 .
                                          a Dockerfile, in all its ways
  smidge run --rm $(smidge build -q .)    build and run in one line")]
pub(super) struct Args {
    /// Program, source file, source directory, or a Dockerfile's context: its directory, a URL, a git
    /// repository, or - for a Dockerfile or tar archive on standard input
    path: PathBuf,
    /// Arguments that the image starts its program with
    #[arg(last = true, value_name = "ARG")]
    args: Vec<String>,
    /// Name the image; repeatable
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<Reference>,
    /// The Dockerfile; - is standard input [default: PATH/Dockerfile]
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// What PATH is, when that is ambiguous
    #[arg(long = "as", value_name = "KIND", value_parser = kind_parser())]
    kind: Option<SourceKind>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    plan: bool,
    /// Where the image goes, if not into the store:
    /// type=docker-archive|oci-archive|oci|rootfs|tar,dest=PATH; dest=- is standard output
    #[arg(short, long, value_name = "TYPE,DEST")]
    output: Option<Output>,
    /// The machine to build for, such as linux/arm64; repeatable, or several with commas between
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the image's digests and names to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Print nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print a JSON object that describes the image
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    dockerfile: DockerfileArgs,
    #[command(flatten)]
    program: ProgramOptions,
    #[command(flatten)]
    config: RunOptions,
}

/// How the program is made and packed.
#[derive(clap::Args)]
#[command(next_help_heading = "Program")]
struct ProgramOptions {
    /// Which of several programs of a Cargo package
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,
    /// Which of several packages of a Cargo workspace
    #[arg(long, value_name = "NAME")]
    package: Option<String>,
    /// Cargo features; repeatable
    #[arg(long, value_name = "FEATURES")]
    features: Vec<String>,
    /// Cargo profile [default: release]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Optimise for size alone
    #[arg(long)]
    small: bool,
    /// Cut off what the program can do without
    #[arg(long, overrides_with = "no_strip")]
    strip: bool,
    /// Leave programs as they are
    #[arg(long, overrides_with = "strip")]
    no_strip: bool,
    /// Add the loader and the libraries that dynamic programs need
    #[arg(long)]
    with_libs: bool,
    /// Add a file or directory; repeatable
    #[arg(long, value_name = "SRC:DST")]
    include: Vec<Include>,
    /// Do not check that the image can start
    #[arg(long)]
    no_prove: bool,
}

/// How the image is run.
#[derive(clap::Args)]
#[command(next_help_heading = "How the image is run")]
struct RunOptions {
    /// The program and its first arguments: a JSON array, or words as in a shell
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Default arguments: a JSON array, or words as in a shell
    #[arg(long, value_name = "ARGS")]
    cmd: Option<String>,
    /// Environment variable; repeatable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Label; repeatable
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// User, and group, to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Port that the program listens on; repeatable
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
    /// Directory that is to be a volume; repeatable
    #[arg(long, value_name = "DIR")]
    volume: Vec<String>,
    /// Signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
}

fn kind_parser() -> impl clap::builder::TypedValueParser<Value = SourceKind> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    PossibleValuesParser::new(SourceKind::ALL.map(SourceKind::word)).try_map(|word| {
        SourceKind::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or("no such kind")
    })
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let request = request(session, args)?;
    let engine = engine(session, &request)?;
    if args.dockerfile.is_pushed() {
        check_push(&request)?;
    }
    if args.dockerfile.is_check() {
        let found = engine.check_build(&request, &mut std::io::stdin().lock())?;
        return check(session, &found);
    }
    if args.dockerfile.is_targets() {
        let targets = engine.build_targets(&request, &mut std::io::stdin().lock())?;
        return list_targets(session, &targets);
    }
    if args.plan {
        let plan = engine.plan_build(&request)?;
        let text = if args.json {
            json!(plan).to_string()
        } else {
            plan.to_string()
        };
        session.print(text.trim_end())?;
        return Ok(0);
    }
    remove_stale(session, args)?;
    let sink = args.progress.sink(session, args.quiet);
    let started = Instant::now();
    let (stdin, stdout) = (&mut std::io::stdin().lock(), &mut session.out());
    let product = engine.build_from(&request, &*sink, (stdin, stdout))?;
    if args.dockerfile.is_pushed() {
        push(&engine, &request, &*sink)?;
    }
    drop(sink);
    write_results(session, args, &product)?;
    if !args.quiet {
        summarise(session, &product, started);
    }
    let to_stdout = matches!(
        &request.output,
        Output::Export {
            sink: smidge_engine::build::Sink::Stdout,
            ..
        }
    );
    if to_stdout {
        // Standard output carries the image itself.
    } else if args.json {
        session.print(&described(&product).to_string())?;
    } else {
        session.print(&product.id.to_string())?;
    }
    Ok(0)
}

/// The engine, for which a build argument may set the time.
fn engine(session: &Session, request: &BuildRequest) -> Result<Engine, Error> {
    let mut engine = session.engine()?;
    if let Some(text) = request
        .build_args
        .get(EPOCH)
        .filter(|text| !text.is_empty())
    {
        engine.host.source_date_epoch = Some(surroundings::epoch(text)?);
    }
    Ok(engine)
}

/// Tells what is worth saying about a Dockerfile. As in Docker, that is a failure.
fn check(session: &Session, notes: &[Note]) -> Outcome {
    notes.iter().for_each(|note| session.note(note));
    let found = match notes.len() {
        0 => "no warnings found".to_owned(),
        count => words::count(count, "warning has been found", "warnings have been found"),
    };
    session.tell(&format!("Check complete, {found}."));
    Ok(u8::from(!notes.is_empty()))
}

/// Lists the stages that `--target` may name, as Docker does.
fn list_targets(session: &Session, targets: &[Target]) -> Outcome {
    let mut text = "TARGET\tDESCRIPTION\n".to_owned();
    for target in targets {
        let default = target.is_default.then_some("(default)");
        let name: Vec<&str> = target.name.as_deref().into_iter().chain(default).collect();
        let description = target.description.as_deref().unwrap_or_default();
        text.push_str(&format!("{}\t{description}\n", name.join(" ")));
    }
    session.print(table::align(&text).trim_end())?;
    Ok(0)
}

/// `--push`: sends the image under all its names.
fn push(engine: &Engine, request: &BuildRequest, progress: &dyn Progress) -> Result<(), Error> {
    for name in &request.tags {
        let push = PushRequest {
            name: name.to_string(),
            all_tags: false,
            platform: None,
            stored_as: None,
            compression: Compression::Gzip,
            connection: request.dockerfile.connection.clone(),
        };
        engine.push(&push, progress)?;
    }
    Ok(())
}

/// Refuses to push what has no name, or does not come into the store.
fn check_push(request: &BuildRequest) -> Result<(), Error> {
    if request.output != Output::Store {
        let message = "`--push` and `--output`: an image goes to one place";
        return Err(Error::new(Kind::Input, message));
    }
    if request.tags.is_empty() {
        let message = "`--push`: the image has no name";
        return Err(Error::new(Kind::Input, message)
            .with_hint("name it: `smidge build --push -t REGISTRY/NAME:TAG …`"));
    }
    Ok(())
}

/// Writes what scripts want to know of the image into the files that they named.
fn write_results(session: &Session, args: &Args, product: &Product) -> Result<(), Error> {
    if let Some(file) = &args.iidfile {
        let what = "the image's id";
        write(session, file, what, &product.id.to_string())?;
    }
    if let Some(file) = &args.metadata_file {
        let text = format!("{:#}\n", metadata(product));
        write(session, file, "the image's metadata", &text)?;
    }
    Ok(())
}

/// Removes what an earlier build has left in the files that this one is to write: should it fail, nobody
/// must take that for its outcome.
fn remove_stale(session: &Session, args: &Args) -> Result<(), Error> {
    for file in args.iidfile.iter().chain(&args.metadata_file) {
        let path = session.host.absolute(file);
        // A pipe or device is no place where anything is left.
        if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            std::fs::remove_file(path).map_err(|source| {
                Error::io(format!("cannot write to `{}`", file.display()), source)
            })?;
        }
    }
    Ok(())
}

/// Writes a file beside the image.
fn write(session: &Session, file: &Path, what: &str, text: &str) -> Result<(), Error> {
    std::fs::write(session.host.absolute(file), text).map_err(|source| {
        let message = format!("cannot write {what} to `{}`", file.display());
        Error::io(message, source)
    })
}

/// `--metadata-file`, in Docker's words.
fn metadata(product: &Product) -> Value {
    let mut metadata = Map::new();
    let mut set = |name: &str, value: String| metadata.insert(name.to_owned(), value.into());
    match (&product.index, product.images.first()) {
        (Some(index), _) => drop(set("containerimage.digest", index.digest.to_string())),
        (None, Some(built)) => {
            set("containerimage.config.digest", built.image.id.to_string());
            set("containerimage.digest", built.image.digest.to_string());
        }
        (None, None) => {}
    }
    let tags = product.images.iter().flat_map(|built| &built.tags);
    let mut names: Vec<String> = tags.map(ToString::to_string).collect();
    names.dedup();
    if !names.is_empty() {
        names.truncate(product.images.first().map_or(0, |built| built.tags.len()));
        set("image.name", names.join(","));
    }
    Value::from(metadata)
}

fn request(session: &Session, args: &Args) -> Result<BuildRequest, Error> {
    let Args {
        program, config, ..
    } = args;
    let mut request = BuildRequest::new(args.path.clone());
    request.file.clone_from(&args.file);
    request.kind = args.kind;
    request.tags.clone_from(&args.tag);
    request.args.clone_from(&args.args);
    request.includes.clone_from(&program.include);
    request.cargo = CargoOptions {
        bin: program.bin.clone(),
        package: program.package.clone(),
        features: program.features.clone(),
        profile: program.profile.clone(),
        small: program.small,
    };
    request.config = ConfigOptions {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        labels: config.label.clone(),
        user: config.user.clone(),
        workdir: config.workdir.clone(),
        expose: config.expose.clone(),
        volumes: config.volume.clone(),
        stop_signal: config.stop_signal.clone(),
    };
    request.build_args = build_args(session, &args.dockerfile.build_arg)?;
    request.target.clone_from(&args.dockerfile.target);
    request.dockerfile = args.dockerfile.options(session)?;
    let inline = request.build_args.get("BUILDKIT_INLINE_CACHE");
    if inline.is_some_and(|inline| inline == "1" || inline == "true") {
        // The older way to say it.
        request.dockerfile.cache_to.push("type=inline".to_owned());
    }
    request.strip = match (program.strip, program.no_strip) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    request.with_libs = program.with_libs;
    request.prove = !program.no_prove;
    request.platforms.clone_from(&args.platform);
    request.output = args.output.clone().unwrap_or(Output::Store);
    Ok(request)
}

/// The time of what is built, which Docker hands on to an `ARG` of that name.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// `NAME=value`; a bare name takes the caller's value.
fn build_args(session: &Session, options: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    if let Some(seconds) = session.host.source_date_epoch {
        all.insert(EPOCH.to_owned(), seconds.to_string());
    }
    for option in options {
        match option.split_once('=') {
            Some(("", _)) => {
                let fault = format!("invalid build argument `{option}`: the name is missing");
                return Err(Error::new(Kind::Input, fault));
            }
            Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Some(value) = session.host.env.get(option) {
                    all.insert(option.clone(), value.clone());
                }
            }
        }
    }
    Ok(all)
}

/// Files beyond these are counted, not listed.
const LISTED: usize = 12;

/// Tells what was made, for people.
fn summarise(session: &Session, product: &Product, started: Instant) {
    const BOLD: &str = "\x1b[1m";
    const PLAIN: &str = "\x1b[0m";
    let mut notes = Vec::new();
    for note in product.images.iter().flat_map(|built| &built.notes) {
        // A Dockerfile's are the same for every platform.
        if !notes.contains(&note) {
            session.note(note);
            notes.push(note);
        }
    }
    let Some(first) = product.images.first() else {
        return;
    };
    let names: Vec<String> = first.tags.iter().map(Reference::familiar).collect();
    let name = if names.is_empty() {
        "nameless image".to_owned()
    } else {
        names.join(", ")
    };
    let took = progress::took(started.elapsed());
    let (id, source) = (product.id.short(), &first.source);
    if product.index.is_none() {
        session.tell(&format!("{BOLD}{name}{PLAIN} {id} ({source}, {took})"));
        session.tell(&format!("  {}", sizes(first)));
        return list(session, first);
    }
    let count = product.images.len();
    session.tell(&format!(
        "{BOLD}{name}{PLAIN} {id} ({source}, {count} platforms, {took})"
    ));
    let platform = |built: &Built| built.image.config.platform().to_string();
    let widths = product.images.iter().map(|built| platform(built).len());
    let width = widths.max().unwrap_or(0);
    for built in &product.images {
        session.tell(&format!(
            "  {:width$}  {}  {}",
            platform(built),
            built.image.id.short(),
            sizes(built)
        ));
    }
}

/// How big an image is, in three ways.
fn sizes(built: &Built) -> String {
    let transfer = match built.sizes.transfer {
        Transfer::Exact(bytes) => words::size(bytes),
        Transfer::About(bytes) => format!("about {}", words::size(bytes)),
    };
    let program = built
        .sizes
        .program
        .map(|bytes| format!(", program {}", words::size(bytes)));
    format!(
        "{} on disk, {transfer} to transfer{}",
        words::size(built.sizes.disk),
        program.unwrap_or_default()
    )
}

/// What is in an image.
fn list(session: &Session, built: &Built) {
    if let Some(stripped) = built.stripped {
        let (before, after) = (words::exact(stripped.before), words::exact(stripped.after));
        session.tell(&format!("  stripped from {before} to {after} bytes"));
    }
    let width = built
        .contents
        .iter()
        .take(LISTED)
        .map(|c| c.path.chars().count())
        .max()
        .unwrap_or(0);
    for content in built.contents.iter().take(LISTED) {
        let size = words::size(content.size);
        session.tell(&format!(
            "  {:width$}  {size:>7}  {}",
            content.path, content.reason
        ));
    }
    if let Some(more) = built
        .contents
        .len()
        .checked_sub(LISTED)
        .filter(|more| *more > 0)
    {
        session.tell(&format!(
            "  and {}",
            words::count(more, "more file", "more files")
        ));
    }
}

/// What was made, for programs.
fn described(product: &Product) -> Value {
    let described = |built: &Built| {
        json!({
            "id": built.image.id.to_string(),
            "digest": built.image.digest.to_string(),
            "platform": built.image.config.platform().to_string(),
            "tags": built.tags.iter().map(Reference::familiar).collect::<Vec<_>>(),
            "source": built.source,
            "sizes": built.sizes,
            "stripped": built.stripped,
            "contents": built.contents,
            "notes": built.notes.iter().map(|note| &note.message).collect::<Vec<_>>(),
        })
    };
    match (&product.index, &product.images[..]) {
        (None, [built]) => described(built),
        (index, images) => json!({
            "digest": index.as_ref().map(|index| index.digest.to_string()),
            "images": images.iter().map(described).collect::<Vec<_>>(),
        }),
    }
}
