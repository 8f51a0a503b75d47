use super::MissingVersion;
use super::walk::{Loaded, Walk};

/// Checks the versions that each object needs against those that the libraries define, as
/// `_dl_check_map_versions` does. A library without any version passes: glibc warns and goes on.
pub(super) fn missing(walk: &Walk<'_, '_>) -> Vec<MissingVersion> {
    let mut missing = Vec::new();
    for user in &walk.objects {
        let Some(object) = &user.object else { continue };
        for need in &object.elf.version_needs {
            let Some(provider) = walk
                .objects
                .iter()
                .find(|loaded| is_called(loaded, &need.file))
            else {
                continue;
            };
            let defined = provider
                .object
                .as_ref()
                .map(|object| &object.elf.version_defs);
            let Some(defined) = defined.filter(|defined| !defined.is_empty()) else {
                continue;
            };
            let absent = need
                .versions
                .iter()
                .filter(|version| !defined.contains(version));
            missing.extend(absent.map(|version| MissingVersion {
                version: version.clone(),
                library: provider.path.clone().unwrap_or_else(|| need.file.clone()),
                required_by: user.path.clone().unwrap_or_default(),
            }));
        }
    }
    missing
}

fn is_called(loaded: &Loaded, name: &str) -> bool {
    let soname = loaded
        .object
        .as_ref()
        .and_then(|object| object.elf.soname.as_deref());
    soname == Some(name) || loaded.names.iter().any(|known| known == name)
}
