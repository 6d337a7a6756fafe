//! The two operations that move money: capture, once per authorisation, and refund, up to what was captured.
use serde::Deserialize;

use crate::authorizations::{Status, check_amount, check_reference, find, save};
use crate::books::{Kind, Movement, Operation, RELEASE, post};
use crate::cards::Behaviour;
use crate::idempotency::Done;
use crate::network::Work;
use crate::problem::{Code, Problem};
use crate::webhooks;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptureRequest {
    amount_minor: i64,
    reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefundRequest {
    authorization: String,
    reference: String,
    amount_minor: i64,
}

/// Takes held money, all or part of it; what is left of the hold is released.
pub(crate) fn capture(work: &Work<'_>, id: &str, request: CaptureRequest) -> Result<Done, Problem> {
    check_amount(request.amount_minor)?;
    request.reference.as_deref().map_or(Ok(()), check_reference)?;
    let mut authorization = find(work, id)?;
    match authorization.status {
        Status::Authorized => {}
        Status::RequiresAction => return Err(Code::AuthorizationRequiresAction.into()),
        Status::Captured => return Err(Code::AlreadyCaptured.into()),
        Status::Voided => return Err(Code::AlreadyVoided.into()),
        Status::Declined => return Err(Code::AuthorizationDeclined.into()),
        Status::Expired => return Err(Code::AuthorizationExpired.into()),
    }
    if request.amount_minor > authorization.amount_minor {
        return Err(Code::AmountExceedsAuthorization.into());
    }
    authorization.status = Status::Captured;
    authorization.captured_minor = request.amount_minor;
    save(work, &authorization)?;
    let reference = request.reference.as_deref().unwrap_or(&authorization.reference);
    let operation = Operation::part(Kind::Capture, &authorization, reference, request.amount_minor);
    let charge = Movement::Money { debit: "cardholder", credit: "merchant" };
    let row = post(work, &operation.ended("succeeded", None), &[RELEASE, charge])?;
    webhooks::announce(work, "capture.succeeded", &authorization, &row)?;
    Ok(Done { body: row, behaviour: Some(authorization.behaviour) })
}

/// Gives captured money back, in one or several parts.
pub(crate) fn refund(work: &Work<'_>, request: RefundRequest) -> Result<Done, Problem> {
    check_amount(request.amount_minor)?;
    check_reference(&request.reference)?;
    let mut authorization = find(work, &request.authorization)?;
    if authorization.status != Status::Captured {
        return Err(Code::AuthorizationNotCaptured.into());
    }
    if request.amount_minor > authorization.captured_minor - authorization.refunded_minor {
        return Err(Code::RefundExceedsCapture.into());
    }
    let fails = authorization.behaviour == Behaviour::RefundFails;
    if !fails {
        authorization.refunded_minor += request.amount_minor;
        save(work, &authorization)?;
    }
    let operation = Operation::part(Kind::Refund, &authorization, &request.reference, request.amount_minor);
    let back = [Movement::Money { debit: "merchant", credit: "cardholder" }];
    let row = if fails {
        post(work, &operation.ended("failed", Some("card_refuses_refunds")), &[])?
    } else {
        post(work, &operation.ended("succeeded", None), &back)?
    };
    webhooks::announce(work, if fails { "refund.failed" } else { "refund.succeeded" }, &authorization, &row)?;
    Ok(Done { body: row, behaviour: Some(authorization.behaviour) })
}
