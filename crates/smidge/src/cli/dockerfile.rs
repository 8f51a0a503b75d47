//! The options of `smidge build` that only Dockerfiles know.

use smidge_engine::build::DockerfileOptions;
use smidge_engine::container::parse_bytes;
use smidge_engine::{Error, Kind};

use super::connection::ConnectionArgs;
use super::session::Session;

/// How a Dockerfile is built.
#[derive(clap::Args)]
#[command(next_help_heading = "Dockerfile")]
pub(super) struct DockerfileArgs {
    /// Value of an ARG; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) build_arg: Vec<String>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Look for newer base images
    #[arg(long)]
    pull: bool,
    /// Carry out every step, whatever is known from other builds
    #[arg(long)]
    no_cache: bool,
    /// Carry out every step of these stages; repeatable
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Know what builds elsewhere have left: an image's name, or
    /// type=registry,ref=NAME or type=local,src=DIR; repeatable
    #[arg(long, value_name = "NAME|type=TYPE,…")]
    cache_from: Vec<String>,
    /// Leave what RUN has made for builds elsewhere: an image's name, or type=registry,ref=NAME,
    /// type=local,dest=DIR or type=inline; mode=max takes all stages, mounts=true cache mounts too;
    /// repeatable
    #[arg(long, value_name = "NAME|type=TYPE,…")]
    cache_to: Vec<String>,
    /// A file or variable that a RUN may see, and the image does not keep; repeatable
    #[arg(long, value_name = "id=ID[,src=PATH|,env=NAME]")]
    secret: Vec<String>,
    /// An SSH agent that a RUN may use; repeatable
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Another place that FROM and COPY --from find under a name; repeatable
    #[arg(
        long,
        value_name = "NAME=PATH|URL|docker-image://IMAGE|oci-layout://PATH"
    )]
    build_context: Vec<String>,
    /// The network of every RUN: default, host or none
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// A host's address that every RUN knows; repeatable
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Size of /dev/shm in every RUN [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    shm_size: Option<u64>,
    /// What every RUN may use at most, such as nofile=1024:4096; repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Allow what is asked for: network.host, security.insecure; repeatable
    #[arg(long, value_name = "RIGHT", value_delimiter = ',')]
    allow: Vec<String>,
    /// Start a shell where a RUN has failed
    #[arg(
        long,
        value_name = "SHELL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/bin/sh"
    )]
    debug_shell: Option<String>,
    /// Make one layer of all that the build adds to its base image
    #[arg(long)]
    squash: bool,
    /// Leave out what the final stage does not need to run: keep what its own COPY and ADD bring, the
    /// programs that it starts and what these need, in one layer
    #[arg(long)]
    slim_final: bool,
    /// A file or directory that --slim-final is not to leave out, with wildcards as in COPY; repeatable
    #[arg(long, value_name = "PATH", requires = "slim_final")]
    keep: Vec<String>,
    /// Send the image to its registry after the build, under every name that -t gives it
    #[arg(long)]
    push: bool,
    /// Check the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// What to do: build, check or list the Dockerfile's targets
    #[arg(long, value_name = "METHOD", value_parser = ["build", "check", "targets"], hide_possible_values = true)]
    call: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    docker: DockerArgs,
}

/// What Docker's scripts say and smidge does anyway, or never.
#[derive(clap::Args)]
struct DockerArgs {
    /// Remove intermediate containers: there are none
    #[arg(long, hide = true)]
    rm: bool,
    /// The same after failures
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Compress the context on its way to a daemon: there is none
    #[arg(long, hide = true)]
    compress: bool,
    /// Put the image into the store: where it goes by default
    #[arg(long, hide = true)]
    load: bool,
    /// An attestation: only `false` can be had
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// A list of parts: only `false` can be had
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
}

impl DockerfileArgs {
    /// Whether the Dockerfile is only to be checked.
    pub(super) fn is_check(&self) -> bool {
        self.check || self.call.as_deref() == Some("check")
    }

    /// Whether the image is to be sent to a registry.
    pub(super) fn is_pushed(&self) -> bool {
        self.push
    }

    /// Whether the Dockerfile's stages are only to be listed.
    pub(super) fn is_targets(&self) -> bool {
        self.call.as_deref() == Some("targets")
    }

    /// The same for the engine.
    pub(super) fn options(&self, session: &Session) -> Result<DockerfileOptions, Error> {
        self.docker.refuse_attestations()?;
        Ok(DockerfileOptions {
            pull: self.pull,
            connection: self.connection.connection(session),
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            cache_from: self.cache_from.clone(),
            cache_to: self.cache_to.clone(),
            secrets: self.secret.clone(),
            ssh: self.ssh.clone(),
            shm_size: self.shm_size,
            ulimits: self.ulimit.clone(),
            add_hosts: self.add_host.clone(),
            network: self.network.clone(),
            build_contexts: self.build_context.clone(),
            allow: self.allow.clone(),
            debug_shell: self.debug_shell.clone(),
            squash: self.squash,
            slim_final: self.slim_final,
            keep: self.keep.clone(),
        })
    }
}

impl DockerArgs {
    fn refuse_attestations(&self) -> Result<(), Error> {
        for (name, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            if value.as_ref().is_some_and(|value| value != "false") {
                let message = format!("`--{name}`: smidge makes no attestations");
                return Err(Error::new(Kind::Input, message)
                    .with_hint(format!("leave it away, or say `--{name}=false`")));
            }
        }
        Ok(())
    }
}
