//! What a request fails with: a status and the specification's error document.

use std::fmt;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::answer::Answer;

/// The specification's error codes, those of `code-1` to `code-14` that happen here, and Docker's
/// two for what the specification has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    TooManyRequests,
    Unknown,
    Unsupported,
}

/// Why a request was not done.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    errors: Vec<(String, Option<Value>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

impl Fault {
    /// One error.
    pub(crate) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            errors: vec![(message.into(), None)],
            headers: Vec::new(),
        }
    }

    /// Something is not there.
    pub(crate) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// The request makes no sense.
    pub(crate) fn bad_request(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The request is understood, and not done here.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, message)
    }

    /// The same fault for several things, each with what it is about.
    pub(crate) fn each(
        status: StatusCode,
        code: Code,
        errors: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        let errors = errors
            .into_iter()
            .map(|(message, detail)| (message, Some(detail)))
            .collect();
        Self {
            status,
            code,
            errors,
            headers: Vec::new(),
        }
    }

    /// Adds a header to the answer.
    pub(crate) fn with(mut self, name: HeaderName, value: impl fmt::Display) -> Self {
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            self.headers.push((name, value));
        }
        self
    }

    /// The fault as it is sent.
    pub(crate) fn into_answer(self) -> Answer {
        let code = self.code.as_str();
        let errors: Vec<_> = self
            .errors
            .into_iter()
            .map(|(message, detail)| match detail {
                Some(detail) => json!({"code": code, "message": message, "detail": detail}),
                None => json!({"code": code, "message": message}),
            })
            .collect();
        let mut answer = Answer::json(self.status, &json!({ "errors": errors }));
        for (name, value) in self.headers {
            answer = answer.with(name, value.to_str().unwrap_or_default());
        }
        answer
    }
}

impl From<smidge_store::Error> for Fault {
    fn from(error: smidge_store::Error) -> Self {
        use smidge_store::Error as E;
        let text = explained(&error);
        match error {
            E::ReadOnly { .. } => Self::unsupported(text),
            E::NoSpace { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, Code::Unknown, text),
            E::Corrupt { .. } | E::MissingBlob { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::BlobUnknown, text)
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, text),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<smidge_store::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                explained(&error),
            ),
        }
    }
}

/// An error's text with those of its causes.
pub(crate) fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The fault of a method that a place does not have.
pub(crate) fn method_not_allowed(method: &hyper::Method, allowed: &'static str) -> Fault {
    Fault::unsupported(format!("`{method}` is not possible here: only {allowed}"))
        .with(header::ALLOW, allowed)
}
