//! Heads as bytes: the request's as we write it, the answer's as we read it, and where its body ends.

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::Asked;

/// Longer heads are not answers of ours.
const LONGEST: usize = 64 * 1024;
/// Lines of a head.
const MOST_LINES: usize = 100;
/// Interim answers to one request.
const MOST_INTERIM: u32 = 8;

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// There is none, and its method means nothing by one.
    Not,
    /// By its length.
    Length(u64),
    /// By chunks: nobody knows the length yet.
    Chunks,
}

/// Writes the head of a request. The framing is ours: whatever the headers say of it is left out.
pub(super) fn write(asked: &Asked<'_>, host: &str, framed: Framed, out: &mut BytesMut) {
    out.reserve(1024);
    for part in [asked.method.as_str(), " ", asked.target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if !asked.headers.contains_key(HOST) {
        put(out, HOST.as_str(), host.as_bytes());
    }
    for (name, value) in asked.headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            put(out, name.as_str(), value.as_bytes());
        }
    }
    for (name, value) in asked.own {
        put(out, name.as_str(), value);
    }
    out.extend_from_slice(asked.ours);
    match framed {
        Framed::Not => {}
        Framed::Length(length) => put(out, "content-length", length.to_string().as_bytes()),
        Framed::Chunks => put(out, "transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one line of a head.
fn put(out: &mut BytesMut, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

/// Interim answers that came before the final one; they are ours, not the client's.
#[derive(Debug, Default)]
pub(super) struct Interim(u32);

impl Interim {
    pub(super) const fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// Takes the final head off the buffer once it is there whole.
    pub(super) fn read(&mut self, came: &mut BytesMut) -> Result<Option<Head>, &'static str> {
        while let Some(head) = take(came)? {
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.0 += 1;
            if self.0 > MOST_INTERIM {
                return Err("interim answers without an end");
            }
        }
        Ok(None)
    }
}

/// Takes one head off the buffer once it is there whole.
fn take(came: &mut BytesMut) -> Result<Option<Head>, &'static str> {
    if came.is_empty() {
        return Ok(None);
    }
    let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
    let mut parsed = httparse::Response::new(&mut lines);
    let length = match parsed.parse(came) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if came.len() < LONGEST => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("a head without an end"),
        Err(_) => return Err("not a head of HTTP/1"),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("no status")?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let start = came.as_ptr().addr();
    let within = |part: &[u8]| {
        let from = part.as_ptr().addr() - start;
        from..from + part.len()
    };
    let places: Vec<_> = parsed.headers.iter().map(|line| (within(line.name.as_bytes()), within(line.value))).collect();
    let text = came.split_to(length).freeze();
    // Room for what we add, or the map would grow on the way.
    let mut headers = HeaderMap::with_capacity(places.len() + 8);
    for (name, value) in places {
        let (name, value) = (HeaderName::from_bytes(&text[name]), HeaderValue::from_maybe_shared(text.slice(value)));
        headers.append(name.map_err(|_| "a name of a header")?, value.map_err(|_| "a value of a header")?);
    }
    Ok(Some(Head { status, version, headers }))
}

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    After(u64),
    WithChunks,
    WithConnection,
}

