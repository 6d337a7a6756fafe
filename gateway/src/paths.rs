//! Paths that every reader understands the same way; all others are refused, none is repaired.

/// Why a path is refused; `None` if every reader sees the same segments in it.
pub(crate) fn objection(path: &str) -> Option<&'static str> {
    let Some(inner) = path.strip_prefix('/') else { return Some("the path must begin with a slash") };
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() {
            if segments.peek().is_some() {
                return Some("the path has an empty segment");
            }
        } else if !segment.bytes().all(is_plain)
            && let Some(why) = objection_to_segment(segment.as_bytes())
        {
            return Some(why);
        }
    }
    None
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}

fn objection_to_segment(segment: &[u8]) -> Option<&'static str> {
    let mut dots = Some(0);
    let mut named = true;
    let mut rest = segment;
    while let Some((&byte, tail)) = rest.split_first() {
        let (decoded, tail) = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, tail),
                _ => return Some("the path has a broken escape"),
            },
            (b'%', _) => return Some("the path has a broken escape"),
            _ => (byte, tail),
        };
        if decoded == b'/' || decoded == b'\\' {
            return Some("the path has a hidden slash");
        }
        if decoded.is_ascii_control() || (byte != b'%' && !byte.is_ascii_graphic()) {
            return Some("the path has a control character");
        }
        // What follows a semicolon is no part of the name to some readers.
        named &= decoded != b';';
        if named {
            dots = dots.filter(|_| decoded == b'.').map(|dots| dots + 1);
        }
        rest = tail;
    }
    matches!(dots, Some(1 | 2)).then_some("the path has a dot segment")
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::objection;

    #[test]
    fn tricks_are_refused() {
        for path in [
            "",
            "*",
            "a",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/%2e",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/..;/a",
            "/a/..;x=1/b",
            "/ü",
            "/%2e;a",
        ] {
            assert!(objection(path).is_some(), "{path} was accepted");
        }
    }

    #[test]
    fn ordinary_paths_pass() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.json",
            "/.well-known/jwks.json",
            "/a/...",
            "/a/b%20c",
            "/a;b=1",
            "/a/%C3%BC",
            "/a:cancel",
            "/%252f",
        ] {
            assert_eq!(objection(path), None, "{path}");
        }
    }
}
