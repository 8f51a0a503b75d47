//! One question to a registry, until there is an answer: scheme, credentials, patience.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::Method;

use crate::agent::{Agents, Bundles, ProxyFor};
use crate::retry::{self, Policy};
use crate::settings::is_loopback;
use crate::token::{CredentialsFor, Refusal, Scopes, Tokens};
use crate::transport::{Answer, Content, Follow, Request, Transport, stays_secure};
use crate::trouble::{Broken, Trouble, settle};
use crate::url::{Url, split_port};
use crate::{Endpoint, Error, Result, Scheme, Tls, challenge};

/// How often something is tried that takes a minute to fail.
pub(crate) const ATTEMPTS_IF_LATE: u32 = 2;

/// How hard something is tried.
#[derive(Clone, Copy)]
struct Effort {
    attempts: u32,
    /// How often where each time takes a minute to fail.
    attempts_if_late: u32,
    /// The longest wait that a server may ask for.
    longest: Duration,
}

/// For mirrors, which others can stand in for.
const LITTLE: Effort = Effort {
    attempts: 2,
    attempts_if_late: 1,
    longest: Duration::from_secs(1),
};

/// What the client takes from its surroundings.
pub(crate) struct Surroundings {
    /// Bundles of authorities.
    pub(crate) bundles: Bundles,
    /// Proxies.
    pub(crate) proxy: ProxyFor,
    /// TLS with hosts that are no endpoints.
    pub(crate) tls: TlsFor,
    /// Credentials.
    pub(crate) credentials: CredentialsFor,
}

/// How to talk TLS with a host.
pub(crate) type TlsFor = Box<dyn Fn(&str) -> Result<Tls> + Send + Sync>;

/// Everything that questions have in common.
pub(crate) struct Wire {
    pub(crate) transport: Transport,
    pub(crate) tokens: Tokens,
    tls: TlsFor,
    pub(crate) policy: Policy,
    /// Whether a host speaks TLS, where that had to be found out.
    schemes: Mutex<HashMap<String, bool>>,
    /// Mirrors that did not answer.
    absent: Mutex<HashSet<String>>,
}

/// A question.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content<'a>,
    pub(crate) scopes: Scopes,
    pub(crate) patience: Option<Duration>,
    pub(crate) whole: Option<u64>,
    /// Whether others can answer in its place: then it is asked once more at most, and not at all
    /// once it was not there.
    pub(crate) mirror: bool,
}

/// What is asked.
#[derive(Clone)]
pub(crate) enum Target {
    /// A path and query below the registry's root: `/v2/…`.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, target: Target, scopes: &Scopes) -> Self {
        Self {
            method,
            target,
            headers: Vec::new(),
            content: Content::Nothing,
            scopes: scopes.clone(),
            patience: None,
            whole: None,
            mirror: false,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn content(mut self, content: Content<'a>) -> Self {
        self.content = content;
        self
    }

    pub(crate) fn whole(mut self, limit: u64) -> Self {
        self.whole = Some(limit);
        self
    }

    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub(crate) fn mirror(mut self, mirror: bool) -> Self {
        self.mirror = mirror;
        self
    }

    fn request(&self, base: &Url) -> Request<'a> {
        let url = match &self.target {
            Target::Path(path) => base.join(path).unwrap_or_else(|| base.clone()),
            Target::Url(url) => url.clone(),
        };
        let mut request = Request::new(self.method.clone(), url).content(self.content);
        request.headers.clone_from(&self.headers);
        request.patience = self.patience;
        request.whole = self.whole;
        request
    }
}

impl Wire {
    pub(crate) fn new(surroundings: Surroundings, policy: Policy) -> Self {
        let agents = Agents::new(surroundings.bundles, surroundings.proxy, policy);
        Self {
            transport: Transport::new(agents),
            tokens: Tokens::new(surroundings.credentials),
            tls: surroundings.tls,
            policy,
            schemes: Mutex::new(HashMap::new()),
            absent: Mutex::new(HashSet::new()),
        }
    }

