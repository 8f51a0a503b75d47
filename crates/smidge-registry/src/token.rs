//! Who we are: which credentials are shown to whom, and the tokens that come of it.
//!
//! A registry that wants a token names the place that gives it ([token authentication]). What is
//! known of a registry is used before it asks; what it then refuses is renewed once.
//!
//! [token authentication]: https://distribution.github.io/distribution/spec/auth/token/

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use ureq::http::Method;

use crate::challenge::Challenge;
use crate::transport::{Answer, Content, Follow, Request};
use crate::url::Url;
use crate::{Credentials, Endpoint, Error, Found, Result, Secret};

/// How long a token is good that does not say so.
const USUAL_LIFE: Duration = Duration::from_secs(60);
/// How long the word of one that says so is taken.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest answer of a token server.
const LONGEST_ANSWER: u64 = 1 << 20;
/// How smidge calls itself at token servers.
const CLIENT: &str = "smidge";

/// Finds credentials for an endpoint.
pub(crate) type CredentialsFor = Box<dyn Fn(&Endpoint) -> Result<Option<Found>> + Send + Sync>;

/// Sends a request to a token server, again and again if that may help.
pub(crate) type Ask<'a> = &'a dyn Fn(Request<'_>) -> Result<Answer>;

/// The rights that a request needs: `repository:library/alpine:pull`.
pub(crate) type Scopes = BTreeSet<String>;

/// What is known of each registry.
pub(crate) struct Tokens {
    credentials: CredentialsFor,
    registries: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
}

/// What is known of one registry.
#[derive(Default)]
struct Known {
    /// Credentials by repository; a helper is asked once.
    found: HashMap<String, Option<Found>>,
    /// Whether it wants user name and password themselves.
    basic: bool,
    tokens: Vec<Token>,
}

struct Token {
    scopes: Scopes,
    header: Secret,
    since: Instant,
    until: Instant,
}

/// What a token server gave.
pub(crate) struct Granted {
    token: Secret,
    /// What to keep in place of a password.
    pub(crate) refresh: Option<Secret>,
    life: Duration,
}

impl Granted {
    /// The token as a request shows it.
    pub(crate) fn header(&self) -> Secret {
        Secret::new(format!("Bearer {}", self.token.expose()))
    }
}

#[derive(Deserialize)]
struct Reply {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(crate) fn new(credentials: CredentialsFor) -> Self {
        Self {
            credentials,
            registries: Mutex::new(HashMap::new()),
        }
    }

    fn registry(&self, endpoint: &Endpoint) -> Arc<Mutex<Known>> {
        let mut registries = lock(&self.registries);
        Arc::clone(registries.entry(endpoint.host.clone()).or_default())
    }

    /// The `Authorization` to send before being asked for one, if it is known.
    pub(crate) fn known(&self, endpoint: &Endpoint, scopes: &Scopes) -> Result<Option<Secret>> {
        let registry = self.registry(endpoint);
        let mut known = lock(&registry);
        if known.basic {
            return Ok(self.basic(&mut known, endpoint)?.map(|(header, _)| header));
        }
        Ok(known.token(scopes))
    }

    /// Whose credentials are used at an endpoint, in words.
    pub(crate) fn origin(&self, endpoint: &Endpoint) -> Option<String> {
        let registry = self.registry(endpoint);
        let known = lock(&registry);
        let found = known.found.get(&endpoint.path)?.as_ref()?;
        Some(found.origin.clone())
    }

    /// The `Authorization` that answers challenges; `None` if there is none, or if it is what was just refused.
    ///
    /// # Errors
    /// When credentials cannot be looked up, when the token server refuses.
    pub(crate) fn answer(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        refused: &Refusal<'_>,
        ask: Ask<'_>,
    ) -> Result<Option<Secret>> {
        let registry = self.registry(endpoint);
        // Held while a token is fetched: other threads need the same one, and wait for it.
        let mut known = lock(&registry);
        if let Some(bearer) = refused.challenges.iter().find(|c| c.scheme == "bearer") {
            if refused.authorization.is_some() {
                // What ended one token ended those from before it, too: they are not tried in turn.
                let newer = |token: &Token| token.since > refused.sent;
                known
                    .tokens
                    .retain(|token| newer(token) || !token.scopes.is_superset(scopes));
            }
            if let Some(header) = known.token(scopes) {
                return Ok(Some(header));
            }
            let found = self.found(&mut known, endpoint)?;
            let realm = Realm::of(bearer, refused.url, &refused.request)?;
            let wanted = wanted(scopes, bearer);
            let credentials = found.as_ref().map(|found| &found.credentials);
            let granted = realm
                .fetch(credentials, &wanted, false, ask)
                .map_err(|error| blame(error, endpoint, found.as_ref()))?;
            return Ok(Some(
                known.keep(scopes.union(&wanted).cloned().collect(), &granted),
            ));
        }
        if refused.challenges.iter().any(|c| c.scheme == "basic") {
            let Some((header, _)) = self.basic(&mut known, endpoint)? else {
                return Ok(None);
            };
            known.basic = true;
            return Ok((refused.authorization != Some(&header)).then_some(header));
        }
        Ok(None)
    }

    fn found(&self, known: &mut Known, endpoint: &Endpoint) -> Result<Option<Found>> {
        if let Some(found) = known.found.get(&endpoint.path) {
            return Ok(found.clone());
        }
        let found = (self.credentials)(endpoint)?;
        known.found.insert(endpoint.path.clone(), found.clone());
        Ok(found)
    }

    fn basic(&self, known: &mut Known, endpoint: &Endpoint) -> Result<Option<(Secret, Found)>> {
        let found = self.found(known, endpoint)?;
        Ok(found.and_then(|found| match &found.credentials {
            Credentials::Basic { username, password } => {
                Some((basic_header(username, password), found.clone()))
            }
            Credentials::IdentityToken(_) => None,
        }))
    }
}

impl Known {
    /// A token that gives at least these rights and is good for a while.
    fn token(&mut self, scopes: &Scopes) -> Option<Secret> {
        let now = Instant::now();
        self.tokens.retain(|token| token.until > now);
        let fitting = self
            .tokens
            .iter()
            .find(|token| token.scopes.is_superset(scopes));
        fitting.map(|token| token.header.clone())
    }

    fn keep(&mut self, scopes: Scopes, granted: &Granted) -> Secret {
        let header = granted.header();
        // Renewed a little early: it may be on the way when it ends.
        let life = granted.life - (granted.life / 4).min(Duration::from_secs(10));
        self.tokens.retain(|token| token.scopes != scopes);
        self.tokens.push(Token {
            scopes,
            header: header.clone(),
            since: Instant::now(),
            until: Instant::now() + life,
        });
        header
    }
}

/// An answer that wants to know who asks.
pub(crate) struct Refusal<'a> {
    /// How it wants to know.
    pub(crate) challenges: &'a [Challenge],
    /// What it was shown.
    pub(crate) authorization: Option<&'a Secret>,
    /// When it was shown that.
    pub(crate) sent: Instant,
    /// Who wants to know.
    pub(crate) url: &'a Url,
    /// What was asked, as errors show it.
    pub(crate) request: String,
}

