//! `smidge debug`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use smidge_engine::container::{self, DebugRequest, Streams, Tools};

use super::run::exit_code;
use super::session::{Outcome, Session};

/// A shell and tools beside a container that has none
///
/// Beside the program of a container that runs: in its namespaces, with its processes in /proc and its
/// files, as it sees them, in /target. The tools are in a root file system of their own: nothing of them
/// appears in the container, but what is written below /target is written in the container.
///
/// Of a container that does not run, and of an image, /target shows the files, read-only.
///
/// The tools are this machine's busybox (a static one), unless another image or a directory is named.
/// On a terminal, `-it` is implied.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge debug web                        a shell beside it
  smidge debug web ps                     its processes
  smidge debug --image alpine web         with the tools of another image
  smidge debug ghcr.io/acme/app ls -l /target
                                          what is in an image")]
pub(super) struct Args {
    /// Name or id of a container, or of an image
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
    /// The program, and its arguments [default: sh]
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
    /// Set an environment variable, or pass yours on; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Take the tools of an image
    #[arg(long, value_name = "IMAGE", conflicts_with = "tools")]
    image: Option<String>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the program every capability
    #[arg(long)]
    privileged: bool,
    /// Take the tools in a directory with a root file system
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, and group, to run as [default: 0]
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Working directory [default: /target]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let tty = args.tty || on_terminal;
    let stdin = args.interactive || on_terminal || args.command.is_empty();
    let tools = match (&args.image, &args.tools) {
        (Some(image), _) => Tools::Image(image.clone()),
        (None, Some(directory)) => Tools::Directory(directory.clone()),
        (None, None) => Tools::Busybox,
    };
    session.engine()?.seal_against(&args.name)?;
    let request = DebugRequest {
        tools,
        args: args.command.clone(),
        env: args.env.clone(),
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        tty,
        stdin,
        privileged: args.privileged,
    };
    let streams = Streams {
        stdin,
        stdout: true,
        stderr: true,
        ..Streams::default()
    };
    let end = match session
        .engine()?
        .debug(&args.name, &request, Some(streams))?
    {
        container::Session::Beside(execution) => execution.wait()?,
        // Why a tool fails is nothing to say of the container.
        container::Session::Apart(running) => running.wait()?.0,
    };
    Ok(exit_code(end))
}
