//! The payment provider as this service needs it, and the five things an answer can mean.

use std::pin::Pin;

use kernel::money::{Currency, Money};

/// A call of a provider under way.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A call that changes something. Its key was written down before it is made; a repeat uses the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The provider does this once for each key.
    pub key: String,
    /// What it is asked to do.
    pub what: What,
}

/// What a provider can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Hold money on a card.
    Authorize {
        /// Our own name for what is paid: the order.
        reference: String,
        /// The card.
        token: String,
        /// How much.
        amount: Money,
    },
    /// Take what is held.
    Capture {
        /// The provider's identity of the hold.
        provider_id: String,
        /// How much.
        amount_minor: i64,
    },
    /// Let go what is held.
    Void {
        /// The provider's identity of the hold.
        provider_id: String,
    },
    /// Give back what was taken.
    Refund {
        /// The provider's identity of the hold that was taken.
        provider_id: String,
        /// How much.
        amount_minor: i64,
    },
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; the provider's identity of what was made.
    Approved(String),
    /// The bank said no, with its code. Not a failure of the provider.
    Declined(String),
    /// The cardholder has to act: the provider's identity and where they have to go.
    RequiresAction(String, String),
    /// Done or not: only the provider's books can tell. Timeouts, broken connections, 5xx and what does not read.
    Unknown(String),
    /// Refused for good, with the provider's code; this call had no effect and never will.
    Final(String),
    /// The connection was never made, so nothing was asked; the same call may be made again.
    NotSent(String),
}

/// Where a provider says an authorisation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Money is held.
    Authorized,
    /// The bank said no.
    Declined,
    /// The cardholder has to act.
    RequiresAction,
    /// The money was taken.
    Captured,
    /// The hold was let go.
    Voided,
    /// The hold ran out.
    Expired,
}

/// An authorisation in the provider's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The provider's identity of it.
    pub provider_id: String,
    /// Where it stands.
    pub standing: Standing,
    /// Why the bank said no.
    pub decline_code: Option<String>,
    /// Where the cardholder has to go.
    pub challenge_url: Option<String>,
    /// What was taken.
    pub captured_minor: i64,
    /// Our keys that had an effect on it.
    pub keys: Vec<String>,
    /// Its refunds.
    pub refunds: Vec<KnownRefund>,
}

/// A refund in the provider's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRefund {
    /// Our key.
    pub key: Option<String>,
    /// Whether the money went back.
    pub succeeded: bool,
    /// Why not.
    pub code: Option<String>,
}

/// A line of the provider's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookLine {
    /// `capture`, `refund` and others.
    pub kind: String,
    /// Whether it went through.
    pub succeeded: bool,
    /// Our reference: the order.
    pub reference: String,
    /// Our key.
    pub key: Option<String>,
    /// How much.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
}

/// One page of the provider's books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookPage {
    /// The lines in the order written.
    pub lines: Vec<BookLine>,
    /// Where the next page begins; absent on the last.
    pub next_after: Option<i64>,
}

/// The books could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's books cannot be read: {0}")]
pub struct Unreadable(pub String);

/// A payment provider.
pub trait Provider: Send + Sync {
    /// Makes a call once; never repeats it by itself.
    fn call<'a>(&'a self, call: &'a Call) -> Asking<'a, Reply>;
    /// What the books hold under one of our references; nothing if the provider never saw it.
    fn lookup<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Vec<Known>, Unreadable>>;
    /// A page of the books, from after this line.
    fn books(&self, after: i64) -> Asking<'_, Result<BookPage, Unreadable>>;
}
