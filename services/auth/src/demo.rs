//! The demo city's people: made once, all with the one public password.

use contracts::demo::{Account, PASSWORD};
use kernel::clock::Timestamp;
use kernel::http::Fail;
use kernel::store::Json;

use crate::account::fold;
use crate::state::Auth;
use crate::store::{self, AccountRow, PLATFORM};

/// Makes the accounts that are missing. The first caller does it, the others wait; without a demo city it does nothing.
pub(crate) async fn ensure(state: &Auth) -> Result<(), Fail> {
    if !state.settings.demo_city {
        return Ok(());
    }
    state.demo.get_or_try_init(|| make(state)).await.copied()
}

async fn make(state: &Auth) -> Result<(), Fail> {
    let mut accounts = contracts::demo::accounts();
    let ids: Vec<_> = accounts.iter().map(|account| account.user_id).collect();
    let known = store::known_accounts(&state.store.read(), &ids).await?;
    accounts.retain(|account| !known.contains(&account.user_id));
    if accounts.is_empty() {
        return Ok(());
    }
    // One hash for all: the password is public, so that its hash shows it is shared gives nothing away.
    let turn = state.passwords.turn().await?;
    let hash = state.passwords.hash(turn, PASSWORD.to_owned()).await?;
    let rows: Vec<_> = accounts.into_iter().map(|account| row(account, &hash, state.now())).collect();
    let count = rows.len();
    let added = state.store.write(move |tx| {
        let rows = rows.clone();
        async move {
            for row in &rows {
                tx.add(row).await?;
            }
            Ok::<_, Fail>(())
        }
    });
    added.await?;
    tracing::info!(accounts = count, "the demo city's accounts are made");
    Ok(())
}

fn row(account: Account, password_hash: &str, now: Timestamp) -> AccountRow {
    AccountRow {
        org_id: PLATFORM,
        id: account.user_id,
        email_folded: fold(&account.email),
        email: account.email,
        name: account.name,
        password_hash: password_hash.to_owned(),
        roles: Json(vec![account.role.to_owned()]),
        orgs: Json(account.orgs),
        created_at: now,
    }
}
