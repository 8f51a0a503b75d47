//! Why no answer came, in words, and whether it may come if asked again.

use std::io;

use rustls::CertificateError;
use rustls::Error as TlsError;

use crate::pace::Slow;
use crate::url::Url;
use crate::{Error, Result};

/// What kind of failure it was: decides what is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection broke.
    Lost,
    /// Nothing came for too long.
    Late,
    /// Nobody is there: no such host, or nobody listens.
    Absent,
    /// Somebody is there who speaks no TLS, or a proxy that makes no way for it.
    NoTls,
    /// Somebody is there who speaks no HTTP.
    NoHttp,
    /// It will be the same the next time.
    Final,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What to say.
    pub(crate) error: Error,
    /// What to do.
    pub(crate) trouble: Trouble,
}

impl Broken {
    /// A failure that is the same the next time.
    pub(crate) fn last(error: Error) -> Self {
        Self {
            error,
            trouble: Trouble::Final,
        }
    }

    /// The same, with the proxy named: it may be what is not there.
    pub(crate) fn through(self, proxy: &str) -> Self {
        let error = match self.error {
            Error::Unreachable { request, source } => Error::Unreachable {
                request,
                source: io::Error::new(
                    source.kind(),
                    format!("{source}, through the proxy `{proxy}`"),
                ),
            },
            error => error,
        };
        Self { error, ..self }
    }

    /// What became of a request to a URL.
    pub(crate) fn of(request: String, url: &Url, error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(error) => of_io(request, url, error),
            ureq::Error::Rustls(error) => of_tls(request, url, &error),
            ureq::Error::Timeout(which) => {
                let what = match which {
                    ureq::Timeout::Connect => {
                        format!("connecting to `{}` takes too long", place(url))
                    }
                    _ => format!("`{}` is silent for too long", place(url)),
                };
                unreachable(request, Trouble::Late, io::ErrorKind::TimedOut, what)
            }
            ureq::Error::HostNotFound => {
                let what = format!("no such host: `{}`", url.host());
                unreachable(request, Trouble::Absent, io::ErrorKind::NotFound, what)
            }
            ureq::Error::ConnectProxyFailed(why) => {
                let what = format!("the proxy does not connect to `{}`: {why}", place(url));
                unreachable(request, Trouble::NoTls, io::ErrorKind::Other, what)
            }
            ureq::Error::ConnectionFailed => {
                let what = format!("cannot connect to `{}`", place(url));
                unreachable(request, Trouble::Absent, io::ErrorKind::Other, what)
            }
            error @ (ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => Self {
                error: Error::Protocol {
                    request,
                    why: format!("the answer is not HTTP as it should be: {error}"),
                },
                trouble: Trouble::NoHttp,
            },
            error => Self::last(Error::Protocol {
                request,
                why: error.to_string(),
            }),
        }
    }
}

/// What became of a body that was being read.
pub(crate) fn of_body(request: String, url: &Url, error: io::Error) -> Broken {
    match error.downcast::<ureq::Error>() {
        Ok(error) => Broken::of(request, url, error),
        Err(error) => of_io(request, url, error),
    }
}

fn unreachable(request: String, trouble: Trouble, kind: io::ErrorKind, what: String) -> Broken {
    Broken {
        error: Error::Unreachable {
            request,
            source: io::Error::new(kind, what),
        },
        trouble,
    }
}

fn of_io(request: String, url: &Url, error: io::Error) -> Broken {
    use io::ErrorKind as Kind;
    if let Some(tls) = tls_error(&error) {
        return of_tls(request, url, tls);
    }
    let kind = error.kind();
    let place = place(url);
    let (trouble, what) = match kind {
        Kind::ConnectionRefused => (
            Trouble::Absent,
            format!("cannot connect to `{place}`: nobody listens there"),
        ),
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => (
            Trouble::Absent,
            format!("cannot connect to `{place}`: {error}"),
        ),
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected
        | Kind::UnexpectedEof => (Trouble::Lost, format!("`{place}` broke off the connection")),
        Kind::TimedOut if error.get_ref().is_some_and(|inner| inner.is::<Slow>()) => {
            (Trouble::Late, format!("`{place}` sends hardly anything"))
        }
        Kind::TimedOut | Kind::WouldBlock => {
            (Trouble::Late, format!("`{place}` is silent for too long"))
        }
        _ if error.to_string().contains("failed to lookup address") => {
            let what = format!("cannot find the host `{}`: {error}", url.host());
            // A resolver that says so may know more in a moment.
            let passing = error.to_string().contains("Temporary failure");
            (
                if passing {
                    Trouble::Late
                } else {
                    Trouble::Absent
                },
                what,
            )
        }
        _ => (Trouble::Final, format!("`{place}`: {error}")),
    };
    unreachable(request, trouble, kind, what)
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    let inner = error.get_ref()?;
    let direct = inner.downcast_ref::<TlsError>();
    direct.or_else(|| inner.source()?.downcast_ref::<TlsError>())
}

fn of_tls(request: String, url: &Url, error: &TlsError) -> Broken {
    let (trouble, why) = explain(error, url.host());
    Broken {
        error: Error::Tls {
            request,
            why,
            host: url.authority().to_owned(),
        },
        trouble,
    }
}

