//! Sending a blob (distribution-spec, "Pushing Blobs").
//!
//! A blob goes in one piece. Where the connection breaks, the registry is asked how much it has, and
//! the rest is sent. Where one piece is refused, chunks are tried.

use std::cell::Cell;
use std::io::{self, Read};
use std::thread;

use smidge_image::Digest;
use ureq::http::Method;

use crate::pace::PROGRESS;
use crate::repository::{Upload, Uploaded};
use crate::token::Scopes;
use crate::transport::{Answer, Content};
use crate::trouble::{Broken, Trouble};
use crate::url::Url;
use crate::wire::{ATTEMPTS_IF_LATE, Call, Target, Wire};
use crate::{Endpoint, Error, Result, retry};

/// The size of a chunk, where a registry wants chunks.
const CHUNK: u64 = 16 << 20;
/// The smallest chunk that is tried where larger ones are refused.
const SMALLEST_CHUNK: u64 = 256 << 10;
/// How many repositories are tried as the source of a mount.
const MOST_MOUNTS: usize = 3;

/// A blob on its way to a repository.
pub(crate) struct Sender<'a> {
    pub(crate) wire: &'a Wire,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) scopes: Scopes,
    pub(crate) upload: &'a Upload<'a>,
    /// Up to where bytes have been told of: those that go twice are told once.
    pub(crate) told: Cell<u64>,
    /// How often it broke since there was progress.
    pub(crate) stuck: Cell<u32>,
}

/// An upload that the registry has begun.
struct Session {
    url: Url,
    /// The smallest chunk that the registry takes.
    least: u64,
}

/// How the rest is to be sent.
#[derive(Clone, Copy)]
enum Way {
    /// In one piece; `true`: the registry is to be asked first whether it wants it.
    Whole(bool),
    /// In chunks of so many bytes, from an offset on.
    Chunks { size: u64, offset: u64 },
}

/// Why an attempt did not come to its end.
enum Setback {
    /// Try another way in the same session.
    Other(Way),
    /// Try another way in a new session.
    Anew(Way, Error),
    /// Nothing will help.
    Final(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Sender<'_> {
    /// Brings the blob into the repository in the cheapest way.
    pub(crate) fn run(&self) -> Result<Uploaded> {
        let mut session = match self.mount()? {
            Ok(done) => return Ok(done),
            Err(session) => session,
        };
        let mut way = Way::Whole(false);
        let mut attempt = 1;
        loop {
            match self.send(&mut session, way) {
                Ok(()) => return Ok(Uploaded::Sent),
                Err(Setback::Other(other)) => way = other,
                Err(Setback::Anew(other, error)) => {
                    self.cancel(&session);
                    if attempt >= self.attempts(&error) {
                        return Err(error);
                    }
                    thread::sleep(self.wire.policy.delay(attempt, None));
                    attempt += 1;
                    session = self.start()?;
                    way = other;
                }
                Err(Setback::Final(error)) => {
                    self.cancel(&session);
                    return Err(error);
                }
            }
        }
    }

    fn attempts(&self, error: &Error) -> u32 {
        match error {
            Error::Unreachable { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                ATTEMPTS_IF_LATE
            }
            _ => self.wire.policy.attempts,
        }
    }

    fn call(&self, method: Method, url: &Url) -> Call<'_> {
        Call::new(method, Target::Url(url.clone()), &self.scopes)
    }

    /// Looks whether there is anything to send at all; if there is, begins.
    fn mount(&self) -> Result<std::result::Result<Uploaded, Session>> {
        let mut begun: Option<Session> = None;
        for from in self.upload.mount_from.iter().take(MOST_MOUNTS) {
            if let Some(unused) = begun.take() {
                self.cancel(&unused);
            }
            let digest = self.upload.descriptor.digest.to_string();
            let mut call = self.begin();
            call.target = self.uploads(&[("mount", &digest), ("from", from)]);
            call.scopes.insert(format!("repository:{from}:pull"));
            let answer = match self.wire.call(self.endpoint, &call) {
                Ok(answer) => answer,
                // A token server may give nothing to those who want too much.
                Err(Error::Denied { .. } | Error::Refused { .. }) => continue,
                Err(error) => return Err(error),
            };
            match answer.status {
                201 => {
                    answer.finish();
                    return Ok(Ok(Uploaded::Mounted(from.clone())));
                }
                202 => begun = Some(self.session(answer)?),
                // Whoever may not read there may still write here.
                _ => answer.finish(),
            }
        }
        if self.exists()? {
            if let Some(unused) = begun {
                self.cancel(&unused);
            }
            return Ok(Ok(Uploaded::Existed));
        }
        begun.map_or_else(|| self.start(), Ok).map(Err)
    }

