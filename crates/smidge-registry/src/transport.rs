//! One request: connection, redirects, answer. Nothing is asked twice here.

use std::io::{self, Read};
use std::time::Duration;

use ureq::http::{self, HeaderMap, Method, header};
use ureq::{Agent, Body, SendBody};

use crate::agent::Agents;
use crate::pace::{Pace, Paced};
use crate::trouble::{self, Broken};
use crate::url::Url;
use crate::{Error, Fault, Secret, Tls, fault};

/// The longest body of an answer that is an error.
const LONGEST_FAULT: u64 = 64 << 10;
const MOST_REDIRECTS: u32 = 10;

/// Opens the bytes to send, for each time they are sent.
pub(crate) type Open<'a> = &'a (dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a);

/// What a request carries.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// Nothing.
    Nothing,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// So many bytes of a stream.
    Stream(u64, Open<'a>),
}

/// How far redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Not at all.
    Nowhere,
    /// At the same origin: what is sent says who we are, or is to come from there and nowhere else.
    Here,
    /// To public places, and at the same host.
    Public,
    /// Wherever they lead.
    Anywhere,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content<'a>,
    /// The `Authorization` header; goes to the URL's origin and nowhere else.
    pub(crate) authorization: Option<Secret>,
    /// Which redirects are followed.
    pub(crate) follow: Follow,
    /// How long the answer may take where that is longer than usual.
    pub(crate) patience: Option<Duration>,
    /// Up to how many bytes of a success are read at once: then what breaks there is asked again, too.
    pub(crate) whole: Option<u64>,
}

impl<'a> Request<'a> {
    /// A request without anything special.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            content: Content::Nothing,
            authorization: None,
            follow: Follow::Anywhere,
            patience: None,
            whole: None,
        }
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With an answer that is read at once, and so many bytes long at most.
    pub(crate) fn whole(mut self, limit: u64) -> Self {
        self.whole = Some(limit);
        self
    }

    /// With redirects followed so far.
    pub(crate) fn follow(mut self, follow: Follow) -> Self {
        self.follow = follow;
        self
    }

    /// With something to send.
    pub(crate) fn content(mut self, content: Content<'a>) -> Self {
        self.content = content;
        self
    }

    /// Method and URL, as errors show them.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.method, self.url)
    }
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body, as far as it is still to be read.
    pub(crate) body: Body,
    /// Its body, where the request was for all of it.
    pub(crate) content: Vec<u8>,
    /// Who answered, after redirects.
    pub(crate) url: Url,
    /// Method and URL, as errors show them.
    pub(crate) label: String,
    /// Whether it came from where it was asked, not from where that sent us.
    pub(crate) direct: bool,
}

impl Answer {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header that holds a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The media type, without parameters.
    pub(crate) fn media_type(&self) -> &str {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// Whether it is a success.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The `Location`, as a URL.
    pub(crate) fn location(&self) -> Result<Url, Error> {
        let location = self.header("location").unwrap_or_default();
        let joined = (!location.is_empty()).then(|| self.url.join(location));
        joined.flatten().ok_or_else(|| Error::Protocol {
            request: self.label.clone(),
            why: format!("{} with no usable `Location`", self.status),
        })
    }

    /// Reads the body, which may be so many bytes long.
    fn read(&mut self, limit: u64, pace: Pace) -> Result<(), Broken> {
        let source = self.body.as_reader();
        let mut body = Paced { source, pace }.take(limit + 1);
        if let Err(error) = body.read_to_end(&mut self.content) {
            return Err(trouble::of_body(self.label.clone(), &self.url, error));
        }
        if self.content.len() as u64 > limit {
            return Err(Broken::last(Error::Protocol {
                request: self.label.clone(),
                why: format!("the answer is longer than {limit} bytes"),
            }));
        }
        Ok(())
    }

    /// Reads what is left of a short body, so that the connection can be used again.
    pub(crate) fn finish(mut self) {
        // What it says does not matter; a connection that breaks here is a new one next time.
        let mut rest = self.body.as_reader().take(LONGEST_FAULT);
        let _ = io::copy(&mut rest, &mut io::sink());
    }

    /// What the registry says about its refusal.
    pub(crate) fn fault(&mut self) -> Fault {
        let mut bytes = Vec::new();
        // A text that breaks off is still worth more than none.
        let _ = self
            .body
            .as_reader()
            .take(LONGEST_FAULT)
            .read_to_end(&mut bytes);
        fault::parse(self.status, self.media_type(), &bytes)
    }
}

/// Sends requests over connections that are kept.
pub(crate) struct Transport {
    agents: Agents,
}

impl Transport {
    pub(crate) fn new(agents: Agents) -> Self {
        Self { agents }
    }

