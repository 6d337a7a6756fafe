//! A request as handlers' arguments read it, and those arguments.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use garde::Validate;
use http::{HeaderMap, Method, Uri, header};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::assertion::Identity;
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::manifest::OperationShape;

/// Deeper JSON than this is refused before it is parsed.
const MAX_DEPTH: usize = 32;

/// A request whose body has been read and whose caller is known.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: Method,
    /// Path and query as the gateway normalised them.
    pub uri: Uri,
    /// The route's path template.
    pub route: &'static str,
    /// Path parameters in template order.
    pub params: Vec<(String, String)>,
    /// Headers, identity headers included.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The user on whose behalf the call is made, if any.
    pub identity: Option<Identity>,
    /// The workload that made the call, such as `gateway`.
    pub workload: String,
}

/// An argument of a handler; its type is also its documentation.
pub trait Arg: Sized + Send {
    /// Reads it from the request.
    fn take(request: &Arc<Request>) -> Result<Self, Problem>;
    /// Adds it to the operation's description.
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator);
}

/// The signed-in user who makes the request.
#[derive(Clone, Debug)]
pub struct Caller(pub Identity);

impl std::ops::Deref for Caller {
    type Target = Identity;
    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl Caller {
    /// The person's id.
    pub fn id(&self) -> Uuid {
        self.0.user_id
    }

    /// Refuses a caller who signed in too long ago for what they want to do now.
    ///
    /// # Errors
    /// 401 `fresh_sign_in_required`; signing in again helps.
    pub fn signed_in_within(&self, window: Duration, now: Timestamp) -> Result<(), Problem> {
        let age = now.seconds().saturating_sub(self.0.auth_time);
        if u64::try_from(age).unwrap_or(0) <= window.as_secs() {
            return Ok(());
        }
        Err(Problem::new(
            401,
            "fresh_sign_in_required",
            "Sign in again: this needs a sign-in of the last quarter of an hour.",
        ))
    }

    /// Whether one of the caller's roles is `role`.
    pub fn has(&self, role: &str) -> bool {
        self.0.roles.iter().any(|r| r == role)
    }

    /// Whether the caller belongs to this organisation.
    pub fn belongs_to(&self, org: Uuid) -> bool {
        self.0.orgs.contains(&org)
    }
}

impl Arg for Caller {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        request.identity.clone().map(Self).ok_or_else(unauthenticated)
    }
    fn describe(_: &mut OperationShape, _: &mut SchemaGenerator) {}
}

/// The answer to a caller who has to sign in first.
pub(crate) fn unauthenticated() -> Problem {
    Problem::new(401, "unauthenticated", "Sign in and send the access token as Authorization: Bearer.")
}

/// The signed-in user, if there is one.
#[derive(Clone, Debug)]
pub struct MaybeCaller(pub Option<Identity>);

impl Arg for MaybeCaller {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        Ok(Self(request.identity.clone()))
    }
    fn describe(_: &mut OperationShape, _: &mut SchemaGenerator) {}
}

/// The whole request, for foreign protocols.
#[derive(Clone, Debug)]
pub struct Whole(pub Arc<Request>);

impl Arg for Whole {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        Ok(Self(request.clone()))
    }
    fn describe(_: &mut OperationShape, _: &mut SchemaGenerator) {}
}

/// Path parameters as a struct with one field for each.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Send> Arg for Path<T> {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        let object = request.params.iter().map(|(k, v)| (k.clone(), serde_json::Value::String(v.clone()))).collect();
        // An identity that cannot exist names nothing: the same answer as for one that does not.
        serde_json::from_value(serde_json::Value::Object(object))
            .map(Self)
            .map_err(|_| Problem::new(404, "not_found", "There is nothing here that you may see."))
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        shape.path = Some(generator.root_schema_for::<T>());
    }
}