    fn begin(&self) -> Call<'_> {
        Call::new(Method::POST, self.uploads(&[]), &self.scopes)
    }

    fn uploads(&self, query: &[(&str, &str)]) -> Target {
        let path = format!("/v2/{}/blobs/uploads/", self.endpoint.path);
        let url = query
            .iter()
            .fold(Url::new(true, "host", &path), |url, (key, value)| {
                url.with(key, value)
            });
        Target::Path(url.path_and_query())
    }

    fn exists(&self) -> Result<bool> {
        crate::repository::has_blob(
            self.wire,
            self.endpoint,
            &self.scopes,
            &self.upload.descriptor.digest,
        )
    }

    fn start(&self) -> Result<Session> {
        let answer = self.wire.expect(self.endpoint, &self.begin())?;
        self.session(answer)
    }

    fn session(&self, answer: Answer) -> Result<Session> {
        let session = Session {
            url: answer.location()?,
            least: answer.number("oci-chunk-min-length").unwrap_or(0),
        };
        answer.finish();
        Ok(session)
    }

    /// Best effort: a registry forgets sessions by itself in time.
    fn cancel(&self, session: &Session) {
        let call = self.call(Method::DELETE, &session.url);
        if let Ok(answer) = self.wire.once(self.endpoint, &call) {
            answer.finish();
        }
    }

    fn send(&self, session: &mut Session, way: Way) -> Result<(), Setback> {
        match way {
            Way::Whole(ask_first) => self.send_whole(session, ask_first),
            Way::Chunks { size, offset } => self.send_chunks(session, size, offset),
        }
    }

    fn send_whole(&self, session: &mut Session, ask_first: bool) -> Result<(), Setback> {
        let size = self.upload.descriptor.size;
        let open = || self.open(0, size);
        let mut call = self
            .finish(session)
            .content(Content::Stream(size, &open))
            .header("content-type", "application/octet-stream");
        if ask_first {
            call = call.header("expect", "100-continue");
        }
        match self.wire.once(self.endpoint, &call) {
            Ok(answer) if answer.is_success() => self.check(answer),
            Ok(answer) => {
                let status = answer.status;
                let error = self.wire.refusal(self.endpoint, answer);
                match status {
                    404 | 405 | 411 | 413 | 416 | 417 | 501 => {
                        let size = CHUNK.max(session.least);
                        Err(Setback::Anew(Way::Chunks { size, offset: 0 }, error))
                    }
                    _ if retry::is_passing(status) => self.recover(session, error, None),
                    _ => Err(Setback::Final(error)),
                }
            }
            Err(broken) => self.recover_from(session, broken, None),
        }
    }

    /// The request that ends an upload.
    fn finish(&self, session: &Session) -> Call<'_> {
        let digest = self.upload.descriptor.digest.to_string();
        let mut call = self.call(Method::PUT, &session.url.clone().with("digest", &digest));
        call.patience = Some(self.wire.policy.commit);
        call
    }

    fn check(&self, answer: Answer) -> Result<(), Setback> {
        let expected = self.upload.descriptor.digest;
        let told = answer.header("docker-content-digest").map(str::to_owned);
        let request = answer.label.clone();
        answer.finish();
        match told.as_deref().map(str::parse::<Digest>) {
            Some(Ok(told)) if told != expected => Err(Setback::Final(Error::Protocol {
                request,
                why: format!("{expected} was sent, but the registry took it for {told}"),
            })),
            _ => Ok(()),
        }
    }

    fn send_chunks(&self, session: &mut Session, size: u64, offset: u64) -> Result<(), Setback> {
        let total = self.upload.descriptor.size;
        let mut offset = offset;
        let mut stuck = 0;
        while offset < total {
            let length = size.min(total - offset);
            let open = || self.open(offset, length);
            let mut call = self
                .call(Method::PATCH, &session.url)
                .content(Content::Stream(length, &open))
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{offset}-{}", offset + length - 1));
            call.patience = Some(self.wire.policy.commit);
            let answer = match self.wire.once(self.endpoint, &call) {
                Ok(answer) => answer,
                Err(broken) => return self.recover_from(session, broken, Some((size, offset))),
            };
            if !answer.is_success() {
                return self.chunk_refused(session, answer, size, offset);
            }
            let has = self.progress(session, answer)?.unwrap_or(offset + length);
            let progress = has >= offset + PROGRESS.min(length);
            stuck = if progress { 0 } else { stuck + 1 };
            if stuck >= self.wire.policy.attempts || has > total {
                return Err(Setback::Final(Error::Protocol {
                    request: format!("PATCH {}", session.url),
                    why: format!("of {total} bytes the registry has {has}, whatever it is sent"),
                }));
            }
            offset = has;
        }
        match self.wire.once(self.endpoint, &self.finish(session)) {
            Ok(answer) if answer.is_success() => self.check(answer),
            Ok(answer) if retry::is_passing(answer.status) => {
                let error = self.wire.refusal(self.endpoint, answer);
                self.recover(session, error, Some((size, offset)))
            }
            Ok(answer) => Err(Setback::Final(self.wire.refusal(self.endpoint, answer))),
            Err(broken) => self.recover_from(session, broken, Some((size, offset))),
        }
    }

    fn chunk_refused(
        &self,
        session: &mut Session,
        answer: Answer,
        size: u64,
        offset: u64,
    ) -> Result<(), Setback> {
        let status = answer.status;
        let error = self.wire.refusal(self.endpoint, answer);
        let smaller = (size.min(CHUNK) / 2).max(session.least);
        match status {
            413 if smaller < size && smaller >= SMALLEST_CHUNK => {
                Err(Setback::Other(Way::Chunks {
                    size: smaller,
                    offset,
                }))
            }
            416 => self.recover(session, error, Some((size, offset))),
            status if retry::is_passing(status) => {
                self.recover(session, error, Some((size, offset)))
            }
            _ => Err(Setback::Final(error)),
        }
    }

    fn recover_from(
        &self,
        session: &mut Session,
        broken: Broken,
        at: Option<(u64, u64)>,
    ) -> Result<(), Setback> {
        match broken.trouble {
            Trouble::Lost | Trouble::Late => self.recover(session, broken.error, at),
            _ => Err(Setback::Final(broken.error)),
        }
    }

    /// After a break: asks what the registry has, and goes on from there.
    fn recover(
        &self,
        session: &mut Session,
        error: Error,
        at: Option<(u64, u64)>,
    ) -> Result<(), Setback> {
        // The answer alone may have been lost.
        if self.exists().unwrap_or(false) {
            return Ok(());
        }
        let (size, before) = at.unwrap_or((u64::MAX, 0));
        let has = match self
            .wire
            .once(self.endpoint, &self.call(Method::GET, &session.url))
        {
            Ok(answer) if answer.is_success() => self.progress(session, answer)?.unwrap_or(0),
            Ok(answer) => {
                answer.finish();
                0
            }
            Err(_) => 0,
        };
        if has >= before.saturating_add(PROGRESS) {
            self.stuck.set(0);
        }
        self.stuck.set(self.stuck.get() + 1);
        let again = self.stuck.get() < self.wire.policy.attempts;
        if again && has > before && has <= self.upload.descriptor.size {
            let size = size.max(session.least);
            return Err(Setback::Other(Way::Chunks { size, offset: has }));
        }
        let way = match at {
            Some((size, _)) if size <= CHUNK => Way::Chunks { size, offset: 0 },
            // What broke may have been a refusal that could not be read while bytes went out.
            _ => Way::Whole(true),
        };
        Err(Setback::Anew(way, error))
    }

    /// What the registry has of the blob, if it tells; and where the upload goes on.
    fn progress(&self, session: &mut Session, answer: Answer) -> Result<Option<u64>> {
        if answer.header("location").is_some() {
            session.url = answer.location()?;
        }
        let range = answer.header("range").map(str::to_owned);
        answer.finish();
        Ok(range.as_deref().and_then(received))
    }

    fn open(&self, offset: u64, length: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(Told {
            inner: (self.upload.open)(offset)?.take(length),
            position: offset,
            told: &self.told,
            sent: self.upload.sent,
        }))
    }
}

/// Tells about bytes as they go, each once.
struct Told<'a, R> {
    inner: R,
    position: u64,
    told: &'a Cell<u64>,
    sent: &'a dyn Fn(u64),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position += read as u64;
        let new = self.position.saturating_sub(self.told.get());
        if new > 0 {
            self.told.set(self.position);
            (self.sent)(new);
        }
        Ok(read)
    }
}

/// How many bytes `0-41` or `bytes=0-41` are. `0-0` may be one byte, but stands for none.
fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    if first.trim() != "0" {
        return None;
    }
    Some(if last == 0 { 0 } else { last + 1 })
}

#[cfg(test)]
mod tests;
