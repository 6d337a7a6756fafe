//! Connections between gateway and instance, when the instance hangs up, answers early, answers badly or says a lot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use gateway::Settings;
use kernel::resilience::BreakerSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::city::{City, settings, spawn};

const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const IN_CHUNKS: &str =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nx-sum: 1\r\n\r\n";

/// What an instance does with one request on one of its connections.
#[derive(Clone, Copy)]
enum Does {
    /// Says this and goes on listening.
    Says(&'static str),
    /// Says this and hangs up.
    SaysAndCloses(&'static str),
    /// Reads the request and hangs up without a word.
    HangsUp,
    /// Says this before it has read the body, and reads on afterwards.
    SaysEarly(&'static str),
}

/// An instance that follows a script, one line for each request, whichever connection it comes on.
struct Scripted {
    connections: Arc<AtomicUsize>,
    heard: mpsc::UnboundedReceiver<String>,
}

impl Scripted {
    /// Takes the place of the city's instance.
    async fn instead(city: &City, script: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        city.directory.set("orders", vec![listener.local_addr().unwrap()]);
        let (connections, next) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let script: Arc<[Does]> = script.into();
        let (tell, heard) = mpsc::unbounded_channel();
        let count = Arc::clone(&connections);
        drop(spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                drop(spawn(follow(stream, Arc::clone(&script), Arc::clone(&next), tell.clone())));
            }
        }));
        Self { connections, heard }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn follow(
    mut stream: TcpStream,
    script: Arc<[Does]>,
    next: Arc<AtomicUsize>,
    tell: mpsc::UnboundedSender<String>,
) {
    loop {
        let Some(mut request) = head(&mut stream).await else { return };
        let number = next.fetch_add(1, Ordering::SeqCst);
        let does = *script.get(number).expect("no more requests than the script has lines");
        if let Does::SaysEarly(words) = does {
            stream.write_all(words.as_bytes()).await.unwrap();
        }
        body(&mut stream, &mut request).await;
        tell.send(request).unwrap();
        match does {
            Does::HangsUp => return,
            Does::SaysAndCloses(words) => return stream.write_all(words.as_bytes()).await.unwrap(),
            Does::Says(words) => stream.write_all(words.as_bytes()).await.unwrap(),
            Does::SaysEarly(_) => {}
        }
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads a body of known length, as far as it comes.
async fn body(stream: &mut TcpStream, request: &mut String) {
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    for _ in 0..length {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(char::from(byte));
    }
}

async fn menu(city: &City) -> (u16, String) {
    let answer = city.get("/api/v1/menu").send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn post(city: &City, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    city.post("/api/v1/upload").body(body)
}

/// What so many requests get that come one after another on one connection, so that the same lane serves them.
async fn menus(city: &City, count: usize) -> String {
    let ask = |close| format!("GET /api/v1/menu HTTP/1.1\r\nhost: a\r\n{close}\r\n");
    city.raw(ask("").repeat(count - 1) + &ask("connection: close\r\n")).await
}

fn answers(text: &str, status: u16) -> usize {
    text.matches(&format!("HTTP/1.1 {status} ")).count()
}

#[tokio::test]
async fn one_connection_serves_many_requests_one_after_another() {
    let city = City::start().await;
    let instance = Scripted::instead(&city, vec![Does::Says(SHORT), Does::Says(IN_CHUNKS), Does::Says(SHORT)]).await;
    let text = menus(&city, 3).await;
    assert_eq!(answers(&text, 200), 3, "{text}");
    assert_eq!(instance.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_instance_closed_while_idle_costs_no_request() {
    let city = City::start().await;
    let instance = Scripted::instead(&city, vec![Does::SaysAndCloses(SHORT); 3]).await;
    for _ in 0..3 {
        // Not repeatable: had it been sent over the closed connection, nobody could have sent it again.
        assert_eq!(post(&city, "x").send().await.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(instance.connections(), 3);
}

#[tokio::test]
async fn a_kept_connection_that_ends_without_a_word_is_replaced_for_what_may_be_repeated() {
    // One failure that counts would open the circuit.
    let breaker = BreakerSettings { window: 1, ..BreakerSettings::default() };
    let city = City::with(Settings { breaker, ..settings() }).await;
    let mut instance =
        Scripted::instead(&city, vec![Does::Says(SHORT), Does::HangsUp, Does::Says(SHORT), Does::HangsUp]).await;
    let post = "POST /api/v1/upload HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nconnection: close\r\n\r\nonce";
    let text = city.raw("GET /api/v1/menu HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2) + post).await;
    assert_eq!(answers(&text, 200), 2, "what may be repeated was, over another connection: {text}");
    assert_eq!(answers(&text, 502), 1, "of the rest nobody knows whether it was heard: {text}");
    assert_eq!(instance.connections(), 2);
    let mut heard = Vec::new();
    while let Ok(request) = instance.heard.try_recv() {
        heard.push(request);
    }
    assert_eq!(heard.iter().filter(|request| request.ends_with("once")).count(), 1, "{heard:?}");
    assert_eq!(heard.len(), 4);
}

#[tokio::test]
async fn interim_answers_are_ours_and_an_answer_may_end_with_its_connection() {
    let city = City::start().await;
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok";
    let open = "HTTP/1.0 200 OK\r\n\r\nuntil the end";
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ncut";
    let script = vec![Does::Says(interim), Does::SaysAndCloses(open), Does::SaysAndCloses(short)];
    let instance = Scripted::instead(&city, script).await;
    assert_eq!(menu(&city).await, (201, "ok".to_owned()));
    assert_eq!(menu(&city).await, (200, "until the end".to_owned()));
    let whole = async { city.get("/api/v1/menu").send().await?.text().await };
    assert!(whole.await.is_err(), "an early end is passed on as one");
    assert!(instance.connections() >= 2, "the end of a connection is the end of an answer");
}

#[tokio::test]
async fn answers_that_can_be_read_in_two_ways_are_refused_and_their_connections_closed() {
    let bad = [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for words in bad {
        let city = City::start().await;
        let instance = Scripted::instead(&city, vec![Does::Says(words), Does::Says(SHORT)]).await;
        assert_eq!(post(&city, "x").send().await.unwrap().status(), 502, "{words}");
        assert_eq!(post(&city, "x").send().await.unwrap().status(), 200);
        assert_eq!(instance.connections(), 2, "{words}");
    }
}

#[tokio::test]
async fn what_an_instance_says_unasked_is_nobodys_answer() {
    let city = City::start().await;
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother";
    let instance = Scripted::instead(&city, vec![Does::Says(twice), Does::Says(SHORT)]).await;
    let text = menus(&city, 2).await;
    assert!(answers(&text, 200) == 2 && !text.contains("other"), "{text}");
    assert_eq!(instance.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_sent_arrives_and_the_rest_is_sent() {
    let city = City::start().await;
    let early = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n";
    let mut instance = Scripted::instead(&city, vec![Does::SaysEarly(early)]).await;
    let mut stream = TcpStream::connect(city.address).await.unwrap();
    stream.write_all(b"POST /api/v1/upload HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"early\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"cd").await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(2), instance.heard.recv()).await.expect("the rest arrives");
    assert!(heard.unwrap().ends_with("\r\n\r\nabcd"));
}

#[tokio::test]
async fn a_client_that_breaks_off_inside_its_body_leaves_no_connection_behind() {
    let city = City::start().await;
    let mut instance = Scripted::instead(&city, vec![Does::Says(SHORT), Does::Says(SHORT)]).await;
    let mut stream = TcpStream::connect(city.address).await.unwrap();
    stream.write_all(b"POST /api/v1/upload HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    let heard = tokio::time::timeout(Duration::from_secs(2), instance.heard.recv()).await.expect("it is told");
    assert!(heard.unwrap().ends_with("\r\n\r\nab"), "the body ends where the client broke off");
    assert_eq!(post(&city, "x").send().await.unwrap().status(), 200);
    assert_eq!(instance.connections(), 2, "half a request is not continued by another");
}

/// More than all buffers on the way hold together.
const MUCH: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_client_that_does_not_read_holds_a_long_answer_up_and_then_gets_all_of_it() {
    let city = City::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    city.directory.set("orders", vec![listener.local_addr().unwrap()]);
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    drop(spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        while count.load(Ordering::SeqCst) < MUCH {
            stream.write_all(&[b'x'; 64 * 1024]).await.unwrap();
            count.fetch_add(64 * 1024, Ordering::SeqCst);
        }
    }));
    let answer = city.get("/api/v1/menu").send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sent.load(Ordering::SeqCst) < MUCH / 2, "the gateway reads no further than its client");
    let mut body = answer.bytes_stream();
    let mut length = 0;
    while let Some(piece) = body.next().await {
        length += piece.unwrap().len();
    }
    assert_eq!(length, MUCH);
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whole() {
    let city = City::start().await;
    let pieces = vec!["one "; 5000];
    let answer = post(&city, crate::city::body_in_pieces(pieces)).send().await.unwrap();
    let seen: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(seen["body"].as_str().unwrap(), "one ".repeat(5000));
    assert_eq!(seen["headers"]["transfer-encoding"][0], "chunked");
}
