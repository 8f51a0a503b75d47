use std::collections::{HashMap, HashSet};

use super::MissingVersion;
use super::loaded::Loaded;

/// Checks the versions that each object needs against those that the libraries define, as
/// `_dl_check_map_versions` does. A library without any version passes: glibc warns and goes on.
pub(super) fn missing(objects: &[Loaded]) -> Vec<MissingVersion> {
    let providers = providers(objects);
    let mut missing = Vec::new();
    for user in objects {
        let needs = user
            .object
            .iter()
            .flat_map(|object| &object.elf.version_needs);
        for need in needs {
            let Some((provider, defined)) = providers.get(need.file.as_str()) else {
                continue;
            };
            let absent = need
                .versions
                .iter()
                .filter(|version| !defined.contains(version.as_str()));
            missing.extend(absent.map(|version| MissingVersion {
                version: version.clone(),
                library: provider.path.clone().unwrap_or_else(|| need.file.clone()),
                required_by: user.path.clone().unwrap_or_default(),
            }));
        }
    }
    missing
}

/// What has versions, under all of its names, and the versions.
fn providers(objects: &[Loaded]) -> HashMap<&str, (&Loaded, HashSet<&str>)> {
    let mut providers = HashMap::new();
    for loaded in objects {
        let Some(object) = &loaded.object else {
            continue;
        };
        let defined: HashSet<_> = object.elf.version_defs.iter().map(String::as_str).collect();
        if defined.is_empty() {
            continue;
        }
        let names = loaded
            .names
            .iter()
            .map(String::as_str)
            .chain(loaded.soname());
        for name in names {
            providers
                .entry(name)
                .or_insert_with(|| (loaded, defined.clone()));
        }
    }
    providers
}
