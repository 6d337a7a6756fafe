//! One key, one effect, one answer: the answer is stored in the transaction of the effect, faults come after it.
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use crate::cards::Behaviour;
use crate::faults::{self, Fault};
use crate::network::{Network, Work};
use crate::problem::{Code, Problem, json_response};

/// A keyed call: the key and the hash of everything that makes it the same call again.
pub(crate) struct Call {
    pub(crate) key: String,
    pub(crate) fingerprint: String,
}

/// What an operation that went through answers, and which card it touched.
pub(crate) struct Done {
    pub(crate) body: Value,
    pub(crate) behaviour: Option<Behaviour>,
}

struct Answer {
    status: u16,
    body: String,
    replayed: bool,
    fault: Option<(Fault, Duration)>,
}

/// Performs `operation` unless its key was seen; then the stored answer is given again.
pub(crate) async fn perform<F>(network: &Network, call: Call, operation: F) -> Result<Response, Problem>
where
    F: FnOnce(&Work<'_>) -> Result<Done, Problem> + Send + 'static,
{
    let answer = network.work(Some(call.key.clone()), move |work| answer_once(work, &call, operation)).await?;
    match answer.fault {
        Some((Fault::TimeoutAfter, _)) => {
            tokio::time::sleep(network.hang).await;
            return Err(Code::GatewayTimeout.into());
        }
        Some((Fault::ErrorAfter, _)) => return Err(Code::Injected.into()),
        Some((Fault::ErrorBefore, _)) => return Err(Code::Unavailable.into()),
        Some((_, delay)) => tokio::time::sleep(delay).await,
        None => {}
    }
    let response = json_response(answer.status, answer.body);
    let replayed = answer.replayed.then_some([("idempotent-replayed", "true")]);
    Ok(match replayed {
        Some(header) => (header, response).into_response(),
        None => response,
    })
}

fn answer_once<F>(work: &Work<'_>, call: &Call, operation: F) -> Result<Answer, Problem>
where
    F: FnOnce(&Work<'_>) -> Result<Done, Problem>,
{
    if let Some(answer) = stored(work, call)? {
        return Ok(answer);
    }
    let fresh = !faults::was_struck(work, &call.key)?;
    if fresh && work.rules.faults.strikes(Fault::ErrorBefore, &call.key) {
        faults::record(work, Fault::ErrorBefore, &call.key)?;
        let fault = Some((Fault::ErrorBefore, Duration::ZERO));
        return Ok(Answer { status: 503, body: String::new(), replayed: false, fault });
    }
    let (status, body, behaviour) = match operation(work) {
        Ok(done) => (200, done.body, done.behaviour),
        // Refusals about the state of the money are answers like any other; the rest changed nothing.
        Err(problem) if matches!(problem.status(), 402 | 409) => (problem.status(), problem.body(), None),
        Err(problem) => return Err(problem),
    };
    let body = body.to_string();
    work.conn
        .prepare_cached("INSERT INTO idempotency (key, fingerprint, status, body, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![call.key, call.fingerprint, status, body, work.now])?;
    let fault = if fresh { choose_fault(work, &call.key, behaviour)? } else { None };
    Ok(Answer { status, body, replayed: false, fault })
}

fn stored(work: &Work<'_>, call: &Call) -> Result<Option<Answer>, Problem> {
    let mut query = work.conn.prepare_cached("SELECT fingerprint, status, body FROM idempotency WHERE key = ?1")?;
    let row = query
        .query_row([&call.key], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u16>(1)?, row.get::<_, String>(2)?)));
    match row.optional()? {
        None => Ok(None),
        Some((fingerprint, ..)) if fingerprint != call.fingerprint => Err(Code::IdempotencyKeyReused.into()),
        Some((_, status, body)) => Ok(Some(Answer { status, body, replayed: true, fault: None })),
    }
}

/// The one thing that goes wrong after the commit: what the card is for, else what the rates say.
fn choose_fault(
    work: &Work<'_>,
    key: &str,
    behaviour: Option<Behaviour>,
) -> Result<Option<(Fault, Duration)>, Problem> {
    let rates = &work.rules.faults;
    let by_card = match behaviour {
        Some(Behaviour::TimeoutAfter) => Some(Fault::TimeoutAfter),
        Some(Behaviour::ErrorAfter) => Some(Fault::ErrorAfter),
        Some(Behaviour::Slow) => Some(Fault::Slow),
        _ => None,
    };
    let by_rate = || [Fault::TimeoutAfter, Fault::ErrorAfter, Fault::Slow].into_iter().find(|f| rates.strikes(*f, key));
    let Some(fault) = by_card.or_else(by_rate) else { return Ok(None) };
    faults::record(work, fault, key)?;
    Ok(Some((fault, Duration::from_millis(rates.slow_ms))))
}
