//! The statements of one unit of work, behind a gate that its first error and its end close.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;

use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::scope::{Scope, ScopeCell};
use crate::store::text;
use crate::store::value::Value;

use super::cells;
use super::lane::{Answer, Lane, Settings};

enum State {
    Open,
    Sealed(StoreError),
    Ended,
}

struct Gate {
    state: State,
    /// The scope that the server was told, once the transaction has been opened.
    told: Option<Scope>,
    in_flight: usize,
}

/// What goes ahead of a request.
#[derive(Clone, Copy)]
enum Ahead {
    Begin,
    Tell,
    Nothing,
}

/// What a unit left behind when it ended.
pub(super) struct Ended {
    /// The scope that the server was told, if the transaction has been opened.
    pub(super) told: Option<Scope>,
    /// Whether a statement may still be running.
    pub(super) busy: bool,
    /// The error that sealed it.
    pub(super) sealed: Option<StoreError>,
}

pub(crate) struct PgUnit {
    lane: Arc<Lane>,
    settings: Arc<Settings>,
    scope: ScopeCell,
    gate: Mutex<Gate>,
}

impl PgUnit {
    pub(super) fn new(lane: Arc<Lane>, settings: Arc<Settings>, scope: ScopeCell) -> Self {
        Self { lane, settings, scope, gate: Mutex::new(Gate { state: State::Open, told: None, in_flight: 0 }) }
    }

    /// Ends the unit: no statement is sent from now on.
    pub(super) fn end(&self) -> Ended {
        let mut gate = self.gate.lock();
        let sealed = match std::mem::replace(&mut gate.state, State::Ended) {
            State::Sealed(error) => Some(error),
            State::Open | State::Ended => None,
        };
        Ended { told: gate.told.take(), busy: gate.in_flight > 0, sealed }
    }

    pub(crate) async fn query(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let answer = self.statement(text, params).await?;
        cells::decode(&answer, shape).inspect_err(|error| self.seal(error))
    }

    pub(crate) async fn execute(&self, text: &str, params: &[Value]) -> Result<u64, StoreError> {
        let answer = self.statement(text, params).await?;
        if answer.columns().is_some_and(|columns| !columns.is_empty()) {
            let error = StoreError::Refused(format!("a statement with rows needs a row type: {text}"));
            self.seal(&error);
            return Err(error);
        }
        Ok(answer.touched)
    }

    async fn statement(&self, text: &str, params: &[Value]) -> Result<Answer, StoreError> {
        text::check(text, params.len()).inspect_err(|error| self.seal(error))?;
        if self.lane.wants_prepare(text) {
            self.gated(self.lane.prepare(text, params)).await?;
        }
        self.gated(self.lane.ask(text, params)).await
    }

    /// Sends a request if the gate is open, and seals the unit if it fails. BEGIN, or another scope, goes ahead of it
    /// in the same flight.
    async fn gated<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let scope = self.scope.get();
        let mut begin = pin!(self.lane.begin("BEGIN", &self.settings, &scope));
        let mut tell = pin!(self.lane.tell(&scope));
        let mut request = pin!(request);
        // Checking and sending are one step under the gate's lock, so that nothing slips out behind the unit's end.
        let (ahead, begun, sent) = poll_fn(|cx| {
            let mut gate = self.gate.lock();
            Poll::Ready(gate.admit(&scope).map(|ahead| {
                let begun = match ahead {
                    Ahead::Begin => begin.as_mut().poll(cx),
                    Ahead::Tell => tell.as_mut().poll(cx),
                    Ahead::Nothing => Poll::Ready(Ok(())),
                };
                (ahead, begun, request.as_mut().poll(cx))
            }))
        })
        .await?;
        let flight = InFlight { unit: self, answered: false };
        let begun = match (begun, ahead) {
            (Poll::Ready(begun), _) => begun,
            (Poll::Pending, Ahead::Begin) => begin.await,
            (Poll::Pending, _) => tell.await,
        };
        let sent = match sent {
            Poll::Ready(sent) => sent,
            Poll::Pending => request.await,
        };
        flight.answered(begun.and(sent))
    }

    fn seal(&self, error: &StoreError) {
        let mut gate = self.gate.lock();
        if matches!(gate.state, State::Open) {
            gate.state = State::Sealed(error.clone());
        }
    }
}

impl Gate {
    /// Lets one request through; says what goes ahead of it.
    fn admit(&mut self, scope: &Scope) -> Result<Ahead, StoreError> {
        match &self.state {
            State::Open => {}
            State::Sealed(first) => return Err(StoreError::Sealed(first.to_string())),
            State::Ended => return Err(StoreError::Ended),
        }
        self.in_flight += 1;
        Ok(match self.told.replace(scope.clone()) {
            None => Ahead::Begin,
            Some(told) if told != *scope => Ahead::Tell,
            Some(_) => Ahead::Nothing,
        })
    }
}

/// A request whose answer has not come yet. Dropped before that, its failure would go unseen, so it seals the unit.
struct InFlight<'a> {
    unit: &'a PgUnit,
    answered: bool,
}

impl InFlight<'_> {
    fn answered<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.answered = true;
        self.unit.gate.lock().in_flight -= 1;
        result.inspect_err(|error| self.unit.seal(error))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.unit.seal(&StoreError::Refused("a statement was abandoned before its answer had come".into()));
        }
    }
}
