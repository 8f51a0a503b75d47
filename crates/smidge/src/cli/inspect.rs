//! `smidge inspect`.

use clap::ValueEnum;
use serde::Serialize as _;
use serde_json::Value;
use smidge_engine::{Engine, Error, Kind};
use smidge_image::Platform;

use super::session::{Outcome, Session};
use crate::render::listing::{self, Row};

/// Show everything about an image, a container, a network or a volume
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge inspect hello
  smidge inspect -f '{{.State.Status}}' web
  smidge inspect -f '{{json .Config.Env}}' --type image hello
  smidge inspect --platform linux/arm64 hello
  smidge inspect -f '{{(index (index .NetworkSettings.Ports \"8080/tcp\") 0).HostPort}}' web")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Look at things of this type alone
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Option<Type>,
    /// Of an image for several machines, the one for OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Of a container, add up how much it has written
    #[arg(short, long)]
    size: bool,
}

/// What can be inspected.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Type {
    Image,
    Container,
    Volume,
    Network,
}

impl Args {
    /// The same, for one type of thing.
    pub(super) fn of(self, kind: Type) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    show(session, &args.names, args.format.as_deref(), &|name| {
        inspected(&engine, name, args)
    })
}

/// Shows what is known of each of several things, as `--format` asks for.
pub(super) fn show(
    session: &Session,
    names: &[String],
    format: Option<&str>,
    inspected: &dyn Fn(&str) -> Result<Value, Error>,
) -> Outcome {
    let mut found = Vec::new();
    let outcome = super::session::each(names, |name| {
        found.push(inspected(name)?);
        Ok(())
    });
    let text = match format {
        None => pretty(&Value::Array(found)),
        Some("json") => format!("{}\n", Value::Array(found)),
        Some(format) => {
            let rows: Vec<Row> = found
                .into_iter()
                .map(|value| Row {
                    value,
                    ..Row::default()
                })
                .collect();
            listing::lines_of(&rows, format)?
        }
    };
    listing::write(&mut session.out(), &text)?;
    outcome
}

/// A container of the name, else an image, else a network, else a volume, as in Docker.
fn inspected(engine: &Engine, name: &str, args: &Args) -> Result<Value, Error> {
    let container = || {
        let mut value = json(engine.inspect_container(name)?)?;
        if let (true, Value::Object(fields)) = (args.size, &mut value) {
            let (changed, all) = {
                let known = engine.container(name)?;
                engine.container_size(&known.container, &known.record.image_id)?
            };
            fields.insert("SizeRw".to_owned(), changed.into());
            fields.insert("SizeRootFs".to_owned(), all.into());
        }
        Ok(value)
    };
    let image = || json(engine.inspect_image_for(name, args.platform.as_ref())?);
    let volume = || json(engine.inspect_volume(name)?);
    let network = || json(engine.inspect_network(name)?);
    match args.kind {
        // No container is for a platform.
        None if args.platform.is_some() => image(),
        Some(Type::Container) => container(),
        Some(Type::Image) => image(),
        Some(Type::Volume) => volume(),
        Some(Type::Network) => network(),
        None => match container() {
            Err(fault) if matches!(fault.kind(), Kind::NotFound | Kind::Input) => image()
                .or_else(|fault| network().map_err(|_| fault))
                .or_else(|fault| volume().map_err(|_| fault))
                .map_err(|fault| match fault.kind() {
                    Kind::NotFound => {
                        Error::new(Kind::NotFound, format!("No such object: {name}")).with_hint(
                            "what there is: `smidge ps -a`, `smidge images`, `smidge network ls` and `smidge volume ls`",
                        )
                    }
                    _ => fault,
                }),
            other => other,
        },
    }
}

/// What is known of a thing, as JSON.
pub(super) fn json(value: impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(value)
        .map_err(|source| Error::new(Kind::Bug, "cannot describe it").caused_by(source))
}

/// JSON as Docker indents it.
fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing to memory does not fail, and a `Value` is always JSON.
    let _ = value.serialize(&mut serializer);
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}
