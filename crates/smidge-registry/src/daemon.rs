//! Docker's own store, through the daemon's socket (Docker Engine API, `/images/…`).

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use smidge_image::{DiffId, Digest, Reference};
use ureq::http::{Method, Request, StatusCode};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Body, SendBody};

use crate::{Error, Fault, Result};

/// Seconds that a daemon may take to be connected to. What it then does takes as long as it takes.
const CONNECT: Duration = Duration::from_secs(10);

/// The most that is read of an answer that is a document, in bytes.
const ANSWER_LIMIT: u64 = 32 << 20;

/// Docker's daemon.
#[derive(Debug)]
pub struct Daemon {
    agent: Agent,
    /// What comes before a path.
    base: String,
    /// How to call it in messages.
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RootFs {
    layers: Vec<DiffId>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    driver_status: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// One line of what the daemon says while it loads.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "errorDetail")]
    error: Option<Message>,
}

impl Daemon {
    /// The daemon at an address as `$DOCKER_HOST` has it: `unix:///var/run/docker.sock`,
    /// `tcp://localhost:2375`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Protocol`] for an address that smidge cannot use.
    pub fn at(address: &str) -> Result<Self> {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .timeout_connect(Some(CONNECT))
                .proxy(None)
                .build()
        };
        let daemon = |agent, base| Self {
            agent,
            base,
            address: address.to_owned(),
        };
        if let Some(socket) = address.strip_prefix("unix://") {
            let connector = SocketConnector(PathBuf::from(socket));
            let agent = Agent::with_parts(config(), connector, NoResolver);
            return Ok(daemon(agent, "http://docker".to_owned()));
        }
        match address.strip_prefix("tcp://") {
            Some(host) => {
                let resolver = ureq::unversioned::resolver::DefaultResolver::default();
                let agent = Agent::with_parts(config(), DefaultConnector::default(), resolver);
                Ok(daemon(
                    agent,
                    format!("http://{}", host.trim_end_matches('/')),
                ))
            }
            None => Err(Error::Protocol {
                request: address.to_owned(),
                why: "a daemon's address begins with `unix://` or `tcp://`".to_owned(),
            }),
        }
    }

    /// Whether layers that the daemon has need not be sent to it again: its containerd image store
    /// wants all of them.
    ///
    /// # Errors
    /// When it cannot be reached, or answers with nonsense.
    pub fn reuses_layers(&self) -> Result<bool> {
        let info: Info = self.json("/info")?;
        let status = info.driver_status.unwrap_or_default();
        let containerd = |(key, value): &(String, String)| {
            key == "driver-type" && value.starts_with("io.containerd.snapshotter")
        };
        Ok(!status.iter().any(containerd))
    }

    /// Whether the daemon has an image, by its id.
    ///
    /// # Errors
    /// As [`Daemon::reuses_layers`].
    pub fn has_image(&self, id: &Digest) -> Result<bool> {
        match self.json::<serde_json::Value>(&format!("/images/{id}/json")) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many of these layers, from the bottom, some image of the daemon's begins with.
    ///
    /// # Errors
    /// As [`Daemon::reuses_layers`].
    pub fn shared_layers(&self, layers: &[DiffId]) -> Result<usize> {
        let listed: Vec<Listed> = self.json("/images/json?all=1")?;
        let ids: BTreeSet<_> = listed.into_iter().map(|image| image.id).collect();
        let mut most = 0;
        for id in ids {
            if most == layers.len() {
                break;
            }
            // An image may be removed while it is asked for.
            let Ok(image) = self.json::<Inspected>(&format!("/images/{id}/json")) else {
                continue;
            };
            let pairs = layers.iter().zip(&image.root_fs.layers);
            most = most.max(pairs.take_while(|(a, b)| a == b).count());
        }
        Ok(most)
    }

    /// Gives an image of the daemon's another name.
    ///
    /// # Errors
    /// As [`Daemon::reuses_layers`]; when there is no such image.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<()> {
        let tag = name.tag().unwrap_or("latest");
        let repository = name.familiar_name();
        let path = format!("/images/{id}/tag?repo={repository}&tag={tag}");
        self.send(Method::POST, &path, SendBody::none()).map(drop)
    }

    /// Sends a docker-archive.
    ///
    /// # Errors
    /// As [`Daemon::reuses_layers`]; [`Error::Refused`] with what the daemon says against it.
    pub fn load(&self, archive: &mut dyn Read) -> Result<()> {
        let path = "/images/load?quiet=1";
        let answer = self.send(Method::POST, path, SendBody::from_reader(&mut { archive }))?;
        for line in BufReader::new(answer.into_reader().take(ANSWER_LIMIT)).lines() {
            let line = line.map_err(|source| self.unreachable(path, source))?;
            if let Ok(Line { error: Some(error) }) = serde_json::from_str(&line) {
                return Err(Error::Refused {
                    request: self.request(path),
                    fault: Fault {
                        status: 200,
                        code: String::new(),
                        message: error.message,
                    },
                });
            }
        }
        Ok(())
    }

    /// Fetches an image as a docker-archive.
    ///
    /// # Errors
    /// As [`Daemon::reuses_layers`]; [`Error::NotFound`].
    pub fn save(&self, name: &str) -> Result<impl Read + use<>> {
        let path = format!("/images/{name}/get");
        Ok(self
            .send(Method::GET, &path, SendBody::none())?
            .into_reader())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.send(Method::GET, path, SendBody::none())?;
        let reader = answer.into_reader().take(ANSWER_LIMIT);
        serde_json::from_reader(BufReader::new(reader)).map_err(|error| Error::Protocol {
            request: self.request(path),
            why: format!("not the answer of a Docker daemon: {error}"),
        })
    }

    fn send(&self, method: Method, path: &str, body: SendBody<'_>) -> Result<Body> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Content-Type", "application/x-tar")
            .body(body)
            .map_err(|error| Error::Protocol {
                request: self.request(path),
                why: error.to_string(),
            })?;
        let answer = self
            .agent
            .run(request)
            .map_err(|error| self.unreachable(path, error.into_io()))?;
        let status = answer.status();
        let body = answer.into_body();
        if status.is_success() {
            return Ok(body);
        }
        let mut text = String::new();
        let _ = body.into_reader().take(1 << 16).read_to_string(&mut text);
        let message = serde_json::from_str::<Message>(&text).map(|said| said.message);
        let fault = Fault {
            status: status.as_u16(),
            code: String::new(),
            message: message.unwrap_or_else(|_| text.trim().to_owned()),
        };
        let request = self.request(path);
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound { request, fault },
            _ => Error::Refused { request, fault },
        })
    }

    fn request(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    fn unreachable(&self, path: &str, source: io::Error) -> Error {
        Error::Unreachable {
            request: self.request(path),
            source,
        }
    }
}

/// Connects to a socket in the file system, whatever the URL says.
#[derive(Debug)]
struct SocketConnector(PathBuf);

impl Connector<()> for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> std::result::Result<Option<SocketTransport>, ureq::Error> {
        let config = &details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(SocketTransport {
            stream: connected(&self.0)?,
            buffers,
        }))
    }
}

fn connected(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket)
}

/// Nothing is looked up for a socket.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let mut one = self.empty();
        one.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(one)
    }
}

#[derive(Debug)]
struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(
        &mut self,
        amount: usize,
        _: NextTimeout,
    ) -> std::result::Result<(), ureq::Error> {
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, _: NextTimeout) -> std::result::Result<bool, ureq::Error> {
        let read = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // A connection that was used once is not kept: a daemon may close it at any time.
        false
    }
}

impl Drop for SocketTransport {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
