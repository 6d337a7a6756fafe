//! The server against peers that behave and peers that do not, over real sockets.

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;

fn quick() -> Limits {
    Limits {
        first_byte: Duration::from_millis(150),
        header_read: Duration::from_millis(150),
        body_idle: Duration::from_millis(150),
        body_total: Duration::from_millis(600),
        handler: Some(Duration::from_millis(400)),
        keep_alive: Duration::from_millis(300),
        drain: Duration::from_secs(2),
        max_body: 1000,
        strict_framing: true,
        ..Limits::default()
    }
}

async fn start(limits: Limits) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let reading = limits.clone();
    let read = move |request: AxumRequest| async move {
        read_body(request.into_body(), &reading).await.map(|body| body.len().to_string()).map_err(Problem::from)
    };
    let sleep = || async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        "late"
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/read", post(read))
        .route("/sleep", get(sleep).post(sleep));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    #[expect(clippy::disallowed_methods, reason = "the test awaits the handle")]
    let server = tokio::spawn(async move { serve(listener, router, limits, stop).await });
    (address, shutdown, server)
}

#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted_and_nobody_is_turned_away() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let burst = futures::future::try_join_all((0..300).map(|_| TcpStream::connect(address)));
    // Nobody accepts: who finds no place in the line would never be connected.
    let connected = tokio::time::timeout(Duration::from_secs(30), burst).await.expect("room for all").unwrap();
    assert_eq!(connected.len(), 300);
}

async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), async {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            out.extend_from_slice(&buffer[..n]);
        }
    });
    read.await.expect("the server closes the connection");
    String::from_utf8_lossy(&out).into_owned()
}

#[tokio::test]
async fn peers_that_say_nothing_little_or_nothing_more_are_closed() {
    let (address, ..) = start(quick()).await;
    for silence in ["", "P", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let begun = Instant::now();
        assert_eq!(ask(address, silence.as_bytes()).await, "", "after {silence:?}");
        assert!(begun.elapsed() >= Duration::from_millis(140), "closed too early after {silence:?}");
    }
    let begun = Instant::now();
    let kept = ask(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(kept.ends_with("hello"), "{kept}");
    assert!(begun.elapsed() >= Duration::from_millis(290), "an idle connection is kept for a while");
}

#[tokio::test]
async fn a_trickled_head_is_closed_though_every_byte_is_in_time() {
    let (address, ..) = start(quick()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: trickle\r\n\r\n" {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(read_all(&mut stream).await, "");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn bodies_that_stall_or_are_too_large_are_refused() {
    let (address, ..) = start(quick()).await;
    let stalled = ask(address, b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    assert!(stalled.starts_with("HTTP/1.1 408"), "{stalled}");
    let large = ask(address, b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
    assert!(large.starts_with("HTTP/1.1 413") && large.contains("body_too_large"), "{large}");
    let chunk = format!(
        "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1001)
    );
    let chunked = ask(address, chunk.as_bytes()).await;
    assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
}

#[tokio::test]
async fn long_targets_long_headers_and_two_framings_are_refused() {
    let (address, ..) = start(quick()).await;
    let target = ask(address, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8200)).as_bytes()).await;
    assert!(target.starts_with("HTTP/1.1 414") && target.contains("uri_too_long"), "{target}");
    let headers =
        ask(address, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(16_400)).as_bytes()).await;
    assert!(headers.starts_with("HTTP/1.1 431"), "{headers}");
    let both = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let both = ask(address, both).await;
    assert!(both.starts_with("HTTP/1.1 400") && both.contains("ambiguous_framing"), "{both}");
}

#[tokio::test]
async fn a_slow_handler_is_answered_for_unless_the_call_is_grpc() {
    let (address, ..) = start(quick()).await;
    let slow = ask(address, b"GET /sleep HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(slow.starts_with("HTTP/1.1 504") && slow.contains("trace_id"), "{slow}");
    let grpc = b"POST /sleep HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nConnection: close\r\n\r\n";
    assert!(ask(address, grpc).await.ends_with("late"));
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_takes_nothing_new() {
    let (address, shutdown, server) = start(Limits { handler: None, ..quick() }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.cancel();
    assert!(read_all(&mut stream).await.ends_with("late"));
    tokio::time::timeout(Duration::from_secs(1), server).await.expect("drained").unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn connections_over_the_cap_are_closed_and_http2_is_spoken_on_the_same_port() {
    let (address, ..) = start(Limits { max_connections_per_ip: Some(1), ..quick() }).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("http://{address}/")).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello");
    assert_eq!(ask(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, "", "one is open already");
}
