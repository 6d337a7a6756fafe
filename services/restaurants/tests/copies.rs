//! What everybody reads is kept at hand, in this process and in Redis, and never older than what its events tell.

use contracts::permissions::RESTAURANT_OWNER;
use contracts::restaurants::{MenuChanged, MenuState};
use kernel::config::Sources;
use kernel::store::Tx;
use kernel::testing::redis::Server;
use kernel::testing::room::{Furnishing, Room};
use kernel::{params, sql};
use serde_json::{Value, json};
use uuid::Uuid;

const ORG: Uuid = Uuid::from_u128(1);
const DISH: Uuid = Uuid::from_u128(3);

/// The service, with its own events within reach.
async fn open(server: Option<&Server>) -> Room {
    let usual = Furnishing::default();
    let with = match server {
        None => usual,
        Some(server) => Furnishing {
            sources: Sources::new("FX")
                .set("redis.url", server.settings().url)
                .set("redis.probe_ms", "50")
                .set("redis.answer_ms", "500"),
            secrets: Some(server.secrets().clone()),
            ..usual
        },
    };
    let room = Room::furnished(&restaurants::service(), with).await;
    room.directory.set("restaurants", vec![room.address()]);
    room
}

/// A restaurant with one dish; gives the paths of the restaurant and its menu.
async fn found(room: &Room) -> (Uuid, String, String) {
    let owner = room.as_role(RESTAURANT_OWNER, Uuid::from_u128(9), &[ORG]);
    let new = json!({
        "org_id": ORG, "name": "Green Door", "cuisine": "Italian", "street": "1 Long Lane", "city": "Bath",
        "place": {"longitude_e6": 1, "latitude_e6": 1}, "currency": "EUR", "utc_offset_minutes": 0, "hours": [],
        "prep_minutes": 10, "delivery_fee_minor": 100, "minimum_order_minor": 0,
    });
    let opened = owner.post("/api/v1/restaurants", new).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let id: Uuid = opened.body["restaurant_id"].as_str().unwrap().parse().unwrap();
    let (page, menu) = (format!("/api/v1/restaurants/{id}"), format!("/api/v1/restaurants/{id}/menu"));
    assert_eq!(price(room, &menu, 900).await, 200);
    (id, page, menu)
}

async fn price(room: &Room, menu: &str, minor: i64) -> u16 {
    let owner = room.as_role(RESTAURANT_OWNER, Uuid::from_u128(9), &[ORG]);
    let dish = json!({"name": "Soup", "category": "Mains", "price_minor": minor, "tax_basis_points": 1000});
    owner.put(&format!("{menu}/items/{DISH}"), dish).await.status
}

