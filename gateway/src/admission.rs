//! Who and what is let in: the form of a request, the token, the roles; and the words of refusal.

use std::time::Duration;

use http::header::{ALLOW, AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use kernel::http::problem::Problem;
use kernel::manifest::Access;

use crate::door::Refusal;
use crate::paths;
use crate::table::Route;
use crate::tokens::{Principal, TokenError};

/// Refuses requests that two readers could understand differently.
pub(crate) fn check_form<B>(request: &Request<B>) -> Result<(), Refusal> {
    let bad = |detail: &'static str| Err(Box::new(Problem::new(400, "malformed_request", detail)));
    // It names a host and no path. TRACE needs no rule: no row has it, so that it meets the methods its path does take.
    if *request.method() == Method::CONNECT {
        let problem = Problem::new(405, "method_not_allowed", "this method is not offered here");
        return Err(Box::new(problem.header(ALLOW, HeaderValue::from_static(""))));
    }
    if let Some(why) = paths::objection(request.uri().path()) {
        return bad(why);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return bad("name the host once");
    }
    if request.version() == Version::HTTP_11 && host.is_none() {
        return bad("name the host");
    }
    if let (Some(host), Some(authority)) = (host, request.uri().authority())
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return bad("name one host");
    }
    Ok(())
}

/// The bearer token, if there is one. Whether it is text turns out when it is read, if it ever is.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// Whether the roles of the caller grant what the row asks for; the service asks again.
pub(crate) fn authorise(route: &Route, principal: Option<&Principal>) -> Result<(), Refusal> {
    let Access::May(permission) = route.access else { return Ok(()) };
    let granted = principal.is_some_and(|who| who.roles.iter().any(|role| permission.roles.contains(&role.as_str())));
    if granted {
        return Ok(());
    }
    let problem = Problem::new(403, "forbidden", "your roles do not grant this")
        .with("permission", permission.name)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"insufficient_scope\""));
    Err(Box::new(problem))
}

/// There is no token where one is needed.
pub(crate) fn sign_in_required() -> Refusal {
    unauthenticated("Bearer", "sign_in_required", "this route needs a token")
}

/// There is one, and it does not count.
pub(crate) fn token_refused(why: TokenError) -> Refusal {
    let (code, detail) = match why {
        TokenError::Invalid => ("token_invalid", "the token is not valid here"),
        TokenError::Expired => ("token_expired", "the token has expired"),
        TokenError::Revoked => ("token_revoked", "the token was revoked"),
        TokenError::NoKeys => {
            let problem = Problem::new(503, "keys_unavailable", "tokens cannot be checked at the moment");
            return Box::new(problem.retry_after(Duration::from_secs(1)));
        }
    };
    unauthenticated("Bearer error=\"invalid_token\"", code, detail)
}

fn unauthenticated(challenge: &'static str, code: &'static str, detail: &'static str) -> Refusal {
    Box::new(Problem::new(401, code, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
}

/// Too much is under way in all.
pub(crate) fn shed() -> Refusal {
    Box::new(
        Problem::new(503, "overloaded", "too much is under way; come back a little later")
            .retry_after(Duration::from_secs(1)),
    )
}
