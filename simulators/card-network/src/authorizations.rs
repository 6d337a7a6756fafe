//! Authorisations: a hold on the cardholder's money, from the first answer to its end.
use rusqlite::{OptionalExtension, Row, params};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::books::{Kind, Operation, RELEASE, RESERVE, post};
use crate::cards::Behaviour;
use crate::clock::rfc3339;
use crate::faults::{self, Fault};
use crate::idempotency::Done;
use crate::network::{Work, new_id};
use crate::problem::{Code, Problem};
use crate::{cards, webhooks};

/// The largest amount a caller may name; sums over a whole journal still fit 64 bits.
const LARGEST_AMOUNT: i64 = 1_000_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Authorized,
    Declined,
    RequiresAction,
    Captured,
    Voided,
    Expired,
}

impl Status {
    const ALL: [Self; 6] =
        [Self::Authorized, Self::Declined, Self::RequiresAction, Self::Captured, Self::Voided, Self::Expired];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Declined => "declined",
            Self::RequiresAction => "requires_action",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }

    const fn is_open(self) -> bool {
        matches!(self, Self::Authorized | Self::RequiresAction)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) id: String,
    pub(crate) reference: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) status: Status,
    pub(crate) decline_code: Option<String>,
    pub(crate) captured_minor: i64,
    pub(crate) refunded_minor: i64,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) behaviour: Behaviour,
    brand: String,
    last4: String,
}

/// What a merchant asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    reference: String,
    token: String,
    amount_minor: i64,
    currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChallengeAnswer {
    outcome: ChallengeOutcome,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum ChallengeOutcome {
    Pass,
    Fail,
}

pub(crate) fn tokenise(work: &Work<'_>, details: cards::CardDetails) -> Result<Value, Problem> {
    let card = details.recognise(work.now)?;
    let token = new_id("tok");
    work.conn.prepare_cached("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        token,
        card.brand,
        card.last4,
        card.exp_month,
        card.exp_year,
        card.behaviour.name(),
        work.now
    ])?;
    Ok(card.snapshot(&token))
}

/// Authorises, declines or asks for a challenge; a second one for the same reference is allowed and recorded.
pub(crate) fn authorise(work: &Work<'_>, request: Request) -> Result<Done, Problem> {
    check_amount(request.amount_minor)?;
    check_reference(&request.reference)?;
    if request.currency.len() != 3 || !request.currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(Code::InvalidCurrency.into());
    }
    let mut query = work.conn.prepare_cached("SELECT brand, last4, behaviour FROM tokens WHERE token = ?1")?;
    let card = query.query_row([&request.token], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    });
    let (brand, last4, behaviour) = card.optional()?.ok_or(Code::TokenUnknown)?;
    let behaviour = Behaviour::parse(&behaviour);
    let (status, decline_code) = decide(work, behaviour)?;
    let ttl = if behaviour == Behaviour::ExpireAtOnce { 0 } else { work.rules.authorization_ttl_ms };
    let authorization = Authorization {
        id: new_id("auth"),
        reference: request.reference,
        amount_minor: request.amount_minor,
        currency: request.currency,
        status,
        decline_code: decline_code.map(str::to_owned),
        captured_minor: 0,
        refunded_minor: 0,
        created_at: work.now,
        expires_at: work.now + ttl,
        behaviour,
        brand,
        last4,
    };
    insert(work, &authorization, &request.token)?;
    let movements: &[_] = if status == Status::Authorized { &[RESERVE] } else { &[] };
    post(work, &Operation::whole(Kind::Authorization, &authorization).named(&authorization.id), movements)?;
    let event = match status {
        Status::Authorized => Some("authorization.succeeded"),
        Status::Declined => Some("authorization.declined"),
        _ => None,
    };
    let snapshot = authorization.snapshot(&work.rules.base_url);
    if let Some(event) = event {
        webhooks::announce(work, event, &authorization, &snapshot)?;
    }
    Ok(Done { body: snapshot, behaviour: Some(behaviour) })
}

