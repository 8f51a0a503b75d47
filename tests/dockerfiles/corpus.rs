//! The corpus: every case built by everybody, and compared.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::builder::{Buildah, Smidge};
use crate::case::{self, Build, Case};
use crate::context::{Context, have, identities, repository};
use crate::image::Image;
use crate::known::{KNOWN, reason};
use crate::serve::Server;
use crate::{Outcome, Report, base, compare, expected, tree};

/// Cases that are built at once.
const WORKERS: usize = 2;

/// The builders, and what they share.
struct Bench {
    /// The test's own user first.
    smidges: Vec<Smidge>,
    buildah: Option<Buildah>,
    /// Where the contexts are made.
    contexts: PathBuf,
    base: Image,
    peer_only: bool,
}

/// Builds and compares all cases that are wanted.
pub(crate) fn run(report: &mut Report, peer_only: bool) {
    let all = case::load(&repository().join("tests/dockerfiles/corpus"));
    documented(report);
    let wanted: Vec<&Case> = all
        .iter()
        .filter(|one| {
            let needs =
                |other: &Case| other.key("after") == Some(&one.name) && report.wants(&other.name);
            report.wants(&one.name) || all.iter().any(needs)
        })
        .collect();
    if wanted.is_empty() {
        return;
    }
    println!("\nthe corpus: {} cases", wanted.len());
    let bench = Bench::new(peer_only);
    let (bases, others): (Vec<&Case>, Vec<&Case>) =
        wanted.into_iter().partition(|one| case::is_base(one, &all));
    let report = Mutex::new(report);
    bench.work(&bases, 1, &report);
    bench.work(&others, WORKERS, &report);
}

