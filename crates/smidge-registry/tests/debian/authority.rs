//! An authority of one test, and what it signs, by openssl.

use std::path::Path;
use std::process::{Command, Stdio};

use smidge_tests::InTime as _;

/// What kind of certificate the server gets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Made {
    /// A good one for `localhost`.
    #[default]
    Well,
    /// One of another authority.
    Unknown,
    /// One that has ended.
    Expired,
    /// One that has not begun.
    Early,
    /// One for another host.
    Elsewhere,
}

/// Makes `ca.pem`, `server.{pem,key}`, `client.{pem,key}`; whether there is an openssl to do it.
pub(crate) fn make(directory: &Path, made: Made) -> bool {
    if Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status_in_time()
        .is_err()
    {
        return false;
    }
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .output_in_time()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {key} -keyout {authority}.key -out {authority}.pem -subj /CN={authority} -days 30"
        ));
    }
    std::fs::create_dir(directory.join("new")).unwrap();
    let signer = if matches!(made, Made::Unknown) {
        "other"
    } else {
        "ca"
    };
    let name = if matches!(made, Made::Elsewhere) {
        "elsewhere.example"
    } else {
        "localhost"
    };
    let (from, to) = match made {
        Made::Expired => ("20200101000000Z", "20200201000000Z"),
        Made::Early => ("20900101000000Z", "20900201000000Z"),
        _ => ("20200101000000Z", "20900101000000Z"),
    };
    std::fs::write(directory.join("index.txt"), "").unwrap();
    std::fs::write(directory.join("ca.cnf"), "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=new\ndefault_md=sha256\npolicy=p\nunique_subject=no\nrand_serial=yes\n[p]\ncommonName=supplied\n").unwrap();
    for (who, signer, name) in [("server", signer, name), ("client", "ca", "me")] {
        std::fs::write(
            directory.join("extensions"),
            format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n"),
        )
        .unwrap();
        openssl(&format!(
            "req {key} -keyout {who}.key -out {who}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert {signer}.pem -keyfile {signer}.key -in {who}.csr -out {who}.pem -extfile extensions -startdate {from} -enddate {to}"
        ));
    }
    true
}
