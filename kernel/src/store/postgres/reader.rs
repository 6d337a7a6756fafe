//! Reading: a read-only transaction of one statement, all of it in one round trip.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join3;

use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::scope::Scope;
use crate::store::text;
use crate::store::value::Value;

use super::cells;
use super::engine_error;
use super::lane::{Answer, Settings};
use super::pool::{Loan, Pool};

/// A read changes nothing, so it may be tried on another connection when the first turns out to be dead.
const ATTEMPTS: u32 = 3;

pub(crate) struct PgRead {
    pool: Arc<Pool>,
    settings: Arc<Settings>,
    limit: Duration,
}

impl PgRead {
    pub(super) fn new(pool: Arc<Pool>, settings: Arc<Settings>, deadline: Duration) -> Self {
        // The server's own limit speaks first and says why; ours is for a server that does not answer at all.
        Self { pool, settings, limit: deadline * 2 + Duration::from_secs(1) }
    }

    pub(crate) async fn query(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
        scope: &Scope,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        text::check(text, params.len())?;
        let mut attempt = 1;
        loop {
            match self.once(text, params, scope).await {
                Err(error) if error.is_gone() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(answer) => return cells::decode(&answer, shape),
            }
        }
    }

    async fn once(&self, text: &str, params: &[Value], scope: &Scope) -> Result<Answer, StoreError> {
        let loan = Loan::take(&self.pool).await?;
        let reading = tokio::time::timeout(self.limit, async {
            if loan.lane().wants_prepare(text) {
                self.flight(&loan, scope, loan.lane().prepare(text, params)).await??;
            }
            self.flight(&loan, scope, loan.lane().ask(text, params)).await
        });
        let late = |_| StoreError::Engine("the database did not answer a read in time".into());
        let answer = reading.await.map_err(late)??;
        match &answer {
            Err(error) if error.is_gone() => loan.cut(),
            _ => loan.give_back(),
        }
        answer
    }

    /// One request in a read-only transaction of its own. The outer error says that the transaction may not have ended.
    async fn flight<T>(
        &self,
        loan: &Loan,
        scope: &Scope,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Result<T, StoreError>, StoreError> {
        let lane = loan.lane();
        let begin = lane.begin("BEGIN READ ONLY", &self.settings, scope);
        let (began, answer, ended) = join3(begin, request, lane.client.batch_execute("COMMIT")).await;
        ended.map_err(|e| engine_error(&e))?;
        Ok(began.and(answer))
    }
}
