//! A blob's bytes as they come.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use smidge_image::Descriptor;
use ureq::BodyReader;
use ureq::http::Method;

use crate::pace::{PROGRESS, Pace};
use crate::token::Scopes;
use crate::transport::{Answer, Follow, Request};
use crate::trouble::{self, Broken};
use crate::url::Url;
use crate::wire::{Call, Target, Wire};
use crate::{Endpoint, Error, Result};

/// The bytes of a blob from an offset on. A connection that breaks is taken up where it broke.
///
/// The bytes are not verified: who takes them hashes them all. There are never more than the
/// descriptor says.
///
/// # Errors
/// Its `Read` fails with an [`io::Error`] that carries an [`Error`](crate::Error): `downcast` it.
pub struct BlobReader {
    wire: Arc<Wire>,
    descriptor: Descriptor,
    /// Where the bytes come from, best first; the last one is never given up for another.
    sources: VecDeque<Source>,
    position: u64,
    flow: Option<Flow>,
    /// How often it broke since there was progress.
    broken: u32,
    /// How many bytes came since it broke last.
    since: u64,
    /// What became of it at the sources that were given up.
    failed: Vec<Error>,
}

/// A place that may have the blob.
pub(crate) enum Source {
    /// A registry or a mirror of it.
    Registry {
        endpoint: Endpoint,
        scopes: Scopes,
        mirror: bool,
    },
    /// A URL of the descriptor.
    Elsewhere(Url),
}

/// An answer's bytes.
struct Flow {
    body: BodyReader<'static>,
    /// How many bytes come before the wanted ones, from a server that knows no ranges.
    skip: u64,
    pace: Pace,
    label: String,
    url: Url,
}

impl BlobReader {
    /// Starts to fetch.
    pub(crate) fn open(
        wire: &Arc<Wire>,
        descriptor: &Descriptor,
        sources: VecDeque<Source>,
        offset: u64,
    ) -> Result<Self> {
        let mut reader = Self {
            wire: Arc::clone(wire),
            descriptor: descriptor.clone(),
            sources,
            position: offset,
            flow: None,
            broken: 0,
            since: 0,
            failed: Vec::new(),
        };
        if offset > descriptor.size {
            return Err(Error::Protocol {
                request: format!("GET {}", descriptor.digest),
                why: format!(
                    "it has {} bytes: there are none from {offset} on",
                    descriptor.size
                ),
            });
        }
        if offset < descriptor.size {
            reader.flow = Some(reader.start()?);
        }
        Ok(reader)
    }

    /// Asks the sources in turn for what is missing.
    fn start(&mut self) -> Result<Flow> {
        loop {
            let Some(source) = self.sources.front() else {
                return Err(Error::Protocol {
                    request: format!("GET {}", self.descriptor.digest),
                    why: "there is no place to fetch it from".to_owned(),
                });
            };
            match self.ask(source).and_then(|answer| self.flow(answer)) {
                Ok(flow) => return Ok(flow),
                Err(error) if self.sources.len() > 1 => {
                    self.failed.push(error);
                    self.sources.pop_front();
                }
                Err(error) => return Err(error.behind(&self.failed)),
            }
        }
    }

    fn ask(&self, source: &Source) -> Result<Answer> {
        let range = (self.position > 0).then(|| format!("bytes={}-", self.position));
        match source {
            Source::Registry {
                endpoint,
                scopes,
                mirror,
            } => {
                let path = format!("/v2/{}/blobs/{}", endpoint.path, self.descriptor.digest);
                let mut call = Call::new(Method::GET, Target::Path(path), scopes).mirror(*mirror);
                call.headers.extend(range.map(|range| ("range", range)));
                self.wire.expect(endpoint, &call)
            }
            Source::Elsewhere(url) => {
                let mut request = Request::new(Method::GET, url.clone()).follow(Follow::Public);
                request.headers.extend(range.map(|range| ("range", range)));
                self.wire.elsewhere(&request)
            }
        }
    }

