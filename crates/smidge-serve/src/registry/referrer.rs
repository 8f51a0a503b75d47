//! Referrers: end-12.

use std::sync::Arc;

use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use smidge_image::media_type;

use super::{Asked, Registry};
use crate::http::{Answer, Fault, encode, method_not_allowed};
use crate::shelf::{DOCUMENT_LIMIT, Repository, digest};

/// Tells a client that what it filtered by was understood.
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn list(
    registry: Arc<Registry>,
    repository: Repository,
    text: String,
    asked: Asked,
) -> Result<Answer, Fault> {
    if !matches!(asked.method, Method::GET | Method::HEAD) {
        return Err(method_not_allowed(&asked.method, "GET, HEAD"));
    }
    let subject = digest(&text)?;
    let (name, filter) = (
        repository.name.clone(),
        asked.query.first("artifactType").map(str::to_owned),
    );
    let wanted = filter.clone();
    let referrers = registry
        .on_shelf(move |shelf| shelf.referrers(&repository, &subject, wanted.as_deref()))
        .await?;
    let (page, more) = page(referrers, asked.query.first("last"));
    let last = page.last().map(|last| last["digest"].clone());
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": page,
    });
    let mut answer =
        Answer::json(StatusCode::OK, &document).with(header::CONTENT_TYPE, media_type::INDEX);
    if filter.is_some() {
        answer = answer.with(FILTERS, "artifactType");
    }
    if let Some(last) = last.as_ref().and_then(Value::as_str)
        && more
    {
        let filter = filter.map_or_else(String::new, |filter| {
            format!("artifactType={}&", encode(&filter))
        });
        let path = format!("/v2/{name}/referrers/{subject}");
        answer = answer.with(
            header::LINK,
            format!("<{path}?{filter}last={last}>; rel=\"next\""),
        );
    }
    Ok(answer)
}

/// As many as fit into one document, after the one with the digest `last`, and whether more follow.
/// Referrers come sorted by their digests.
fn page(referrers: Vec<Value>, last: Option<&str>) -> (Vec<Value>, bool) {
    let after = |referrer: &Value| last.is_none_or(|last| referrer["digest"].as_str() > Some(last));
    let mut rest = referrers.into_iter().filter(after).peekable();
    let (mut page, mut size) = (Vec::new(), 0);
    while let Some(next) = rest.peek() {
        size += next.to_string().len();
        if size > DOCUMENT_LIMIT / 2 && !page.is_empty() {
            break;
        }
        page.extend(rest.next());
    }
    let more = rest.peek().is_some();
    (page, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_follows() {
        let note = "x".repeat(DOCUMENT_LIMIT / 5);
        let all: Vec<_> = (0..5)
            .map(|n| json!({"digest": format!("sha256:{n}"), "annotations": {"note": note}}))
            .collect();
        let (mut found, mut last, mut pages) = (Vec::new(), None, 0);
        loop {
            let (page, more) = page(all.clone(), last.as_deref());
            last = page
                .last()
                .map(|last| last["digest"].as_str().unwrap().to_owned());
            found.extend(page);
            pages += 1;
            if !more {
                break;
            }
        }
        assert_eq!((found, pages), (all, 3));
        assert_eq!(super::page(Vec::new(), None), (Vec::new(), false));
    }
}