    /// How fast a body is to come that somebody else reads.
    pub(crate) fn pace(&self) -> Pace {
        self.agents.pace(None)
    }

    /// Sends a request and follows redirects.
    ///
    /// # Errors
    /// When there is no answer. An answer that refuses is an answer.
    pub(crate) fn send(&self, request: &Request<'_>, tls: &Tls) -> Result<Answer, Broken> {
        let mut url = request.url.clone();
        let mut method = request.method.clone();
        let mut content = request.content;
        let mut ours = true;
        for _ in 0..=MOST_REDIRECTS {
            // Once somebody else was in the chain, nothing that follows is trusted.
            ours &= url.same_origin(&request.url);
            let hop = Request {
                method: method.clone(),
                url: url.clone(),
                content,
                authorization: request.authorization.clone().filter(|_| ours),
                ..request.clone()
            };
            let mut answer = self.exchange(&hop, &self.tls(tls, request, &url))?;
            answer.direct = ours;
            let moved = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            if !moved || request.follow == Follow::Nowhere {
                if let Some(limit) = request.whole.filter(|_| answer.is_success()) {
                    answer.read(limit, self.agents.pace(request.patience))?;
                }
                return Ok(answer);
            }
            let next = answer.location().and_then(|to| {
                may_follow(request, tls, &to)?;
                Ok(to)
            });
            url = next.map_err(Broken::last)?;
            if answer.status == 303 && method != Method::HEAD {
                method = Method::GET;
                content = Content::Nothing;
            }
            answer.finish();
        }
        Err(Broken::last(Error::Protocol {
            request: request.label(),
            why: format!("more than {MOST_REDIRECTS} redirects"),
        }))
    }

    /// Our own certificate is shown to the registry alone.
    fn tls(&self, tls: &Tls, request: &Request<'_>, url: &Url) -> Tls {
        let mut tls = tls.clone();
        if url.host() != request.url.host() {
            tls.identity = None;
        }
        tls
    }

    fn exchange(&self, request: &Request<'_>, tls: &Tls) -> Result<Answer, Broken> {
        let agent = self.agents.agent(&request.url, tls).map_err(Broken::last)?;
        let head = head(request)?;
        let sent = match request.content {
            Content::Nothing if sends(&request.method) => run(
                &agent,
                head,
                SendBody::from_reader(&mut io::empty()),
                request,
            ),
            Content::Nothing => run(&agent, head, SendBody::none(), request),
            Content::Bytes(mut bytes) => {
                run(&agent, head, SendBody::from_reader(&mut bytes), request)
            }
            Content::Stream(size, open) => {
                let mut source = Source::open(size, open);
                let sent = run(&agent, head, SendBody::from_reader(&mut source), request);
                if let Some(error) = source.failure.take() {
                    return Err(Broken::last(Error::Source {
                        request: request.label(),
                        source: error,
                    }));
                }
                sent
            }
        };
        sent.map_err(|error| {
            let broken = Broken::of(request.label(), &request.url, error);
            match self.agents.shown_proxy(&request.url) {
                Some(proxy) => broken.through(&proxy),
                None => broken,
            }
        })
    }
}

/// Refuses redirects to where a request must not go.
fn may_follow(request: &Request<'_>, tls: &Tls, to: &Url) -> Result<(), Error> {
    if request.follow == Follow::Here && !to.same_origin(&request.url) {
        return Err(Error::Protocol {
            request: request.label(),
            why: format!("it sends us on to `{to}`, and nobody else is told who we are"),
        });
    }
    if request.follow == Follow::Public && to.is_local() && !to.is_at(request.url.authority()) {
        return Err(Error::Protocol {
            request: request.label(),
            why: format!("it sends us on to `{to}`, which is no public place"),
        });
    }
    stays_secure(&request.url, tls, to).map_err(|why| Error::Protocol {
        request: request.label(),
        why,
    })
}

/// Refuses to leave TLS for plain HTTP, unless the registry is one that anybody may listen to.
pub(crate) fn stays_secure(from: &Url, tls: &Tls, to: &Url) -> Result<(), String> {
    if !from.secure() || to.secure() || tls.insecure {
        return Ok(());
    }
    Err(format!(
        "it sends us on to `{to}`, where everybody could listen"
    ))
}

fn head(request: &Request<'_>) -> Result<http::Request<()>, Broken> {
    let mut head = http::Request::builder()
        .method(request.method.clone())
        .uri(request.url.text());
    for (name, value) in &request.headers {
        head = head.header(*name, value);
    }
    if let Some(secret) = &request.authorization {
        head = head.header(header::AUTHORIZATION, secret.expose());
    }
    let length = match request.content {
        Content::Bytes(bytes) => Some(bytes.len() as u64),
        Content::Stream(size, _) => Some(size),
        // Some servers want to hear that nothing comes.
        Content::Nothing => sends(&request.method).then_some(0),
    };
    if let Some(length) = length {
        head = head.header(header::CONTENT_LENGTH, length);
    }
    head.body(()).map_err(|error| {
        Broken::last(Error::Protocol {
            request: request.label(),
            why: format!("this cannot be asked: {error}"),
        })
    })
}

fn run(
    agent: &Agent,
    head: http::Request<()>,
    body: SendBody<'_>,
    request: &Request<'_>,
) -> Result<Answer, ureq::Error> {
    let message = head.map(|()| body);
    let response = match request.patience {
        Some(patience) => {
            let configured = agent.configure_request(message);
            let configured = configured.timeout_per_read(Some(patience));
            agent.run(configured.timeout_recv_response(Some(2 * patience)).build())
        }
        None => agent.run(message),
    }?;
    let (parts, body) = response.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        content: Vec::new(),
        url: request.url.clone(),
        label: request.label(),
        direct: true,
    })
}

