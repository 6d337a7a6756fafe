//! One connection: sending statements in an order that is fixed when they are sent, and cancelling what runs.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::join;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{CancelToken, Client, Column, Row, Statement};

use crate::store::engine::Login;
use crate::store::error::StoreError;
use crate::store::scope::Scope;
use crate::store::value::Value;

use super::cells::{self, Param};
use super::connect::{self, Way};
use super::engine_error;

/// Prepared statements kept on one connection. A text beyond them is sent unprepared.
const NAMED: usize = 256;
const SETTINGS: &str = "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true), set_config('idle_in_transaction_session_timeout', $3, true), set_config('search_path', $4, true), set_config('app.org', $5, true), pg_is_in_recovery() AS standby";
/// Where the last answer of [`SETTINGS`] stands.
const STANDBY: usize = 5;
const TELL: &str = "SELECT set_config('app.org', $1, true)";

/// What holds for one transaction, told to the server right after BEGIN.
///
/// The values are bound, never part of the BEGIN text: if such a text failed, what follows it would run by itself.
pub(super) struct Settings([Value; 4]);

impl Settings {
    pub(super) fn new(schema: &str, deadline: Duration) -> Self {
        let millis = |time: Duration| Value::Text(time.as_millis().to_string());
        Self([
            // The client cancels at the deadline; the server's own limits only matter when the client is gone.
            millis(deadline * 2),
            millis(deadline * 3 / 4),
            millis(deadline + Duration::from_secs(1)),
            Value::Text(format!("\"{schema}\"")),
        ])
    }

    fn with(&self, scope: &Scope) -> [Value; 5] {
        let [statement, lock, idle, path] = self.0.clone();
        [statement, lock, idle, path, Value::Text(scope.setting())]
    }
}

/// What came back for one statement.
pub(super) struct Answer {
    named: Option<Statement>,
    pub(super) rows: Vec<Row>,
    pub(super) touched: u64,
}

impl Answer {
    pub(super) fn columns(&self) -> Option<&[Column]> {
        self.named.as_ref().map(Statement::columns).or_else(|| self.rows.first().map(Row::columns))
    }
}

type Named = Mutex<HashMap<String, (Vec<Type>, Statement)>>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Named statements are kept: the same connection is always the same server session.
    Named,
    /// Every statement is unnamed, because a pooler may stand between.
    Unnamed,
}

pub(super) struct Lane {
    pub(super) client: Client,
    cancel: CancelToken,
    way: Way,
    driver: AbortHandle,
    named: Option<Named>,
    /// Who logged in, where that may change.
    pub(super) login: Option<Login>,
    /// Whether a server that only follows another one will do.
    any_age: bool,
}

impl Lane {
    pub(super) fn new(client: Client, way: Way, driver: AbortHandle, kept: Kept) -> Self {
        let cancel = client.cancel_token();
        let named = (kept == Kept::Named).then(Named::default);
        Self { client, cancel, way, driver, named, login: None, any_age: false }
    }

    /// The same connection, known to be somebody's and to a server that may lag behind.
    pub(super) fn with(mut self, login: Option<Login>, any_age: bool) -> Self {
        (self.login, self.any_age) = (login, any_age);
        self
    }

    /// Opens a transaction for a scope. Both messages leave in the first poll.
    ///
    /// # Errors
    /// A server that follows another one is lost to us, whoever put it there: nothing is decided from it.
    pub(super) async fn begin(&self, text: &'static str, settings: &Settings, scope: &Scope) -> Result<(), StoreError> {
        let values = settings.with(scope);
        let (began, set) = join(self.client.batch_execute(text), self.ask(SETTINGS, &values)).await;
        began.map_err(|e| engine_error(&e))?;
        let standby = set?.rows.first().is_none_or(|row| row.try_get(STANDBY).unwrap_or(true));
        if standby && !self.any_age {
            return Err(StoreError::gone("the server follows another one; nothing is decided from it"));
        }
        Ok(())
    }

