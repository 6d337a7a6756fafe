//! How calls give up: a breaker per callee, a budget for second tries, and pauses that do not march in step.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;

use crate::clock::{Clock, Timestamp};

/// When a breaker opens and how it closes again.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSettings {
    /// Calls that are looked at; nothing is decided before so many are known.
    pub window: usize,
    /// Failures in percent of the window that open it.
    pub failure_percent: usize,
    /// A call longer than this is slow.
    pub slow: Duration,
    /// Slow calls in percent of the window that open it.
    pub slow_percent: usize,
    /// How long it stays open.
    pub open_for: Duration,
    /// Calls that are let through to find out whether the callee is back.
    pub probes: usize,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            window: 10,
            failure_percent: 50,
            slow: Duration::from_secs(2),
            slow_percent: 80,
            open_for: Duration::from_secs(30),
            probes: 3,
        }
    }
}

/// What a breaker does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets calls through.
    Closed,
    /// Refuses calls.
    Open,
    /// Lets a few calls through and watches them.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Its name, as metrics show it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The call is refused without trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit is open for another {retry_after:?}")]
pub struct CircuitOpen {
    /// When a try may succeed.
    pub retry_after: Duration,
}

#[derive(Clone, Copy)]
struct Outcome {
    failed: bool,
    slow: bool,
}

enum Phase {
    Closed(VecDeque<Outcome>),
    Open { since: Timestamp },
    HalfOpen { running: usize, seen: Vec<Outcome> },
}

/// Stops calling a callee that fails. Clones share one state.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: String,
    settings: BreakerSettings,
    clock: Clock,
    // The number tells a permit whether the phase it belongs to is over.
    phase: Mutex<(u64, Phase)>,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.0.name).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(name: impl Into<String>, settings: BreakerSettings, clock: Clock) -> Self {
        let closed = Phase::Closed(VecDeque::with_capacity(settings.window));
        Self(Arc::new(Inner { name: name.into(), settings, clock, phase: Mutex::new((0, closed)) }))
    }

    /// The callee it guards.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it does at the moment.
    pub fn state(&self) -> BreakerState {
        match self.0.phase.lock().1 {
            Phase::Closed(_) => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Leave to call once; tell the permit how it went.
    pub fn permit(&self) -> Result<Permit, CircuitOpen> {
        let Inner { settings, clock, phase, .. } = &*self.0;
        let now = clock.now();
        let mut phase = phase.lock();
        if let Phase::Open { since } = &mut phase.1 {
            // A clock that was set back must not keep it open for longer than meant.
            *since = (*since).min(now);
            let waited = now.since(*since);
            if waited < settings.open_for {
                return Err(CircuitOpen { retry_after: settings.open_for.saturating_sub(waited) });
            }
            *phase = (phase.0 + 1, Phase::HalfOpen { running: 0, seen: Vec::new() });
            tracing::info!(breaker = self.0.name, "circuit half open: trying the callee");
        }
        if let Phase::HalfOpen { running, seen } = &mut phase.1 {
            if *running + seen.len() >= settings.probes {
                return Err(CircuitOpen { retry_after: Duration::from_secs(1) });
            }
            *running += 1;
        }
        Ok(Permit { breaker: self.clone(), phase: phase.0, begun: now, told: false })
    }

    /// Runs a call under this breaker; `failed` says whether its result speaks against the callee.
    pub async fn call<T>(
        &self,
        work: impl Future<Output = T>,
        failed: impl FnOnce(&T) -> bool,
    ) -> Result<T, CircuitOpen> {
        let permit = self.permit()?;
        let result = work.await;
        if failed(&result) {
            permit.failure();
        } else {
            permit.success();
        }
        Ok(result)
    }

    fn settle(&self, permit_phase: u64, outcome: Option<Outcome>) {
        let Inner { name, settings, clock, phase, .. } = &*self.0;
        let mut phase = phase.lock();
        if phase.0 != permit_phase {
            return;
        }
        let next = match &mut phase.1 {
            Phase::Closed(seen) => {
                let Some(outcome) = outcome else { return };
                if seen.len() == settings.window {
                    seen.pop_front();
                }
                seen.push_back(outcome);
                let bad = seen.len() == settings.window && too_bad(seen.make_contiguous(), settings);
                bad.then(|| Phase::Open { since: clock.now() })
            }
            Phase::Open { .. } => None,
            Phase::HalfOpen { running, seen } => {
                *running = running.saturating_sub(1);
                seen.extend(outcome);
                (seen.len() >= settings.probes).then(|| {
                    if too_bad(seen, settings) {
                        Phase::Open { since: clock.now() }
                    } else {
                        Phase::Closed(VecDeque::with_capacity(settings.window))
                    }
                })
            }
        };
        if let Some(next) = next {
            let open = matches!(next, Phase::Open { .. });
            tracing::warn!(breaker = name, open, "circuit changed");
            *phase = (phase.0 + 1, next);
        }
    }
}

fn too_bad(seen: &[Outcome], settings: &BreakerSettings) -> bool {
    let reaches = |count: usize, percent: usize| count * 100 >= percent * seen.len();
    let failed = seen.iter().filter(|outcome| outcome.failed).count();
    let slow = seen.iter().filter(|outcome| outcome.slow).count();
    reaches(failed, settings.failure_percent) || reaches(slow, settings.slow_percent)
}

/// Leave to call once. Dropped untold, the call counts for nothing.
#[derive(Debug)]
#[must_use = "tell it how the call went"]
pub struct Permit {
    breaker: Breaker,
    phase: u64,
    begun: Timestamp,
    told: bool,
}

impl Permit {
    /// The callee answered as it should.
    pub fn success(self) {
        self.tell(false);
    }

    /// The callee failed: a server error, a timeout, no connection.
    pub fn failure(self) {
        self.tell(true);
    }

    fn tell(mut self, failed: bool) {
        self.told = true;
        let Inner { settings, clock, .. } = &*self.breaker.0;
        let slow = clock.now().since(self.begun) > settings.slow;
        self.breaker.settle(self.phase, Some(Outcome { failed, slow }));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.settle(self.phase, None);
        }
    }
}

/// Keeps second tries to a share of the first ones, so that they cannot outlive the fault they answer.
#[derive(Debug)]
pub struct RetryBudget {
    balance: AtomicU32,
    deposit: u32,
    most: u32,
}

const RETRY_COST: u32 = 100;

impl RetryBudget {
    /// A budget of `percent` extra calls, with `reserve` of them to begin with and at most saved up.
    pub fn new(percent: u32, reserve: u32) -> Self {
        let most = reserve.saturating_mul(RETRY_COST);
        Self { balance: AtomicU32::new(most), deposit: percent, most }
    }

    /// A first try was made.
    pub fn earn(&self) {
        // A full purse is the usual case and costs a read only.
        if self.balance.load(Ordering::Relaxed) < self.most {
            let add = |balance: u32| Some(balance.saturating_add(self.deposit).min(self.most));
            self.balance.try_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
        }
    }

    /// Whether a second try may be made; it is paid for.
    pub fn spend(&self) -> bool {
        self.balance.try_update(Ordering::Relaxed, Ordering::Relaxed, |balance| balance.checked_sub(RETRY_COST)).is_ok()
    }
}

/// A pause before try `attempt` (1 is the first repeat): anywhere between nothing and a doubling limit.
pub fn backoff(attempt: u32, base: Duration, most: Duration) -> Duration {
    let limit = base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX)).min(most);
    limit.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests;
