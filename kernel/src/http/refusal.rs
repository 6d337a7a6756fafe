//! How a handler says no: an expected refusal with its stable code, or a fault that the caller learns nothing about.

use std::borrow::Cow;

use crate::store::{Away, StoreError, WriteError};

use super::problem::Problem;

/// Why a handler did not do what it was asked.
#[derive(Debug)]
pub enum Fail {
    /// An expected refusal; the caller gets it as it is.
    Refused(Box<Problem>),
    /// Anything else: logged here, a bare 500 or 503 outside.
    Fault(String),
    /// A row is locked by a unit that takes too long; the same request may be sent again.
    Busy,
    /// The database is out of reach or out of room: no decision about what was asked, which may be sent again.
    Away(Away),
}

impl Fail {
    /// The thing does not exist, or is not the caller's to know of.
    pub fn not_found() -> Self {
        Problem::new(404, "not_found", "There is nothing here that you may see.").into()
    }

    /// The thing is the caller's to see, but not to do this with.
    pub fn forbidden() -> Self {
        Problem::new(403, "forbidden", "You may not do this.").into()
    }

    /// A body or parameter that reads well and still cannot be right; `pointer` is a JSON pointer.
    pub fn invalid(pointer: &str, message: impl Into<Cow<'static, str>>) -> Self {
        let message: Cow<'static, str> = message.into();
        Problem::new(422, "invalid_body", "The request does not fit its schema; see errors.")
            .field(pointer, message)
            .into()
    }
}

impl From<Problem> for Fail {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LockTimeout => Self::Busy,
            StoreError::Lost(away) => Self::Away(away),
            other => Self::Fault(other.to_string()),
        }
    }
}

impl From<Fail> for Problem {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Refused(problem) => *problem,
            Fail::Busy => Problem::new(409, "busy", "Another request holds the same thing; send this one again.")
                .retry_after(std::time::Duration::from_secs(1)),
            // Told by readiness and once by the log; each caller need only know when to come back. The service itself is
            // well and answers what needs no room, which is what 507 says and 503 does not. Source: RFC 4918, 11.5.
            Fail::Away(Away::Full(_)) => Problem::new(
                507,
                "storage_full",
                "There is no room to keep what you send; send the request again with the same key.",
            )
            .retry_after(std::time::Duration::from_secs(5)),
            Fail::Away(Away::Gone(why)) => {
                tracing::error!(error = %why, "request failed");
                let detail = "The data cannot be reached at the moment; send the request again with the same key.";
                Problem::new(503, "storage_away", detail).retry_after(std::time::Duration::from_secs(1))
            }
            Fail::Fault(why) => {
                tracing::error!(error = %why, "request failed");
                Problem::new(
                    500,
                    "internal",
                    "Something went wrong on our side; quote the trace id when you ask about it.",
                )
            }
        }
    }
}

impl From<WriteError<Self>> for Fail {
    fn from(error: WriteError<Self>) -> Self {
        let retry =
            |code, detail| Problem::new(503, code, detail).retry_after(std::time::Duration::from_secs(1)).into();
        match error {
            WriteError::Unit(fail) => fail,
            WriteError::Store(error) => error.into(),
            WriteError::Panicked(why) => Self::Fault(format!("panic: {why}")),
            WriteError::Deadline => {
                retry("overloaded", "The database was too slow; send the request again with the same key.")
            }
            WriteError::Unknown => retry(
                "outcome_unknown",
                "The outcome is not known; send the request again with the same key to learn it.",
            ),
            WriteError::Closed => retry("stopping", "The service is stopping; send the request again."),
        }
    }
}

/// Declares a service's refusals: `refusals! { pub enum OrderRefusal { /// What it means and what to do. PriceChanged = 409 "price_changed", } }`.
#[macro_export]
macro_rules! refusals {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $(#[doc = $detail:literal] $variant:ident = $status:literal $code:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $(#[doc = $detail] $variant),+ }
        impl $name {
            /// Every refusal, for the documents.
            pub const DOCS: &[$crate::manifest::RefusalDoc] =
                &[$($crate::manifest::RefusalDoc { code: $code, status: $status, detail: $detail.trim_ascii() }),+];
            /// The refusal as a problem document, to add details to.
            pub fn problem(self) -> $crate::http::Problem {
                match self { $(Self::$variant => $crate::http::Problem::new($status, $code, $detail.trim_ascii())),+ }
            }
        }
        impl From<$name> for $crate::http::Fail {
            fn from(refusal: $name) -> Self { refusal.problem().into() }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_the_disk_is_full_is_told_when_to_come_back_and_not_where_it_is() {
        let full = || StoreError::full("the disk that holds /srv/city is full");
        for fail in [Fail::from(full()), Fail::from(WriteError::<Fail>::Store(full()))] {
            let problem = Problem::from(fail);
            assert_eq!((problem.status, &*problem.code), (507, "storage_full"));
            assert_eq!(problem.retry_after, Some(std::time::Duration::from_secs(5)));
            assert!(!problem.detail.contains("/srv"), "{problem}");
        }
        let gone = Problem::from(Fail::from(StoreError::gone("db.internal:5432 hung up")));
        assert_eq!((gone.status, gone.retry_after), (503, Some(std::time::Duration::from_secs(1))));
        assert!(!gone.detail.contains("internal"), "{gone}");
        assert_eq!(Problem::from(Fail::from(StoreError::Engine("broken".into()))).status, 500);
    }
}
