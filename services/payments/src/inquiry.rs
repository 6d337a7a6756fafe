//! Asking the provider: which call an intent stands for, and what its answer or its books mean for us.

use std::time::Duration;

use kernel::clock::Timestamp;
use kernel::money::Money;

use crate::attempt::{AttemptState, Finding};
use crate::provider::{Call, Known, Provider, Reply, Standing, What};
use crate::refund::{RefundFinding, RefundState};
use crate::store::{AttemptRow, RefundRow};

const ABANDONED: &str = "challenge_abandoned";
const NEVER_ARRIVED: &str = "never_reached_provider";

/// What the books say about an intent.
enum Sight {
    /// Its outcome.
    Learnt(Finding),
    /// It had no effect so far, so the same call may be made again under the same key.
    NoEffect,
}

/// Makes the call that an attempt waits for, or looks it up where that call may have been made before.
///
/// `window` is how long the provider remembers our keys; after it nothing is sent again.
pub(crate) async fn about_attempt(provider: &dyn Provider, a: &AttemptRow, now: Timestamp, window: Duration) -> Finding {
    let call = call_of(a).filter(|_| now.since(a.keyed_at) < window);
    match &call {
        Some(call) if !a.state.is_unknown() => return from_reply(a, provider.call(call).await),
        _ => {}
    }
    let books = match provider.lookup(&a.order_id.to_string()).await {
        Ok(books) => books,
        Err(error) if a.state.is_open() => return Finding::Silent(error.to_string()),
        Err(error) => return Finding::NothingNew(error.to_string()),
    };
    match (look(a, &books), call) {
        (Sight::Learnt(finding), _) => finding,
        (Sight::NoEffect, Some(call)) => from_reply(a, provider.call(&call).await),
        (Sight::NoEffect, None) if is_hold(a) && !withdraws(a) => Finding::Refused(NEVER_ARRIVED.into()),
        (Sight::NoEffect, None) => Finding::Silent("it had no effect, and its key is too old to be sent again".into()),
    }
}

fn is_hold(a: &AttemptRow) -> bool {
    matches!(a.state, AttemptState::Authorizing | AttemptState::UnknownAuthorize)
}

/// Whether an open challenge is being taken back instead of a hold being asked for.
fn withdraws(a: &AttemptRow) -> bool {
    is_hold(a) && a.operation_key != a.authorize_key
}

fn call_of(a: &AttemptRow) -> Option<Call> {
    let known = a.provider_id.clone();
    let what = match a.state {
        _ if withdraws(a) => What::Void { provider_id: known? },
        AttemptState::Authorizing | AttemptState::UnknownAuthorize => What::Authorize {
            reference: a.order_id.to_string(),
            token: a.card_token.clone(),
            amount: Money::new(a.amount_minor, a.currency),
        },
        AttemptState::Capturing | AttemptState::UnknownCapture => {
            What::Capture { provider_id: known?, amount_minor: a.amount_minor }
        }
        AttemptState::Voiding | AttemptState::UnknownVoid => What::Void { provider_id: known? },
        _ => return None,
    };
    Some(Call { key: a.operation_key.clone(), what })
}

fn from_reply(a: &AttemptRow, reply: Reply) -> Finding {
    match (reply, a.state) {
        (Reply::NotSent(why), _) => Finding::NothingNew(why),
        (Reply::Unknown(why), _) => Finding::Silent(why),
        (Reply::Approved(_), _) if withdraws(a) => Finding::Refused(ABANDONED.into()),
        (Reply::Approved(id), _) if is_hold(a) => Finding::Held(id),
        (Reply::Approved(_), AttemptState::Capturing | AttemptState::UnknownCapture) => Finding::Taken,
        (Reply::Approved(_), _) => Finding::Released,
        (Reply::Declined(code) | Reply::Final(code), _) if is_hold(a) && !withdraws(a) => Finding::Refused(code),
        // Refused, but what became of the hold only the books can tell.
        (Reply::Declined(code) | Reply::Final(code), _) => Finding::Doubtful(code),
        (Reply::RequiresAction(id, url), _) if is_hold(a) => Finding::Challenged(id, url),
        (Reply::RequiresAction(..), _) => Finding::Silent("a challenge where none can be".into()),
    }
}

