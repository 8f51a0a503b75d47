//! Regular expressions, as the filters `name` and `id` take them: Go's syntax as far as names need it.

/// A part of an expression.
enum Node {
    /// A character of some ranges, or of none of them: `a`, `.`, `[a-z]`, `\d`.
    One {
        ranges: Vec<(char, char)>,
        not: bool,
    },
    /// `^`.
    Start,
    /// `$`.
    End,
    /// `(a|b)`: any of several sequences.
    Any(Vec<Vec<Node>>),
    /// `*`, `+`, `?`, `{2,3}`.
    Repeat {
        node: Box<Node>,
        least: usize,
        most: usize,
    },
}

/// Whether an expression is found anywhere in a text. One that makes no sense is found in itself alone, as
/// in Docker.
pub(crate) fn is_found(expression: &str, text: &str) -> bool {
    if expression == text {
        return true;
    }
    let pattern: Vec<char> = expression.chars().collect();
    let mut parser = Parser {
        pattern: &pattern,
        at: 0,
        depth: 0,
    };
    let Some(node) = parser.any().filter(|_| parser.at == pattern.len()) else {
        return false;
    };
    let text: Vec<char> = text.chars().collect();
    (0..=text.len()).any(|start| matches(&node, &text, start, &mut |_| true))
}

/// Whether a part is at a place of a text, and what follows it holds where it ends.
fn matches(node: &Node, text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    match node {
        Node::One { ranges, not } => text.get(at).is_some_and(|c| {
            let within = ranges
                .iter()
                .any(|(first, last)| (first..=last).contains(&c));
            within != *not && then(at + 1)
        }),
        Node::Start => at == 0 && then(at),
        Node::End => at == text.len() && then(at),
        Node::Any(ways) => ways.iter().any(|way| sequence(way, text, at, then)),
        Node::Repeat { node, least, most } => repeated(node, (*least, *most), text, at, then),
    }
}

fn sequence(nodes: &[Node], text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    match nodes {
        [] => then(at),
        [first, rest @ ..] => matches(first, text, at, &mut |end| sequence(rest, text, end, then)),
    }
}

fn repeated(
    node: &Node,
    (least, most): (usize, usize),
    text: &[char],
    at: usize,
    then: &mut dyn FnMut(usize) -> bool,
) -> bool {
    let more = most > 0
        && matches(node, text, at, &mut |end| {
            let left = (least.saturating_sub(1), most - 1);
            match end == at {
                // What takes nothing may be taken as often as one likes.
                true => then(end),
                false => repeated(node, left, text, end, then),
            }
        });
    more || (least == 0 && then(at))
}

