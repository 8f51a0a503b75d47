//! Directories of certificates by host, as Docker and containers-certs.d(5) have them:
//! `HOST[:PORT]/*.crt` are authorities, `*.cert` with `*.key` our certificate.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Tls;
use super::file::{self, fault, reason};
use crate::Result;

/// Adds what directories have for a host. Of several certificates of ours the one of the last
/// directory counts, and there the first by name.
pub(super) fn add(tls: &mut Tls, directories: &[PathBuf], host: &str) -> Result<()> {
    // A host is one component of a path: it must not lead elsewhere.
    if host.is_empty() || host.contains('/') || host.starts_with('.') {
        return Ok(());
    }
    let mut identity = None;
    for directory in directories {
        let files = files(&directory.join(host))?;
        let with = |extension: &str| -> Vec<PathBuf> {
            let sound = |f: &&PathBuf| f.extension().is_some_and(|e| e == extension);
            files.iter().filter(sound).cloned().collect()
        };
        for authority in with("crt") {
            if !tls.authorities.contains(&authority) {
                tls.authorities.push(authority);
            }
        }
        let certificates = with("cert");
        for key in with("key") {
            if !files.contains(&key.with_extension("cert")) {
                return Err(missing(&key, "cert"));
            }
        }
        for certificate in &certificates {
            if !files.contains(&certificate.with_extension("key")) {
                return Err(missing(certificate, "key"));
            }
        }
        if let Some(certificate) = certificates.into_iter().next() {
            identity = Some((certificate.clone(), certificate.with_extension("key")));
        }
    }
    if tls.identity.is_none() {
        tls.identity = identity;
    }
    Ok(())
}

fn missing(file: &Path, extension: &str) -> crate::Error {
    let wanted = file.with_extension(extension);
    let name = wanted.file_name().unwrap_or_default().to_string_lossy();
    fault(file, format!("there is no `{name}` beside it"))
}

/// The files of a directory by name; none where there is none, or where it is not for us to see
/// (other users' private directories are no fault of this one's).
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if file::is_missing(&error) => return Ok(Vec::new()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Vec::new()),
        Err(error) => return Err(fault(directory, reason(&error))),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| fault(directory, reason(&error)))?
            .path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::os::unix::fs::PermissionsExt;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    fn found(dir: &Path, roots: &[&str], host: &str) -> Result<String> {
        let roots: Vec<PathBuf> = roots.iter().map(|r| dir.join(r)).collect();
        let mut tls = Tls::default();
        add(&mut tls, &roots, host)?;
        let short = |p: &Path| p.strip_prefix(dir).unwrap().display().to_string();
        let mut words: Vec<String> = tls.authorities.iter().map(|p| short(p)).collect();
        if let Some((certificate, key)) = &tls.identity {
            words.push(format!("{}+{}", short(certificate), short(key)));
        }
        Ok(words.join(" "))
    }

    #[test]
    fn authorities_add_up_and_the_last_certificate_of_ours_counts() {
        let dir = tree(&[
            "etc/a.io/ca.crt",
            "etc/a.io/b.crt",
            "etc/a.io/client.cert",
            "etc/a.io/client.key",
            "etc/a.io/README",
            "etc/a.io:5000/ca.crt",
            "home/a.io/x.cert",
            "home/a.io/x.key",
            "home/a.io/y.cert",
            "home/a.io/y.key",
        ]);
        let check = |roots: &[&str], host: &str, expected: &str| {
            assert_eq!(found(dir.path(), roots, host).unwrap(), expected, "{host}");
        };
        check(
            &["etc", "home"],
            "a.io",
            "etc/a.io/b.crt etc/a.io/ca.crt home/a.io/x.cert+home/a.io/x.key",
        );
        check(&["none", "etc"], "a.io:5000", "etc/a.io:5000/ca.crt");
        check(&["etc"], "b.io", "");
        check(&["etc"], "../etc/a.io", "");
        check(&["etc/a.io"], "..", "");
        check(&["etc"], "", "");
    }

    #[test]
    fn directories_of_others_say_nothing() {
        let dir = tree(&["etc/a.io/ca.crt"]);
        let closed = dir.path().join("etc");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let expected = match rustix::process::geteuid().is_root() {
            true => "etc/a.io/ca.crt",
            false => "",
        };
        assert_eq!(found(dir.path(), &["etc"], "a.io").unwrap(), expected);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn half_a_pair_is_a_fault() {
        let dir = tree(&["1/a.io/client.cert", "2/a.io/client.key"]);
        for (root, file, why) in [
            ("1", "client.cert", "there is no `client.key` beside it"),
            ("2", "client.key", "there is no `client.cert` beside it"),
        ] {
            match found(dir.path(), &[root], "a.io") {
                Err(Error::Settings { path, why: found }) => {
                    assert!(path.ends_with(file));
                    assert_eq!(found, why);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