/// Query parameters as a struct; unknown ones are refused if the struct says so.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Validate<Context = ()> + Send> Arg for Query<T> {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        let text = request.uri.query().unwrap_or("");
        let value: T = serde_urlencoded::from_str(text)
            .map_err(|e| Problem::new(400, "invalid_query", format!("The query parameters do not read: {e}.")))?;
        value.validate().map_err(|report| from_report(&report, 400, "invalid_query"))?;
        Ok(Self(value))
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        shape.query = Some(generator.root_schema_for::<T>());
    }
}

/// A JSON body that fits its schema and its stated limits.
#[derive(Clone, Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Validate<Context = ()> + Send> Arg for Body<T> {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        check_content_type(&request.headers, "application/json")?;
        check_depth(&request.body)?;
        let mut reader = serde_json::Deserializer::from_slice(&request.body);
        let value: T = serde_path_to_error::deserialize(&mut reader).map_err(|e| unreadable(&e))?;
        reader.end().map_err(|e| {
            Problem::new(400, "malformed_json", format!("The body does not end where its JSON does: {e}."))
        })?;
        value.validate().map_err(|report| from_report(&report, 422, "invalid_body"))?;
        Ok(Self(value))
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        shape.body = Some(("application/json", generator.subschema_for::<T>()));
    }
}

/// A form body, as OAuth endpoints and sign-in pages send it.
#[derive(Clone, Debug)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Send> Arg for Form<T> {
    fn take(request: &Arc<Request>) -> Result<Self, Problem> {
        check_content_type(&request.headers, "application/x-www-form-urlencoded")?;
        serde_urlencoded::from_bytes(&request.body)
            .map(Self)
            .map_err(|e| Problem::new(400, "invalid_request", format!("The form does not read: {e}.")))
    }
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
        shape.body = Some(("application/x-www-form-urlencoded", generator.subschema_for::<T>()));
    }
}

fn check_content_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Problem> {
    let unsupported = |detail| Err(Problem::new(415, "unsupported_media_type", detail));
    if headers.contains_key(header::CONTENT_ENCODING) {
        return unsupported("Send the body without Content-Encoding.".to_owned());
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if given.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    unsupported(format!("Send the body as {wanted}."))
}

fn check_depth(body: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Problem::new(400, "json_too_deep", format!("Nest JSON at most {MAX_DEPTH} levels deep.")));
        }
    }
    Ok(())
}

fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    if !error.inner().is_data() {
        return Problem::new(400, "malformed_json", format!("The body is not JSON: {}.", error.inner()));
    }
    let pointer = pointer(&error.path().to_string());
    Problem::new(422, "invalid_body", "The body does not fit its schema; see errors.")
        .field(&pointer, error.inner().to_string())
}

fn from_report(report: &garde::Report, status: u16, code: &'static str) -> Problem {
    let problem = Problem::new(status, code, "The request does not fit its schema; see errors.");
    report.iter().fold(problem, |p, (path, error)| p.field(pointer(&path.to_string()), error.message().to_owned()))
}

/// `lines[0].quantity` as a JSON pointer.
fn pointer(path: &str) -> String {
    let steps = path.replace('[', ".").replace(']', "");
    steps.split('.').filter(|s| !s.is_empty()).fold(String::new(), |out, step| out + "/" + step)
}

macro_rules! several_args {
    ($($arg:ident),+) => {
        impl<$($arg: Arg),+> Args for ($($arg,)+) {
            fn take(request: &Arc<Request>) -> Result<Self, Problem> {
                Ok(($($arg::take(request)?,)+))
            }
            fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator) {
                $($arg::describe(shape, generator);)+
            }
        }
    };
}

/// A handler's arguments together.
pub trait Args: Sized + Send {
    /// Reads all of them.
    fn take(request: &Arc<Request>) -> Result<Self, Problem>;
    /// Describes all of them.
    fn describe(shape: &mut OperationShape, generator: &mut SchemaGenerator);
}

impl Args for () {
    fn take(_: &Arc<Request>) -> Result<Self, Problem> {
        Ok(())
    }
    fn describe(_: &mut OperationShape, _: &mut SchemaGenerator) {}
}
several_args!(A);
several_args!(A, B);
several_args!(A, B, C);
several_args!(A, B, C, D);
