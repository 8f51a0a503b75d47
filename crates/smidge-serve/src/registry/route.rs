//! Which of the specification's endpoints a path means.

use crate::http::decode;

/// An endpoint, with what its path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: end-1.
    Base,
    /// `/v2/_catalog`, which is Docker's.
    Catalog,
    /// `/v2/<name>/blobs/<digest>`: end-2, end-10.
    Blob { name: String, digest: String },
    /// `/v2/<name>/manifests/<reference>`: end-3, end-7, end-9.
    Manifest { name: String, reference: String },
    /// `/v2/<name>/blobs/uploads/`: end-4, end-11.
    Uploads { name: String },
    /// `/v2/<name>/blobs/uploads/<id>`: end-5, end-6, end-13, end-14.
    Upload { name: String, id: String },
    /// `/v2/<name>/tags/list`: end-8.
    Tags { name: String },
    /// `/v2/<name>/referrers/<digest>`: end-12.
    Referrers { name: String, digest: String },
}

impl Route {
    /// Finds the endpoint of a path. A name may have slashes, and parts that look like an endpoint's:
    /// the path is read from its end.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let path = decode(path)?;
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Base);
        }
        let rest = rest.strip_prefix('/')?;
        if rest == "_catalog" {
            return Some(Self::Catalog);
        }
        let (before, last) = rest.rsplit_once('/')?;
        if last == "uploads"
            && let Some(name) = before.strip_suffix("/blobs")
        {
            return Some(Self::Uploads {
                name: name.to_owned(),
            });
        }
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            let name = name.to_owned();
            return Some(match last {
                "" => Self::Uploads { name },
                id => Self::Upload {
                    name,
                    id: id.to_owned(),
                },
            });
        }
        let (name, kind) = before.rsplit_once('/')?;
        let (name, last) = (name.to_owned(), last.to_owned());
        match kind {
            "blobs" => Some(Self::Blob { name, digest: last }),
            "manifests" => Some(Self::Manifest {
                name,
                reference: last,
            }),
            "referrers" => Some(Self::Referrers { name, digest: last }),
            "tags" if last == "list" => Some(Self::Tags { name }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let (a, name) = (|| "a".to_owned(), |text: &str| text.to_owned());
        for (path, expected) in [
            ("/v2", Some(Route::Base)),
            ("/v2/", Some(Route::Base)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/tags/list", Some(Route::Tags { name: a() })),
            ("/v2/a/blobs/uploads", Some(Route::Uploads { name: a() })),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads { name: a() })),
            (
                "/v2/a/blobs/uploads/1",
                Some(Route::Upload {
                    name: a(),
                    id: name("1"),
                }),
            ),
            (
                "/v2/a/blobs/sha256:0",
                Some(Route::Blob {
                    name: a(),
                    digest: name("sha256:0"),
                }),
            ),
            (
                "/v2/a/blobs/sha256%3A0",
                Some(Route::Blob {
                    name: a(),
                    digest: name("sha256:0"),
                }),
            ),
            (
                "/v2/a/referrers/x",
                Some(Route::Referrers {
                    name: a(),
                    digest: name("x"),
                }),
            ),
            (
                "/v2/blobs/uploads/manifests/tags/manifests/list",
                Some(Route::Manifest {
                    name: name("blobs/uploads/manifests/tags"),
                    reference: name("list"),
                }),
            ),
            (
                "/v2/a/..%2f..%2fetc/manifests/x",
                Some(Route::Manifest {
                    name: name("a/../../etc"),
                    reference: name("x"),
                }),
            ),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }

    #[test]
    fn other_paths_are_nowhere() {
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2//",
            "/v2/a",
            "/v2/a/tags",
            "/v2/a/tags/other",
            "/v2/a/%zz/b",
            "/v2/tags/list",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
