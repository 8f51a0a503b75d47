//! Files that are in no registry: what a build names by a URL.

use std::io::{self, Read};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use ureq::BodyReader;
use ureq::http::Method;

use crate::pace::Pace;
use crate::transport::Request;
use crate::url::Url;
use crate::{Client, Error, Result, Secret};

/// The bytes of a file, as they come.
pub struct Download {
    body: BodyReader<'static>,
    pace: Pace,
    size: Option<u64>,
}

impl Download {
    /// Bytes there will be, if the server said so.
    pub fn size(&self) -> Option<u64> {
        self.size
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pace.read(&mut self.body, buffer)
    }
}

impl Client {
    /// Fetches a file, with the proxies, certificates and patience that registries get, but none of
    /// their logins: a user name and password count where the URL has them, for its own host.
    ///
    /// # Errors
    /// When the URL is none of `http://` or `https://`, when the server refuses or cannot be reached.
    pub fn download(&self, url: &str) -> Result<Download> {
        let Some(parsed) = Url::parse(url) else {
            return Err(Error::Protocol {
                request: "GET".to_owned(),
                why: "this is no URL of `http` or `https`".to_owned(),
            });
        };
        let mut request = Request::new(Method::GET, parsed);
        request.authorization = login(url);
        let wire = self.wire();
        let answer = wire.file(&request)?;
        Ok(Download {
            size: answer.number("content-length"),
            pace: wire.transport.pace(),
            body: answer.body.into_reader(),
        })
    }
}

/// The user name and password of a URL, as a header (RFC 7617).
fn login(url: &str) -> Option<Secret> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (login, _) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let header = format!("Basic {}", BASE64_STANDARD.encode(pair));
    Some(Secret::new(header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::testing::{Reply, Server};

    fn client() -> Client {
        Client::new(Settings::load(crate::Sources::default()).unwrap())
    }

    #[test]
    fn files_come_with_the_login_of_their_url() {
        let server = Server::replies([Reply::new(200).body("text")]);
        let url = format!("http://me:p%40ss@{}/dir/a?b=c", server.host());
        let mut download = client().download(&url).unwrap();
        assert_eq!(download.size(), Some(4));
        let mut text = String::new();
        download.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let seen = server.seen();
        assert_eq!(seen[0].line(), "GET /dir/a?b=c");
        assert_eq!(seen[0].header("authorization"), Some("Basic bWU6cEBzcw=="));
    }

    #[test]
    fn passing_trouble_is_waited_out_and_refusals_are_told() {
        let server = Server::replies([
            Reply::new(503).header("retry-after", "0"),
            Reply::new(200).body("x"),
            Reply::new(404),
            Reply::new(403),
        ]);
        let (client, url) = (client(), server.url("/x"));
        client.download(&url).unwrap();
        assert!(matches!(client.download(&url), Err(Error::NotFound { .. })));
        assert!(matches!(client.download(&url), Err(Error::Denied { .. })));
        for no in ["ftp://h/x", "x", "file:///etc/passwd"] {
            assert!(client.download(no).is_err(), "{no}");
        }
    }
}
