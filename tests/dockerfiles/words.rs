//! Words of a line: separated by blanks, or JSON strings for those that hold blanks.

/// The words of a line; a text in double quotes is one word, read as JSON.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let length = if rest.starts_with('"') {
            let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = strings.next().unwrap();
            all.push(text.unwrap_or_else(|error| panic!("bad text in `{line}`: {error}")));
            strings.byte_offset()
        } else {
            let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
            all.push(rest[..length].to_owned());
            length
        };
        rest = rest[length..].trim_start();
    }
    all
}

/// The lines of a text that say something, each as its words.
pub(crate) fn lines(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(words)
        .collect()
}

/// A mode as octal digits.
pub(crate) fn mode(word: &str) -> u32 {
    u32::from_str_radix(word, 8).unwrap_or_else(|_| panic!("`{word}` is no mode"))
}

/// `UID:GID`.
pub(crate) fn owner(word: &str) -> (u64, u64) {
    let parts = word.split_once(':');
    let parts = parts.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    parts.unwrap_or_else(|| panic!("`{word}` is no owner"))
}
