use smidge_image::{LayerPath, Tree};

/// More files than any `include` of a configuration means.
const MAX_MATCHES: usize = 1024;

/// Finds the paths that a glob(7) pattern matches in a tree, sorted. An absolute pattern is expected.
pub(super) fn matches(tree: &dyn Tree, pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        if component.contains(['*', '?', '[']) {
            found = found
                .iter()
                .flat_map(|dir| entries(tree, dir, component))
                .collect();
            found.truncate(MAX_MATCHES);
        } else {
            found
                .iter_mut()
                .for_each(|path| path.extend(["/", component]));
        }
    }
    found.retain(|path| matches!(tree.resolve(path.as_bytes()), Ok(Some(_))));
    found
}

fn entries(tree: &dyn Tree, dir: &str, pattern: &str) -> Vec<String> {
    let directory: LayerPath = match tree.resolve(dir.as_bytes()) {
        Ok(Some((path, _))) => path,
        _ => return Vec::new(),
    };
    let names = tree.list(&directory).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| pattern.starts_with('.') || !name.starts_with('.'))
        .filter(|name| is_match(pattern.as_bytes(), name.as_bytes()))
        .map(|name| format!("{dir}/{name}"))
        .collect()
}

/// Whether a name matches a pattern of `*`, `?` and `[…]`. Takes time in proportion to the product
/// of both lengths: only the last `*` is ever tried again.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, n));
            p += 1;
        } else if let Some(length) = one(&pattern[p..], name[n]) {
            p += length;
            n += 1;
        } else if let Some((after, from)) = retry {
            retry = Some((after, from + 1));
            (p, n) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Length of the pattern's first element if it matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => set(pattern, byte).or_else(|| (byte == b'[').then_some(1)),
        &literal => (literal == byte).then_some(1),
    }
}

fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(negated);
    let close = first + 1 + pattern.get(first + 1..)?.iter().position(|&c| c == b']')?;
    let mut members = &pattern[first..close];
    let mut inside = false;
    while let [low, rest @ ..] = members {
        (inside, members) = match rest {
            [b'-', high, rest @ ..] => (inside || (*low..=*high).contains(&byte), rest),
            _ => (inside || *low == byte, rest),
        };
    }
    (inside != negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_glob_says() {
        for (pattern, name, expected) in [
            ("*.conf", "libc.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "libc.conf.bak", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("?", "x", true),
            ("?", "", false),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]x]", "]", true),
            ("[", "[", true),
            ("**", "", true),
        ] {
            assert_eq!(
                is_match(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!is_match(pattern.as_bytes(), "a".repeat(4000).as_bytes()));
    }
}
