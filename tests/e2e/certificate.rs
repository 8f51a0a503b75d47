//! Certificates, made with openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::context::have;
use crate::registry::publish;

/// An authority that issues certificates for this machine's names.
pub(crate) struct Authority {
    dir: TempDir,
}

impl Authority {
    /// A new one; `None`, having said so, without openssl.
    pub(crate) fn new() -> Option<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if !have("openssl") {
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("smidge-ca-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        openssl(
            dir.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
             -days 30 -subj /CN=tests -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign",
        );
        publish(&dir.path().join("ca.pem"));
        Some(Self { dir })
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate and its key, in a directory.
    pub(crate) fn issue(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let extensions = "subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1,IP:::1\n\
             extendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(dir.join("extensions"), extensions).unwrap();
        openssl(
            dir,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key \
                 -out {name}.csr -subj /CN={name}"
            ),
        );
        let ca = self.dir.path().display();
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA {ca}/ca.pem -CAkey {ca}/ca.key -CAcreateserial \
                 -days 30 -extfile extensions -out {name}.pem"
            ),
        );
        let paths = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
        paths.iter().for_each(|path| publish(path));
        let [certificate, key] = paths;
        (certificate, key)
    }
}

/// Runs openssl with the words of a line, in a directory.
pub(crate) fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(dir)
        .output_in_time()
        .unwrap();
    assert!(
        output.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
