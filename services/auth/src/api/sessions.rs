//! Sessions: seeing where one is signed in, and ending that.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::{Caller, Done, Fail, Json, Page, Path, Query, page};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::session::{self, Reason, SessionRefusal, SessionView};
use crate::state::Auth;
use crate::store::{self, SessionRow};

const PAGE: i64 = 20;

/// Which page of a list.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// How many at most, up to 100.
    #[garde(range(min = 1, max = 100))]
    pub(super) page_size: Option<i64>,
    /// From the page before.
    #[garde(length(max = 200))]
    pub(super) page_token: Option<String>,
}

/// Which session.
#[derive(Deserialize, JsonSchema)]
pub(super) struct SessionPath {
    /// The session.
    pub(super) id: Uuid,
}

pub(super) async fn log_out(state: Arc<Auth>, caller: Caller) -> Result<Done, Fail> {
    let Some(id) = caller.session else { return Err(SessionRefusal::NoSession.into()) };
    let ended = state.store.write(move |tx| async move {
        // A session that is gone is as good as ended.
        if let Some(session) = store::session(&tx, id).await? {
            session::end(&tx, &session, Reason::Logout).await?;
        }
        Ok::<_, Fail>(())
    });
    ended.await?;
    Ok(Done)
}

pub(super) async fn list_sessions(
    state: Arc<Auth>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<SessionView>>, Fail> {
    let after = query.page_token.as_deref().map(read_token).transpose()?;
    let size = query.page_size.unwrap_or(PAGE);
    let rows = store::sessions_of(&state.store.read(), caller.id(), after, size + 1).await?;
    Ok(Json(Page::cut(rows, size, write_token).map(|row| SessionView::of(row, &caller))))
}

pub(super) async fn end_session(
    tx: Tx,
    _: Arc<Auth>,
    caller: Caller,
    Path(path): Path<SessionPath>,
) -> Result<Done, Fail> {
    let session = store::session(&tx, path.id).await?.ok_or_else(Fail::not_found)?;
    let why = session::may_end(&caller, &session, tx.now())?;
    session::end(&tx, &session, why).await?;
    Ok(Done)
}

fn write_token(last: &SessionRow) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", last.opened_at.micros(), last.id.simple()))
}

fn read_token(text: &str) -> Result<page::Place, Fail> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (micros, id) = text.split_once('.')?;
        Some((Timestamp::from_micros(micros.parse().ok()?), id.parse().ok()?))
    };
    read().ok_or_else(|| page::not_ours().into())
}
