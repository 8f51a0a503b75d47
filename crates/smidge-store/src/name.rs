//! Names for containers that nobody named: an adjective and the surname of somebody who computed,
//! measured or built something.

const ADJECTIVES: [&str; 64] = [
    "able", "amber", "ample", "apt", "arctic", "azure", "balmy", "brave", "breezy", "bright",
    "brisk", "calm", "candid", "careful", "cheery", "civil", "clear", "clever", "coastal", "cosy",
    "crisp", "curious", "dapper", "deft", "eager", "early", "fair", "fleet", "fluent", "fond",
    "frank", "fresh", "gentle", "glad", "golden", "handy", "hardy", "honest", "humble", "keen",
    "kind", "light", "lively", "lucid", "merry", "mild", "minute", "neat", "nimble", "patient",
    "placid", "plain", "quick", "quiet", "ready", "rustic", "silver", "slender", "snug", "sparing",
    "sunny", "tidy", "tiny", "witty",
];

const SURNAMES: [&str; 104] = [
    "abel",
    "agnesi",
    "ampere",
    "anning",
    "apgar",
    "artin",
    "banach",
    "barton",
    "bassi",
    "bell",
    "bernoulli",
    "bhaskara",
    "boole",
    "borel",
    "brahe",
    "braun",
    "burnell",
    "cantor",
    "carson",
    "cauchy",
    "cayley",
    "celsius",
    "chandra",
    "chatelet",
    "church",
    "clarke",
    "codd",
    "cori",
    "cray",
    "curie",
    "daguerre",
    "dalton",
    "darwin",
    "descartes",
    "dijkstra",
    "dirac",
    "doppler",
    "eckert",
    "elion",
    "engelbart",
    "erdos",
    "euler",
    "faraday",
    "fermat",
    "fisher",
    "floyd",
    "fourier",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "godel",
    "goeppert",
    "hamilton",
    "hamming",
    "herschel",
    "hertz",
    "hilbert",
    "hoare",
    "hodgkin",
    "holberton",
    "hopper",
    "hubble",
    "huffman",
    "huygens",
    "hypatia",
    "jacquard",
    "joule",
    "karp",
    "kelvin",
    "kepler",
    "khayyam",
    "kolmogorov",
    "lagrange",
    "lamarr",
    "landau",
    "leavitt",
    "leibniz",
    "linnaeus",
    "lovelace",
    "maxwell",
    "meitner",
    "mendel",
    "mirzakhani",
    "napier",
    "noether",
    "ohm",
    "pascal",
    "payne",
    "peano",
    "ramanujan",
    "riemann",
    "ritchie",
    "rubin",
    "shannon",
    "snyder",
    "somerville",
    "tarski",
    "thompson",
    "turing",
    "volta",
    "wilkes",
    "wu",
    "zuse",
];

/// The name that a random number picks.
pub(crate) fn name(random: u64) -> String {
    let (adjectives, surnames) = (ADJECTIVES.len() as u64, SURNAMES.len() as u64);
    let adjective = ADJECTIVES[(random % adjectives) as usize];
    let surname = SURNAMES[(random / adjectives % surnames) as usize];
    format!("{adjective}_{surname}")
}

/// Whether a text can name a container or a volume: Docker's rule.
pub(crate) fn is_valid(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    (2..=255).contains(&name.len())
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().all(|b| alphanumeric(b) || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_valid_and_of_its_own() {
        let all: BTreeSet<_> = (0..64 * 104).map(name).collect();
        assert_eq!(all.len(), 64 * 104);
        assert!(all.iter().all(|name| is_valid(name)));
        assert_eq!(name(u64::MAX), name(u64::MAX % (64 * 104)));
    }

    #[test]
    fn names_with_other_characters_are_refused() {
        for (text, valid) in [
            ("web", true),
            ("web-1.a_b", true),
            ("0a", true),
            ("a", false),
            ("", false),
            ("-web", false),
            ("../etc", false),
            ("a/b", false),
            ("é1", false),
            ("a b", false),
        ] {
            assert_eq!(is_valid(text), valid, "{text}");
        }
        assert!(!is_valid(&"a".repeat(256)));
    }
}
