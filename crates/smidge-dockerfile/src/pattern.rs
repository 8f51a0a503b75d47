//! The wildcards of `${name#pattern}`: `*` and `?`, neither matching a line end.

use crate::expand::{Budget, ExpandError};

/// A pattern that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid escape `\\{0}`")]
pub(crate) struct PatternError(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    Any,
    Star,
}

impl Token {
    fn takes(self, c: char) -> bool {
        match self {
            Self::One(own) => own == c,
            Self::Any | Self::Star => c != '\n',
        }
    }
}

/// A parsed pattern.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Token>);

/// What a step of matching costs, in bytes of output.
const STEP: usize = 4;

impl Pattern {
    /// Parses a pattern. `\` may escape `*`, `?`, `\`, and the `}` and `/` that would end it.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::One(c),
                    other => return Err(PatternError(other.map(String::from).unwrap_or_default())),
                },
                c => Token::One(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Takes a match off the start.
    pub(crate) fn trim_start<'v>(
        &self,
        value: &'v str,
        longest: bool,
        budget: &Budget,
    ) -> Result<&'v str, ExpandError> {
        let end = matched(&self.0, value.chars(), longest, budget)?;
        Ok(end.map_or(value, |end| &value[end..]))
    }

    /// Takes a match off the end.
    pub(crate) fn trim_end<'v>(
        &self,
        value: &'v str,
        longest: bool,
        budget: &Budget,
    ) -> Result<&'v str, ExpandError> {
        let backwards: Vec<_> = self.0.iter().rev().copied().collect();
        let end = matched(&backwards, value.chars().rev(), longest, budget)?;
        Ok(end.map_or(value, |end| &value[..value.len() - end]))
    }

    /// Replaces the first match, or all of them; each is as long as can be.
    pub(crate) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        budget: &Budget,
    ) -> Result<String, ExpandError> {
        let mut result = String::new();
        let mut at = 0;
        let mut last_end = None;
        loop {
            let rest = &value[at..];
            match matched(&self.0, rest.chars(), true, budget)? {
                // Nothing at all right behind a match is not another match.
                Some(length) if length > 0 || last_end != Some(at) => {
                    budget.spend(replacement.len())?;
                    result.push_str(replacement);
                    at += length;
                    last_end = Some(at);
                    if !all {
                        break;
                    }
                    if length > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            match value[at..].chars().next() {
                Some(c) => {
                    result.push(c);
                    at += c.len_utf8();
                }
                None => break,
            }
        }
        result.push_str(&value[at..]);
        Ok(result)
    }
}

/// Finds where a match that begins at the start ends, in bytes.
///
/// All ways to match are followed at once, so that the cost is at most the product of the lengths.
fn matched(
    tokens: &[Token],
    value: impl Iterator<Item = char>,
    longest: bool,
    budget: &Budget,
) -> Result<Option<usize>, ExpandError> {
    let mut states = vec![false; tokens.len() + 1];
    let mut next = states.clone();
    enter(tokens, &mut states, 0);
    let mut end = states[tokens.len()].then_some(0);
    let mut at = 0;
    for c in value {
        if (end.is_some() && !longest) || !states.contains(&true) {
            break;
        }
        budget.spend(STEP * states.len())?;
        next.fill(false);
        for (state, token) in tokens.iter().enumerate() {
            if states[state] && token.takes(c) {
                enter(
                    tokens,
                    &mut next,
                    if *token == Token::Star {
                        state
                    } else {
                        state + 1
                    },
                );
            }
        }
        std::mem::swap(&mut states, &mut next);
        at += c.len_utf8();
        if states[tokens.len()] {
            end = Some(at);
        }
    }
    Ok(end)
}

/// Enters a state and those that follow it without a character.
fn enter(tokens: &[Token], states: &mut [bool], mut state: usize) {
    while !std::mem::replace(&mut states[state], true) && tokens.get(state) == Some(&Token::Star) {
        state += 1;
    }
}