impl Head {
    /// Where its body ends; what can be read in two ways is refused (RFC 9112, section 6.3).
    pub(super) fn ends(&self, to_head: bool) -> Result<Ends, &'static str> {
        let mut codings = self.headers.get_all(TRANSFER_ENCODING).iter();
        let coding = codings.next();
        let length = length(&self.headers)?;
        if coding.is_some() && (length.is_some() || self.version != Version::HTTP_11 || codings.next().is_some()) {
            return Err("two ways to tell where it ends");
        }
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err("a coding that nobody asked for");
        }
        let without =
            self.status.is_informational() || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match (coding, length) {
            _ if to_head || without => Ends::After(0),
            (Some(_), _) => Ends::WithChunks,
            (None, Some(length)) => Ends::After(length),
            (None, None) => Ends::WithConnection,
        })
    }

    /// Whether the instance goes on listening on this connection.
    pub(super) fn stays_open(&self) -> bool {
        let says_close = |value: &HeaderValue| {
            value.as_bytes().split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
        };
        self.version == Version::HTTP_11 && !self.headers.get_all(CONNECTION).iter().any(says_close)
    }
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err("two lengths");
    }
    // Digits only: what else a number may begin with is read differently by others.
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).map(Some).ok_or("a length that is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, &'static str> {
        Interim::default().read(&mut BytesMut::from(text))
    }

    fn head(fields: &str) -> Head {
        read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap().unwrap()
    }

    #[test]
    fn a_head_is_taken_once_it_is_whole_and_what_follows_stays() {
        let text = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 201 Created\r\nA: b\r\nA: c\r\n\r\nrest";
        let end = text.len() - "rest".len();
        for cut in 0..end {
            let (mut interim, mut came) = (Interim::default(), BytesMut::from(&text[..cut]));
            assert!(interim.read(&mut came).unwrap().is_none(), "{cut}");
            came.extend_from_slice(&text.as_bytes()[cut..]);
            let head = interim.read(&mut came).unwrap().unwrap();
            assert_eq!((head.status.as_u16(), head.headers.get_all("a").iter().count()), (201, 2), "{cut}");
            assert_eq!((&came[..], interim.is_none()), (&b"rest"[..], false), "{cut}");
        }
    }

    #[test]
    fn what_is_no_head_or_has_no_end_is_refused() {
        for bad in ["hello\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(LONGEST))).is_err());
        assert!(read(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(20)).is_err());
        let many = "A: b\r\n".repeat(MOST_LINES + 1);
        assert!(read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).is_err());
    }

    #[test]
    fn an_answer_ends_where_the_standard_says_and_two_ends_are_refused() {
        for (fields, ends) in [
            ("", Ok(Ends::WithConnection)),
            ("Content-Length: 7\r\n", Ok(Ends::After(7))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Ends::WithChunks)),
            ("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", Err(())),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(())),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(())),
            ("Content-Length: 7\r\nContent-Length: 7\r\n", Err(())),
            ("Content-Length: 7, 7\r\n", Err(())),
            ("Content-Length: +7\r\n", Err(())),
            ("Content-Length: \r\n", Err(())),
            ("Content-Length: 99999999999999999999\r\n", Err(())),
        ] {
            assert_eq!(head(fields).ends(false).map_err(drop), ends, "{fields}");
        }
        assert_eq!(head("Content-Length: 7\r\n").ends(true), Ok(Ends::After(0)), "the answer to HEAD has no body");
        let unchanged = read("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n").unwrap().unwrap();
        assert_eq!(unchanged.ends(false), Ok(Ends::After(0)));
        let old = read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert!(old.ends(false).is_err(), "HTTP/1.0 knows no chunks");
    }

    #[test]
    fn a_connection_stays_open_unless_the_instance_says_close_or_is_old() {
        assert!(head("").stays_open() && head("Connection: keep-alive\r\n").stays_open());
        assert!(!head("Connection: x, Close\r\n").stays_open());
        assert!(!read("HTTP/1.0 200 OK\r\n\r\n").unwrap().unwrap().stays_open());
    }

    #[test]
    fn the_framing_we_write_is_ours_whatever_the_headers_say() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("99"));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.insert("a", HeaderValue::from_static("b"));
        let text = |framed| {
            let (method, mut out) = (http::Method::POST, BytesMut::new());
            let asked = Asked {
                method: &method,
                target: "/a?b",
                headers: &headers,
                own: &[(HeaderName::from_static("c"), b"d")],
                ours: b"our: own\r\n",
            };
            write(&asked, "c:1", framed, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(text(Framed::Not), "POST /a?b HTTP/1.1\r\nhost: c:1\r\na: b\r\nc: d\r\nour: own\r\n\r\n");
        assert!(text(Framed::Length(3)).ends_with("\r\nour: own\r\ncontent-length: 3\r\n\r\n"));
        assert!(text(Framed::Chunks).ends_with("\r\nour: own\r\ntransfer-encoding: chunked\r\n\r\n"));
    }
}
