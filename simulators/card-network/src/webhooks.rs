//! Events on their way out: queued in the transaction that caused them, signed and sent until accepted.
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::params;
use serde_json::{Value, json};

use crate::authorizations::Authorization;
use crate::cards::Behaviour;
use crate::clock::rfc3339;
use crate::faults::{self, Fault};
use crate::network::{Work, new_id};
use crate::problem::Problem;

/// How long a reordered event waits for a later one to overtake it.
const HOLD_MS: i64 = 2_000;
const FIRST_RETRY_MS: i64 = 200;
const LAST_RETRY_MS: i64 = 10_000;
const MOST_TRIES: i64 = 50;
/// Events sent at once; bounds both memory and what one slow receiver can delay.
const BURST: i64 = 64;

/// One attempt that is due.
pub(crate) struct Delivery {
    pub(crate) seq: i64,
    pub(crate) event: String,
    pub(crate) body: String,
    authorization: String,
    tries: i64,
}

/// What the sender should do next.
pub(crate) enum Next {
    Send(Vec<Delivery>),
    WaitMs(i64),
    Idle,
}

/// Queues an event about an authorisation, in the transaction of its cause.
pub(crate) fn announce(work: &Work<'_>, kind: &str, about: &Authorization, data: &Value) -> Result<(), Problem> {
    let event = new_id("evt");
    let body = json!({ "id": event, "type": kind, "created": rfc3339(work.now), "data": data }).to_string();
    work.conn
        .prepare_cached("INSERT INTO events (id, type, body, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![event, kind, body, work.now])?;
    // The cause is known before the event has a name, so a re-run with the same keys draws the same faults.
    let cause = format!("{}:{kind}", work.key.unwrap_or(&about.id));
    let strikes = |fault, card| about.behaviour == card || work.rules.faults.strikes(fault, &cause);
    if work.rules.faults.strikes(Fault::WebhookDrop, &cause) {
        faults::record(work, Fault::WebhookDrop, &cause)?;
        return queue(work, &event, about, "dropped", false);
    }
    let held = strikes(Fault::WebhookReorder, Behaviour::WebhookReorder) && !is_holding(work, about)?;
    if held {
        faults::record(work, Fault::WebhookReorder, &cause)?;
    }
    let state = if held || !is_behind_another(work, &event, about)? { "pending" } else { "waiting" };
    queue(work, &event, about, state, held)?;
    if strikes(Fault::WebhookDuplicate, Behaviour::WebhookDuplicate) {
        faults::record(work, Fault::WebhookDuplicate, &cause)?;
        queue(work, &event, about, state, held)?;
    }
    Ok(())
}

/// One event is held at a time, otherwise nothing would be left to overtake it.
fn is_holding(work: &Work<'_>, about: &Authorization) -> Result<bool, Problem> {
    let mut query = work
        .conn
        .prepare_cached("SELECT 1 FROM deliveries WHERE authorization = ?1 AND state = 'pending' AND held = 1")?;
    Ok(query.exists([&about.id])?)
}

/// An event goes out only after the earlier ones of its authorisation, except those held back on purpose.
fn is_behind_another(work: &Work<'_>, event: &str, about: &Authorization) -> Result<bool, Problem> {
    let mut query = work.conn.prepare_cached(
        "SELECT 1 FROM deliveries
         WHERE authorization = ?1 AND state IN ('pending', 'waiting') AND held = 0 AND event <> ?2",
    )?;
    Ok(query.exists([&about.id, event])?)
}

fn queue(work: &Work<'_>, event: &str, about: &Authorization, state: &str, held: bool) -> Result<(), Problem> {
    let due_at = if held { work.now + HOLD_MS } else { work.now };
    work.conn
        .prepare_cached(
            "INSERT INTO deliveries (event, authorization, state, held, due_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![event, about.id, state, held, due_at])?;
    Ok(())
}

pub(crate) fn next(work: &Work<'_>) -> Result<Next, Problem> {
    let mut query = work.conn.prepare_cached(
        "SELECT d.seq, d.event, e.body, d.authorization, d.tries FROM deliveries d JOIN events e ON e.id = d.event
         WHERE d.state = 'pending' AND d.due_at <= ?1 ORDER BY d.due_at, d.seq LIMIT ?2",
    )?;
    let due = query.query_map([work.now, BURST], |row| {
        Ok(Delivery {
            seq: row.get(0)?,
            event: row.get(1)?,
            body: row.get(2)?,
            authorization: row.get(3)?,
            tries: row.get(4)?,
        })
    })?;
    let due: Vec<_> = due.collect::<Result<_, _>>()?;
    if !due.is_empty() {
        return Ok(Next::Send(due));
    }
    let mut query = work.conn.prepare_cached("SELECT MIN(due_at) FROM deliveries WHERE state = 'pending'")?;
    let soonest: Option<i64> = query.query_row([], |row| row.get(0))?;
    Ok(soonest.map_or(Next::Idle, |due_at| Next::WaitMs((due_at - work.now).max(1))))
}

/// Writes down how an attempt ended; an event that is through lets the ones behind it follow.
pub(crate) fn settle(work: &Work<'_>, delivery: &Delivery, accepted: bool) -> Result<(), Problem> {
    let tries = delivery.tries + 1;
    let state = match accepted {
        true => "delivered",
        false if tries >= MOST_TRIES => "exhausted",
        false => "pending",
    };
    let due_at = if accepted { work.now } else { work.now + backoff_ms(delivery.tries) };
    work.conn
        .prepare_cached("UPDATE deliveries SET state = ?2, tries = ?3, due_at = ?4 WHERE seq = ?1")?
        .execute(params![delivery.seq, state, tries, due_at])?;
    if accepted {
        release_overtaken(work, delivery)?;
    }
    if state == "pending" { Ok(()) } else { promote_waiting(work, delivery) }
}

fn release_overtaken(work: &Work<'_>, delivery: &Delivery) -> Result<(), Problem> {
    work.conn
        .prepare_cached(
            "UPDATE deliveries SET held = 0, due_at = ?3
             WHERE authorization = ?1 AND seq < ?2 AND state = 'pending' AND held = 1 AND event <> ?4",
        )?
        .execute(params![delivery.authorization, delivery.seq, work.now, delivery.event])?;
    Ok(())
}

/// Both copies of a duplicated event are promoted together, so they race as duplicates do.
fn promote_waiting(work: &Work<'_>, delivery: &Delivery) -> Result<(), Problem> {
    work.conn
        .prepare_cached(
            "UPDATE deliveries SET state = 'pending', due_at = ?2
             WHERE authorization = ?1 AND state = 'waiting'
                 AND event = (SELECT event FROM deliveries WHERE authorization = ?1 AND state = 'waiting'
                              ORDER BY seq LIMIT 1)
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE authorization = ?1 AND state = 'pending' AND held = 0)",
        )?
        .execute(params![delivery.authorization, work.now])?;
    Ok(())
}

fn backoff_ms(tries: i64) -> i64 {
    let doublings = u32::try_from(tries).unwrap_or(u32::MAX).min(10);
    (FIRST_RETRY_MS << doublings).min(LAST_RETRY_MS)
}

/// The `Webhook-Signature` of a body: HMAC-SHA256 over `id.timestamp.body`, keyed by the bytes of the secret as given.
pub fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_from_a_fifth_of_a_second_to_ten_seconds() {
        let waits: Vec<i64> = (0..8).map(backoff_ms).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn a_signature_is_the_known_hmac_of_id_time_and_body() {
        // Made with: printf 'evt_1.1700000000.{}' | openssl dgst -sha256 -hmac secret -binary | base64
        assert_eq!(
            signature("secret", "evt_1", 1_700_000_000, "{}"),
            "v1,gcuLUJYfD9JQ2UlZMDEyUnqjiYF/KVJjsn3HLULsCj4="
        );
    }
}
