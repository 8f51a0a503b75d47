//! Lists of names: tags (end-8) and, as Docker has it, repositories.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use hyper::header;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{Asked, Registry};
use crate::http::{Answer, Code, Fault, encode, method_not_allowed};
use crate::shelf::Repository;

pub(super) async fn tags(
    registry: Arc<Registry>,
    repository: Repository,
    asked: Asked,
) -> Result<Answer, Fault> {
    let name = repository.name.clone();
    check_method(&asked)?;
    let tags = registry
        .on_shelf(move |shelf| shelf.tags(&repository))
        .await?;
    let (tags, next) = page(tags, &asked)?;
    let answer = Answer::json(StatusCode::OK, &json!({ "name": name, "tags": tags }));
    Ok(with_next(answer, &format!("/v2/{name}/tags/list"), next))
}

pub(super) async fn catalog(registry: Arc<Registry>, asked: Asked) -> Result<Answer, Fault> {
    check_method(&asked)?;
    let repositories = registry.on_shelf(|shelf| shelf.repositories()).await?;
    let (repositories, next) = page(repositories, &asked)?;
    let answer = Answer::json(StatusCode::OK, &json!({ "repositories": repositories }));
    Ok(with_next(answer, "/v2/_catalog", next))
}

fn check_method(asked: &Asked) -> Result<(), Fault> {
    match asked.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(method_not_allowed(&asked.method, "GET, HEAD")),
    }
}

/// The names after `last`, `n` at most, and the query for those that follow.
fn page(names: BTreeSet<String>, asked: &Asked) -> Result<(Vec<String>, Option<String>), Fault> {
    let limit = match asked.query.first("n") {
        None | Some("") => usize::MAX,
        Some(text) => text.parse().map_err(|_| {
            let message = format!("`n` is `{text}`: it must be a number");
            Fault::bad_request(Code::PaginationNumberInvalid, message)
        })?,
    };
    let after = match asked.query.first("last") {
        None | Some("") => Bound::Unbounded,
        Some(last) => Bound::Excluded(last),
    };
    let mut rest = names.range::<str, _>((after, Bound::Unbounded));
    let page: Vec<_> = rest.by_ref().take(limit).cloned().collect();
    let next = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some(format!("n={limit}&last={}", encode(last))),
        _ => None,
    };
    Ok((page, next))
}

fn with_next(answer: Answer, path: &str, query: Option<String>) -> Answer {
    match query {
        Some(query) => answer.with(header::LINK, format!("<{path}?{query}>; rel=\"next\"")),
        None => answer,
    }
}
