//! What refers to a manifest (distribution-spec, "Listing Referrers"), with and without a registry
//! that knows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use smidge_image::{Descriptor, Digest, Index, media_type};
use ureq::http::Method;

use crate::url::Url;
use crate::wire::{Call, Target};
use crate::{Error, Repository, Result, listing};

/// What of a manifest or index concerns those who look for referrers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Typed>,
    subject: Option<Subject>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

impl Repository<'_> {
    /// What refers to a manifest, by the referrers API or else the fallback tag.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn referrers(&self, subject: &Digest, artifact_type: Option<&str>) -> Result<Index> {
        let endpoint = self.own();
        let path = format!("/v2/{}/referrers/{subject}", endpoint.path);
        let mut url = Url::new(true, "host", &path);
        if let Some(wanted) = artifact_type {
            url = url.with("artifactType", wanted);
        }
        let scopes = self.scopes(endpoint);
        let target = Target::Path(url.path_and_query());
        let call = Call::new(Method::GET, target, &scopes)
            .header("accept", media_type::INDEX)
            .whole(listing::LONGEST_PAGE);
        let answer = self.wire.call(endpoint, &call)?;
        let mut index = match answer.status {
            200 => {
                let pages: Vec<Index> = listing::follow(self.wire, endpoint, &scopes, answer)?;
                merge(pages)
            }
            // It does not know the question.
            400 | 404 | 405 | 501 => {
                answer.finish();
                self.listed(subject)?
            }
            _ => return Err(self.wire.refusal(endpoint, answer)),
        };
        // Filtering what is filtered changes nothing; `OCI-Filters-Applied` need not be believed.
        if let Some(wanted) = artifact_type {
            let wanted = Some(&Value::from(wanted)).cloned();
            index
                .manifests
                .retain(|found| found.extra.get("artifactType").cloned() == wanted);
        }
        Ok(index)
    }

    /// The list under the fallback tag; empty if there is none.
    fn listed(&self, subject: &Digest) -> Result<Index> {
        let endpoint = self.own();
        let call = self.manifest(Method::GET, endpoint, &fallback_tag(subject));
        let answer = match self.wire.expect(endpoint, &call) {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(Index::new(Vec::new())),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&answer.content).map_err(|error| Error::Protocol {
            request: answer.label,
            why: format!("the list of referrers cannot be read: {error}"),
        })
    }

    /// Adds a manifest that has a subject to the list of what refers to that.
    pub(crate) fn list_referrer(&self, media_type: &str, bytes: &[u8]) -> Result<()> {
        // What is no JSON of this kind has no subject.
        let Ok(referrer) = serde_json::from_slice::<Referrer>(bytes) else {
            return Ok(());
        };
        let Some(subject) = referrer.subject.as_ref().map(|subject| subject.digest) else {
            return Ok(());
        };
        let entry = referrer.entry(media_type, bytes);
        let mut index = self.listed(&subject)?;
        if index
            .manifests
            .iter()
            .any(|found| found.digest == entry.digest)
        {
            return Ok(());
        }
        index.manifests.push(entry);
        self.put_list(&subject, &index)
    }

    /// Takes a manifest out of the list of what refers to its subject.
    pub(crate) fn unlist_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<()> {
        let mut index = self.listed(subject)?;
        let before = index.manifests.len();
        index.manifests.retain(|found| found.digest != *referrer);
        if index.manifests.len() == before {
            return Ok(());
        }
        self.put_list(subject, &index)
    }

    fn put_list(&self, subject: &Digest, index: &Index) -> Result<()> {
        self.put(&fallback_tag(subject), media_type::INDEX, &index.to_bytes())?;
        Ok(())
    }
}

impl Referrer {
    /// The manifest as a list of referrers shows it.
    fn entry(self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let media_type = self.media_type.unwrap_or_else(|| media_type.to_owned());
        let mut entry = Descriptor::of(media_type, bytes);
        let artifact_type = self.artifact_type.filter(|given| !given.is_empty());
        let artifact_type = artifact_type.or(self.config.map(|config| config.media_type));
        if let Some(artifact_type) = artifact_type {
            entry
                .extra
                .insert("artifactType".to_owned(), artifact_type.into());
        }
        entry.annotations = self.annotations.unwrap_or_default();
        entry
    }
}

/// The subject of a manifest, if it has one.
pub(crate) fn subject(bytes: &[u8]) -> Option<Digest> {
    let referrer: Referrer = serde_json::from_slice(bytes).ok()?;
    referrer.subject.map(|subject| subject.digest)
}

fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn merge(pages: Vec<Index>) -> Index {
    let mut pages = pages.into_iter();
    let mut all = pages.next().unwrap_or_else(|| Index::new(Vec::new()));
    all.manifests.extend(pages.flat_map(|page| page.manifests));
    all
}

#[cfg(test)]
mod tests;