    /// Asks until there is an answer that asking again would not change.
    ///
    /// # Errors
    /// When there is none. An answer that refuses is an answer.
    pub(crate) fn call(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer> {
        if !call.mirror {
            return settle(self.patiently(self.effort(), || self.once(endpoint, call)));
        }
        let absent = || self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent().contains(&endpoint.host) {
            return Err(Error::Unreachable {
                request: format!("{} {}", call.method, endpoint.host),
                source: std::io::Error::other("the mirror did not answer before"),
            });
        }
        let asked = self.patiently(LITTLE, || self.once(endpoint, call));
        if asked.is_err() {
            absent().insert(endpoint.host.clone());
        }
        settle(asked)
    }

    /// As [`Wire::call`]; refusals are errors.
    pub(crate) fn expect(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer> {
        let answer = self.call(endpoint, call)?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(self.refusal(endpoint, answer))
    }

    /// What an answer that is no success means.
    pub(crate) fn refusal(&self, endpoint: &Endpoint, mut answer: Answer) -> Error {
        let fault = answer.fault();
        let request = answer.label;
        match answer.status {
            401 | 403 => Error::Denied {
                request,
                fault,
                domain: endpoint.credentials.clone(),
                credentials: self.tokens.origin(endpoint),
            },
            404 => Error::NotFound { request, fault },
            _ => Error::Refused { request, fault },
        }
    }

    fn effort(&self) -> Effort {
        Effort {
            attempts: self.policy.attempts,
            attempts_if_late: ATTEMPTS_IF_LATE,
            longest: Duration::MAX,
        }
    }

    /// Tries, and waits in between.
    fn patiently(
        &self,
        effort: Effort,
        mut send: impl FnMut() -> Result<Answer, Broken>,
    ) -> Result<Answer, Broken> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let told = match send() {
                Ok(answer) if attempt < effort.attempts && retry::is_passing(answer.status) => {
                    let told = answer.header("retry-after");
                    let told = told.and_then(|told| retry::retry_after(told, SystemTime::now()));
                    if told.is_some_and(|told| told > effort.longest) {
                        return Ok(answer);
                    }
                    answer.finish();
                    told
                }
                Err(broken) if effort.again(broken.trouble, attempt) => None,
                settled => return settled,
            };
            thread::sleep(self.policy.delay(attempt, told));
        }
    }

