//! Tags, and the names of repositories, page by page (distribution-spec, "Listing Tags").

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use smidge_image::Index;
use ureq::http::Method;

use crate::token::Scopes;
use crate::transport::Answer;
use crate::url::Url;
use crate::wire::{Call, Target, Wire};
use crate::{Endpoint, Error, Repository, Result};

/// The longest page.
pub(crate) const LONGEST_PAGE: u64 = 32 << 20;
/// How long all pages of a list may be together.
const LONGEST_LIST: u64 = 64 << 20;
/// How many names a list may have: each costs more here than on the wire.
const MOST_NAMES: usize = 1_000_000;
/// How many pages are read at most.
const MOST_PAGES: usize = 10_000;
/// How many names are asked for at once.
const PAGE: &str = "n=1000";

#[derive(Deserialize)]
struct Tags {
    /// Some registries write `null` for none.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Names {
    repositories: Option<Vec<String>>,
}

/// A part of a list.
pub(crate) trait Page: DeserializeOwned {
    /// How many names it has.
    fn count(&self) -> usize;
}

impl Page for Tags {
    fn count(&self) -> usize {
        self.tags.as_ref().map_or(0, Vec::len)
    }
}

impl Page for Names {
    fn count(&self) -> usize {
        self.repositories.as_ref().map_or(0, Vec::len)
    }
}

impl Page for Index {
    fn count(&self) -> usize {
        self.manifests.len()
    }
}

/// How much of a list has come.
#[derive(Default)]
struct Sum {
    names: usize,
    bytes: u64,
}

impl Sum {
    /// Adds a page, unless it is one too many.
    fn add(&mut self, names: usize, bytes: u64) -> std::result::Result<(), String> {
        self.names += names;
        self.bytes += bytes;
        if self.names > MOST_NAMES {
            return Err(format!("the list has more than {MOST_NAMES} names"));
        }
        if self.bytes > LONGEST_LIST {
            return Err(format!("the list is longer than {LONGEST_LIST} bytes"));
        }
        Ok(())
    }
}

impl Repository<'_> {
    /// All tags, sorted as the registry has them.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn tags(&self) -> Result<Vec<String>> {
        let endpoint = self.own();
        let path = format!("/v2/{}/tags/list", endpoint.path);
        let pages: Vec<Tags> = pages(self.wire, endpoint, &path, &self.scopes(endpoint))?;
        Ok(pages
            .into_iter()
            .filter_map(|page| page.tags)
            .flatten()
            .collect())
    }
}

/// The names of a registry's repositories.
pub(crate) fn catalog(wire: &Wire, endpoint: &Endpoint) -> Result<Vec<String>> {
    let scopes = Scopes::from(["registry:catalog:*".to_owned()]);
    let pages: Vec<Names> = pages(wire, endpoint, "/v2/_catalog", &scopes)?;
    Ok(pages
        .into_iter()
        .filter_map(|page| page.repositories)
        .flatten()
        .collect())
}

fn pages<T: Page>(wire: &Wire, endpoint: &Endpoint, path: &str, scopes: &Scopes) -> Result<Vec<T>> {
    let ask = |path: &str| {
        let target = Target::Path(path.to_owned());
        wire.call(
            endpoint,
            &Call::new(Method::GET, target, scopes).whole(LONGEST_PAGE),
        )
    };
    let mut answer = ask(&format!("{path}?{PAGE}"))?;
    if answer.status == 400 {
        // It thinks that this is too many.
        answer.finish();
        answer = ask(path)?;
    }
    if !answer.is_success() {
        return Err(wire.refusal(endpoint, answer));
    }
    follow(wire, endpoint, scopes, answer)
}

/// Reads a page, and those that its `Link` leads to.
pub(crate) fn follow<T: Page>(
    wire: &Wire,
    endpoint: &Endpoint,
    scopes: &Scopes,
    mut answer: Answer,
) -> Result<Vec<T>> {
    let mut pages = Vec::new();
    let mut sum = Sum::default();
    let mut followed = HashSet::new();
    loop {
        let next = next(&answer);
        let page: T = page(&answer)?;
        let added = sum.add(page.count(), answer.content.len() as u64);
        added.map_err(|why| Error::Protocol {
            request: answer.label.clone(),
            why,
        })?;
        pages.push(page);
        // Whoever leads in a circle has nothing new to say.
        let unseen = |next: &Url| pages.len() < MOST_PAGES && followed.insert(next.text());
        let Some(next) = next.filter(unseen) else {
            return Ok(pages);
        };
        let call = Call::new(Method::GET, Target::Url(next), scopes).whole(LONGEST_PAGE);
        answer = wire.expect(endpoint, &call)?;
    }
}

fn page<T: DeserializeOwned>(answer: &Answer) -> Result<T> {
    serde_json::from_slice(&answer.content).map_err(|error| Error::Protocol {
        request: answer.label.clone(),
        why: format!("the list cannot be read: {error}"),
    })
}

/// The next page: always at the registry itself, whatever name it knows itself by.
fn next(answer: &Answer) -> Option<Url> {
    let links = answer.headers.get_all("link");
    let links = links.iter().filter_map(|value| value.to_str().ok());
    let targets = links.flat_map(|value| value.split('<')).filter_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), "rel=\"next\"" | "rel=next")
        });
        is_next.then_some(target)
    });
    let mut urls = targets.filter_map(|target| answer.url.join(target));
    urls.next().map(|next| next.moved_to(&answer.url))
}

#[cfg(test)]
mod tests;
