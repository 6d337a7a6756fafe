//! Faults by rate: which ones strike a key is a pure function of the seed, so a re-run injects the same.
use aws_lc_rs::digest;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::network::Work;
use crate::problem::{Code, Problem};

/// How often each fault strikes, in percent of the keys (or events) that could be struck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRates {
    /// Perform and commit, then hold the connection without an answer.
    pub timeout_after: f64,
    /// Perform and commit, then answer 500.
    pub error_after: f64,
    /// Answer 503 without any effect.
    pub error_before: f64,
    /// Answer only after `slow_ms`.
    pub slow: f64,
    /// The delay of a slow answer, also of the slow test card.
    pub slow_ms: u64,
    /// Decline an authorisation that would have succeeded.
    pub decline: f64,
    /// Send a webhook twice.
    pub webhook_duplicate: f64,
    /// Hold a webhook back until a later one of the same authorisation has arrived.
    pub webhook_reorder: f64,
    /// Never send a webhook.
    pub webhook_drop: f64,
    /// The seed of the choice; left out, the seed in force stays.
    pub seed: Option<u64>,
}

impl Default for FaultRates {
    fn default() -> Self {
        Self {
            timeout_after: 0.0,
            error_after: 0.0,
            error_before: 0.0,
            slow: 0.0,
            slow_ms: 2_000,
            decline: 0.0,
            webhook_duplicate: 0.0,
            webhook_reorder: 0.0,
            webhook_drop: 0.0,
            seed: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    TimeoutAfter,
    ErrorAfter,
    ErrorBefore,
    Slow,
    Decline,
    WebhookDuplicate,
    WebhookReorder,
    WebhookDrop,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::TimeoutAfter,
        Self::ErrorAfter,
        Self::ErrorBefore,
        Self::Slow,
        Self::Decline,
        Self::WebhookDuplicate,
        Self::WebhookReorder,
        Self::WebhookDrop,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::TimeoutAfter => "timeout_after",
            Self::ErrorAfter => "error_after",
            Self::ErrorBefore => "error_before",
            Self::Slow => "slow",
            Self::Decline => "decline",
            Self::WebhookDuplicate => "webhook_duplicate",
            Self::WebhookReorder => "webhook_reorder",
            Self::WebhookDrop => "webhook_drop",
        }
    }
}

impl FaultRates {
    /// Refuses what is not a percentage.
    pub(crate) fn checked(self) -> Result<Self, Problem> {
        let rates_fit = Fault::ALL.iter().all(|fault| (0.0..=100.0).contains(&self.rate(*fault)));
        if rates_fit && self.slow_ms <= 60_000 { Ok(self) } else { Err(Code::InvalidFaults.into()) }
    }

    const fn rate(&self, fault: Fault) -> f64 {
        match fault {
            Fault::TimeoutAfter => self.timeout_after,
            Fault::ErrorAfter => self.error_after,
            Fault::ErrorBefore => self.error_before,
            Fault::Slow => self.slow,
            Fault::Decline => self.decline,
            Fault::WebhookDuplicate => self.webhook_duplicate,
            Fault::WebhookReorder => self.webhook_reorder,
            Fault::WebhookDrop => self.webhook_drop,
        }
    }

    /// Whether this fault is due for this key.
    pub(crate) fn strikes(&self, fault: Fault, key: &str) -> bool {
        let rate = self.rate(fault);
        rate > 0.0 && draw(self.seed.unwrap_or_default(), fault, key) < rate
    }
}

/// A number in 0..100 that depends on nothing but its arguments.
fn draw(seed: u64, fault: Fault, key: &str) -> f64 {
    let hash = digest::digest(&digest::SHA256, format!("{seed}\n{}\n{key}", fault.name()).as_bytes());
    let high = hash.as_ref().iter().take(4).fold(0_u32, |value, byte| (value << 8) | u32::from(*byte));
    f64::from(high) / (f64::from(u32::MAX) + 1.0) * 100.0
}

/// Whether some fault already struck this key; a key is struck on its first use only.
pub(crate) fn was_struck(work: &Work<'_>, key: &str) -> Result<bool, Problem> {
    let mut query = work.conn.prepare_cached("SELECT 1 FROM injected WHERE key = ?1")?;
    Ok(query.exists([key])?)
}

/// Writes down that the fault was injected, in the transaction of the operation that it spoils.
pub(crate) fn record(work: &Work<'_>, fault: Fault, key: &str) -> Result<(), Problem> {
    work.conn
        .prepare_cached("INSERT OR IGNORE INTO injected (key, fault, at) VALUES (?1, ?2, ?3)")?
        .execute(params![key, fault.name(), work.now])?;
    Ok(())
}

/// How many of each fault were injected since the books were opened for the first time.
pub(crate) fn counts(work: &Work<'_>) -> Result<Value, Problem> {
    let mut counts: Map<String, Value> = Fault::ALL.iter().map(|fault| (fault.name().to_owned(), 0.into())).collect();
    let mut query = work.conn.prepare_cached("SELECT fault, COUNT(*) FROM injected GROUP BY fault")?;
    let mut total = 0;
    for row in query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))? {
        let (fault, count) = row?;
        total += count;
        counts.insert(fault, count.into());
    }
    counts.insert("total".to_owned(), total.into());
    Ok(Value::Object(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_strikes_the_same_keys_at_about_the_asked_rate() {
        let rates = |seed| FaultRates { decline: 10.0, seed: Some(seed), ..FaultRates::default() };
        let struck = |seed| -> Vec<u32> {
            (0..10_000).filter(|key| rates(seed).strikes(Fault::Decline, &key.to_string())).collect()
        };
        assert_eq!(struck(1), struck(1));
        assert_ne!(struck(1), struck(2));
        assert!((800..1_200).contains(&struck(1).len()), "{}", struck(1).len());
    }

    #[test]
    fn zero_never_strikes_a_hundred_always_does_and_more_is_refused() {
        let rates = |decline| FaultRates { decline, ..FaultRates::default() };
        assert!((0..1_000).all(|key| !rates(0.0).strikes(Fault::Decline, &key.to_string())));
        assert!((0..1_000).all(|key| rates(100.0).strikes(Fault::Decline, &key.to_string())));
        assert!(rates(100.1).checked().is_err() && rates(f64::NAN).checked().is_err());
    }
}
