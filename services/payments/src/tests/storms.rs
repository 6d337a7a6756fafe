//! Many orders at once through every weather: news in any order and twice, lost calls and answers, restarts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contracts::orders::OrderState;
use contracts::payments::PaymentStatus;
use kernel::clock::{Clock, Timestamp};

use super::cruel::{Cruel, roll};
use super::{ACCEPTED, Desk, ENDED, order};
use crate::attempt::Heard;
use crate::provider::Standing;
use crate::steps::{self, Case, PayWith};
use crate::{api, reconcile, store};

const CARDS: [&str; 8] = ["good", "good", "good", "good", "good", "declines", "challenges", "expires"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Created,
    Accepted,
    Ended,
    OtherCard,
}

struct Story {
    order: OrderState,
    news: Vec<News>,
}

/// What happens to one order, in an order of its own; some things happen twice.
fn story(dice: &mut u64) -> Story {
    let token = CARDS[usize::try_from(roll(dice, 8)).unwrap()];
    let mut news = vec![News::Created];
    for (one, chance) in [(News::Accepted, 2), (News::Ended, 3), (News::OtherCard, 3), (News::Created, 6)] {
        if roll(dice, chance) == 0 {
            let place = usize::try_from(roll(dice, u64::try_from(news.len()).unwrap() + 1)).unwrap();
            news.insert(place, one);
            if roll(dice, 4) == 0 {
                news.push(one);
            }
        }
    }
    Story { order: order(token), news }
}

async fn happen(desk: &Desk, order: &OrderState, news: News) {
    match news {
        News::Created => desk.create(order).await,
        News::Accepted => desk.hear(order, ACCEPTED).await,
        News::Ended => desk.hear(order, ENDED).await,
        News::OtherCard => {
            let (org, id) = (order.org_id, order.order_id);
            desk.unit(move |tx| async move {
                let Some(mut case) = Case::of(&tx, org, id, Heard::default()).await? else { return Ok(()) };
                if api::may_try_again(&case, tx.now(), 3).is_ok() {
                    steps::try_again(&tx, &mut case, PayWith::new("good", "visa", "1111")).await?;
                }
                Ok(())
            })
            .await;
        }
    }
}

async fn storm(seed: u64) -> (Desk, Arc<Cruel>, Vec<Story>) {
    let mut dice = seed;
    let provider = Arc::new(Cruel::new(seed ^ 0x9e37_79b9));
    let mut desk = Desk::open(provider.clone(), Clock::manual(Timestamp::from_micros(1_700_000_000_000_000))).await;
    let stories: Vec<Story> = (0..60).map(|_| story(&mut dice)).collect();
    for round in 0..8 {
        for told in &stories {
            if let Some(news) = told.news.get(round) {
                happen(&desk, &told.order, *news).await;
            }
        }
        if roll(&mut dice, 3) == 0 {
            desk.restart();
        }
        desk.turn(Duration::from_millis(roll(&mut dice, 4_000))).await;
    }
    provider.is_kind.store(true, Ordering::SeqCst);
    for _ in 0..8 {
        desk.turn(Duration::from_secs(61)).await;
        for told in &stories {
            if let Some(payment) = desk.payment(&told.order).await.filter(|p| p.retry_until.is_some_and(|at| at <= desk.clock.now())) {
                desk.close_window(payment.id).await;
            }
        }
    }
    (desk, provider, stories)
}

async fn check(desk: &Desk, provider: &Cruel, told: &Story, seed: u64) {
    let who = format!("seed {seed}, card {}", told.order.card.token);
    let reference = told.order.order_id.to_string();
    let (ended, accepted) = (told.news.contains(&News::Ended), told.news.contains(&News::Accepted));
    let (captures, voids, taken, given_back, open) = {
        let books = provider.books();
        let ours: Vec<_> = books.holds.values().filter(|h| h.reference == reference).collect();
        let open = ours.iter().filter(|h| matches!(h.known.standing, Standing::Authorized | Standing::RequiresAction)).count();
        let sum = |of: fn(&&&super::cruel::Hold) -> i64| ours.iter().map(|h| of(&h)).sum::<i64>();
        assert!(ours.iter().all(|h| h.captures + h.voids <= 1), "{who}: captured and voided");
        let count = |of: fn(&super::cruel::Hold) -> usize| ours.iter().map(|h| of(h)).sum::<usize>();
        (count(|h| h.captures), count(|h| h.voids), sum(|h| h.known.captured_minor), sum(|h| h.refunded_minor), open)
    };
    assert!(captures <= 1, "{who}: captured {captures} times");
    let Some(payment) = desk.payment(&told.order).await else {
        assert!(ended && captures + voids == 0, "{who}: no payment");
        return;
    };
    assert_eq!((payment.captured_minor, payment.refunded_minor), (taken, given_back), "{who}: our books differ");
    if ended {
        assert_eq!((taken - given_back, open), (0, 0), "{who}: money hangs after the end");
    } else if accepted && told.order.card.token == "good" {
        assert_eq!((taken, payment.status), (2_000, PaymentStatus::Success), "{who}: not captured");
    }
    let said = desk.said(payment.id).await;
    let versions: Vec<i64> = said.iter().map(|(_, state)| state.version).collect();
    assert_eq!(versions, (1..).take(versions.len()).collect::<Vec<i64>>(), "{who}");
    let count = |kind: &str| said.iter().filter(|(k, _)| k == kind).count();
    let last_words = said.iter().filter(|(k, s)| k == "payment.failed" && s.retry_until.is_none()).count();
    assert!(last_words + count("payment.voided") + count("payment.success") <= 1, "{who}: {said:?}");
    assert_eq!(count("payment.success"), captures, "{who}");
    if payment.status == PaymentStatus::Failed {
        assert_eq!(last_words + count("payment.voided"), 1, "{who}: nobody was told of the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_any_weather_no_money_is_taken_twice_or_left_hanging() {
    let (mut calls, mut lost, mut matched) = (0, 0, 0);
    for seed in 1..=12_u64 {
        let (desk, provider, stories) = storm(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed >> 3)).await;
        for told in &stories {
            check(&desk, &provider, told, seed).await;
        }
        let db = desk.state.store.read();
        let comparison = reconcile::compare(&db, &*provider).await.unwrap();
        assert_eq!((comparison.different, comparison.pending), (0, 0), "seed {seed}: {:?}", comparison.differences);
        matched += comparison.matched;
        for attempts in store::ledger::attempts_by_state(&db).await.unwrap() {
            assert!(!attempts.state.is_open(), "seed {seed}: {} are {}", attempts.total, attempts.state);
        }
        let balances = store::ledger::balances(&db).await.unwrap();
        assert_eq!(balances.iter().map(|b| b.debit_minor - b.credit_minor).sum::<i64>(), 0, "seed {seed}");
        assert_eq!(store::ledger::orders_captured_twice(&db).await.unwrap(), 0, "seed {seed}");
        let books = provider.books();
        (calls, lost) = (calls + books.calls, lost + books.lost);
    }
    assert!(matched > 100, "only {matched} captures and refunds were made");
    assert!(lost > 100, "only {lost} of {calls} answers were lost: the weather was too good to prove anything");
}