fn decide(work: &Work<'_>, behaviour: Behaviour) -> Result<(Status, Option<&'static str>), Problem> {
    match behaviour {
        Behaviour::Decline => return Ok((Status::Declined, Some("card_declined"))),
        Behaviour::InsufficientFunds => return Ok((Status::Declined, Some("insufficient_funds"))),
        Behaviour::Challenge => return Ok((Status::RequiresAction, None)),
        _ => {}
    }
    let key = work.key.unwrap_or_default();
    if work.rules.faults.strikes(Fault::Decline, key) {
        faults::record(work, Fault::Decline, key)?;
        return Ok((Status::Declined, Some("card_declined")));
    }
    Ok((Status::Authorized, None))
}

/// Gives the hold back without moving money.
pub(crate) fn void(work: &Work<'_>, id: &str) -> Result<Done, Problem> {
    let mut authorization = find(work, id)?;
    match authorization.status {
        Status::Authorized | Status::RequiresAction => {}
        Status::Captured => return Err(Code::AlreadyCaptured.into()),
        Status::Voided => return Err(Code::AlreadyVoided.into()),
        Status::Declined => return Err(Code::AuthorizationDeclined.into()),
        Status::Expired => return Err(Code::AuthorizationExpired.into()),
    }
    let row = close(work, &mut authorization, Status::Voided, Kind::Void)?;
    Ok(Done { body: row, behaviour: Some(authorization.behaviour) })
}

/// What the cardholder did on the challenge page; the same answer twice is one answer.
pub(crate) fn answer_challenge(work: &Work<'_>, id: &str, answer: ChallengeAnswer) -> Result<Value, Problem> {
    let mut authorization = find(work, id)?;
    let passed = answer.outcome == ChallengeOutcome::Pass;
    if authorization.status == Status::Expired {
        return Err(Code::AuthorizationExpired.into());
    }
    if authorization.status != Status::RequiresAction {
        let same = given_answer(work, id)?.is_some_and(|given| (given == "succeeded") == passed);
        let snapshot = authorization.snapshot(&work.rules.base_url);
        return if same { Ok(snapshot) } else { Err(Code::ChallengeNotPending.into()) };
    }
    authorization.status = if passed { Status::Authorized } else { Status::Declined };
    authorization.decline_code = (!passed).then(|| "challenge_failed".to_owned());
    save(work, &authorization)?;
    let operation = Operation::whole(Kind::Challenge, &authorization);
    post(
        work,
        &operation.ended(if passed { "succeeded" } else { "failed" }, None),
        if passed { &[RESERVE] } else { &[] },
    )?;
    let snapshot = authorization.snapshot(&work.rules.base_url);
    webhooks::announce(work, "authorization.challenge_completed", &authorization, &snapshot)?;
    Ok(snapshot)
}

fn given_answer(work: &Work<'_>, id: &str) -> Result<Option<String>, Problem> {
    let mut query =
        work.conn.prepare_cached("SELECT status FROM journal WHERE authorization = ?1 AND kind = 'challenge'")?;
    Ok(query.query_row([id], |row| row.get(0)).optional()?)
}

/// Finds an authorisation as it is now: one whose time is up has expired, whoever looks.
pub(crate) fn find(work: &Work<'_>, id: &str) -> Result<Authorization, Problem> {
    let mut query = work.conn.prepare_cached(&format!("{SELECT} WHERE a.id = ?1"))?;
    let found = query.query_row([id], read).optional()?;
    let mut authorization = found.ok_or(Code::AuthorizationNotFound)?;
    if authorization.status.is_open() && authorization.expires_at <= work.now {
        close(work, &mut authorization, Status::Expired, Kind::Expiry)?;
    }
    Ok(authorization)
}

/// Every authorisation with this reference, or with an operation of this reference, oldest first.
pub(crate) fn with_reference(work: &Work<'_>, reference: &str) -> Result<Vec<Authorization>, Problem> {
    let mut query = work.conn.prepare_cached(
        "SELECT id FROM authorizations WHERE reference = ?1
         UNION SELECT authorization FROM journal WHERE reference = ?1 ORDER BY 1",
    )?;
    let ids: Vec<String> = query.query_map([reference], |row| row.get(0))?.collect::<Result<_, _>>()?;
    ids.iter().map(|id| find(work, id)).collect()
}

