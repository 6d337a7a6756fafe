//! What a key must look like, what it stands for, and which answers stay with it.

use http::Method;

use super::door::{Answer, Ask, Door, person};
use super::till::{Build, KEEPER};
use super::{Complaints, held};
use crate::place::Place;

type Checked = Vec<String>;

fn refused(answer: &Answer, status: u16, code: &str) -> bool {
    (answer.status, answer.code().as_str()) == (status, code)
}

fn sold(answer: &Answer) -> bool {
    answer.status == 201 && !answer.replayed
}

/// Whether `second` is the stored answer `first`.
fn repeats(first: &Answer, second: &Answer) -> bool {
    first.told() == second.told() && !first.replayed && second.replayed
}

/// A missing, malformed or doubled key is refused; either header carries one.
async fn key_headers(door: &Door) -> Checked {
    let mut found = Complaints::default();
    let none = door.ask(&Ask::sale("no key")).await;
    found.unless(refused(&none, 400, "idempotency_key_required"), || format!("no key: {none:?}"));
    let long = "k".repeat(256);
    for bad in [&b""[..], b"two words", b"tab\there", "k\u{fc}che".as_bytes(), long.as_bytes()] {
        let answer = door.ask(&Ask::sale("bad key").with("idempotency-key", bad)).await;
        found.unless(refused(&answer, 400, "idempotency_key_invalid"), || format!("key {bad:?}: {answer:?}"));
    }
    for name in ["idempotency-key", "x-idempotency-key"] {
        let answer = door.ask(&Ask::keyed("two-keys").with(name, b"other")).await;
        found.unless(refused(&answer, 400, "idempotency_key_invalid"), || format!("two keys: {answer:?}"));
    }
    let first = door.ask(&Ask::sale("alias").with("x-idempotency-key", b"alias")).await;
    found.unless(sold(&first), || format!("alias: {first:?}"));
    let again = door.ask(&Ask::keyed("alias")).await;
    found.unless(repeats(&first, &again), || format!("alias, then the proper name: {again:?}"));
    let both = door.ask(&Ask::keyed("alias").with("x-idempotency-key", b"alias")).await;
    found.unless(repeats(&first, &both), || format!("both names, one key: {both:?}"));
    let longest = door.ask(&Ask::sale("longest").key(&long[1..])).await;
    found.unless(sold(&longest), || format!("255 characters: {longest:?}"));
    let tally = door.tally().await;
    let effects: Vec<i64> = ["no key", "bad key", "two-keys", "alias"].iter().map(|mark| tally.of(mark)).collect();
    found.unless(effects == [0, 0, 0, 1], || format!("effects {effects:?}"));
    found.0
}

