//! A caller who hangs up while the till is at work: the work is done once, and its answer waits.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::{Ask, Door};
use super::till::Build;
use super::{Complaints, Shop, held};
use crate::place::Place;

/// Sends a whole request and gives the open connection.
async fn send(door: &Door, ask: &Ask) -> TcpStream {
    let mut text =
        format!("{} {} HTTP/1.1\r\nhost: till\r\ncontent-length: {}\r\n", ask.method, ask.path, ask.body.len());
    for (name, value) in &Door::signed(ask.who.as_ref()) {
        write!(text, "{name}: {}\r\n", value.to_str().expect("the till works")).expect("the till works");
    }
    for (name, value) in &ask.headers {
        write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value)).expect("the till works");
    }
    text.push_str("\r\n");
    let mut stream = TcpStream::connect(door.address).await.expect("the till works");
    stream.write_all(&[text.as_bytes(), &ask.body].concat()).await.expect("the till works");
    stream
}

async fn hang_up(shop: &Shop, keys: usize) -> Vec<String> {
    let mut found = Complaints::default();
    for number in 0..keys {
        let mark = format!("hung-up-{number}");
        let stream = send(&shop.door, &Ask::keyed(&mark).scene("linger")).await;
        shop.signals.entered.notified().await;
        drop(stream);
        // Long enough for the till to see the end of the connection, well within the deadline of a unit.
        tokio::time::sleep(Duration::from_millis(30)).await;
        shop.signals.go.notify_one();
        let first = shop.door.ask(&Ask::keyed(&mark)).await;
        let again = shop.door.ask(&Ask::keyed(&mark)).await;
        found.unless(first.status == 201 && first.replayed, || format!("the work was not completed: {first:?}"));
        found.unless(first == again, || format!("two answers: {first:?} {again:?}"));
        let effects = shop.door.tally().await.of(&mark);
        found.unless(effects == 1, || format!("{effects} effects"));
    }
    found.0
}

pub(super) async fn served_once(place: Place) -> String {
    let keys = if place.seeded { 1 } else { 8 };
    held(&place, Build::Keyless, "the work was not completed", "8 hung up, 8 effects, 8 answers found", async |shop| {
        hang_up(shop, keys).await
    })
    .await
}
