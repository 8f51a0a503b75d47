//! "Did you mean": the known word that a misspelt one is closest to.

/// Words longer than this are not typing errors, and comparing them costs.
const LONGEST: usize = 64;

/// Finds the candidate that a word was probably meant to be.
///
/// ```
/// assert_eq!(smidge_dockerfile::suggest("biulder", ["base", "builder"]), Some("builder"));
/// ```
pub fn suggest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word
        .chars()
        .flat_map(char::to_lowercase)
        .take(LONGEST + 1)
        .collect();
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            let allowed = (word.len().max(other.len()) / 3).max(1);
            let near = other.len() <= LONGEST && word.len().abs_diff(other.len()) <= allowed;
            let distance = if near {
                distance(&word, &other)
            } else {
                usize::MAX
            };
            (distance <= allowed && distance < word.len()).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Counts insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            row[j] = (above[j - 1] + usize::from(!same))
                .min(above[j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised() {
        let cases = [
            ("COYP", Some("COPY")),
            ("copy", Some("COPY")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("RUNN", Some("RUN")),
            ("XYZ", None),
            ("", None),
            ("C", None),
        ];
        for (word, expected) in cases {
            assert_eq!(
                suggest(word, ["COPY", "RUN", "ENTRYPOINT"]),
                expected,
                "{word}"
            );
        }
        assert_eq!(suggest(&"a".repeat(10_000), ["a"]), None);
    }
}
