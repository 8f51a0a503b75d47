//! What is sent back.

use std::fmt;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;

/// The header with a blob's or a manifest's digest.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Body::Empty,
        }
    }

    /// A JSON document.
    pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        // Maps with string keys: this cannot fail.
        let bytes = serde_json::to_vec(document).unwrap_or_default();
        Self::new(status)
            .with(header::CONTENT_TYPE, "application/json")
            .with_body(Body::bytes(bytes))
    }

    /// Adds a header. Values come from validated names and numbers: one that no header can hold is
    /// left out.
    pub(crate) fn with(mut self, name: HeaderName, value: impl fmt::Display) -> Self {
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets the body.
    pub(crate) fn with_body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// As hyper sends it.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(
            HeaderName::from_static("docker-distribution-api-version"),
            HeaderValue::from_static("registry/2.0"),
        );
        response
    }
}
