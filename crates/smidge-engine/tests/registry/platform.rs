//! Images for several platforms.

use expect_test::expect;
use smidge_engine::Kind;
use smidge_engine::registry::PullRequest;
use smidge_image::{Index, Platform};

use crate::debian::Registry;
use crate::support::{Machine, connection, shown};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// A machine with an index of two images under a name; their ids.
fn with_index(name: &str, platforms: [&str; 2]) -> (Machine, [String; 2]) {
    let here = Machine::new();
    let ids = platforms.map(|text| here.import(text, 1000 + text.len(), Some(platform(text))));
    let store = &here.engine.store;
    let entry = |text: &str| {
        let image = store.image(text).unwrap();
        let mut entry = image.descriptor();
        entry.platform = Some(platform(text));
        entry
    };
    let index = Index::new(platforms.map(entry).to_vec());
    let name = name.parse().unwrap();
    store.add_index(&index.to_bytes(), &[name]).unwrap();
    (here, ids)
}

#[test]
fn an_index_travels_whole_and_is_pulled_for_one_machine() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.name("app:1");
    let host = Machine::new().engine.host.architecture();
    let other = if host == "arm64" { "amd64" } else { "arm64" };
    let (here, ids) = with_index(&name, [&format!("linux/{other}"), &format!("linux/{host}")]);
    let pushed = here.push(&name).unwrap().remove(0);
    assert_eq!(pushed.notes, [""; 0]);
    let again = registry.requests_of(|| assert!(here.push(&name).unwrap()[0].up_to_date));
    assert_eq!(again.len(), 1, "{again:?}");

    // One platform.
    let there = Machine::new();
    let pulled = there.pull(&name).unwrap().remove(0);
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!(pulled.image.id.to_string(), ids[1]);
    let again = registry.requests_of(|| assert!(there.pull(&name).unwrap()[0].up_to_date));
    assert_eq!(again.len(), 1, "{again:?}");
    let variants = there.engine.store.variants(&name).unwrap();
    let stored: Vec<bool> = variants.iter().map(|v| v.image.is_some()).collect();
    assert_eq!(stored, [false, true]);
    // Where the registry has what is missing, nothing is lost.
    let again = there.push(&name).unwrap().remove(0);
    assert_eq!((again.digest, again.up_to_date), (pushed.digest, true));
    let retagged = registry.name("app:2");
    there.engine.tag(&name, &retagged).unwrap();
    assert_eq!(there.push(&retagged).unwrap()[0].digest, pushed.digest);
    // Elsewhere, an index that lacks something cannot be sent.
    there.engine.tag(&name, &registry.name("part:1")).unwrap();
    let part = there.push(&registry.name("part:1")).unwrap().remove(0);
    assert_eq!(part.digest, pulled.image.digest);
    assert_eq!(part.notes.len(), 1);

    // The other one, then.
    let foreign = PullRequest {
        name: name.clone(),
        platform: Some(platform(&format!("linux/{other}"))),
        ..PullRequest::default()
    };
    let pulled = there.pull_with(foreign).unwrap().remove(0);
    assert_eq!(
        (pulled.image.id.to_string(), pulled.up_to_date),
        (ids[0].clone(), false)
    );
    assert_eq!(pulled.digest, pushed.digest);

    // All at once.
    let everything = Machine::new();
    let all = PullRequest {
        name: name.clone(),
        all_platforms: true,
        ..PullRequest::default()
    };
    assert_eq!(
        everything.pull_with(all.clone()).unwrap()[0].digest,
        pushed.digest
    );
    assert!(everything.pull_with(all).unwrap()[0].up_to_date);
    let variants = everything.engine.store.variants(&name).unwrap();
    assert!(variants.iter().all(|variant| variant.image.is_some()));
    let onward = registry.name("whole:1");
    everything.engine.tag(&name, &onward).unwrap();
    let onward = everything.push(&onward).unwrap().remove(0);
    assert_eq!(onward.digest, pushed.digest);
}

#[test]
fn a_platform_that_is_not_there_is_named() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.name("app:1");
    let (here, _) = with_index(&name, ["linux/s390x", "linux/riscv64"]);
    here.push(&name).unwrap();
    let there = Machine::new();
    let fault = there.pull(&name).unwrap_err();
    assert_eq!(fault.kind(), Kind::NotFound);
    let host = format!("linux/{}", there.engine.host.architecture());
    let text = shown(&fault, &registry.host).replace(&host, "linux/HERE");
    expect![[r#"
        error: cannot pull `localhost:5000/app:1`: there is no image for `linux/HERE`
          there is: linux/s390x, linux/riscv64
        hint: choose one that there is: `smidge pull --platform linux/s390x localhost:5000/app:1`
    "#]]
    .assert_eq(&text);
    let look = |text: &str| {
        let digest = there
            .engine
            .remote_digest(&name, Some(&platform(text)), &connection());
        digest.map_err(|fault| fault.kind())
    };
    assert!(look("linux/s390x").is_ok());
    assert_eq!(look("linux/arm/v7"), Err(Kind::NotFound));
    let all = PullRequest {
        name: name.clone(),
        all_platforms: true,
        ..PullRequest::default()
    };
    there.pull_with(all).unwrap();
}
