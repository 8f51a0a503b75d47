//! Control characters out of names and files, which must not reach a terminal: they could move its
//! cursor, forge lines or change its title.

/// Shows control characters as `\u{fffd}`, but for tabs and newlines.
pub(crate) fn neutral(text: &str) -> String {
    let hostile = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.replace(hostile, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        for (text, expected) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[2J", "\u{fffd}[2J"),
            ("a\rb\u{7f}\u{0}", "a\u{fffd}b\u{fffd}\u{fffd}"),
            // What eight-bit terminals take for `ESC [`.
            ("\u{9b}31m", "\u{fffd}31m"),
            ("größe", "größe"),
        ] {
            assert_eq!(neutral(text), expected);
        }
    }
}