/// What is wrong with a TLS connection, in words.
fn explain(error: &TlsError, host: &str) -> (Trouble, String) {
    let why = match error {
        TlsError::InvalidCertificate(error) => certificate(error, host),
        TlsError::InvalidMessage(_) => {
            return (
                Trouble::NoTls,
                "the server does not speak TLS; it may speak plain HTTP".to_owned(),
            );
        }
        TlsError::AlertReceived(alert) => {
            let alert = format!("{alert:?}");
            if alert.contains("Certificate")
                || alert.contains("UnknownCA")
                || alert == "AccessDenied"
            {
                format!("the server does not accept our certificate, or wants one ({alert})")
            } else {
                format!("the server ended the handshake ({alert})")
            }
        }
        TlsError::NoCertificatesPresented => "the server has no certificate".to_owned(),
        error => error.to_string(),
    };
    (Trouble::Final, why)
}

fn certificate(error: &CertificateError, host: &str) -> String {
    match error {
        // A name that is trusted, and another key: it signed itself under that name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate is self-signed, or signed by an authority that is not trusted here"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet; is the clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate is not for `{host}`")
        }
        CertificateError::Revoked => "the certificate has been revoked".to_owned(),
        CertificateError::BadEncoding => "the certificate cannot be read".to_owned(),
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the certificate is an authority's, not a server's".to_owned()
        }
        error => format!("the certificate is not accepted: {error}"),
    }
}

fn place(url: &Url) -> &str {
    url.authority()
}

/// The error alone, where nothing is tried again.
pub(crate) fn settle<T>(result: std::result::Result<T, Broken>) -> Result<T> {
    result.map_err(|broken| broken.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(error: ureq::Error) -> (Trouble, String) {
        let url = Url::parse("https://r.example:5000/v2/?token=secret").unwrap();
        let broken = Broken::of(format!("GET {url}"), &url, error);
        let text = match &broken.error {
            Error::Unreachable { request, source } => format!("{request}: {source}"),
            error => error.to_string(),
        };
        assert!(!text.contains("secret"), "{text}");
        let text = text.strip_prefix("GET https://r.example:5000/v2/: ");
        (broken.trouble, text.unwrap_or_default().to_owned())
    }

    fn io_error(kind: io::ErrorKind, text: &str) -> ureq::Error {
        ureq::Error::Io(io::Error::new(kind, text.to_owned()))
    }

    #[test]
    fn every_failure_has_its_words_and_its_remedy() {
        use io::ErrorKind as Kind;
        let lookup = "failed to lookup address information: ";
        for (error, trouble, words) in [
            (
                io_error(Kind::ConnectionRefused, ""),
                Trouble::Absent,
                "cannot connect to `r.example:5000`: nobody listens there",
            ),
            (
                io_error(Kind::ConnectionReset, ""),
                Trouble::Lost,
                "`r.example:5000` broke off the connection",
            ),
            (
                io_error(Kind::UnexpectedEof, ""),
                Trouble::Lost,
                "`r.example:5000` broke off the connection",
            ),
            (
                ureq::Error::Timeout(ureq::Timeout::Connect),
                Trouble::Late,
                "connecting to `r.example:5000` takes too long",
            ),
            (
                ureq::Error::Timeout(ureq::Timeout::PerRead),
                Trouble::Late,
                "`r.example:5000` is silent for too long",
            ),
            (
                ureq::Error::HostNotFound,
                Trouble::Absent,
                "no such host: `r.example`",
            ),
            (
                io_error(Kind::Other, &format!("{lookup}Name or service not known")),
                Trouble::Absent,
                "cannot find the host `r.example`: failed to lookup address information: \
                 Name or service not known",
            ),
            (
                io_error(
                    Kind::Other,
                    &format!("{lookup}Temporary failure in name resolution"),
                ),
                Trouble::Late,
                "cannot find the host `r.example`: failed to lookup address information: \
                 Temporary failure in name resolution",
            ),
            (
                io_error(Kind::PermissionDenied, "not you"),
                Trouble::Final,
                "`r.example:5000`: not you",
            ),
        ] {
            assert_eq!(broken(error), (trouble, words.to_owned()));
        }
    }

    #[test]
    fn tls_faults_are_told_in_clear_words() {
        let of = |error: TlsError| {
            let (trouble, text) = broken(ureq::Error::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                error,
            )));
            (trouble, text.trim_start_matches("TLS: ").to_owned())
        };
        let certificate = |error| of(TlsError::InvalidCertificate(error)).1;
        for unknown in [
            CertificateError::UnknownIssuer,
            CertificateError::BadSignature,
        ] {
            assert_eq!(
                certificate(unknown),
                "the certificate is self-signed, or signed by an authority that is not trusted here"
            );
        }
        assert_eq!(
            certificate(CertificateError::Expired),
            "the certificate has expired"
        );
        assert_eq!(
            certificate(CertificateError::NotValidForName),
            "the certificate is not for `r.example`"
        );
        let plain = TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(
            of(plain),
            (
                Trouble::NoTls,
                "the server does not speak TLS; it may speak plain HTTP".to_owned()
            )
        );
        let alert = |alert| of(TlsError::AlertReceived(alert)).1;
        assert_eq!(
            alert(rustls::AlertDescription::CertificateRequired),
            "the server does not accept our certificate, or wants one (CertificateRequired)"
        );
        assert_eq!(
            alert(rustls::AlertDescription::ProtocolVersion),
            "the server ended the handshake (ProtocolVersion)"
        );
    }
}
