//! The body of an answer in chunks: what has come of it is taken off as it is, sizes and ends are ours to read.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The line with a chunk's size, extensions included, and the fields after the last one.
const LONGEST_LINE: usize = 1024;
const LONGEST_TRAILERS: usize = 8 * 1024;
const MOST_TRAILERS: usize = 32;

/// Where in the chunks we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Before the size of one.
    #[default]
    Size,
    /// Inside one, so many bytes before its end.
    Inside(u64),
    /// Before the line's end after one.
    Behind,
    /// After the last one.
    Trailers,
    /// At the end.
    Over,
}

/// What the buffer gave.
#[derive(Debug, PartialEq)]
pub(super) enum Came {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing yet.
    More,
    /// The body is whole.
    Over,
}

impl Chunks {
    /// Takes the next piece off the buffer.
    pub(super) fn next(&mut self, came: &mut BytesMut) -> Result<Came, &'static str> {
        loop {
            match *self {
                Self::Size => match size(came)? {
                    None => return Ok(Came::More),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::Inside(size),
                },
                Self::Inside(0) => *self = Self::Behind,
                Self::Inside(_) if came.is_empty() => return Ok(Came::More),
                Self::Inside(left) => {
                    let data = up_to(left, came);
                    *self = Self::Inside(left - data.len() as u64);
                    return Ok(Came::Data(data));
                }
                Self::Behind if came.len() < 2 => return Ok(Came::More),
                Self::Behind if came.starts_with(b"\r\n") => {
                    came.advance(2);
                    *self = Self::Size;
                }
                Self::Behind => return Err("a chunk that is longer than it says"),
                Self::Trailers => {
                    let Some(trailers) = trailers(came)? else { return Ok(Came::More) };
                    *self = Self::Over;
                    if !trailers.is_empty() {
                        return Ok(Came::Trailers(trailers));
                    }
                }
                Self::Over => return Ok(Came::Over),
            }
        }
    }
}

/// At most so much of what came.
pub(super) fn up_to(left: u64, came: &mut BytesMut) -> Bytes {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(came.len());
    came.split_to(length).freeze()
}

fn size(came: &mut BytesMut) -> Result<Option<u64>, &'static str> {
    match httparse::parse_chunk_size(came) {
        Ok(httparse::Status::Complete((length, size))) => {
            came.advance(length);
            Ok(Some(size))
        }
        Ok(httparse::Status::Partial) if came.len() < LONGEST_LINE => Ok(None),
        _ => Err("a chunk without a size"),
    }
}

fn trailers(came: &mut BytesMut) -> Result<Option<HeaderMap>, &'static str> {
    let mut lines = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let (length, lines) = match httparse::parse_headers(came, &mut lines) {
        Ok(httparse::Status::Complete(done)) => done,
        Ok(httparse::Status::Partial) if came.len() < LONGEST_TRAILERS => return Ok(None),
        _ => return Err("trailers that do not read"),
    };
    let mut fields = HeaderMap::new();
    for line in lines {
        let (name, value) = (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_bytes(line.value));
        fields.append(name.map_err(|_| "a name of a trailer")?, value.map_err(|_| "a value of a trailer")?);
    }
    came.advance(length);
    Ok(Some(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a text in pieces of `step` bytes; gives the data, the trailers and what was left of the text.
    fn read(text: &str, step: usize) -> Result<(String, HeaderMap, String), &'static str> {
        let (mut chunks, mut came, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
        let (mut trailers, mut pieces) = (HeaderMap::new(), text.as_bytes().chunks(step));
        loop {
            match chunks.next(&mut came)? {
                Came::Data(bytes) => data.extend_from_slice(&bytes),
                Came::Trailers(fields) => trailers = fields,
                Came::More => came.extend_from_slice(pieces.next().ok_or("an early end")?),
                Came::Over => {
                    let rest: Vec<u8> = came.iter().chain(pieces.flatten()).copied().collect();
                    return Ok((String::from_utf8(data).unwrap(), trailers, String::from_utf8(rest).unwrap()));
                }
            }
        }
    }

    #[test]
    fn chunks_give_their_data_however_they_are_cut_and_nothing_behind_them() {
        let text = "5;name=value\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\nHTTP/1.1";
        for step in [1, 2, 3, 7, 1000] {
            let (data, trailers, rest) = read(text, step).unwrap();
            assert_eq!((data.as_str(), rest.as_str()), ("hello 0123456789", "HTTP/1.1"), "cut by {step}");
            assert_eq!(trailers["x-sum"], "7");
        }
        assert_eq!(read("0\r\n\r\n", 1).unwrap().0, "");
    }

    #[test]
    fn chunks_that_can_be_read_in_two_ways_are_refused() {
        let endless = format!("1;{}", "x".repeat(LONGEST_LINE));
        let trailing = format!("0\r\nA: {}", "x".repeat(LONGEST_TRAILERS));
        for bad in [
            "5\r\nhello!\r\n0\r\n\r\n",
            "x\r\n",
            "-1\r\n",
            "+5\r\n",
            "5\nhello\r\n",
            "fffffffffffffffff\r\n",
            &endless,
            &trailing,
            "0\r\nA : b\r\n\r\n",
        ] {
            assert!(read(bad, 1000).is_err_and(|why| why != "an early end"), "{bad}");
        }
        for cut in ["5\r\nhel", "5\r\nhello\r\n", "0\r\n"] {
            assert_eq!(read(cut, 1000).unwrap_err(), "an early end", "{cut}");
        }
    }
}
