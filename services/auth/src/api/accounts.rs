//! Accounts: making one, and looking at one's own.

use std::sync::Arc;

use kernel::http::{Body, Caller, Created, Fail, Json};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::account::{self, AccountChange, AccountRefusal, AccountView, NewAccount};
use crate::state::Auth;
use crate::store;

const ME: &str = "/api/v1/accounts/me";

/// Who the caller is, in the claims of OpenID Connect.
#[derive(Serialize, JsonSchema)]
pub(super) struct UserInfo {
    /// The person.
    sub: Uuid,
    /// The address to sign in with.
    email: String,
    /// What to call the person.
    name: String,
    /// What the person may be.
    roles: Vec<String>,
    /// The organisations the person belongs to.
    orgs: Vec<Uuid>,
}

pub(super) async fn user_info(state: Arc<Auth>, caller: Caller) -> Result<Json<UserInfo>, Fail> {
    let account = store::account(&state.store.read(), caller.id()).await?.ok_or_else(Fail::not_found)?;
    let AccountView { id: sub, email, name, roles, orgs, .. } = account.into();
    Ok(Json(UserInfo { sub, email, name, roles, orgs }))
}

/// Hashing takes a core for a while, so it happens before the unit; the unique address then decides.
pub(super) async fn create_account(
    state: Arc<Auth>,
    Body(new): Body<NewAccount>,
) -> Result<Created<AccountView>, Fail> {
    account::check(&new)?;
    // Saves the hash where the answer is known. That an address is taken shows here, as it must without a mail to it.
    if store::account_by_email(&state.store.read(), &account::fold(&new.email)).await?.is_some() {
        return Err(AccountRefusal::EmailTaken.into());
    }
    let turn = state.passwords.turn().await?;
    let hash = state.passwords.hash(turn, new.password.clone()).await?;
    let row = account::customer(&new, hash, state.now());
    let view = AccountView::from(row.clone());
    let added = state.store.write(move |tx| {
        let row = row.clone();
        async move { tx.add(&row).await.map_err(Fail::from) }
    });
    if !added.await? {
        return Err(AccountRefusal::EmailTaken.into());
    }
    Ok(Created(ME.to_owned(), view))
}

pub(super) async fn show_account(state: Arc<Auth>, caller: Caller) -> Result<Json<AccountView>, Fail> {
    let account = store::account(&state.store.read(), caller.id()).await?.ok_or_else(Fail::not_found)?;
    Ok(Json(account.into()))
}

pub(super) async fn change_account(
    tx: Tx,
    _: Arc<Auth>,
    caller: Caller,
    Body(change): Body<AccountChange>,
) -> Result<Json<AccountView>, Fail> {
    account::check_name(&change.name)?;
    if !store::rename(&tx, caller.id(), change.name.trim()).await? {
        return Err(Fail::not_found());
    }
    let account = store::account(&tx, caller.id()).await?.ok_or_else(Fail::not_found)?;
    Ok(Json(account.into()))
}
