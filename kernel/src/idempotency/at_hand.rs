//! Answers at hand in Redis: a repeated request whose first one is done need not go to the database.
//!
//! The database decides who is first: an answer gets here only after its unit has committed, and never changes after that.
//! What is not here, and everything while Redis is away, takes the way through the database.

use std::time::Duration;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Claim, REPLAYED, Slot, Stored};
use crate::http::{Answer, Fail};
use crate::redis::{Redis, Use};
use crate::store::Json;
use crate::task::Tasks;
use crate::telemetry;

/// Answers that wait to be sent; more than that are left out.
const WAITING: usize = 1024;
/// Answers sent in one go.
const AT_ONCE: usize = 64;
/// Larger ones stay in the database: few repeat a request, and all would pay for the memory.
const LARGEST: usize = 64 * 1024;

/// What stands in front of the body.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    fingerprint: &'a str,
    status: u16,
    headers: Vec<(String, String)>,
}

type Entry = (String, Vec<u8>, Duration);

/// Answers of one service.
#[derive(Clone)]
pub(crate) struct AnswersAtHand {
    redis: Use,
    life: Duration,
    waiting: mpsc::Sender<Entry>,
}

impl AnswersAtHand {
    /// Keeps answers for `life`; they are sent by a task of their own, so that no request waits for it.
    pub(crate) fn new(service: &'static str, redis: &Redis, life: Duration, tasks: &Tasks) -> Self {
        let redis = redis.for_use("answers");
        let (waiting, entries) = mpsc::channel(WAITING);
        let sending = send(redis.clone(), entries, tasks.stopping());
        tasks.spawn("answers", telemetry::in_service(service, sending));
        Self { redis, life, waiting }
    }

    /// The answer to this request, or why it cannot have one, if that is known here.
    pub(crate) async fn find(&self, slot: &Slot) -> Option<Result<Answer, Fail>> {
        let bytes = self.redis.get(&key_of(slot)).await.ok()??;
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let head: Head<'_> = serde_json::from_slice(&bytes[..end]).ok()?;
        let stored = Stored {
            fingerprint: head.fingerprint.to_owned(),
            state: "DONE".to_owned(),
            status: head.status.into(),
            headers: Json(head.headers),
            body: bytes[end + 1..].to_vec(),
        };
        match slot.judge(stored) {
            Ok(Claim::Done(answer)) => Some(Ok(answer)),
            Ok(Claim::Fresh) => None,
            Err(fail) => Some(Err(fail)),
        }
    }

    /// Keeps an answer that has been committed and that the database keeps this long.
    pub(crate) fn keep(&self, slot: &Slot, answer: &Answer, kept: Duration) {
        if answer.body.len() > LARGEST || !self.redis.is_up() {
            return;
        }
        // One that came from the database says so, and would say it twice.
        let headers = answer.headers.iter().filter(|(name, _)| name != REPLAYED).cloned().collect();
        let head = Head { fingerprint: &slot.fingerprint, status: answer.status, headers };
        let Ok(mut bytes) = serde_json::to_vec(&head) else { return };
        bytes.push(b'\n');
        bytes.extend_from_slice(&answer.body);
        // Full means that Redis is slow: then it does without this one.
        drop(self.waiting.try_send((key_of(slot), bytes, self.life.min(kept))));
    }
}

async fn send(redis: Use, mut entries: mpsc::Receiver<Entry>, stop: CancellationToken) {
    let mut some = Vec::with_capacity(AT_ONCE);
    loop {
        let received = tokio::select! {
            received = entries.recv_many(&mut some, AT_ONCE) => received,
            () = stop.cancelled() => return,
        };
        if received == 0 {
            // Whoever could send is gone; the task stays until it is told to go.
            stop.cancelled().await;
            return;
        }
        // Lost ones are read from the database.
        redis.put(&some).await.ok();
        some.clear();
    }
}

/// Who, what and under which key; hashed, because keys are chosen by strangers and of any length.
fn key_of(slot: &Slot) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let org = Uuid::nil();
    for part in [
        org.as_bytes().as_slice(),
        slot.principal.as_bytes(),
        slot.method.as_bytes(),
        slot.route.as_bytes(),
        slot.key.as_bytes(),
    ] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let hash: String = context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("answer:{hash}")
}
