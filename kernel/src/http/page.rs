//! Lists page by page: a query reads one row too many, and the last row shown says where the next page begins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::problem::Problem;
use crate::clock::Timestamp;

/// One page of a list, and the token that asks for the next.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items, newest first unless the operation says otherwise.
    pub items: Vec<T>,
    /// Send it back as `page_token` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

impl<T> Page<T> {
    /// Cuts what was read with one row more than `size`; `token` tells of the last row that is shown where it stands.
    pub fn cut(mut rows: Vec<T>, size: i64, token: impl Fn(&T) -> String) -> Self {
        let size = usize::try_from(size).unwrap_or(rows.len());
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = rows.last().filter(|_| more).map(token);
        Self { items: rows, next_page_token }
    }

    /// The same page with each row as others see it.
    pub fn map<V>(self, view: impl FnMut(T) -> V) -> Page<V> {
        Page { items: self.items.into_iter().map(view).collect(), next_page_token: self.next_page_token }
    }
}

/// A place in a list that runs by time: when, and which of those of that moment.
pub type Place = (Timestamp, Uuid);

/// The place as a token.
pub fn write_token((at, id): Place) -> String {
    format!("{:x}.{}", at.micros(), id.simple())
}

/// The place that a token of [`write_token`] tells.
///
/// # Errors
/// 400 `invalid_query`: somebody else made it.
pub fn read_token(token: Option<&str>) -> Result<Option<Place>, Problem> {
    let Some(token) = token else { return Ok(None) };
    let parse = |token: &str| {
        let (micros, id) = token.split_once('.')?;
        Some((Timestamp::from_micros(i64::from_str_radix(micros, 16).ok()?), id.parse().ok()?))
    };
    parse(token).map(Some).ok_or_else(not_ours)
}

/// The answer to a page token that no list gave out.
pub fn not_ours() -> Problem {
    Problem::new(400, "invalid_query", "page_token is not one that this list gave out.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_leads_back_to_its_place_and_nonsense_is_refused() {
        let place = (Timestamp::from_micros(1_800_000_000_123_456), Uuid::from_u128(7));
        assert_eq!(read_token(Some(&write_token(place))).unwrap(), Some(place));
        assert_eq!(write_token(place), "66517289a6240.00000000000000000000000000000007");
        assert_eq!(read_token(None).unwrap(), None);
        for bad in ["", ".", "zz.7", "1f", "1f.", "99999999999999999999.00000000000000000000000000000007"] {
            assert!(read_token(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_ends_where_it_is_told_and_the_last_one_has_no_next() {
        let cut = |count: i32| Page::cut((0..count).collect(), 3, i32::to_string).map(|item| item * 10);
        assert_eq!((cut(4).items, cut(4).next_page_token), (vec![0, 10, 20], Some("2".to_owned())));
        assert_eq!((cut(3).items.len(), cut(3).next_page_token), (3, None));
        assert_eq!((cut(0).items.len(), cut(0).next_page_token), (0, None));
    }
}
