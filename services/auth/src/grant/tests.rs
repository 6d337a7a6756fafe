//! Grants on a real store: one use, ten seconds of grace, and the end of a session whose token came twice.

use super::*;
use crate::testing::Room;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::demo;
use kernel::http::Fail;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CLIENT: &str = "foodexpress-cli";
const REDIRECT: &str = "http://127.0.0.1/callback";
const LIFE: Duration = Duration::from_secs(3600);

/// A code that was just given out.
async fn code(room: &Room) -> BroughtCode {
    crate::demo::ensure(&room.auth).await.unwrap();
    let (code, now) = (Opaque::fresh(), room.clock.now());
    let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, VERIFIER.as_bytes());
    let row = CodeRow {
        org_id: PLATFORM,
        code_hash: code.hash(),
        user_id: demo::customer(0),
        client_id: CLIENT.to_owned(),
        redirect_uri: REDIRECT.to_owned(),
        scope: "openid".to_owned(),
        nonce: Some("n".to_owned()),
        challenge: URL_SAFE_NO_PAD.encode(challenge),
        auth_time: now,
        expires_at: now.plus(CODE_LIFE),
        used_at: None,
        session_id: None,
    };
    let unit = room.auth.store.write(move |tx| {
        let row = row.clone();
        async move { tx.insert(&row).await.map_err(Fail::from) }
    });
    unit.await.unwrap();
    let (client_id, redirect_uri, verifier) = (CLIENT.to_owned(), REDIRECT.to_owned(), VERIFIER.to_owned());
    BroughtCode { code, client_id, redirect_uri, verifier }
}

async fn redeemed(room: &Room, brought: &BroughtCode) -> Verdict {
    let (brought, new) =
        (brought.clone(), NewSession { id: kernel::ids::fresh(), refresh: Opaque::fresh(), life: LIFE });
    let unit = room.auth.store.write(move |tx| {
        let brought = brought.clone();
        async move { redeem(&tx, &brought, &new).await.map_err(Fail::from) }
    });
    unit.await.unwrap()
}

async fn refreshed(room: &Room, token: Opaque) -> Verdict {
    refreshed_by(room, token, CLIENT).await
}

async fn refreshed_by(room: &Room, token: Opaque, client: &'static str) -> Verdict {
    let next = Opaque::fresh();
    let unit =
        room.auth.store.write(move |tx| async move { refresh(&tx, &token, client, &next).await.map_err(Fail::from) });
    unit.await.unwrap()
}

async fn signed_in(room: &Room) -> Grant {
    redeemed(room, &code(room).await).await.unwrap()
}

#[tokio::test]
async fn a_code_works_once_and_its_second_use_ends_the_session_of_the_first() {
    for room in Room::on_every_engine().await {
        let brought = code(&room).await;
        let grant = redeemed(&room, &brought).await.unwrap();
        assert_eq!((grant.account.id, grant.nonce.as_deref()), (demo::customer(0), Some("n")));
        assert_eq!(grant.session.expires_at, room.clock.now().plus(LIFE));
        assert_eq!(redeemed(&room, &brought).await.unwrap_err(), Refused::Reused);
        assert_eq!(refreshed(&room, grant.refresh).await.unwrap_err(), Refused::SessionEnded);
        assert_eq!(redeemed(&room, &brought).await.unwrap_err(), Refused::Reused);
        assert_eq!(room.published().await, ["session.opened", "session.revoked"]);
    }
}

#[tokio::test]
async fn a_code_is_for_one_client_one_address_one_verifier_and_one_minute() {
    for room in Room::on_every_engine().await {
        let good = code(&room).await;
        let wrong = [
            BroughtCode { client_id: "foodexpress-web".to_owned(), ..good.clone() },
            BroughtCode { redirect_uri: "http://127.0.0.1:1/callback".to_owned(), ..good.clone() },
            BroughtCode { verifier: VERIFIER.replace('d', "e"), ..good.clone() },
        ];
        for brought in &wrong {
            assert_eq!(redeemed(&room, brought).await.unwrap_err(), Refused::NotYours);
        }
        assert_eq!(
            redeemed(&room, &BroughtCode { code: Opaque::fresh(), ..good.clone() }).await.unwrap_err(),
            Refused::Unknown
        );
        room.clock.advance(CODE_LIFE);
        assert_eq!(redeemed(&room, &good).await.unwrap_err(), Refused::Expired);
        assert!(room.published().await.is_empty());
        let another = code(&room).await;
        room.clock.advance(CODE_LIFE.checked_sub(Duration::from_micros(1)).unwrap());
        assert!(redeemed(&room, &another).await.is_ok());
    }
}

#[tokio::test]
async fn within_the_grace_a_rotated_token_gives_the_same_successor() {
    for room in Room::on_every_engine().await {
        let first = signed_in(&room).await.refresh;
        let second = refreshed(&room, first).await.unwrap().refresh;
        assert_ne!(second, first);
        room.clock.advance(GRACE);
        assert_eq!(refreshed(&room, first).await.unwrap().refresh, second);
        let third = refreshed(&room, second).await.unwrap().refresh;
        assert_eq!(
            refreshed(&room, first).await.unwrap().refresh,
            second,
            "even when the successor was rotated in turn"
        );
        assert_eq!(refreshed(&room, second).await.unwrap().refresh, third);
        assert_eq!(room.published().await, ["session.opened"]);
    }
}