    /// Asks a registry without telling it who asks.
    pub(crate) fn anonymous(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer> {
        settle(self.patiently(self.effort(), || {
            let (base, first) = self.base(endpoint, call)?;
            match first {
                Some(answer) => Ok(answer),
                None => self.transport.send(&call.request(&base), &endpoint.tls),
            }
        }))
    }

    /// Asks as the request stands.
    pub(crate) fn ask(&self, endpoint: &Endpoint, request: &Request<'_>) -> Result<Answer> {
        settle(self.patiently(self.effort(), || {
            self.transport.send(request, &endpoint.tls)
        }))
    }

    /// Asks a token server. Where that is another host, nothing that is set for the registry counts.
    pub(crate) fn ask_for_token(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
    ) -> Result<Answer> {
        let url = &request.url;
        let tls = match url.is_at(&endpoint.host) {
            true => endpoint.tls.clone(),
            false => (self.tls)(url.authority())?,
        };
        let open = url.is_at(&endpoint.host) || tls.insecure || is_loopback(url.authority());
        if !url.secure() && !open {
            return Err(Error::Protocol {
                request: request.label(),
                why: format!(
                    "the registry `{}` wants a token from another host, where everybody could listen",
                    endpoint.host
                ),
            });
        }
        settle(self.patiently(self.effort(), || self.transport.send(request, &tls)))
    }

    /// Asks a place that is no registry, without credentials. Refusals are errors.
    pub(crate) fn elsewhere(&self, request: &Request<'_>) -> Result<Answer> {
        self.without_login(request, &Tls::default())
    }

    /// Asks for a file, with what is set for its host. Refusals are errors.
    pub(crate) fn file(&self, request: &Request<'_>) -> Result<Answer> {
        let domain = request.url.authority();
        let tls = (self.tls)(domain)?;
        self.without_login(request, &tls)
            .map_err(|error| match error {
                Error::Refused { request, fault } if matches!(fault.status, 401 | 403) => {
                    Error::Denied {
                        request,
                        fault,
                        domain: domain.to_owned(),
                        credentials: None,
                    }
                }
                error => error,
            })
    }

    fn without_login(&self, request: &Request<'_>, tls: &Tls) -> Result<Answer> {
        let send = || self.transport.send(request, tls);
        let mut answer = settle(self.patiently(self.effort(), send))?;
        if answer.is_success() {
            return Ok(answer);
        }
        let fault = answer.fault();
        let request = answer.label;
        Err(match answer.status {
            404 => Error::NotFound { request, fault },
            _ => Error::Refused { request, fault },
        })
    }

    /// Asks once; twice if the registry wants to know who asks.
    pub(crate) fn once(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer, Broken> {
        let (base, first) = self.base(endpoint, call)?;
        let mut request = call.request(&base);
        let ours = request.url.same_origin(&base);
        stays_secure(&base, &endpoint.tls, &request.url).map_err(|why| {
            let request = format!("{} {base}", call.method);
            Broken::last(Error::Protocol { request, why })
        })?;
        let mut tls = endpoint.tls.clone();
        // Our own certificate is shown to the registry alone.
        tls.identity = tls.identity.filter(|_| request.url.is_at(&endpoint.host));
        let sent = Instant::now();
        let answer = match first {
            Some(answer) => answer,
            None => {
                if ours {
                    let known = self.tokens.known(endpoint, &call.scopes);
                    request.authorization = known.map_err(Broken::last)?;
                }
                self.transport.send(&request, &tls)?
            }
        };
        if answer.status != 401 || !ours || !answer.direct {
            return Ok(answer);
        }
        let headers = answer.headers.get_all("www-authenticate");
        let challenges = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        let refusal = Refusal {
            challenges: &challenges,
            authorization: request.authorization.as_ref(),
            sent,
            url: &request.url,
            request: request.label(),
        };
        let ask = |request: Request<'_>| self.ask_for_token(endpoint, &request);
        let header = self.tokens.answer(endpoint, &call.scopes, &refusal, &ask);
        let Some(header) = header.map_err(Broken::last)? else {
            return Ok(answer);
        };
        answer.finish();
        request.authorization = Some(header);
        self.transport.send(&request, &tls)
    }

    /// The registry's root. Where it had to be found out how to talk to it, the answer that told may
    /// be the answer to the question.
    fn base(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<(Url, Option<Answer>), Broken> {
        let root = |secure| Url::new(secure, &endpoint.host, "/");
        if endpoint.scheme == Scheme::Https {
            return Ok((root(true), None));
        }
        let known = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secure) = known.get(&endpoint.host) {
            return Ok((root(*secure), None));
        }
        drop(known);
        let replayable = !matches!(call.content, Content::Stream(..));
        let target = matches!(call.target, Target::Path(_));
        let probe = if replayable && target {
            call.clone()
        } else {
            Call::new(Method::GET, Target::Path("/v2/".to_owned()), &Scopes::new())
        };
        let (secure, answer) = self.discover(endpoint, &probe)?;
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(endpoint.host.clone(), secure);
        let usable = answer.filter(|_| replayable && target);
        Ok((root(secure), usable))
    }

    /// Finds out whether a registry speaks TLS, by asking it, without credentials.
    fn discover(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
    ) -> Result<(bool, Option<Answer>), Broken> {
        let ask = |secure| {
            let mut request = call.request(&Url::new(secure, &endpoint.host, "/"));
            request.follow = Follow::Nowhere;
            self.transport.send(&request, &endpoint.tls)
        };
        // An insecure registry is asked over TLS first, this machine's own is expected to have none.
        let first = endpoint.scheme == Scheme::Either;
        let (kept, trouble) = match ask(first) {
            Ok(answer) if first || !wants_tls(&answer) => return Ok((first, direct(answer))),
            Ok(answer) => (Ok(answer), Trouble::NoHttp),
            Err(broken) => {
                let trouble = broken.trouble;
                (Err(broken), trouble)
            }
        };
        let other_port = split_port(&endpoint.host).1.is_none();
        let hopeful = match trouble {
            Trouble::NoHttp | Trouble::NoTls | Trouble::Lost => true,
            Trouble::Absent => other_port,
            Trouble::Late | Trouble::Final => false,
        };
        if !hopeful {
            return kept.map(|answer| (first, direct(answer)));
        }
        match ask(!first) {
            Ok(answer) => Ok((!first, direct(answer))),
            // It does speak TLS, and that is what is wrong.
            Err(broken) if !first && is_about_tls(&broken) => Err(broken),
            Err(_) => kept.map(|answer| (first, direct(answer))),
        }
    }
}

/// A redirect is asked for again, and followed.
fn direct(answer: Answer) -> Option<Answer> {
    (!(300..400).contains(&answer.status)).then_some(answer)
}

/// Whether a plain answer says that TLS was expected.
fn wants_tls(answer: &Answer) -> bool {
    match answer.status {
        400 | 426 => true,
        301 | 302 | 307 | 308 => answer
            .location()
            .is_ok_and(|to| to.secure() && to.host() == answer.url.host()),
        _ => false,
    }
}

fn is_about_tls(broken: &Broken) -> bool {
    broken.trouble == Trouble::Final && matches!(broken.error, Error::Tls { .. })
}

impl Effort {
    fn again(&self, trouble: Trouble, attempt: u32) -> bool {
        match trouble {
            Trouble::Lost => attempt < self.attempts,
            Trouble::Late => attempt < self.attempts_if_late,
            Trouble::Absent | Trouble::NoTls | Trouble::NoHttp | Trouble::Final => false,
        }
    }
}

#[cfg(test)]
mod tests;
