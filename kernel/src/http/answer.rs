//! What a handler gives back; its type is also its documentation.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;

use super::problem::Problem;
use crate::manifest::OperationShape;

/// A complete answer; it can be stored and given again byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers beside the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// An answer with a body of this media type.
    pub fn new(status: u16, media_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![(header::CONTENT_TYPE.to_string(), media_type.to_owned())], body: body.into() }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The answer as it goes out. A header that HTTP does not allow is left out and logged.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            http::StatusCode::from_u16(self.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
                response.headers_mut().append(name, value);
            } else {
                tracing::error!(header = name, "an answer carries a header that HTTP does not allow");
            }
        }
        response
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let body = serde_json::to_vec(&problem.to_json()).expect("a JSON value always becomes text");
        let answer = Self::new(problem.status, "application/problem+json", body);
        match problem.retry_after {
            Some(after) => answer.header("retry-after", after.as_secs().max(1).to_string()),
            None => answer,
        }
    }
}

/// A type that handlers return.
pub trait Reply: Send {
    /// The answer.
    fn answer(self) -> Answer;
    /// Adds the planned answer to the operation's description.
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator);
}

const JSON: &str = "application/json";

fn json<T: Serialize>(status: u16, value: &T) -> Answer {
    Answer::new(status, JSON, serde_json::to_vec(value).expect("a plain data type always becomes JSON"))
}

fn describe_json<T: JsonSchema>(status: u16, shape: &mut OperationShape, generator: &mut SchemaGenerator) {
    shape.answers.push((status, JSON, Some(generator.subschema_for::<T>())));
}

/// 200 with a JSON body.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize + JsonSchema + Send> Reply for Json<T> {
    fn answer(self) -> Answer {
        json(200, &self.0)
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        describe_json::<T>(200, shape, generator);
    }
}

/// 201 with the new thing and its address.
#[derive(Clone, Debug)]
pub struct Created<T>(pub String, pub T);

impl<T: Serialize + JsonSchema + Send> Reply for Created<T> {
    fn answer(self) -> Answer {
        json(201, &self.1).header("location", self.0)
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        describe_json::<T>(201, shape, generator);
    }
}

/// 202: taken on, and going on after the answer.
#[derive(Clone, Debug)]
pub struct Accepted<T>(pub T);

impl<T: Serialize + JsonSchema + Send> Reply for Accepted<T> {
    fn answer(self) -> Answer {
        json(202, &self.0)
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        describe_json::<T>(202, shape, generator);
    }
}

/// 204: done, nothing to say.
#[derive(Clone, Copy, Debug)]
pub struct Done;

impl Reply for Done {
    fn answer(self) -> Answer {
        Answer::empty(204)
    }
    fn describe(shape: &mut OperationShape, _: &mut SchemaGenerator) {
        shape.answers.push((204, "", None));
    }
}

/// An answer put together by hand, for foreign protocols.
impl Reply for Answer {
    fn answer(self) -> Answer {
        self
    }
    fn describe(shape: &mut OperationShape, _: &mut SchemaGenerator) {
        shape.answers.push((200, "", None));
    }
}