/// The documentation has every known difference.
fn documented(report: &mut Report) {
    if !report.wants("known differences") {
        return;
    }
    let page = std::fs::read_to_string(repository().join("docs/dockerfiles.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing: Vec<String> = KNOWN
        .iter()
        .filter(|known| !page.contains(known.why))
        .map(|known| format!("docs/dockerfiles.md does not say: {}", known.why))
        .collect();
    let outcome = if missing.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(missing)
    };
    report.row("known differences are documented", &outcome, &[]);
}

impl Bench {
    fn new(peer_only: bool) -> Self {
        let own = Context::new();
        let contexts = own.path().join("contexts");
        std::fs::create_dir_all(&contexts).unwrap();
        let archive = base::write(own.path());
        let mut smidges = vec![Smidge::new(own, &archive)];
        if !peer_only {
            let others = identities().into_iter().skip(1);
            smidges.extend(others.map(|who| Smidge::new(Context::of(who), &archive)));
        }
        let layout = smidges[0].save(base::NAME, "base");
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("skipped: only root can have a buildah of its own here");
        }
        let buildah = (root && have("buildah") && have("skopeo")).then(|| Buildah::new(&layout));
        Self {
            base: Image::from_layout(&layout),
            smidges,
            buildah,
            contexts,
            peer_only,
        }
    }

    /// Tries cases, several at once.
    fn work(&self, cases: &[&Case], workers: usize, report: &Mutex<&mut Report>) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let tried = std::panic::AssertUnwindSafe(|| self.row(case));
                        let (outcome, notes) =
                            std::panic::catch_unwind(tried).unwrap_or_else(|_| {
                                (
                                    Outcome::Failed(vec!["the test itself failed".to_owned()]),
                                    vec![],
                                )
                            });
                        report.lock().unwrap().row(&case.name, &outcome, &notes);
                    }
                });
            }
        });
    }

    fn row(&self, case: &Case) -> (Outcome, Vec<String>) {
        let root = rustix::process::geteuid().is_root();
        for need in case.words("needs") {
            if need == "root" && !root {
                return (Outcome::Skipped("only root can".to_owned()), vec![]);
            }
            if need != "root" && !have(need) {
                return (Outcome::Skipped(format!("`{need}` is not on PATH")), vec![]);
            }
        }
        let context = &self.contexts.join(&case.name);
        tree::make(&case.folder, context);
        let server = case
            .key("serve")
            .map(|protocol| Server::start(protocol, context));
        let url = server.as_ref().map(|server| &*server.url);
        let (mut wrong, mut notes) = (Vec::new(), Vec::new());
        let build = Build { case, context, url };
        let theirs = self.peer(build, &mut wrong);
        if let (Some(theirs), Some(listing)) = (&theirs, &case.expected) {
            wrong.extend(self.listed(case, theirs, listing, "buildah"));
        }
        if !self.peer_only
            && let Some(ours) = self.ours(build, &mut wrong, &mut notes)
        {
            self.compare(case, &ours, theirs.as_ref(), (&mut wrong, &mut notes));
        }
        let _ = std::fs::remove_dir_all(context);
        let outcome = if wrong.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed(wrong)
        };
        (outcome, notes)
    }

    /// What buildah makes of a case.
    fn peer(&self, build: Build<'_>, wrong: &mut Vec<String>) -> Option<Image> {
        let case = build.case;
        let asked = case.key("alone").is_none();
        let buildah = self.buildah.as_ref().filter(|_| asked)?;
        match buildah.build(build) {
            Ok(()) => Some(buildah.image(&case.image(), &case.name)),
            Err(why) => {
                wrong.push(format!("buildah: {why}"));
                None
            }
        }
    }

    /// What smidge makes of it, for everybody the same, and the same again when nothing has changed.
    fn ours(
        &self,
        build: Build<'_>,
        wrong: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) -> Option<Image> {
        let case = build.case;
        let id = match self.smidges[0].build(build) {
            Ok(id) => id,
            Err(why) => {
                wrong.push(format!("smidge: {why}"));
                return None;
            }
        };
        let varies = case.key("varies").is_some();
        match self.smidges[0].build(build) {
            Ok(again) if again == id || varies => {}
            Ok(again) => wrong.push(format!("built again: {again} after {id}")),
            Err(why) => wrong.push(format!("built again: {why}")),
        }
        if case.words("needs").any(|need| need == "root") {
            notes.push("root alone".to_owned());
            return Some(self.smidges[0].image(&case.image(), &case.name));
        }
        for other in &self.smidges[1..] {
            // Nobody else reads it any more.
            other.own(build.context);
            match other.build(build) {
                Ok(other_id) if other_id == id || varies => {}
                Ok(other_id) => {
                    wrong.push(format!("as {}: another image", other.name()));
                    wrong.extend(self.between(case, other, (&id, &other_id)));
                }
                Err(why) => wrong.push(format!("as {}: {why}", other.name())),
            }
        }
        Some(self.smidges[0].image(&case.image(), &case.name))
    }

    /// How the images of two users differ.
    fn between(&self, case: &Case, other: &Smidge, ids: (&str, &str)) -> Vec<String> {
        let first = self.smidges[0].image(&case.image(), &case.name);
        let second = other.image(&case.image(), &case.name);
        let mut all: Vec<String> = compare::images(&second, &first)
            .iter()
            .map(|difference| format!("  {difference}"))
            .collect();
        if all.is_empty() {
            all.push(format!("  {} and {}: the same but for times", ids.0, ids.1));
            let times = first.files.iter().filter(|(path, entry)| {
                let other = second.files.get(*path);
                other.is_some_and(|other| other.mtime != entry.mtime)
            });
            all.extend(times.map(|(path, _)| format!("  another time: /{path}")));
            let layers = first.layers.iter().zip(&second.layers);
            for (one, two) in layers.filter(|(one, two)| one != two) {
                all.push(format!("  a layer has {one:?}, and here {two:?}"));
            }
        }
        all.truncate(30);
        all
    }

    fn compare(
        &self,
        case: &Case,
        ours: &Image,
        theirs: Option<&Image>,
        (wrong, notes): (&mut Vec<String>, &mut Vec<String>),
    ) {
        if let Some(listing) = &case.expected {
            wrong.extend(self.listed(case, ours, listing, "smidge"));
        }
        let Some(theirs) = theirs else {
            notes.extend(case.key("alone").map(|why| format!("listing: {why}")));
            return;
        };
        for difference in compare::images(ours, theirs) {
            match reason(&case.name, &difference) {
                Some(why) => notes.push(format!("{}: {why}", difference.place)),
                None => wrong.push(difference.to_string()),
            }
        }
        notes.dedup_by(|a, b| a.rsplit(": ").next() == b.rsplit(": ").next());
    }

    fn listed(&self, case: &Case, image: &Image, listing: &str, who: &str) -> Vec<String> {
        let other;
        let base = match case.key("base").or(case.key("after")) {
            None => Some(&self.base),
            Some("scratch") => None,
            Some(name) => {
                other =
                    self.smidges[0].image(&crate::case::image(name), &format!("of-{}", case.name));
                Some(&other)
            }
        };
        let differences = expected::check(image, base, listing);
        differences
            .iter()
            .map(|one| format!("{who}, as listed: {one}"))
            .collect()
    }
}
