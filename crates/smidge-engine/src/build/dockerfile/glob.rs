//! Wildcards in the sources of `COPY` and `ADD`: Go's `filepath.Match`, as Docker documents it.

/// A pattern that breaks off inside a bracket or after a backslash.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whether a path needs matching at all.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Whether one component of a path matches one component of a pattern.
pub(super) fn matches(pattern: &str, name: &str) -> Result<bool, Malformed> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on if the text after the last `*` does not match: one character later.
    let mut retry = None;
    let (mut p, mut n) = (0, 0);
    while p < pattern.len() || n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, n + 1));
            p += 1;
            continue;
        }
        let next = name
            .get(n)
            .map(|c| one(&pattern[p..], *c))
            .transpose()?
            .flatten();
        if let Some(used) = next {
            (p, n) = (p + used, n + 1);
            continue;
        }
        match retry {
            Some((star, from)) if from <= name.len() => {
                retry = Some((star, from + 1));
                (p, n) = (star + 1, from);
            }
            // A pattern is sound or not, whatever it is matched against.
            _ => return validate(&pattern[p..]).map(|()| false),
        }
    }
    Ok(true)
}

/// How many characters of the pattern match the one character, if they do.
fn one(pattern: &[char], c: char) -> Result<Option<usize>, Malformed> {
    match pattern {
        [] => Ok(None),
        ['?', ..] => Ok(Some(1)),
        ['\\', escaped, ..] => Ok((*escaped == c).then_some(2)),
        ['\\'] => Err(Malformed),
        ['[', ..] => {
            let (class, used) = class(pattern)?;
            Ok(class.contains(c).then_some(used))
        }
        [plain, ..] => Ok((*plain == c).then_some(1)),
    }
}

struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn contains(&self, c: char) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&c))
            != self.negated
    }
}

/// Reads `[…]`, and says how long it is.
fn class(pattern: &[char]) -> Result<(Class, usize), Malformed> {
    let negated = pattern.get(1) == Some(&'^');
    let mut at = if negated { 2 } else { 1 };
    let mut ranges = Vec::new();
    loop {
        match pattern.get(at) {
            Some(']') if !ranges.is_empty() => return Ok((Class { negated, ranges }, at + 1)),
            _ => {
                let low = character(pattern, &mut at)?;
                let mut high = low;
                if pattern.get(at) == Some(&'-') {
                    at += 1;
                    high = character(pattern, &mut at)?;
                }
                ranges.push((low, high));
            }
        }
    }
}

fn character(pattern: &[char], at: &mut usize) -> Result<char, Malformed> {
    let mut next = || {
        let c = pattern.get(*at).copied().ok_or(Malformed);
        *at += 1;
        c
    };
    match next()? {
        '\\' => next(),
        '-' | ']' => Err(Malformed),
        plain => Ok(plain),
    }
}

fn validate(mut pattern: &[char]) -> Result<(), Malformed> {
    while let Some(first) = pattern.first() {
        let used = match first {
            '[' => class(pattern)?.1,
            '\\' if pattern.len() < 2 => return Err(Malformed),
            '\\' => 2,
            _ => 1,
        };
        pattern = &pattern[used..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_go() {
        // From the documentation of path/filepath.Match.
        let cases = [
            ("abc", "abc", Ok(true)),
            ("*", "", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*", ".hidden", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "ab", Ok(true)),
            ("a*b*c", "aXbYbZc", Ok(true)),
            ("a*b*c", "aXbYbZ", Ok(false)),
            ("a?c", "abc", Ok(true)),
            ("a?c", "ac", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^b-d]", "abz", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("[\\-x]", "-", Ok(true)),
            ("a???b", "aäöüb", Ok(true)),
            ("[]a]", "]", Err(Malformed)),
            ("[-]", "-", Err(Malformed)),
            ("[x-]", "x", Err(Malformed)),
            ("[", "a", Err(Malformed)),
            ("a[", "ab", Err(Malformed)),
            ("b[", "ab", Err(Malformed)),
            ("a\\", "a", Err(Malformed)),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(50) + "b";
        assert_eq!(matches(&pattern, &"a".repeat(5000)), Ok(false));
    }
}