    /// Tells the server another scope for the rest of the transaction.
    pub(super) async fn tell(&self, scope: &Scope) -> Result<(), StoreError> {
        self.ask(TELL, &[Value::Text(scope.setting())]).await.map(drop)
    }

    /// Runs one statement in one round trip. Its messages leave in the first poll.
    pub(super) async fn ask(&self, text: &str, params: &[Value]) -> Result<Answer, StoreError> {
        let named = self.named(text, params);
        let stream = if let Some(statement) = &named {
            self.client.query_raw(statement, params.iter().map(Param)).await
        } else {
            let typed = params.iter().map(|value| (Param(value), cells::type_of(value)));
            self.client.query_typed_raw(text, typed).await
        };
        let mut stream = std::pin::pin!(stream.map_err(|e| engine_error(&e))?);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await.map_err(|e| engine_error(&e))? {
            rows.push(row);
        }
        Ok(Answer { named, touched: stream.rows_affected().unwrap_or(0), rows })
    }

    fn named(&self, text: &str, params: &[Value]) -> Option<Statement> {
        let named = self.named.as_ref()?.lock();
        let (types, statement) = named.get(text)?;
        params.iter().map(cells::type_of).eq(types.iter().cloned()).then(|| statement.clone())
    }

    /// Whether [`Lane::prepare`] would make the next use of this text cheaper.
    pub(super) fn wants_prepare(&self, text: &str) -> bool {
        self.named.as_ref().is_some_and(|named| {
            let named = named.lock();
            named.len() < NAMED && !named.contains_key(text)
        })
    }

    /// Prepares a text for its next uses. Its messages leave in the first poll.
    pub(super) async fn prepare(&self, text: &str, params: &[Value]) -> Result<(), StoreError> {
        let types: Vec<Type> = params.iter().map(cells::type_of).collect();
        let statement = self.client.prepare_typed(text, &types).await.map_err(|e| engine_error(&e))?;
        if let Some(named) = &self.named {
            named.lock().insert(text.to_owned(), (types, statement));
        }
        Ok(())
    }

    /// Saves every transaction the parsing of its settings, where statements are kept.
    pub(super) async fn prepare_settings(&self) -> Result<(), StoreError> {
        if self.named.is_some() {
            self.prepare(SETTINGS, &[const { Value::Text(String::new()) }; 5]).await?;
            self.prepare(TELL, &[const { Value::Text(String::new()) }]).await?;
        }
        Ok(())
    }

    /// Forgets what is prepared: a change of the schema may have made it wrong.
    pub(super) fn forget_prepared(&self) {
        if let Some(named) = &self.named {
            named.lock().clear();
        }
    }

    /// Asks the server to stop what this connection runs, and waits until the request has been taken.
    pub(super) async fn cancel(&self) {
        if let Err(error) = connect::cancel(&self.way, &self.cancel).await {
            tracing::debug!(%error, "a statement could not be cancelled; its connection will be dropped");
        }
    }

    /// Cuts the connection, whatever is on its way.
    pub(super) fn cut(&self) {
        self.driver.abort();
    }
}

/// A request that has left; its answer is waited for later.
pub(super) enum Sent<F: Future> {
    Answered(F::Output),
    Waiting(Pin<Box<F>>),
}

impl<F: Future> Sent<F> {
    /// Polls a request once, which puts it on the wire behind those before it.
    pub(super) async fn now(request: F) -> Self {
        let mut request = Box::pin(request);
        match futures::poll!(request.as_mut()) {
            Poll::Ready(answer) => Self::Answered(answer),
            Poll::Pending => Self::Waiting(request),
        }
    }

    pub(super) async fn answer(self) -> F::Output {
        match self {
            Self::Answered(answer) => answer,
            Self::Waiting(request) => request.await,
        }
    }
}
