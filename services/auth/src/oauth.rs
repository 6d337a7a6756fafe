//! What OAuth wants to be told in its own way: parameters that may come once, errors as RFC 6749 writes them.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use kernel::http::{Answer, Arg, Problem, Reply, Request};
use kernel::manifest::OperationShape;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::form_urlencoded;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// The longest value of one parameter; none that makes sense comes near.
const LONGEST: usize = 4096;

/// A refusal in the words of RFC 6749 section 5.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct OauthError {
    /// One of the registered error codes.
    pub(crate) error: &'static str,
    /// What to do about it, for the people who write the client.
    #[serde(rename = "error_description")]
    pub(crate) description: Cow<'static, str>,
}

impl OauthError {
    /// A refusal with this code.
    pub(crate) fn new(error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { error, description: description.into() }
    }

    /// A request that is not one.
    pub(crate) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid_request", description)
    }

    /// The answer of the token and revocation endpoints.
    pub(crate) fn answer(&self) -> Answer {
        json(if self.error == "invalid_client" { 401 } else { 400 }, self)
    }
}

/// A JSON answer that nobody may keep: it holds tokens, or is about one.
pub(crate) fn json<T: Serialize>(status: u16, value: &T) -> Answer {
    let body = serde_json::to_vec(value).expect("a plain data type always becomes JSON");
    Answer::new(status, JSON, body).header("cache-control", "no-store").header("pragma", "no-cache")
}

/// An answer of the token and revocation endpoints: what they give, or an [`OauthError`].
pub(crate) struct OauthAnswer<T> {
    answer: Answer,
    // Only for the documents.
    gives: PhantomData<fn() -> T>,
}

impl<T> From<Answer> for OauthAnswer<T> {
    fn from(answer: Answer) -> Self {
        Self { answer, gives: PhantomData }
    }
}

impl<T: JsonSchema> Reply for OauthAnswer<T> {
    fn answer(self) -> Answer {
        self.answer
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        let nothing = T::schema_name() == <()>::schema_name();
        let given = if nothing { ("", None) } else { (JSON, Some(generator.subschema_for::<T>())) };
        shape.answers.push((200, given.0, given.1));
        for status in [400, 401] {
            shape.answers.push((status, JSON, Some(generator.subschema_for::<OauthError>())));
        }
    }
}

/// Parameters in a form body, or why they do not read.
pub(crate) struct AskedForm<T>(pub(crate) Result<T, OauthError>);

impl<T: DeserializeOwned + JsonSchema + Send> Arg for AskedForm<T> {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        let given = request.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
        if !given.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(FORM) {
            return Ok(Self(Err(OauthError::invalid_request(format!("Send the parameters as {FORM}.")))));
        }
        Ok(Self(read(&request.body)))
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        shape.body = Some((FORM, generator.subschema_for::<T>()));
    }
}

/// Parameters in the query, or why they do not read.
pub(crate) struct AskedQuery<T>(pub(crate) Result<T, OauthError>);

impl<T: DeserializeOwned + JsonSchema + Send> Arg for AskedQuery<T> {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        Ok(Self(read(request.uri.query().unwrap_or("").as_bytes())))
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        shape.query = Some(generator.root_schema_for::<T>());
    }
}

/// Unknown parameters are ignored, empty ones count as left out, and none may come twice (RFC 6749 section 3.1).
fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, OauthError> {
    let mut given = Map::new();
    for (name, value) in form_urlencoded::parse(text).filter(|(_, value)| !value.is_empty()) {
        if value.len() > LONGEST {
            return Err(OauthError::invalid_request(format!("{} is too long.", printable(&name))));
        }
        if given.insert(name.clone().into_owned(), Value::String(value.into_owned())).is_some() {
            return Err(OauthError::invalid_request(format!("{} is there twice.", printable(&name))));
        }
    }
    serde_json::from_value(Value::Object(given))
        .map_err(|e| OauthError::invalid_request(format!("The parameters do not read: {}.", printable(&e.to_string()))))
}

/// RFC 6749 allows only these characters in a description.
fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~')).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Two {
        a: String,
        b: Option<String>,
    }

    #[test]
    fn parameters_come_once_and_empty_ones_do_not_count() {
        assert_eq!(read::<Two>(b"a=1+2&b=&c=3"), Ok(Two { a: "1 2".to_owned(), b: None }));
        for text in ["b=1", "a=1&a=1", "a=1&a=", "a=", &format!("a={}", "x".repeat(LONGEST + 1))] {
            let refused = read::<Two>(text.as_bytes());
            match text {
                "a=1&a=" => assert!(refused.is_ok(), "an empty value was never sent"),
                _ => assert_eq!(refused.unwrap_err().error, "invalid_request", "{text:.20}"),
            }
        }
    }

    #[test]
    fn an_error_is_told_as_the_protocol_wants_it() {
        let answer = OauthError::new("invalid_client", "unknown").answer();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.body, r#"{"error":"invalid_client","error_description":"unknown"}"#);
        assert!(answer.headers.contains(&("cache-control".to_owned(), "no-store".to_owned())));
        assert_eq!(OauthError::invalid_request("x").answer().status, 400);
    }
}
