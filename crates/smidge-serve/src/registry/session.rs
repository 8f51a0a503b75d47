//! Uploads in progress. They live as long as the server, at most.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use rustix::rand::{GetRandomFlags, getrandom};
use smidge_store::BlobWriter;
use tokio::sync::OwnedMutexGuard;

use crate::http::{Code, Fault};
use crate::shelf::Repository;

/// Uploads at a time. Each holds a file and a buffer.
const LIMIT: usize = 128;

/// How long an upload waits for its next request.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// How long it does where others want its place.
const CROWDED: Duration = Duration::from_secs(60);

/// All uploads, by their ids.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

/// A blob that comes piece by piece.
pub(super) struct Session {
    pub(super) id: String,
    key: String,
    offset: AtomicU64,
    touched: Mutex<Instant>,
    /// What was written so far, if anything was. Whoever holds it is the one that writes.
    writer: Arc<tokio::sync::Mutex<Option<BlobWriter<'static>>>>,
}

/// The right to write to a session.
pub(super) struct Writing {
    pub(super) session: Arc<Session>,
    writer: OwnedMutexGuard<Option<BlobWriter<'static>>>,
}

/// Counts what is written to a session.
pub(super) struct Counted {
    session: Arc<Session>,
    writer: BlobWriter<'static>,
}

impl Sessions {
    /// Starts an upload to a repository.
    pub(super) fn start(&self, repository: &Repository) -> Result<Arc<Session>, Fault> {
        let session = Arc::new(Session {
            id: uuid()?,
            key: repository.key.clone(),
            offset: AtomicU64::new(0),
            touched: Mutex::new(Instant::now()),
            writer: Arc::default(),
        });
        let mut sessions = self.locked();
        if sessions.len() >= LIMIT {
            let now = Instant::now();
            sessions.retain(|_, session| session.is_wanted(now, CROWDED));
        }
        if sessions.len() >= LIMIT {
            let message = format!("{LIMIT} uploads are in progress: finish or cancel one");
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Err(Fault::new(status, Code::TooManyRequests, message)
                .with(hyper::header::RETRY_AFTER, 10));
        }
        sessions.insert(session.id.clone(), Arc::clone(&session));
        Ok(session)
    }

    /// An upload to a repository.
    pub(super) fn find(&self, repository: &Repository, id: &str) -> Result<Arc<Session>, Fault> {
        let sessions = self.locked();
        let session = sessions.get(id).filter(|found| found.key == repository.key);
        let session = session.ok_or_else(|| {
            let message = format!("`{}` has no upload `{id}`", repository.name);
            Fault::not_found(Code::BlobUploadUnknown, message)
        })?;
        *session.touched() = Instant::now();
        Ok(Arc::clone(session))
    }

    /// Ends an upload. What came of it is dropped with its last user.
    pub(super) fn end(&self, session: &Session) {
        self.locked().remove(&session.id);
    }

    /// Ends uploads that nobody has gone on with for long.
    pub(super) fn expire(&self, now: Instant) {
        self.locked()
            .retain(|_, session| session.is_wanted(now, IDLE));
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Bytes that were written.
    pub(super) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Whether somebody is writing, or was not long ago.
    fn is_wanted(&self, now: Instant, idle: Duration) -> bool {
        self.writer.try_lock().is_err() || now.saturating_duration_since(*self.touched()) < idle
    }

    fn touched(&self) -> MutexGuard<'_, Instant> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to write.
    ///
    /// # Errors
    /// While another request has it.
    pub(super) fn write(self: Arc<Self>) -> Result<Writing, Fault> {
        match Arc::clone(&self.writer).try_lock_owned() {
            Ok(writer) => Ok(Writing {
                session: self,
                writer,
            }),
            Err(_) => Err(Fault::new(
                StatusCode::CONFLICT,
                Code::BlobUploadInvalid,
                format!("another request is writing to the upload `{}`", self.id),
            )),
        }
    }
}

impl Writing {
    /// What was written, to write on; `start` begins it.
    pub(super) fn take(
        &mut self,
        start: impl FnOnce() -> Result<BlobWriter<'static>, Fault>,
    ) -> Result<Counted, Fault> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => start()?,
        };
        Ok(Counted {
            session: Arc::clone(&self.session),
            writer,
        })
    }

    /// Leaves what was written for the next request.
    pub(super) fn put_back(&mut self, written: Counted) {
        *self.writer = Some(written.writer);
        *self.session.touched() = Instant::now();
    }
}

impl Counted {
    /// What was written.
    pub(super) fn into_writer(self) -> BlobWriter<'static> {
        self.writer
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.session
            .offset
            .fetch_add(written as u64, Ordering::AcqRel);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(io::Error::from)?;
    let number = u128::from_be_bytes(bytes);
    let number = number & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    Ok(format!("{a}-{b}-{c}-{d}-{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_and_no_two_are_the_same() {
        let id = uuid().unwrap();
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(uuid().unwrap(), id);
    }

    #[test]
    fn an_upload_belongs_to_its_repository_and_has_one_writer() {
        let sessions = Sessions::default();
        let repository = |name| Repository::parse(name).unwrap();
        let session = sessions.start(&repository("a")).unwrap();
        assert!(sessions.find(&repository("b"), &session.id).is_err());
        let found = sessions
            .find(&repository("library/a"), &session.id)
            .unwrap();
        let writing = found.write().unwrap();
        let conflict = Arc::clone(&session).write().err().unwrap();
        assert_eq!(conflict.status, StatusCode::CONFLICT);
        let later = Instant::now() + IDLE;
        sessions.expire(later);
        assert!(sessions.find(&repository("a"), &session.id).is_ok());
        drop(writing);
        sessions.expire(Instant::now() + IDLE);
        assert!(sessions.find(&repository("a"), &session.id).is_err());
    }

    #[test]
    fn there_is_a_limit_to_uploads() {
        let sessions = Sessions::default();
        let repository = Repository::parse("a").unwrap();
        let first = sessions.start(&repository).unwrap();
        for _ in 1..LIMIT {
            sessions.start(&repository).unwrap();
        }
        let fault = sessions.start(&repository).err().unwrap();
        assert_eq!(fault.status, StatusCode::TOO_MANY_REQUESTS);
        sessions.end(&first);
        sessions.start(&repository).unwrap();
    }
}