/// Method, path, query, content type and body are what a key stands for; the order of the query is not.
async fn other_request(door: &Door) -> Checked {
    let mut found = Complaints::default();
    let ask = Ask::keyed("mine").at(Method::POST, "/sales?a=1&b=2");
    let first = door.ask(&ask).await;
    found.unless(sold(&first), || format!("first: {first:?}"));
    let sorted = door.ask(&ask.clone().at(Method::POST, "/sales?b=2&a=1")).await;
    found.unless(repeats(&first, &sorted), || format!("the same in another order: {sorted:?}"));
    let mut charset = ask.clone();
    charset.headers.retain(|(name, _)| *name != "content-type");
    let others = [
        ("body", ask.clone().body(r#"{"mark":"yours"}"#)),
        ("blanks in the body", ask.clone().body(r#"{"mark": "mine"}"#)),
        ("query", ask.clone().at(Method::POST, "/sales?a=1&b=3")),
        ("content type", charset.with("content-type", b"application/json; charset=utf-8")),
    ];
    for (what, other) in others {
        let answer = door.ask(&other).await;
        found.unless(refused(&answer, 422, "idempotency_key_reused"), || format!("other {what}: {answer:?}"));
    }
    let still = door.ask(&ask).await;
    found.unless(repeats(&first, &still), || format!("the first again: {still:?}"));
    let tally = door.tally().await;
    let effects = (tally.of("mine"), tally.of("yours"));
    found.unless(effects == (1, 0), || format!("effects {effects:?}"));
    found.0
}

/// A key belongs to one caller and one route.
async fn whose_key(door: &Door, callers: [u128; 2]) -> Checked {
    let mut found = Complaints::default();
    let mut told = Vec::new();
    for caller in callers {
        told.push(door.ask(&Ask::keyed("shared").by(Some(person(caller, &[])))).await);
    }
    let gift = door.ask(&Ask::keyed("shared").at(Method::PUT, "/gifts")).await;
    found.unless(sold(&gift), || format!("the same key on another route: {gift:?}"));
    found.unless(told.iter().all(sold), || format!("another caller got somebody's answer: {told:?}"));
    found.unless(told[0].body != told[1].body, || "two callers got one receipt".into());
    let effects = door.tally().await.of("shared");
    found.unless(effects == 3, || format!("{effects} effects of two callers and another route"));
    found.0
}

/// 402 and 409 are decisions: the same key meets them again, though the world has changed, and nothing was done.
async fn decisions(door: &Door) -> Checked {
    let mut found = Complaints::default();
    for (status, code) in [(402, "too_poor"), (409, "sold_out")] {
        let mark = format!("decided-{status}");
        let first = door.ask(&Ask::keyed(&mark).scene(&status.to_string())).await;
        found.unless(refused(&first, status, code), || format!("{status}: {first:?}"));
        let again = door.ask(&Ask::keyed(&mark)).await;
        found.unless(repeats(&first, &again), || format!("{status} was decided anew: {again:?}"));
        let effects = door.tally().await.of(&mark);
        found.unless(effects == 0, || format!("{effects} effects of a refusal with {status}"));
        let anew = door.ask(&Ask::sale(&mark).key(&format!("{mark}-2"))).await;
        found.unless(sold(&anew), || format!("another key after {status}: {anew:?}"));
    }
    found.0
}

/// What decides nothing leaves nothing: the same key may try again, and then takes effect once. Gives what is wrong about
/// the failures, and about the second tries.
async fn failures(door: &Door) -> (Checked, Checked) {
    let (mut found, mut again_found) = (Complaints::default(), Complaints::default());
    let by_handler = ["403", "404", "422", "429", "503", "500", "panic"].map(|scene| {
        let mark = format!("failed-{scene}");
        (scene.parse().unwrap_or(500), Ask::keyed(&mark).scene(scene), Ask::keyed(&mark))
    });
    let good = Ask::keyed("failed-before");
    let behind = Ask::keyed("failed-guard").at(Method::POST, "/back-room");
    let mut text = good.clone();
    text.headers[0].1 = b"text/plain".to_vec();
    let mut by_kernel = [
        (400, good.clone().body("{"), good.clone()),
        (415, text, good.clone()),
        (422, good.clone().body(r#"{"mark":""}"#), good.clone()),
        (413, good.clone().body(&" ".repeat(300 * 1024)), good.clone()),
        (401, good.clone().by(None), good.clone()),
        (403, behind.clone(), behind.by(Some(person(1, &[KEEPER])))),
    ];
    // All six of one key fail before it is used well once.
    by_kernel.sort_by_key(|(_, _, good)| good.path.clone());
    for (status, bad, _) in by_kernel.iter().chain(&by_handler) {
        if *status == 413 {
            // Whoever sends too much may lose the answer: the connection is closed before all of it is read.
            let answer = door.send(bad).await;
            found.unless(answer.as_ref().map_or(413, |a| a.status) == 413, || format!("413 was wanted: {answer:?}"));
            continue;
        }
        let answer = door.ask(bad).await;
        found.unless(answer.status == *status, || format!("{status} was wanted: {answer:?}"));
    }
    let before = door.tally().await;
    found.unless(before.keys == 0 && before.sales.is_empty(), || format!("failures left something: {before:?}"));
    for (status, good) in by_handler.iter().map(|(s, _, good)| (*s, good)).chain([(400, &good), (403, &by_kernel[0].2)])
    {
        let answer = door.ask(good).await;
        again_found.unless(sold(&answer), || format!("after a failure with {status}: {answer:?}"));
        let again = door.ask(good).await;
        again_found.unless(repeats(&answer, &again), || format!("after a failure with {status}, again: {again:?}"));
    }
    let after = door.tally().await;
    let once = after.sales.iter().all(|(_, effects)| *effects == 1);
    again_found.unless(once && after.sales.len() == 9, || format!("effects {:?}", after.sales));
    (found.0, again_found.0)
}

pub(super) async fn keys(place: Place) -> String {
    held(&place, Build::Keyless, "no key: ", "8 bad headers refused, 3 good ones taken", async |shop| {
        key_headers(&shop.door).await
    })
    .await
}

pub(super) async fn others(place: Place) -> String {
    held(&place, Build::Keyless, "other body: ", "4 other requests refused, 1 effect", async |shop| {
        other_request(&shop.door).await
    })
    .await
}

pub(super) async fn decided(place: Place) -> String {
    held(&place, Build::Keyless, "402 was decided anew", "402 and 409 told again, 0 effects", async |shop| {
        decisions(&shop.door).await
    })
    .await
}

pub(super) async fn failed(place: Place) -> String {
    held(&place, Build::Outside, "failures left something", "13 failures, 0 keys and 0 effects left", async |shop| {
        failures(&shop.door).await.0
    })
    .await
}

pub(super) async fn retried(place: Place) -> String {
    held(&place, Build::FailureAsAnswer, "was wanted", "9 keys tried again, 1 effect each", async |shop| {
        let (first, again) = failures(&shop.door).await;
        [first, again].concat()
    })
    .await
}

pub(super) async fn owned(place: Place) -> String {
    // One caller taken for two is what a key that ignores its caller looks like.
    let callers = if place.seeded { [1, 1] } else { [1, 2] };
    held(
        &place,
        Build::Sound,
        "another caller got somebody's answer",
        "1 key, 2 callers, 2 routes, 3 effects",
        async |shop| whose_key(&shop.door, callers).await,
    )
    .await
}

/// On PostgreSQL a rival waits for the key at most as long as for any lock, is told to come back, and then gets the answer.
pub(super) async fn rival(place: Place) -> String {
    held(&place, Build::Keyless, "one answer was wanted", "1 effect, 1 answer, told twice", async |shop| {
        let mut found = Complaints::default();
        let (slow, rival) = (Ask::keyed("slow").scene("linger"), Ask::keyed("slow"));
        let (first, second, ()) = tokio::join!(
            shop.door.insist(&slow),
            async {
                shop.signals.entered.notified().await;
                shop.door.insist(&rival).await
            },
            async {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                shop.signals.go.notify_one();
            }
        );
        found.unless(repeats(&first.0, &second.0), || format!("one answer was wanted: {first:?} {second:?}"));
        let effects = shop.door.tally().await.of("slow");
        found.unless(effects == 1, || format!("{effects} effects"));
        found.0
    })
    .await
}
