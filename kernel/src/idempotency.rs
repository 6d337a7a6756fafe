//! One key, one effect, one answer: the key, its answer and the effect live in one transaction.

mod at_hand;

use std::time::Duration;

use aws_lc_rs::digest;
use http::HeaderMap;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::http::{Answer, Fail, Problem, Request};
use crate::store::{Json, StoreError, Tx};
use crate::{params, row, sql};

pub(crate) use at_hand::AnswersAtHand;

/// The header that says that an answer was given before.
const REPLAYED: &str = "idempotent-replayed";
/// How long an answer is kept unless the service says otherwise.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);

row! {
    struct Stored {
        fingerprint: String,
        state: String,
        status: i64,
        headers: Json<Vec<(String, String)>>,
        body: Vec<u8>,
    }
}

/// What a request's key stands for: who asks for what, with which content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    principal: String,
    method: String,
    route: &'static str,
    key: String,
    fingerprint: String,
}

/// What is known about a slot.
#[derive(Debug)]
pub enum Claim {
    /// Nobody used the key before; it is ours now.
    Fresh,
    /// The request was answered; this is the answer.
    Done(Answer),
}

impl Slot {
    /// Reads the key of a request.
    ///
    /// # Errors
    /// 400 for a missing or malformed key, or two different ones.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let key = read_key(&request.headers)?;
        let principal = request
            .identity
            .as_ref()
            .map_or_else(|| format!("workload:{}", request.workload), |i| i.user_id.to_string());
        Ok(Self {
            principal,
            method: request.method.to_string(),
            route: request.route,
            key,
            fingerprint: fingerprint(request),
        })
    }

    /// Takes the key, or finds what became of it. A rival who holds it makes this wait for the lock timeout.
    pub async fn claim(&self, tx: &Tx, keep: Duration) -> Result<Claim, Fail> {
        let taken = tx
            .run(
                sql!(
                    "INSERT INTO idempotency (org_id, principal, method, route, key, fingerprint, state, recovery_point, owner_epoch, locked_until, status, headers, body, expires_at) VALUES ($1, $2, $3, $4, $5, $6, 'RUNNING', 'started', 1, $7, 0, '[]', $8, $9) ON CONFLICT DO NOTHING"
                ),
                params![
                    Uuid::nil(), self.principal, self.method, self.route, self.key, self.fingerprint, tx.now(), Vec::<u8>::new(),
                    tx.now().plus(keep)
                ],
            )
            .await?;
        if taken == 1 {
            return Ok(Claim::Fresh);
        }
        let found = tx
            .one(
                sql!(
                    Stored,
                    "SELECT fingerprint, state, status, headers, body FROM idempotency WHERE org_id = $1 AND principal = $2 AND method = $3 AND route = $4 AND key = $5"
                ),
                params![Uuid::nil(), self.principal, self.method, self.route, self.key],
            )
            .await?;
        self.judge(found)
    }

    fn judge(&self, found: Stored) -> Result<Claim, Fail> {
        if found.fingerprint != self.fingerprint {
            return Err(IdempotencyRefusal::KeyReused.into());
        }
        if found.state != "DONE" {
            return Err(IdempotencyRefusal::StillRunning.problem().retry_after(Duration::from_secs(1)).into());
        }
        let status = u16::try_from(found.status).map_err(|_| Fail::Fault("a stored status is not one".into()))?;
        let answer = Answer { status, headers: found.headers.0, body: found.body.into() };
        Ok(Claim::Done(answer.header(REPLAYED, "true")))
    }

    /// Stores the answer beside the effect.
    pub async fn settle(&self, tx: &Tx, answer: &Answer) -> Result<(), StoreError> {
        tx.run(
            sql!(
                "UPDATE idempotency SET state = 'DONE', recovery_point = 'done', status = $1, headers = $2, body = $3 WHERE org_id = $4 AND principal = $5 AND method = $6 AND route = $7 AND key = $8"
            ),
            params![
                i64::from(answer.status), Json(answer.headers.clone()), answer.body.to_vec(), Uuid::nil(), self.principal,
                self.method, self.route, self.key
            ],
        )
        .await
        .map(drop)
    }
}

/// Answers that one unit removes at the most: every other unit waits for it.
pub const PURGE_AT_ONCE: u64 = 500;

/// Removes some answers that nobody may ask for again; returns how many. Fewer than [`PURGE_AT_ONCE`] were the last.
pub async fn purge(tx: &Tx, now: Timestamp) -> Result<u64, StoreError> {
    let sql = sql!(
        "DELETE FROM idempotency WHERE (org_id, principal, method, route, key) IN (SELECT org_id, principal, method, route, key FROM idempotency WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)"
    );
    tx.run(sql, params![now, i64::try_from(PURGE_AT_ONCE).unwrap_or(i64::MAX)]).await
}

/// Whether an answer is a decision that a second try must meet again. Others left nothing behind.
pub(crate) fn keeps(status: u16) -> bool {
    matches!(status, 200..=299 | 402 | 409)
}

crate::refusals! {
    /// What can be wrong with a key.
    pub enum IdempotencyRefusal {
        /// Send an Idempotency-Key header: a new random value for a new request, the same one when you repeat it.
        KeyRequired = 400 "idempotency_key_required",
        /// The key must be 1 to 255 visible ASCII characters, the same in Idempotency-Key and X-Idempotency-Key.
        KeyInvalid = 400 "idempotency_key_invalid",
        /// This key was used for another request; use a new key for a new request.
        KeyReused = 422 "idempotency_key_reused",
        /// The first request with this key is still running; ask again in a moment.
        StillRunning = 409 "idempotency_key_running",
    }
}

fn read_key(headers: &HeaderMap) -> Result<String, Problem> {
    let given: Vec<&[u8]> = ["idempotency-key", "x-idempotency-key"]
        .iter()
        .flat_map(|name| headers.get_all(*name))
        .map(http::HeaderValue::as_bytes)
        .collect();
    let Some(first) = given.first() else { return Err(IdempotencyRefusal::KeyRequired.problem()) };
    let visible = (1..=255).contains(&first.len()) && first.iter().all(|b| (0x21..=0x7e).contains(b));
    if !visible || given.iter().any(|other| other != first) {
        return Err(IdempotencyRefusal::KeyInvalid.problem());
    }
    Ok(String::from_utf8_lossy(first).into_owned())
}

/// SHA-256 over method, path, sorted query, content type and the raw body: another request under the same key must not look the same.
fn fingerprint(request: &Request) -> String {
    let mut query: Vec<&str> = request.uri.query().unwrap_or("").split('&').collect();
    query.sort_unstable();
    let content_type = request.headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let mut context = digest::Context::new(&digest::SHA256);
    let sorted = query.join("&");
    for part in [
        request.method.as_str().as_bytes(),
        request.uri.path().as_bytes(),
        sorted.as_bytes(),
        content_type,
        &request.body,
    ] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
