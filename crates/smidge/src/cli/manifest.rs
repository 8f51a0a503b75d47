//! `smidge manifest`, and Docker's verbs below it.

use std::io::{IsTerminal as _, Write as _};

use clap::Subcommand;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};
use smidge_engine::registry::{
    Annotation, Connection, Inspected, ManifestCreate, ManifestPushed, PushRequest,
};
use smidge_engine::{Error, Kind, Note};
use smidge_image::Platform;

use super::compression::CompressionArgs;
use super::connection::ConnectionArgs;
use super::progress::ProgressArgs;
use super::session::{Outcome, Session, each};
use crate::render::listing::unwritable;

/// Print an image's manifest in a registry, or join images for several platforms under one name
///
/// The manifest is printed as the registry has it, to the byte.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  smidge manifest alpine                  the index of all platforms
  smidge manifest --platform linux/arm64 alpine
                                          the manifest of one
  smidge manifest create me/app:1 me/app:1-amd64 me/app:1-arm64
  smidge manifest push me/app:1           the two images under one name")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]", required = true)]
    image: Option<String>,
    /// The manifest for one platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Subcommand)]
enum Verb {
    Create(Create),
    Annotate(Box<Annotate>),
    Inspect(Inspect),
    Push(Push),
    Rm(Rm),
}

/// Docker's way to say `--tls-verify=false`.
#[derive(clap::Args)]
struct Trust {
    /// Accept any certificate, and plain HTTP
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl Trust {
    fn connection(&self, session: &Session) -> Connection {
        let connection = self.connection.connection(session);
        match self.insecure {
            true => Connection {
                tls_verify: Some(false),
                ..connection
            },
            false => connection,
        }
    }
}

/// Make an index of images for several platforms
///
/// Images are taken from the store, or else from a registry. The index is kept in the store.
#[derive(clap::Args)]
struct Create {
    /// Name of the index
    list: String,
    /// Images to put in
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Add to an index that exists
    #[arg(short, long)]
    amend: bool,
    #[command(flatten)]
    trust: Trust,
}

/// Change what an index says about one of its images
#[derive(clap::Args)]
struct Annotate {
    /// Name of the index
    list: String,
    /// The image: its name, or the digest of its manifest
    image: String,
    /// Operating system
    #[arg(long)]
    os: Option<String>,
    /// Architecture
    #[arg(long)]
    arch: Option<String>,
    /// Variant of the architecture
    #[arg(long)]
    variant: Option<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Features of the operating system; repeatable
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Annotation; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    trust: Trust,
}

/// Show an index, or an image's manifest
#[derive(clap::Args)]
struct Inspect {
    /// Accepted for Docker's sake, when two names are given
    #[arg(value_name = "LIST", required = true)]
    names: Vec<String>,
    /// Show all manifests, with what the index says about them
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    trust: Trust,
}

/// Send an index and its images to a registry
#[derive(clap::Args)]
struct Push {
    /// Name of the index
    list: String,
    /// Forget the index when it has been sent
    #[arg(short, long)]
    purge: bool,
    #[command(flatten)]
    compression: CompressionArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    trust: Trust,
}

/// Forget indexes; their images stay
#[derive(clap::Args)]
struct Rm {
    /// Names of indexes
    #[arg(required = true, value_name = "LIST")]
    lists: Vec<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    match (&args.verb, &args.image) {
        (Some(Verb::Create(args)), _) => create(session, args),
        (Some(Verb::Annotate(args)), _) => annotate(session, args),
        (Some(Verb::Inspect(args)), _) => inspect(session, args),
        (Some(Verb::Push(args)), _) => push(session, args),
        (Some(Verb::Rm(args)), _) => {
            let engine = session.engine()?;
            each(&args.lists, |list| engine.manifest_forget(list))
        }
        (None, Some(image)) => print(session, image, args),
        (None, None) => Err(Error::new(Kind::Input, "the name of an image is missing")),
    }
}

/// Prints a manifest to the byte, so that its digest can be computed.
fn print(session: &Session, image: &str, args: &Args) -> Outcome {
    let connection = args.connection.connection(session);
    let engine = session.engine()?;
    let document = engine.remote_manifest(image, args.platform.as_ref(), &connection)?;
    let mut out = session.out();
    let mut bytes = document.bytes;
    if std::io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    out.write_all(&bytes)
        .and_then(|()| out.flush())
        .map_err(unwritable)?;
    Ok(0)
}

fn create(session: &Session, args: &Create) -> Outcome {
    let engine = session.engine()?;
    let request = ManifestCreate {
        name: args.list.clone(),
        images: args.images.clone(),
        amend: args.amend,
        connection: args.trust.connection(session),
    };
    engine.manifest_create(&request, &smidge_engine::Silent)?;
    let name = args.list.parse::<smidge_image::Reference>();
    let name = name.map_or_else(|_| args.list.clone(), |name| name.to_string());
    session.print(&format!("Created manifest list {name}"))?;
    Ok(0)
}

fn annotate(session: &Session, args: &Annotate) -> Outcome {
    let mut annotations = Vec::new();
    for text in &args.annotation {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            let fault = format!("`--annotation` cannot be `{text}`: expected KEY=VALUE");
            return Err(Error::new(Kind::Input, fault));
        };
        annotations.push((key.to_owned(), value.to_owned()));
    }
    let annotation = Annotation {
        os: args.os.clone(),
        architecture: args.arch.clone(),
        variant: args.variant.clone(),
        os_version: args.os_version.clone(),
        os_features: args.os_features.clone(),
        annotations,
        connection: args.trust.connection(session),
    };
    let engine = session.engine()?;
    engine.manifest_annotate(&args.list, &args.image, &annotation)?;
    Ok(0)
}

