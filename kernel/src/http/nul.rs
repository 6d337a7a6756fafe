//! Text that holds NUL: one of the two engines can neither keep nor compare it, so no handler gets any on either.

use http::{HeaderMap, header};
use serde_json::Value;

use super::problem::Problem;
use super::request::Request;

crate::refusals! {
    /// What every service refuses about the texts of a request.
    pub enum TextRefusal {
        /// A text holds the character NUL, which nothing here keeps; see errors for where it stands, and leave it out.
        Nul = 400 "nul_in_text",
    }
}

/// How JSON writes NUL; as itself it is not allowed there.
const ESCAPED: &[u8] = br"\u0000";

/// Refuses a request whose path, query, form or JSON holds NUL.
pub(super) fn refuse(request: &Request) -> Result<(), Problem> {
    let found = in_params(&request.params)
        .map(|name| (name, "the path holds the character NUL here"))
        .or_else(|| in_pairs(request.uri.query()?.as_bytes()).map(|at| (at, "the query holds the character NUL here")))
        .or_else(|| in_body(request).map(|at| (at, "the body holds the character NUL here")));
    found.map_or(Ok(()), |(pointer, message)| Err(TextRefusal::Nul.problem().field(pointer, message)))
}

fn in_params(params: &[(String, String)]) -> Option<String> {
    params.iter().find(|(_, value)| value.contains('\0')).map(|(name, _)| step(name))
}

fn in_body(request: &Request) -> Option<String> {
    let body = &request.body[..];
    if is_form(&request.headers) {
        return in_pairs(body);
    }
    // Looked for before it is understood, because hardly any body has it. One that does not read is refused as such.
    if !body.windows(ESCAPED.len()).any(|piece| piece == ESCAPED) {
        return None;
    }
    in_json(&serde_json::from_slice(body).ok()?)
}

fn is_form(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    media.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn in_pairs(text: &[u8]) -> Option<String> {
    let says_nul = text.contains(&0) || text.windows(3).any(|piece| piece == b"%00");
    let pairs: Vec<(String, String)> = says_nul.then(|| serde_urlencoded::from_bytes(text).ok()).flatten()?;
    let found = pairs.iter().find(|(name, value)| name.contains('\0') || value.contains('\0'));
    found.map(|(name, _)| step(name))
}

/// The pointer of the first text that holds it; of the object, if a name in it does.
fn in_json(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| in_json(item).map(|rest| format!("/{at}{rest}")))
        }
        Value::Object(fields) if fields.keys().any(|name| name.contains('\0')) => Some(String::new()),
        Value::Object(fields) => fields.iter().find_map(|(name, field)| in_json(field).map(|rest| step(name) + &rest)),
        _ => None,
    }
}

/// One step of a JSON pointer.
fn step(name: &str) -> String {
    format!("/{}", name.replace('\0', "").replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_nul_is_told_and_what_only_looks_like_it_passes() {
        for (json, place) in [
            (r#""\u0000""#, Some("")),
            (r#"{"lines":[{"note":"a"},{"note":"b\u0000"}]}"#, Some("/lines/1/note")),
            (r#"{"a/b":{"c~d":"\u0000"}}"#, Some("/a~1b/c~0d")),
            (r#"{"a":{"b\u0000":1}}"#, Some("/a")),
            (r#"{"a":"\\u0000"}"#, None),
            (r#"{"a":"\u0001"}"#, None),
        ] {
            assert_eq!(in_json(&serde_json::from_str(json).unwrap()).as_deref(), place, "{json}");
        }
        for (pairs, place) in [
            ("page_size=2&page_token=%00", Some("/page_token")),
            ("a%00b=1", Some("/ab")),
            ("a=%2500", None),
            ("a=%01&b=+", None),
        ] {
            assert_eq!(in_pairs(pairs.as_bytes()).as_deref(), place, "{pairs}");
        }
        assert_eq!(in_pairs(b"a=b\0").as_deref(), Some("/a"));
        let params = [("org_id".to_owned(), "1".to_owned()), ("id".to_owned(), "\0".to_owned())];
        assert_eq!(in_params(&params).as_deref(), Some("/id"));
    }
}