fn sends(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// The bytes that are sent: exactly as many as were announced, and what went wrong with them.
struct Source<'a> {
    inner: Option<Box<dyn Read + 'a>>,
    left: u64,
    failure: Option<io::Error>,
}

impl<'a> Source<'a> {
    fn open(size: u64, open: Open<'a>) -> Self {
        let (inner, failure) = match open() {
            Ok(inner) => (Some(inner), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            inner,
            left: size,
            failure,
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(inner) = self.inner.as_mut().filter(|_| most > 0) else {
            return Ok(0);
        };
        loop {
            match inner.read(&mut buffer[..most]) {
                Ok(0) => {
                    let why = format!("it ends {} bytes too early", self.left);
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
                }
                Ok(read) => {
                    self.left -= read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the source is broken"));
        }
        self.fill(buffer).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the source is broken")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Bundles;
    use crate::retry::Policy;

    #[test]
    fn our_certificate_is_shown_to_the_registry_alone() {
        let agents = Agents::new(Bundles::default(), Box::new(|_, _| None), Policy::default());
        let transport = Transport::new(agents);
        let url = |text| Url::parse(text).unwrap();
        let request = Request::new(Method::GET, url("https://r.example:5000/v2/"));
        let tls = Tls {
            insecure: true,
            authorities: vec!["ca.pem".into()],
            identity: Some(("a".into(), "b".into())),
        };
        assert_eq!(
            transport.tls(&tls, &request, &url("https://r.example/x")),
            tls
        );
        let elsewhere = transport.tls(&tls, &request, &url("https://s.example/x"));
        assert_eq!(elsewhere.identity, None);
        assert_eq!(elsewhere.authorities, tls.authorities);
    }

    #[test]
    fn redirects_of_foreign_layers_lead_to_public_places() {
        let url = |text| Url::parse(text).unwrap();
        let follow = |from, to| {
            let request = Request::new(Method::GET, url(from)).follow(Follow::Public);
            may_follow(&request, &Tls::default(), &url(to)).is_ok()
        };
        assert!(follow("https://r.example/b", "https://s.example/b"));
        assert!(!follow("https://r.example/b", "https://169.254.169.254/b"));
        assert!(follow("https://10.0.0.1/b", "https://10.0.0.1:8443/b"));
    }

    #[test]
    fn redirects_do_not_leave_tls_for_plain_http() {
        let url = |text| Url::parse(text).unwrap();
        let follow = |from, insecure, to| {
            let tls = Tls {
                insecure,
                ..Tls::default()
            };
            let followed = may_follow(&Request::new(Method::GET, url(from)), &tls, &url(to));
            followed.map_err(|error| error.to_string()).err()
        };
        let (plain, secure) = ("http://s.example/b?token=x", "https://s.example/b");
        assert_eq!(
            follow("https://r.example/b", false, plain).unwrap(),
            "GET https://r.example/b: it sends us on to `http://s.example/b`, \
             where everybody could listen"
        );
        assert_eq!(follow("https://r.example/b", false, secure), None);
        assert_eq!(follow("https://r.example/b", true, plain), None);
        assert_eq!(follow("http://localhost:5000/b", false, plain), None);
    }
}
