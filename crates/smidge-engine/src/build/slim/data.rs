//! Files that programs look for while they run, wherever an image has them.

use super::needs::Need;
use super::{Slimming, unreadable};
use crate::Result;
use smidge_image::{LayerPath, Tree as _};

/// Files that every image may have and any program may read: users, names, time, certificates.
const FILES: [&str; 12] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
];

/// Certificates of authorities, where Debian, Alpine, Fedora and OpenSSL look for them.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs",
    "/usr/lib/ssl",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
];

/// Directories that are there to be written to or mounted on.
const DIRECTORIES: [&str; 9] = [
    "/tmp", "/var/tmp", "/run", "/var/run", "/dev", "/proc", "/sys", "/root", "/home",
];

/// What a program that looks up names reads beside that.
const NAMES: [&str; 3] = ["/etc/services", "/etc/protocols", "/etc/gai.conf"];

/// The libraries that glibc loads to look up names; a newer one has them built in, but for what
/// `nsswitch.conf` names.
const NAME_LIBRARIES: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// The library that glibc loads to end a thread.
const UNWINDER: &str = "libgcc_s.so.1";

/// The loader's cache, and what it is made from.
const CACHE: [&str; 3] = ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"];

const ZONES: &str = "/usr/share/zoneinfo";

impl Slimming<'_> {
    /// Keeps what programs look for while they run.
    pub(super) fn keep_data(&mut self) -> Result<()> {
        for path in FILES.iter().chain(&DIRECTORIES) {
            self.keep(path.as_bytes(), "looked for at run time", false)?;
        }
        for path in CERTIFICATES {
            self.keep(path.as_bytes(), "certificates", true)?;
        }
        self.keep_home()?;
        self.keep_musl_paths()?;
        let asks = |need| self.asked.needs.contains(&need);
        let (names, unwinder, zones) = (asks(Need::Names), asks(Need::Unwinder), asks(Need::Zones));
        if names {
            for path in NAMES {
                self.keep(path.as_bytes(), "names are looked up in it", false)?;
            }
        }
        if self.asked.cache {
            for path in CACHE {
                self.keep(path.as_bytes(), "libraries are found by it", true)?;
            }
        }
        let libraries = NAME_LIBRARIES.iter().filter(|_| names);
        let libraries = libraries.chain([UNWINDER].iter().filter(|_| unwinder));
        for name in libraries.copied().collect::<Vec<_>>() {
            self.keep_loaded_later(name)?;
        }
        if zones {
            self.keep(ZONES.as_bytes(), "time zones", true)?;
        }
        let zone = |entry: &String| Some(entry.strip_prefix("TZ=")?.to_owned());
        if let Some(zone) = self.draft.config.env.iter().find_map(zone) {
            let path = format!("{ZONES}/{}", zone.trim_start_matches(':'));
            self.keep(path.as_bytes(), "the time zone", false)?;
        }
        Ok(())
    }

    /// Keeps a library that glibc loads when it is wanted.
    fn keep_loaded_later(&mut self, name: &str) -> Result<()> {
        for directory in self.asked.glibc.clone().unwrap_or_default() {
            let path = format!("{directory}/{name}");
            if self.keep(path.as_bytes(), "loaded by glibc when it is wanted", false)? {
                break;
            }
        }
        Ok(())
    }

    /// Keeps the home directory of the user that the program runs as, but nothing in it.
    fn keep_home(&mut self) -> Result<()> {
        let user = self.draft.config.user.split(':').next().unwrap_or_default();
        if user.is_empty() {
            return Ok(());
        }
        let Ok(account) = crate::container::find_user(self.rootfs, user) else {
            return Ok(());
        };
        self.keep(account.home.as_bytes(), "the user's home", false)?;
        Ok(())
    }

    /// Keeps the files that tell musl's loader where libraries are.
    fn keep_musl_paths(&mut self) -> Result<()> {
        let etc = LayerPath::try_from("etc").unwrap_or_default();
        let etc = self.rootfs.resolve(etc.as_bytes()).map_err(unreadable)?;
        let Some((etc, _)) = etc else { return Ok(()) };
        for name in self.rootfs.list(&etc).unwrap_or_default() {
            if name.starts_with(b"ld-musl-") {
                let path = [b"/etc/", &name[..]].concat();
                self.keep(&path, "libraries are found by it", false)?;
            }
        }
        Ok(())
    }
}
