//! One connection: sending statements in an order that is fixed when they are sent, and cancelling what runs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::join;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{CancelToken, Client, Column, Row, Statement};

use crate::store::error::StoreError;
use crate::store::value::Value;

use super::cells::{self, Param};
use super::{connect, engine_error};

/// Prepared statements kept on one connection. A text beyond them is sent unprepared.
const NAMED: usize = 256;
const SETTINGS: &str = "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true), set_config('idle_in_transaction_session_timeout', $3, true), set_config('search_path', $4, true)";

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

pub(super) struct Lane {
    pub(super) client: Client,
    cancel: CancelToken,
    peer: SocketAddr,
    driver: AbortHandle,
    /// Only where the same connection is always the same server session.
    named: Option<Named>,
}

impl Lane {
    pub(super) fn new(client: Client, peer: SocketAddr, driver: AbortHandle, direct: bool) -> Self {
        let cancel = client.cancel_token();
        Self { client, cancel, peer, driver, named: direct.then(Named::default) }
    }

    /// Opens a transaction. Both messages leave in the first poll.
    pub(super) async fn begin(&self, text: &'static str, settings: &Settings) -> Result<(), StoreError> {
        let (began, set) = join(self.client.batch_execute(text), self.ask(SETTINGS, &settings.0)).await;
        began.map_err(|e| engine_error(&e))?;
        set.map(drop)
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
            self.prepare(SETTINGS, &[const { Value::Text(String::new()) }; 4]).await?;
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
        if let Err(error) = connect::cancel(self.peer, &self.cancel).await {
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