#[tokio::test]
async fn parallel_refreshes_all_get_one_successor() {
    for room in Room::on_every_engine().await {
        let first = signed_in(&room).await.refresh;
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let store = room.auth.store.clone();
            tries.spawn(async move {
                let next = Opaque::fresh();
                let unit =
                    store.write(move |tx| async move { refresh(&tx, &first, CLIENT, &next).await.map_err(Fail::from) });
                unit.await.unwrap().unwrap().refresh
            });
        }
        let successors = tries.join_all().await;
        assert!(successors.iter().all(|token| *token == successors[0]));
        assert!(refreshed(&room, successors[0]).await.is_ok());
    }
}

#[tokio::test]
async fn a_token_that_comes_back_after_the_grace_ends_its_session_for_both_holders() {
    for room in Room::on_every_engine().await {
        let first = signed_in(&room).await.refresh;
        let second = refreshed(&room, first).await.unwrap().refresh;
        room.clock.advance(GRACE + Duration::from_micros(1));
        assert_eq!(refreshed(&room, first).await.unwrap_err(), Refused::Reused);
        assert_eq!(refreshed(&room, second).await.unwrap_err(), Refused::SessionEnded);
        assert_eq!(room.published().await, ["session.opened", "session.revoked"], "told once");
    }
}

#[tokio::test]
async fn a_session_ends_at_its_end_however_often_it_was_renewed() {
    for room in Room::on_every_engine().await {
        let mut token = signed_in(&room).await.refresh;
        for _ in 0..5 {
            room.clock.advance(LIFE / 6);
            token = refreshed(&room, token).await.unwrap().refresh;
        }
        room.clock.advance(LIFE / 6);
        assert_eq!(refreshed(&room, token).await.unwrap_err(), Refused::SessionEnded);
        assert_eq!(room.published().await, ["session.opened", "session.revoked"]);
    }
}

#[tokio::test]
async fn a_refresh_token_serves_its_own_client_only_and_the_theft_of_the_database_gives_no_successor() {
    for room in Room::on_every_engine().await {
        let first = signed_in(&room).await.refresh;
        assert_eq!(refreshed_by(&room, first, "foodexpress-web").await.unwrap_err(), Refused::NotYours);
        assert_eq!(refreshed(&room, Opaque::fresh()).await.unwrap_err(), Refused::Unknown);
        refreshed(&room, first).await.unwrap();
        let row = store::refresh_token(&room.auth.store.read(), &first.hash()).await.unwrap().unwrap();
        let thief = Opaque::from_bytes(&row.token_hash).unwrap();
        assert_eq!(sealer(&thief).open(row.successor.as_deref().unwrap()), None);
    }
}

#[tokio::test]
async fn sealed_successors_are_forgotten_and_sessions_end_by_themselves() {
    for room in Room::on_every_engine().await {
        let grant = signed_in(&room).await;
        refreshed(&room, grant.refresh).await.unwrap();
        room.clock.advance(GRACE + Duration::from_micros(1));
        crate::jobs::forget(room.auth.clone()).await.unwrap();
        let row = store::refresh_token(&room.auth.store.read(), &grant.refresh.hash()).await.unwrap().unwrap();
        assert_eq!(row.successor, None);
        room.clock.advance(LIFE);
        crate::jobs::end_sessions(room.auth.clone()).await.unwrap();
        crate::jobs::end_sessions(room.auth.clone()).await.unwrap();
        assert_eq!(room.published().await, ["session.opened", "session.revoked"]);
        let session = store::session(&room.auth.store.read(), grant.session.id).await.unwrap().unwrap();
        assert_eq!((session.active, session.reason.as_deref(), session.version), (false, Some("expired"), 2));
        room.clock.advance(Duration::from_secs(31 * 24 * 3600));
        crate::jobs::forget(room.auth.clone()).await.unwrap();
        assert_eq!(store::session(&room.auth.store.read(), grant.session.id).await.unwrap(), None);
        assert_eq!(store::refresh_token(&room.auth.store.read(), &grant.refresh.hash()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_crash_between_rotation_and_answer_costs_nothing() {
    for mut room in Room::on_every_engine().await {
        let first = signed_in(&room).await.refresh;
        let lost = refreshed(&room, first).await.unwrap().refresh;
        room.restart().await;
        assert_eq!(refreshed(&room, first).await.unwrap().refresh, lost);
        room.clock.advance(GRACE + GRACE);
        assert!(refreshed(&room, lost).await.is_ok());
    }
}

#[tokio::test]
async fn of_parallel_uses_of_a_code_one_gets_tokens_and_none_keeps_them() {
    for room in Room::on_every_engine().await {
        let brought = code(&room).await;
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (store, brought) = (room.auth.store.clone(), brought.clone());
            let new = NewSession { id: kernel::ids::fresh(), refresh: Opaque::fresh(), life: LIFE };
            tries.spawn(async move {
                let unit = store.write(move |tx| {
                    let brought = brought.clone();
                    async move { redeem(&tx, &brought, &new).await.map_err(Fail::from) }
                });
                unit.await.unwrap()
            });
        }
        let verdicts = tries.join_all().await;
        let granted: Vec<_> = verdicts.iter().filter_map(|verdict| verdict.as_ref().ok()).collect();
        assert_eq!(granted.len(), 1);
        assert!(verdicts.iter().filter_map(|v| v.as_ref().err()).all(|refused| *refused == Refused::Reused));
        assert_eq!(refreshed(&room, granted[0].refresh).await.unwrap_err(), Refused::SessionEnded);
        assert_eq!(room.published().await, ["session.opened", "session.revoked"]);
    }
}
