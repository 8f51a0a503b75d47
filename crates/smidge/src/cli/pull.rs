//! `smidge pull`.

use smidge_engine::registry::{PullRequest, Pulled};
use smidge_image::{Platform, Reference};

use super::connection::ConnectionArgs;
use super::progress::ProgressArgs;
use super::session::{Outcome, Session};

/// Fetch an image from a registry
///
/// A name without a registry is Docker Hub's. What the store has already is not fetched, and what an
/// interrupted pull has fetched is not fetched again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge pull alpine                      from Docker Hub
  smidge pull ghcr.io/acme/api:1.4
  smidge pull --platform linux/arm64 alpine
                                          for another machine
  smidge pull -a localhost:5000/app       every tag
  smidge pull --tls-verify=false 10.0.0.7:5000/app
                                          without TLS, or with a certificate of its own")]
pub(super) struct Args {
    /// Name of the image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
    /// Fetch every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The platform, if not this machine's
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        conflicts_with = "all_platforms"
    )]
    platform: Option<Platform>,
    /// Fetch the image for every platform
    #[arg(long)]
    all_platforms: bool,
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Accepted for Docker's sake
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let _ = args.disable_content_trust;
    let name = args.image.parse::<Reference>().ok();
    if name.as_ref().is_some_and(is_built_in) {
        let text = match args.quiet {
            true => "scratch",
            false => "scratch: built in, nothing to pull",
        };
        session.print(text)?;
        return Ok(0);
    }
    let engine = session.engine()?;
    let request = PullRequest {
        name: args.image.clone(),
        all_tags: args.all_tags,
        platform: args.platform.clone(),
        all_platforms: args.all_platforms,
        packed: false,
        connection: args.connection.connection(session),
    };
    // Known before the first byte comes, and worth seeing while it does.
    if let Some(name) = name.filter(|_| !args.quiet && !args.all_tags) {
        session.print(&pulling(&name))?;
    }
    let sink = args.progress.sink(session, args.quiet);
    let pulled = engine.pull(&request, &*sink)?;
    drop(sink);
    for line in lines(&pulled, args) {
        session.print(&line)?;
    }
    Ok(0)
}

/// Whether a name is that of the image without files, which no registry has.
fn is_built_in(name: &Reference) -> bool {
    name.familiar() == "scratch:latest"
}

/// What is said first: `latest: Pulling from library/alpine`.
fn pulling(name: &Reference) -> String {
    let digest = name.digest().map(|digest| digest.to_string());
    let target = digest.or_else(|| name.tag().map(str::to_owned));
    let target = target.unwrap_or_default();
    format!("{target}: Pulling from {}", name.path())
}

/// What is said in the end, in Docker's words.
fn lines(pulled: &[Pulled], args: &Args) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(last) = pulled.last() else {
        return lines;
    };
    if !args.quiet {
        for image in pulled {
            if args.all_tags {
                lines.push(pulling(&image.name));
            }
            lines.push(format!("Digest: {}", image.digest));
        }
        let subject = match args.all_tags {
            true => last.name.familiar_name(),
            false => last.name.familiar(),
        };
        lines.push(match pulled.iter().all(|image| image.up_to_date) {
            true => format!("Status: Image is up to date for {subject}"),
            false => format!("Status: Downloaded newer image for {subject}"),
        });
    }
    lines.push(match args.all_tags {
        true => format!("{}/{}", last.name.domain(), last.name.path()),
        false => last.name.to_string(),
    });
    lines
}