/// Ends an open authorisation: releases its hold, writes it down and tells.
fn close(work: &Work<'_>, authorization: &mut Authorization, status: Status, kind: Kind) -> Result<Value, Problem> {
    let held = authorization.status == Status::Authorized;
    authorization.status = status;
    save(work, authorization)?;
    let movements: &[_] = if held { &[RELEASE] } else { &[] };
    let row = post(work, &Operation::whole(kind, authorization).ended("succeeded", None), movements)?;
    let event = if kind == Kind::Void { "authorization.voided" } else { "authorization.expired" };
    webhooks::announce(work, event, authorization, &authorization.snapshot(&work.rules.base_url))?;
    Ok(row)
}

pub(crate) fn save(work: &Work<'_>, authorization: &Authorization) -> Result<(), Problem> {
    work.conn
        .prepare_cached(
            "UPDATE authorizations SET status = ?2, decline_code = ?3, captured_minor = ?4, refunded_minor = ?5
             WHERE id = ?1",
        )?
        .execute(params![
            authorization.id,
            authorization.status.name(),
            authorization.decline_code,
            authorization.captured_minor,
            authorization.refunded_minor
        ])?;
    Ok(())
}

fn insert(work: &Work<'_>, authorization: &Authorization, token: &str) -> Result<(), Problem> {
    work.conn
        .prepare_cached(
            "INSERT INTO authorizations
                 (id, reference, token, amount_minor, currency, status, decline_code, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            authorization.id,
            authorization.reference,
            token,
            authorization.amount_minor,
            authorization.currency,
            authorization.status.name(),
            authorization.decline_code,
            authorization.created_at,
            authorization.expires_at
        ])?;
    Ok(())
}

const SELECT: &str = "SELECT a.id, a.reference, a.amount_minor, a.currency, a.status, a.decline_code,
    a.captured_minor, a.refunded_minor, a.created_at, a.expires_at, t.behaviour, t.brand, t.last4
    FROM authorizations a JOIN tokens t ON t.token = a.token";

fn read(row: &Row<'_>) -> rusqlite::Result<Authorization> {
    let status: String = row.get(4)?;
    let behaviour: String = row.get(10)?;
    Ok(Authorization {
        id: row.get(0)?,
        reference: row.get(1)?,
        amount_minor: row.get(2)?,
        currency: row.get(3)?,
        status: Status::ALL
            .into_iter()
            .find(|known| known.name() == status)
            .ok_or_else(|| rusqlite::Error::InvalidColumnType(4, status, rusqlite::types::Type::Text))?,
        decline_code: row.get(5)?,
        captured_minor: row.get(6)?,
        refunded_minor: row.get(7)?,
        created_at: row.get(8)?,
        expires_at: row.get(9)?,
        behaviour: Behaviour::parse(&behaviour),
        brand: row.get(11)?,
        last4: row.get(12)?,
    })
}

impl Authorization {
    /// The authorisation as callers and webhooks see it.
    pub(crate) fn snapshot(&self, base_url: &str) -> Value {
        let mut snapshot = json!({
            "id": self.id,
            "kind": "authorization",
            "reference": self.reference,
            "status": self.status.name(),
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "captured_minor": self.captured_minor,
            "refunded_minor": self.refunded_minor,
            "card": { "brand": self.brand, "last4": self.last4 },
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
        });
        if let Some(code) = &self.decline_code {
            snapshot["decline_code"] = code.as_str().into();
        }
        if self.status == Status::RequiresAction {
            snapshot["challenge_url"] = format!("{base_url}/v1/authorizations/{}/challenge", self.id).into();
        }
        snapshot
    }
}

pub(crate) fn check_amount(amount_minor: i64) -> Result<(), Problem> {
    if (1..=LARGEST_AMOUNT).contains(&amount_minor) { Ok(()) } else { Err(Code::InvalidAmount.into()) }
}

pub(crate) fn check_reference(reference: &str) -> Result<(), Problem> {
    let fits = (1..=255).contains(&reference.len()) && reference.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(()) } else { Err(Code::InvalidReference.into()) }
}
