//! `smidge login`.

use std::io::{self, IsTerminal as _, Read as _};

use smidge_engine::registry::{Connection, LoginRequest, Secret};
use smidge_engine::{Engine, Error, Kind};

use super::connection::ConnectionArgs;
use super::prompt;
use super::session::{Outcome, Session};

/// Log in to a registry
///
/// What is not given is asked for. The credentials are tried, then kept where Docker keeps them: by its
/// credential helper if there is one, else in a file.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge login                            Docker Hub
  pass ghcr | smidge login -u ci-bot --password-stdin ghcr.io
                                          with a password that nobody sees
  smidge login --get-login ghcr.io        who is logged in")]
pub(super) struct Args {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
    /// Who to log in as
    #[arg(short, long)]
    username: Option<String>,
    /// The password, or a token (others see it in `ps`)
    #[arg(short, long)]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// Print the user who is logged in, and do nothing
    #[arg(long)]
    get_login: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let connection = args.connection.connection(session);
    let engine = session.engine()?;
    let registry = args.registry.as_deref();
    if args.get_login {
        session.print(&engine.current_user(registry, &connection)?)?;
        return Ok(0);
    }
    if args.password.is_some() {
        session.tell("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let (username, password) = credentials(&engine, args, &connection)?;
    let request = LoginRequest {
        registry: args.registry.clone(),
        username,
        password: Secret::new(password),
        connection,
    };
    let logged_in = engine.login(&request)?;
    if let Some(file) = logged_in.file {
        session.tell(&format!(
            "WARNING! Your credentials are stored unencrypted in `{}`.",
            file.display()
        ));
    }
    session.print("Login Succeeded")?;
    Ok(0)
}

/// User name and password: as given, or else as answered.
fn credentials(
    engine: &Engine,
    args: &Args,
    connection: &Connection,
) -> Result<(String, String), Error> {
    if args.password_stdin {
        let Some(username) = args.username.clone() else {
            return Err(
                Error::new(Kind::Input, "`--password-stdin` needs `--username`")
                    .with_hint("say who: `smidge login -u USER --password-stdin`"),
            );
        };
        return Ok((username, password_from_stdin()?));
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let asks = given(&args.username).is_none() || given(&args.password).is_none();
    if asks && !io::stdin().is_terminal() {
        return Err(Error::new(
            Kind::Input,
            "cannot perform an interactive login from a non TTY device",
        )
        .with_hint("pass the password on: `smidge login -u USER --password-stdin < FILE`"));
    }
    let username = match given(&args.username) {
        Some(username) => username,
        None => {
            let known = engine.known_user(args.registry.as_deref(), connection)?;
            ask_for_user(known)?
        }
    };
    let password = match given(&args.password) {
        Some(password) => password,
        None => prompt::secret("Password: ")?,
    };
    if password.is_empty() {
        return Err(Error::new(Kind::Input, "a password is required"));
    }
    Ok((username, password))
}

/// Who is known already is suggested.
fn ask_for_user(known: Option<String>) -> Result<String, Error> {
    let question = match &known {
        Some(known) => format!("Username ({known}): "),
        None => "Username: ".to_owned(),
    };
    let answer = Some(prompt::line(&question)?).filter(|answer| !answer.is_empty());
    answer
        .or(known)
        .ok_or_else(|| Error::new(Kind::Input, "a user name is required"))
}

/// A password is all that comes, without the end of the line.
fn password_from_stdin() -> Result<String, Error> {
    /// No password is longer.
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|source| Error::io("cannot read the password from standard input", source))?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(Error::new(
            Kind::Input,
            "there is no password on standard input",
        )),
        false => Ok(password.to_owned()),
    }
}