    /// Checks that the answer is what was asked for.
    fn flow(&self, answer: Answer) -> Result<Flow> {
        let wrong = |why: String| Error::Protocol {
            request: answer.label.clone(),
            why,
        };
        let size = self.descriptor.size;
        let (start, total) = match answer.status {
            206 => {
                let range = answer.header("content-range").unwrap_or_default();
                parse_range(range)
                    .ok_or_else(|| wrong(format!("206 with `Content-Range: {range}`")))?
            }
            _ => (0, answer.number("content-length")),
        };
        if answer.status == 206 && start != self.position {
            return Err(wrong(format!(
                "bytes from {} on were asked for, bytes from {start} on came",
                self.position
            )));
        }
        if let Some(total) = total.filter(|total| *total != size) {
            return Err(wrong(format!(
                "the blob has {total} bytes, not {size} as its descriptor says"
            )));
        }
        Ok(Flow {
            skip: self.position - start,
            pace: Pace::new(self.wire.policy.idle),
            label: answer.label,
            url: answer.url,
            body: answer.body.into_reader(),
        })
    }

    /// Reads from the answer at hand, or else asks anew.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let left = self.descriptor.size - self.position;
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        loop {
            let flow = match self.flow.take() {
                Some(flow) => flow,
                None => match self.start() {
                    Err(error) if self.may_come_back(&error) => {
                        self.broken += 1;
                        thread::sleep(self.wire.policy.delay(self.broken, None));
                        continue;
                    }
                    started => started?,
                },
            };
            let flow = self.flow.insert(flow);
            let broken = match flow.read(&mut buffer[..most]) {
                Ok(read) => {
                    self.position += read as u64;
                    self.since += read as u64;
                    if self.since >= PROGRESS {
                        self.broken = 0;
                    }
                    return Ok(read);
                }
                Err(broken) => broken,
            };
            self.flow = None;
            self.since = 0;
            self.broken += 1;
            if self.broken >= self.wire.policy.attempts {
                if self.sources.len() < 2 {
                    return Err(broken.error.behind(&self.failed));
                }
                self.failed.push(broken.error);
                self.sources.pop_front();
                self.broken = 0;
            }
            thread::sleep(self.wire.policy.delay(self.broken, None));
        }
    }

    /// A registry that was there a moment ago and is not now may be starting anew.
    fn may_come_back(&self, error: &Error) -> bool {
        let own = match error {
            Error::BehindMirrors { error, .. } => error,
            own => own,
        };
        let refused = matches!(own, Error::Unreachable { source, .. }
            if source.kind() == io::ErrorKind::ConnectionRefused);
        refused && self.broken > 0 && self.broken < self.wire.policy.attempts
    }

    /// After the last byte: nothing may follow. Reading that nothing lets the connection be kept.
    fn end(&mut self) -> Result<()> {
        let Some(mut flow) = self.flow.take() else {
            return Ok(());
        };
        match flow.body.read(&mut [0]) {
            Ok(1..) => Err(Error::Protocol {
                request: flow.label,
                why: format!(
                    "more bytes came than the {} that the blob's descriptor says",
                    self.descriptor.size
                ),
            }),
            // What breaks now took nothing with it.
            Ok(0) | Err(_) => Ok(()),
        }
    }
}

impl Flow {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        loop {
            let wanted = usize::try_from(self.skip).unwrap_or(usize::MAX);
            let most = match wanted {
                0 => buffer.len(),
                wanted => wanted.min(buffer.len()),
            };
            let read = match self.pace.read(&mut self.body, &mut buffer[..most]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            let read =
                read.map_err(|error| trouble::of_body(self.label.clone(), &self.url, error))?;
            if self.skip == 0 {
                return Ok(read);
            }
            self.skip -= read as u64;
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.position >= self.descriptor.size {
            return self.end().map(|()| 0).map_err(io::Error::other);
        }
        self.next(buffer).map_err(io::Error::other)
    }
}

/// First byte and total of `bytes 5-9/10`.
fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests;