struct Parser<'p> {
    pattern: &'p [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.pattern.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn takes(&mut self, wanted: char) -> bool {
        let found = self.pattern.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    /// Sequences with `|` between them.
    fn any(&mut self) -> Option<Node> {
        let mut ways = Vec::new();
        loop {
            let mut way = Vec::new();
            while !matches!(self.pattern.get(self.at), None | Some('|' | ')')) {
                let node = self.one()?;
                way.push(self.repeat(node)?);
            }
            ways.push(way);
            if !self.takes('|') {
                return Some(Node::Any(ways));
            }
        }
    }

    fn one(&mut self) -> Option<Node> {
        Some(match self.next()? {
            '^' => Node::Start,
            '$' => Node::End,
            '.' => Node::One {
                ranges: Vec::new(),
                not: true,
            },
            '(' => {
                self.depth += 1;
                if self.takes('?') && !self.takes(':') || self.depth > 100 {
                    return None;
                }
                let inside = self.any()?;
                self.depth -= 1;
                self.takes(')').then_some(inside)?
            }
            '[' => self.class()?,
            '\\' => {
                let (ranges, not) = escaped(self.next()?);
                Node::One { ranges, not }
            }
            '*' | '+' | '?' => return None,
            c => Node::One {
                ranges: vec![(c, c)],
                not: false,
            },
        })
    }

    /// What is in brackets.
    fn class(&mut self) -> Option<Node> {
        let not = self.takes('^');
        let mut ranges = Vec::new();
        loop {
            match self.next()? {
                ']' if !ranges.is_empty() => return Some(Node::One { ranges, not }),
                '\\' => match escaped(self.next()?) {
                    (within, false) => ranges.extend(within),
                    _ => return None,
                },
                first => {
                    let range = self.pattern.get(self.at) == Some(&'-')
                        && self.pattern.get(self.at + 1).is_some_and(|c| *c != ']');
                    let last = if range {
                        self.pattern[self.at + 1]
                    } else {
                        first
                    };
                    self.at += if range { 2 } else { 0 };
                    ranges.push((first, last));
                }
            }
        }
    }

    fn repeat(&mut self, node: Node) -> Option<Node> {
        let (least, most) = if self.takes('*') {
            (0, usize::MAX)
        } else if self.takes('+') {
            (1, usize::MAX)
        } else if self.takes('?') {
            (0, 1)
        } else if self.takes('{') {
            self.bounds()?
        } else {
            return Some(node);
        };
        // Greedy or not, what is found is the same.
        self.takes('?');
        let node = Box::new(node);
        Some(Node::Repeat { node, least, most })
    }

    /// `2}`, `2,}` or `2,3}`.
    fn bounds(&mut self) -> Option<(usize, usize)> {
        let rest = &self.pattern[self.at..];
        let length = rest.iter().position(|c| *c == '}')?;
        let text: String = rest[..length].iter().collect();
        self.at += length + 1;
        let number = |text: &str| text.parse().ok().filter(|n| *n <= 1000);
        match text.split_once(',') {
            None => number(&text).map(|n| (n, n)),
            Some((least, "")) => Some((number(least)?, usize::MAX)),
            Some((least, most)) => Some((number(least)?, number(most)?)),
        }
    }
}

/// What a character behind `\` stands for.
fn escaped(c: char) -> (Vec<(char, char)>, bool) {
    let ranges = match c.to_ascii_lowercase() {
        'd' => vec![('0', '9')],
        'w' => vec![('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')],
        's' => vec![(' ', ' '), ('\t', '\r')],
        _ => return (vec![(c, c)], false),
    };
    (ranges, c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_found_as_go_finds_them() {
        for (expression, text, expected) in [
            ("", "", true),
            ("", "web", true),
            ("eb", "web", true),
            ("^web$", "web", true),
            ("^web$", "web1", false),
            ("^w", "aw", false),
            ("web|db", "mydb", true),
            ("^(web|db)$", "db", true),
            ("^(?:web|db)$", "dbx", false),
            ("web_[0-9]+$", "web_12", true),
            ("web_[^0-9]", "web_1", false),
            (r"web_\d", "web_1", true),
            (r"^\D+$", "web", true),
            (r"a\.b", "a.b", true),
            (r"a\.b", "axb", false),
            ("a.b", "axb", true),
            ("^a{2,3}$", "aaa", true),
            ("^a{2,3}$", "aaaa", false),
            ("^a{2}$", "aa", true),
            ("^(ab)*c$", "ababc", true),
            ("^x?y", "y", true),
            ("^a+?b$", "aab", true),
            ("[a-c-]x", "-x", true),
            ("[]x]", "]", true),
            ("^(a*)+$", "", true),
            ("(a*)*b", "aaaaaaaaaaaaaaaac", false),
            // Not understood, and so found in itself alone.
            ("(web", "web", false),
            ("(web", "(web", true),
            ("*", "web", false),
            ("a)", "a", false),
            ("[a", "a", false),
            ("a{x}", "a", false),
            (r"a\", "a", false),
        ] {
            assert_eq!(is_found(expression, text), expected, "{expression} {text}");
        }
        assert!(!is_found(&"(".repeat(100_000), "a"));
    }
}