fn look(a: &AttemptRow, books: &[Known]) -> Sight {
    let is_ours = |k: &&Known| a.provider_id.as_ref().map_or_else(|| k.keys.contains(&a.authorize_key), |id| *id == k.provider_id);
    let Some(known) = books.iter().find(is_ours) else {
        let gone = || Sight::Learnt(Finding::Silent("the provider's books have lost it".into()));
        return if is_hold(a) && a.provider_id.is_none() { Sight::NoEffect } else { gone() };
    };
    let code = || known.decline_code.clone().unwrap_or_else(|| "declined".into());
    let unexpected = || Sight::Learnt(Finding::Silent(format!("the provider has it as {:?}", known.standing)));
    let learnt = match a.state {
        AttemptState::Authorizing | AttemptState::UnknownAuthorize | AttemptState::RequiresAction => match known.standing {
            Standing::Authorized => Finding::Held(known.provider_id.clone()),
            Standing::Declined => Finding::Refused(code()),
            Standing::Voided => Finding::Refused(ABANDONED.into()),
            Standing::Expired if is_hold(a) => Finding::Refused("authorization_expired".into()),
            Standing::Expired => Finding::Lapsed,
            Standing::RequiresAction if withdraws(a) => return Sight::NoEffect,
            Standing::RequiresAction => {
                Finding::Challenged(known.provider_id.clone(), known.challenge_url.clone().unwrap_or_default())
            }
            Standing::Captured => return unexpected(),
        },
        AttemptState::Capturing | AttemptState::UnknownCapture => match known.standing {
            Standing::Captured if known.captured_minor == a.amount_minor => Finding::Taken,
            Standing::Authorized => return Sight::NoEffect,
            Standing::Voided | Standing::Expired | Standing::Declined => Finding::Lapsed,
            Standing::Captured | Standing::RequiresAction => return unexpected(),
        },
        AttemptState::Voiding | AttemptState::UnknownVoid => match known.standing {
            Standing::Voided => Finding::Released,
            Standing::Expired | Standing::Declined => Finding::Lapsed,
            Standing::Authorized | Standing::RequiresAction => return Sight::NoEffect,
            Standing::Captured => return unexpected(),
        },
        AttemptState::Authorized if matches!(known.standing, Standing::Expired | Standing::Voided) => Finding::Lapsed,
        _ => Finding::NothingNew("as before".into()),
    };
    Sight::Learnt(learnt)
}

/// Makes the call that a refund waits for, or looks it up where that call may have been made before.
pub(crate) async fn about_refund(provider: &dyn Provider, r: &RefundRow, now: Timestamp, window: Duration) -> RefundFinding {
    let what = What::Refund { provider_id: r.provider_id.clone(), amount_minor: r.amount_minor };
    let call = Some(Call { key: r.key.clone(), what }).filter(|_| now.since(r.keyed_at) < window);
    if let (Some(call), RefundState::Pending) = (&call, r.state) {
        return refund_from_reply(provider.call(call).await);
    }
    let books = match provider.lookup(&r.order_id.to_string()).await {
        Ok(books) => books,
        Err(error) => return RefundFinding::Silent(error.to_string()),
    };
    let ours = books.into_iter().flat_map(|k| k.refunds).find(|known| known.key.as_ref() == Some(&r.key));
    match (ours, call) {
        (Some(known), _) if known.succeeded => RefundFinding::Done,
        (Some(known), _) => RefundFinding::Refused(known.code.unwrap_or_else(|| "refund_failed".into())),
        (None, Some(call)) => refund_from_reply(provider.call(&call).await),
        (None, None) => RefundFinding::Refused(NEVER_ARRIVED.into()),
    }
}

fn refund_from_reply(reply: Reply) -> RefundFinding {
    match reply {
        Reply::Approved(_) => RefundFinding::Done,
        Reply::Declined(code) | Reply::Final(code) => RefundFinding::Refused(code),
        Reply::Unknown(why) => RefundFinding::Silent(why),
        Reply::RequiresAction(..) => RefundFinding::Silent("a challenge where none can be".into()),
        Reply::NotSent(why) => RefundFinding::NothingNew(why),
    }
}