/// A token server.
pub(crate) struct Realm {
    url: Url,
    service: Option<String>,
}

impl Realm {
    /// The token server that a registry names.
    ///
    /// # Errors
    /// When it names none, or one that is not safe from listeners while the registry itself is.
    pub(crate) fn of(challenge: &Challenge, registry: &Url, request: &str) -> Result<Self> {
        let wrong = |why: String| Error::Protocol {
            request: request.to_owned(),
            why,
        };
        let realm = challenge.parameter("realm").unwrap_or_default();
        let url = registry
            .join(realm)
            .filter(|_| !realm.is_empty())
            .ok_or_else(|| {
                wrong("the registry wants a token, but names no place that gives it".to_owned())
            })?;
        if registry.secure() && !url.secure() {
            return Err(wrong(format!(
                "the registry wants a token of `{url}`, where everybody could read it on the way"
            )));
        }
        let service = challenge.parameter("service").map(str::to_owned);
        Ok(Self { url, service })
    }

    /// Fetches a token; `offline` asks for a refresh token, too.
    pub(crate) fn fetch(
        &self,
        credentials: Option<&Credentials>,
        scopes: &Scopes,
        offline: bool,
        ask: Ask<'_>,
    ) -> Result<Granted> {
        if let Some(Credentials::IdentityToken(identity)) = credentials {
            let form = self.form(identity, scopes);
            let request = Request::new(Method::POST, self.url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .content(Content::Bytes(form.as_bytes()))
                .follow(Follow::Here)
                .whole(LONGEST_ANSWER);
            let answer = ask(request)?;
            if !matches!(answer.status, 404 | 405) {
                return granted(answer);
            }
            // A token server from before identity tokens knows the way below alone.
            answer.finish();
        }
        let mut url = self.url.clone();
        if let Some(service) = &self.service {
            url = url.with("service", service);
        }
        for scope in scopes {
            url = url.with("scope", scope);
        }
        if offline {
            url = url.with("offline_token", "true").with("client_id", CLIENT);
        }
        let (account, authorization) = match credentials {
            Some(Credentials::Basic { username, password }) => (
                Some(username.as_str()),
                Some(basic_header(username, password)),
            ),
            Some(Credentials::IdentityToken(token)) => (None, Some(basic_header("<token>", token))),
            None => (None, None),
        };
        if let Some(account) = account {
            url = url.with("account", account);
        }
        let mut request = Request::new(Method::GET, url)
            .follow(Follow::Here)
            .whole(LONGEST_ANSWER);
        request.authorization = authorization;
        granted(ask(request)?)
    }

    fn form(&self, identity: &Secret, scopes: &Scopes) -> String {
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let form = Url::new(true, "form", "/")
            .with("grant_type", "refresh_token")
            .with("client_id", CLIENT)
            .with("service", self.service.as_deref().unwrap_or_default())
            .with("scope", &scopes.join(" "))
            .with("refresh_token", identity.expose());
        let text = form.text();
        text.split_once('?')
            .map(|(_, form)| form.to_owned())
            .unwrap_or_default()
    }
}

/// Our scopes, and what the registry names beyond them: it may know its repositories by other names.
pub(crate) fn wanted(scopes: &Scopes, challenge: &Challenge) -> Scopes {
    let named = challenge.parameter("scope").unwrap_or_default();
    let mut wanted = scopes.clone();
    for scope in named.split_whitespace() {
        if !scopes.iter().any(|ours| covers(ours, scope)) {
            wanted.insert(scope.to_owned());
        }
    }
    wanted
}

/// Whether `repository:a:pull,push` gives what `repository:a:pull` does.
fn covers(ours: &str, theirs: &str) -> bool {
    let (Some((what, ours)), Some((same, theirs))) =
        (ours.rsplit_once(':'), theirs.rsplit_once(':'))
    else {
        return ours == theirs;
    };
    what == same
        && theirs
            .split(',')
            .all(|right| ours.split(',').any(|our| our == right))
}

fn granted(answer: Answer) -> Result<Granted> {
    if !answer.is_success() {
        return Err(refused(answer));
    }
    let wrong = |why: &str| Error::Protocol {
        request: answer.label.clone(),
        why: why.to_owned(),
    };
    let reply: Reply = serde_json::from_slice(&answer.content)
        .map_err(|_| wrong("the token server's answer is not JSON as it should be"))?;
    let mut token = [reply.token, reply.access_token].into_iter().flatten();
    let token = token.find(|token| !token.is_empty());
    Ok(Granted {
        token: Secret::new(token.ok_or_else(|| wrong("the token server's answer has no token"))?),
        refresh: reply
            .refresh_token
            .filter(|token| !token.is_empty())
            .map(Secret::new),
        life: match reply.expires_in {
            None | Some(0) => USUAL_LIFE,
            Some(seconds) => Duration::from_secs(seconds).min(LONGEST_LIFE),
        },
    })
}

fn refused(mut answer: Answer) -> Error {
    let fault = answer.fault();
    let request = answer.label;
    match answer.status {
        // Token servers say 400 to a refresh token that has ended.
        400 | 401 | 403 => Error::Denied {
            request,
            fault,
            domain: String::new(),
            credentials: None,
        },
        _ => Error::Refused { request, fault },
    }
}

/// Says at which registry, and with whose credentials, a token was denied.
pub(crate) fn blame(error: Error, endpoint: &Endpoint, found: Option<&Found>) -> Error {
    match error {
        Error::Denied { request, fault, .. } => Error::Denied {
            request,
            fault,
            domain: endpoint.credentials.clone(),
            credentials: found.map(|found| found.origin.clone()),
        },
        error => error,
    }
}

/// `Authorization` with user name and password.
pub(crate) fn basic_header(username: &str, password: &Secret) -> Secret {
    let pair = format!("{username}:{}", password.expose());
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// A thread that panicked has left nothing half done in here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