async fn shown(room: &Room, path: &str) -> Value {
    let answer = room.as_guest().get(path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

async fn shown_price(room: &Room, menu: &str) -> i64 {
    shown(room, menu).await["items"][0]["price_minor"].as_i64().unwrap()
}

/// Readers of a cache whom a tier answered.
async fn readers(room: &Room, cache: &str, tier: &str) -> u64 {
    let text = room.as_guest().get("/metrics").await.text;
    let start = format!("cache_reads_total{{service=\"restaurants\",cache=\"{cache}\",tier=\"{tier}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
}

/// Reads until memory answers: from then on copies count.
async fn warm(room: &Room, menu: &str) {
    room.until("copies count", async || {
        shown(room, menu).await;
        readers(room, "menus", "memory").await > 0
    })
    .await;
}

/// What another instance does to the same database: it says nothing to this one but its event.
async fn change_elsewhere(room: &Room, id: Uuid, minor: i64) {
    let mut state: MenuState =
        serde_json::from_value(shown(room, &format!("/api/v1/restaurants/{id}/menu")).await).unwrap();
    state.version += 1;
    state.items[0].price_minor = minor;
    let done = room.store().write(move |tx: Tx| {
        let state = state.clone();
        async move {
            let item = sql!("UPDATE menu_items SET price_minor = $1 WHERE org_id = $2 AND restaurant_id = $3");
            tx.run(item, params![minor, ORG, state.restaurant_id]).await?;
            let version = sql!("UPDATE restaurants SET menu_version = $1 WHERE org_id = $2 AND id = $3");
            tx.run(version, params![state.version, ORG, state.restaurant_id]).await?;
            tx.emit(MenuChanged(state))
        }
    });
    done.await.unwrap();
}

#[tokio::test]
async fn whoever_changes_a_menu_or_a_restaurant_sees_the_change_at_once() {
    let room = open(None).await;
    let (_, page, menu) = found(&room).await;
    warm(&room, &menu).await;
    let owner = room.as_role(RESTAURANT_OWNER, Uuid::from_u128(9), &[ORG]);
    for minor in 1000..1020 {
        assert_eq!(price(&room, &menu, minor).await, 200);
        assert_eq!(shown_price(&room, &menu).await, minor);
        let name = format!("Green Door {minor}");
        shown(&room, &page).await;
        assert_eq!(owner.patch(&page, json!({ "name": name })).await.status, 200);
        assert_eq!(shown(&room, &page).await["name"], name);
    }
    let sold_out = owner.put(&format!("{menu}/items/{DISH}/availability"), json!({"sold_out": true})).await;
    assert_eq!(sold_out.status, 200);
    assert_eq!(shown(&room, &menu).await["items"][0]["sold_out"], true);
    assert_eq!(owner.delete(&format!("{menu}/items/{DISH}")).await.status, 204);
    assert_eq!(shown(&room, &menu).await["items"], json!([]));
    assert_eq!(room.as_guest().get(&format!("/api/v1/restaurants/{DISH}/menu")).await.status, 404);
    room.finish().await;
}

#[tokio::test]
async fn an_event_drops_the_copy_in_memory_and_the_one_in_redis() {
    let Some(server) = Server::start().await else { return };
    server.provide(&["restaurants"]).await;
    let room = open(Some(&server)).await;
    let (id, _, menu) = found(&room).await;
    warm(&room, &menu).await;
    let in_redis = async || {
        let found = server.tell(&["KEYS", &format!("restaurants:cache:menus:*:{}", id.simple())]).await;
        let key = found.lines().find(|line| line.starts_with("restaurants:")).map(str::to_owned);
        match key {
            Some(key) => server.tell(&["GET", key.trim()]).await,
            None => String::new(),
        }
    };
    assert!(in_redis().await.contains("\"price_minor\":900"), "the copy lies in Redis");
    change_elsewhere(&room, id, 1234).await;
    let gone = async || !in_redis().await.contains("\"price_minor\":900");
    room.until("the copy in Redis is gone", gone).await;
    room.until("the copy in memory is gone", async || shown_price(&room, &menu).await == 1234).await;
    assert!(in_redis().await.contains("\"price_minor\":1234"), "and the new one is there");
    let (before, loads) = (readers(&room, "menus", "memory").await, readers(&room, "menus", "source").await);
    for _ in 0..10 {
        assert_eq!(shown_price(&room, &menu).await, 1234);
    }
    assert_eq!(
        (readers(&room, "menus", "memory").await, readers(&room, "menus", "source").await),
        (before + 10, loads)
    );
    room.finish().await;
}

#[tokio::test]
async fn menus_are_shown_whatever_becomes_of_redis() {
    let Some(mut server) = Server::start().await else { return };
    server.provide(&["restaurants"]).await;
    let room = open(Some(&server)).await;
    let (id, _, menu) = found(&room).await;
    warm(&room, &menu).await;
    let mut minor = 2000;
    for misfortune in ["wiped", "frozen", "stopped"] {
        match misfortune {
            "wiped" => server.wipe().await,
            "frozen" => server.freeze(),
            _ => server.kill(),
        }
        minor += 1;
        change_elsewhere(&room, id, minor).await;
        room.until(misfortune, async || shown_price(&room, &menu).await == minor).await;
        minor += 1;
        assert_eq!(price(&room, &menu, minor).await, 200, "{misfortune}");
        assert_eq!(shown_price(&room, &menu).await, minor, "{misfortune}");
    }
    server.start_again().await;
    assert_eq!(shown_price(&room, &menu).await, minor);
    room.finish().await;
}
