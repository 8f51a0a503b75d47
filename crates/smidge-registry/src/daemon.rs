//! Docker's own store, through the daemon's socket (Docker Engine API, `/images/…`).

mod socket;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use smidge_image::{DiffId, Digest, Reference};
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, SendBody};

use crate::{Error, Fault, Result};
use socket::{Gone, NoResolver, SocketConnector};

/// How long a daemon may take to be connected to, and to say that it is there.
const CONNECT: Duration = Duration::from_secs(10);

/// How long it may take to answer a question. Loading and saving take as long as they take.
const ANSWER: Duration = Duration::from_secs(120);

/// The most that is read of an answer that is a document, in bytes.
const ANSWER_LIMIT: u64 = 32 << 20;

/// Bytes that are sent at a time.
const BUFFER: usize = 1 << 18;

/// Docker's daemon.
#[derive(Debug)]
pub struct Daemon {
    agent: Agent,
    /// What comes before a path.
    base: String,
    /// How to call it in messages.
    address: String,
    /// Whether it has hung up while something was sent.
    gone: Gone,
}

/// Which layers a daemon wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Those that it lacks.
    Missing,
    /// All: it keeps its images in containerd.
    AllForContainerd,
    /// All: it is Podman, which offers the same API.
    AllForPodman,
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
                .output_buffer_size(BUFFER)
                .proxy(None)
                .build()
        };
        let gone = Gone::default();
        let connected_by = Arc::clone(&gone);
        let daemon = |agent, base| Self {
            agent,
            base,
            address: address.to_owned(),
            gone,
        };
        if let Some(socket) = address.strip_prefix("unix://") {
            let connector = SocketConnector {
                path: PathBuf::from(socket),
                gone: connected_by,
            };
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

    /// Asks the daemon whether it is there, and is one.
    ///
    /// # Errors
    /// When it cannot be reached, does not answer, or answers with nonsense.
    pub fn ping(&self) -> Result<()> {
        self.greeting().map(drop)
    }

    /// Its answer to a ping.
    fn greeting(&self) -> Result<Response<Body>> {
        let path = "/_ping";
        match self.send((Method::GET, path), SendBody::none(), Some(CONNECT)) {
            Ok(answer) if answer.headers().contains_key("api-version") => Ok(answer),
            Ok(_) | Err(Error::NotFound { .. }) => Err(Error::Protocol {
                request: self.request(&Method::GET, path),
                why: "not the answer of a Docker daemon".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Whether layers that the daemon has need not be sent to it again.
    ///
    /// # Errors
    /// When it cannot be reached, or answers with nonsense.
    pub fn wants(&self) -> Result<Wants> {
        if self
            .greeting()?
            .headers()
            .contains_key("libpod-api-version")
        {
            return Ok(Wants::AllForPodman);
        }
        let info: Info = self.json("/info")?;
        let status = info.driver_status.unwrap_or_default();
        let containerd = |(key, value): &(String, String)| {
            key == "driver-type" && value.starts_with("io.containerd.snapshotter")
        };
        Ok(match status.iter().any(containerd) {
            true => Wants::AllForContainerd,
            false => Wants::Missing,
        })
    }

    /// Whether the daemon has an image, by its id.
    ///
    /// # Errors
    /// As [`Daemon::wants`].
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
    /// As [`Daemon::wants`].
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
    /// As [`Daemon::wants`]; when there is no such image.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<()> {
        let tag = name.tag().unwrap_or("latest");
        let repository = name.familiar_name();
        let path = format!("/images/{id}/tag?repo={repository}&tag={tag}");
        self.send((Method::POST, &path), SendBody::none(), Some(ANSWER))
            .map(drop)
    }

    /// Sends a docker-archive.
    ///
    /// # Errors
    /// As [`Daemon::wants`]; [`Error::Refused`] with what the daemon says against it.
    pub fn load(&self, archive: &mut dyn Read) -> Result<()> {
        let call = (Method::POST, "/images/load?quiet=1");
        let mut archive = Unwanted {
            inner: archive,
            gone: &self.gone,
        };
        let body = SendBody::from_reader(&mut archive);
        let answer = self.send(call.clone(), body, None)?;
        let request = || self.request(&call.0, call.1);
        let lines = BufReader::new(answer.into_body().into_reader().take(ANSWER_LIMIT)).lines();
        for line in lines {
            let line = line.map_err(|source| Error::Unreachable {
                request: request(),
                source,
            })?;
            if let Ok(Line { error: Some(error) }) = serde_json::from_str(&line) {
                return Err(Error::Refused {
                    request: request(),
                    fault: Fault {
                        status: 500,
                        code: String::new(),
                        message: error.message,
                    },
                });
            }
        }
        // A daemon that is stopped answers with nothing.
        match self.gone.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::Unreachable {
                request: request(),
                source: io::ErrorKind::BrokenPipe.into(),
            }),
        }
    }

    /// Fetches an image as a docker-archive.
    ///
    /// # Errors
    /// As [`Daemon::wants`]; [`Error::NotFound`].
    pub fn save(&self, name: &str) -> Result<impl Read + use<>> {
        let path = format!("/images/{name}/get");
        let answer = self.send((Method::GET, &path), SendBody::none(), None)?;
        Ok(answer.into_body().into_reader())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.send((Method::GET, path), SendBody::none(), Some(ANSWER))?;
        let reader = answer.into_body().into_reader().take(ANSWER_LIMIT);
        serde_json::from_reader(BufReader::new(reader)).map_err(|error| Error::Protocol {
            request: self.request(&Method::GET, path),
            why: format!("not the answer of a Docker daemon: {error}"),
        })
    }

    fn send(
        &self,
        (method, path): (Method, &str),
        body: SendBody<'_>,
        patience: Option<Duration>,
    ) -> Result<Response<Body>> {
        let label = self.request(&method, path);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Content-Type", "application/x-tar")
            .body(body);
        let request = request.map_err(|error| Error::Protocol {
            request: label.clone(),
            why: error.to_string(),
        })?;
        let request = self.agent.configure_request(request);
        let request = request.timeout_global(patience).build();
        let answer = match self.agent.run(request) {
            Ok(answer) => answer,
            Err(error) => return Err(unreachable(label, error)),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let mut text = String::new();
        let mut reader = answer.into_body().into_reader().take(1 << 16);
        let _ = reader.read_to_string(&mut text);
        let message = serde_json::from_str::<Message>(&text).map(|said| said.message);
        let fault = Fault {
            status: status.as_u16(),
            code: String::new(),
            message: message.unwrap_or_else(|_| text.trim().to_owned()),
        };
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound {
                request: label,
                fault,
            },
            _ => Error::Refused {
                request: label,
                fault,
            },
        })
    }

    /// How to call a request in messages.
    fn request(&self, method: &Method, path: &str) -> String {
        format!("{method} {path} at {}", self.address)
    }
}

fn unreachable(request: String, error: ureq::Error) -> Error {
    use ureq::Error as E;
    match error {
        E::Timeout(_) => Error::Unreachable {
            request,
            source: io::ErrorKind::TimedOut.into(),
        },
        E::Io(source) => Error::Unreachable { request, source },
        E::HostNotFound => Error::Unreachable {
            request,
            source: io::Error::other("there is no such host"),
        },
        E::ConnectionFailed => Error::Unreachable {
            request,
            source: io::ErrorKind::ConnectionRefused.into(),
        },
        other => Error::Protocol {
            request,
            why: format!("not the answer of a Docker daemon: {other}"),
        },
    }
}

/// Ends early when nobody wants the rest any more.
struct Unwanted<'a> {
    inner: &'a mut dyn Read,
    gone: &'a Gone,
}

impl Read for Unwanted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.gone.load(Ordering::Relaxed) {
            true => Ok(0),
            false => self.inner.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests;