fn inspect(session: &Session, args: &Inspect) -> Outcome {
    // `inspect LIST MANIFEST` is Docker's old form; the last name is what is meant.
    let Some(name) = args.names.last() else {
        return Err(Error::new(Kind::Input, "the name of an image is missing"));
    };
    let connection = args.trust.connection(session);
    let engine = session.engine()?;
    let inspected = engine.manifest_inspect(name, args.verbose, &connection)?;
    let value = match args.verbose {
        true => verbose(&inspected)?,
        false => read(&inspected.document.bytes)?,
    };
    session.print(&indented(&value))?;
    Ok(0)
}

/// Everything about each manifest, as Docker shows it: of an image an object, of an index a list.
fn verbose(inspected: &Inspected) -> Result<Value, Error> {
    let is_index = inspected.document.descriptor.is_index();
    let manifests = inspected.manifests.iter().map(|manifest| {
        let descriptor = &manifest.descriptor;
        let name = match is_index {
            true => inspected.name.with_digest(descriptor.digest),
            false => inspected.name.clone(),
        };
        let kind = match descriptor.media_type.contains("docker") {
            true => "SchemaV2Manifest",
            false => "OCIManifest",
        };
        Ok(json!({
            "Ref": name.to_string(),
            "Descriptor": descriptor,
            kind: read(&manifest.bytes)?,
        }))
    });
    let mut manifests = manifests.collect::<Result<Vec<_>, Error>>()?;
    Ok(match is_index {
        true => Value::from(manifests),
        false => manifests.pop().unwrap_or_default(),
    })
}

fn read(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|source| {
        Error::new(Kind::Host, "the manifest cannot be understood").caused_by(source)
    })
}

/// JSON with tabs, as Docker has it here.
fn indented(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = Serializer::with_formatter(&mut text, formatter);
    // Keys are texts, and memory does not fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&text).into_owned()
}

fn push(session: &Session, args: &Push) -> Outcome {
    let request = PushRequest {
        name: args.list.clone(),
        compression: args.compression.compression(),
        connection: args.trust.connection(session),
        ..PushRequest::default()
    };
    let engine = session.engine()?;
    let sink = args.progress.sink(session, false);
    let ManifestPushed { index, manifests } = engine.manifest_push(&request, &*sink)?;
    drop(sink);
    for note in &index.notes {
        session.note(&Note::new(note.clone()));
    }
    for digest in manifests {
        let name = index.name.with_digest(digest);
        session.print(&format!("Pushed ref {name} with digest: {digest}"))?;
    }
    session.print(&index.digest.to_string())?;
    if args.purge {
        engine.manifest_forget(&args.list)?;
    }
    Ok(0)
}
