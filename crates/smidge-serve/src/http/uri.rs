//! Paths and queries: percent-encoding, names and values.

/// The values of a query by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part behind `?`. Values that cannot be decoded are left out.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&');
        let decoded = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        Self(decoded.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// The first value of a name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// Resolves percent-encoding. `None` if it is broken, or what it stands for is no UTF-8.
///
/// A `+` stays one: media types have it, and clients that write it for a space have none to write.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                (high << 4 | low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Writes a text so that it can stand in a query.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_garbage_in_them_is_left_out() {
        let query = Query::parse(Some(
            "digest=sha256%3Aab&n=2&&=x&bad=%zz&digest=second&flag",
        ));
        assert_eq!(query.first("digest"), Some("sha256:ab"));
        assert_eq!(query.first("n"), Some("2"));
        assert_eq!(query.first("bad"), None);
        assert_eq!(query.first("flag"), Some(""));
        assert_eq!(Query::parse(None), Query::default());
        let media_type = "application/vnd.oci.image.config.v1+json";
        let query = format!("artifactType={}", encode(media_type));
        assert_eq!(
            Query::parse(Some(&query)).first("artifactType"),
            Some(media_type)
        );
        let bare = format!("artifactType={media_type}");
        assert_eq!(
            Query::parse(Some(&bare)).first("artifactType"),
            Some(media_type)
        );
    }

    #[test]
    fn broken_encoding_is_no_text() {
        assert_eq!(decode("a%2Fb%2f.."), Some("a/b/..".to_owned()));
        for text in ["%", "%2", "%2x", "%ff", "%é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
