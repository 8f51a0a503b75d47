//! Registries with certificates.

use crate::certificate::Authority;
use crate::context::{Context, identities};
use crate::craft;
use crate::registry::{Kind, Registry};

/// A registry with a certificate by an authority of its own, and an image in it.
struct Secure {
    authority: Authority,
    registry: Registry,
}

impl Secure {
    fn new(client_certificates: bool) -> Option<Self> {
        let authority = Authority::new()?;
        // The image is put there while nobody has to be verified.
        let registry = Registry::start(&Kind {
            tls: Some(&authority),
            client_certificates,
            ..Kind::default()
        })?;
        registry.place("hello", &craft::hello());
        Some(Self {
            authority,
            registry,
        })
    }

    fn name(&self) -> String {
        format!("{}/hello", self.registry.host())
    }

    /// A setting with the authority's certificate.
    fn settings(&self) -> String {
        format!(
            "[registry.\"{}\"]\nca = \"{}\"\n",
            self.registry.host(),
            self.authority.certificate().display()
        )
    }
}

#[test]
fn an_unknown_authority_is_refused_and_told() {
    let Some(secure) = Secure::new(false) else {
        return;
    };
    let (context, name) = (Context::new(), secure.name());
    let refused = context.line(&format!("pull {name}"));
    refused.says(1, &["error: ", &name, "certificate", "hint: "]);
    context
        .line(&format!("pull --tls-verify=true {name}"))
        .says(1, &["certificate"]);
    assert_eq!(context.line("images -aq").ok(), "");
}

#[test]
fn a_certificate_need_not_be_checked() {
    let Some(secure) = Secure::new(false) else {
        return;
    };
    let name = secure.name();
    let context = Context::new();
    context
        .line(&format!("pull -q --tls-verify=false {name}"))
        .ok();
    assert_eq!(
        context.line(&format!("run --rm {name}")).ok(),
        "hello crafted"
    );
    let context = Context::new();
    let host = secure.registry.host();
    context.settings(&format!("[registry.\"{host}\"]\ninsecure = true\n"));
    context.line(&format!("pull -q {name}")).ok();
}

#[test]
fn an_authority_may_be_named_in_every_tools_way() {
    let Some(secure) = Secure::new(false) else {
        return;
    };
    let (host, name) = (secure.registry.host(), secure.name());
    for identity in identities() {
        let context = Context::of(identity);
        context.settings(&secure.settings());
        context.line(&format!("pull -q {name}")).ok();
        assert_eq!(
            context.line(&format!("run --rm {name}")).ok(),
            "hello crafted"
        );
    }
    let context = Context::new();
    let pem = std::fs::read(secure.authority.certificate()).unwrap();
    context.write(&format!(".config/containers/certs.d/{host}/ca.crt"), &pem);
    context.line(&format!("pull -q {name}")).ok();
    // OpenSSL's variable names the system's authorities.
    let context = Context::new();
    let mut command = context.line_command(&format!("pull -q {name}"));
    command.env("SSL_CERT_FILE", secure.authority.certificate());
    context.finish(command).ok();
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let Some(secure) = Secure::new(false) else {
        return;
    };
    let context = Context::new();
    let host = format!("127.0.0.2:{}", secure.registry.address().port());
    context.settings(&secure.settings().replace(&secure.registry.host(), &host));
    // The registry listens at 127.0.0.1 alone; a proxy that passes bytes on gives it one more name.
    let relay = crate::relay::Relay::start(&host, secure.registry.address());
    let refused = context.line(&format!("pull {}/hello", relay.host()));
    refused.says(1, &["error: ", "certificate"]);
}

#[test]
fn a_client_shows_its_certificate() {
    let Some(secure) = Secure::new(true) else {
        return;
    };
    let (host, name) = (secure.registry.host(), secure.name());
    let context = Context::new();
    context.settings(&secure.settings());
    context
        .line(&format!("pull {name}"))
        .says(1, &["error: ", "certificate"]);
    let (certificate, key) = secure.authority.issue(context.path(), "client");
    let settings = format!(
        "{}cert = \"{}\"\nkey = \"{}\"\n",
        secure.settings(),
        certificate.display(),
        key.display()
    );
    context.settings(&settings);
    context.line(&format!("pull -q {name}")).ok();
    assert_eq!(
        context.line(&format!("run --rm {name}")).ok(),
        "hello crafted"
    );
    // The same in a directory that Docker and Podman know.
    let other = Context::new();
    for (from, to) in [
        (secure.authority.certificate(), "ca.crt"),
        (certificate, "client.cert"),
        (key, "client.key"),
    ] {
        other.copy(&from, &format!(".config/containers/certs.d/{host}/{to}"));
    }
    other.line(&format!("pull -q {name}")).ok();
}

#[test]
fn credentials_are_never_sent_in_the_clear_to_a_registry_with_a_certificate() {
    let Some(authority) = Authority::new() else {
        return;
    };
    let Some(registry) = Registry::start(&Kind {
        password: true,
        tls: Some(&authority),
        ..Kind::default()
    }) else {
        return;
    };
    let context = Context::new();
    let refused = crate::login::login(&context, &registry.host());
    refused.says(1, &["certificate"]);
    let ca = authority.certificate();
    let settings = format!(
        "[registry.\"{}\"]\nca = \"{}\"\n",
        registry.host(),
        ca.display()
    );
    context.settings(&settings);
    crate::login::login(&context, &registry.host()).ok();
}
