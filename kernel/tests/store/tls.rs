//! TLS to the server: checked against one that has a certificate of its own making, and cancelled over it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kernel::params;
use kernel::store::{Scalar, Server, Sql, Store, StoreError, Tx, WriteError};
use kernel::testing::scratch;

use crate::cluster::{Cluster, options};
use crate::world::{STEPS, note, notes, write_note};

fn openssl(folder: &Path, line: &str) {
    let mut command = Command::new("openssl");
    let done = command.args(line.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, a certificate for `localhost`, and another authority that vouches for nobody.
fn certificates(folder: &Path) {
    for ca in ["ca", "stranger"] {
        openssl(
            folder,
            &format!("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem"),
        );
    }
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_speaks_tls_to_a_server_that_is_who_it_says() {
    let Some(cluster) = Cluster::start("").await else { return };
    certificates(cluster.file("").as_path());
    cluster.give("server.key");
    cluster.give("server.pem");
    let admin = cluster.primary.admin().await;
    for (name, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
        let path = cluster.file(value);
        admin.batch_execute(&format!("ALTER SYSTEM SET {name} = '{}'", path.display())).await.unwrap();
    }
    admin.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let schema = scratch::fresh_schema();
    let plain = cluster.engine(&[&cluster.primary], &schema);
    Store::open(options(plain.clone()), STEPS).await.unwrap().close().await;
    let tls = |host: &str, mode: &str, ca: &str| Server {
        url: plain.url.replace("host=127.0.0.1", &format!("host={host} sslmode={mode}")),
        ca_file: Some(cluster.file(ca)),
        admin_url: None,
        ..plain.clone()
    };
    for mode in ["verify-full", "require"] {
        let store = Store::open(options(tls("localhost", mode, "ca.pem")), STEPS).await.unwrap();
        let encrypted = "SELECT ssl AS value FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(store.read().one(Sql::<Scalar<bool>>::filed(encrypted), params![]).await.unwrap(), Scalar(true));
        store.close().await;
    }
    for (host, ca) in [("127.0.0.1", "ca.pem"), ("localhost", "stranger.pem")] {
        let refused = Store::open(options(tls(host, "verify-full", ca)), STEPS).await.err().unwrap();
        assert!(matches!(&refused, StoreError::Refused(why) if why.contains("TLS")), "{host} {ca}: {refused:?}");
    }
    cancels(&Store::open(options(tls("localhost", "verify-full", "ca.pem")), STEPS).await.unwrap(), &admin).await;
}

/// A unit past its deadline is cancelled on the server, by a request that goes over TLS as well.
async fn cancels(store: &Store, admin: &tokio_postgres::Client) {
    let sleeps = |tx: Tx| async move {
        tx.insert(&note(1)).await?;
        let sleep = Sql::<Scalar<i64>>::filed("SELECT 1 AS value FROM pg_sleep(CAST($1 AS BIGINT))");
        tx.all(sleep, params![60_i64]).await.map(drop)
    };
    let end = store.write(sleeps).await;
    assert!(matches!(end, Err(WriteError::Deadline)), "{end:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(CAST%' AND state = 'active' AND pid <> pg_backend_pid()";
    assert_eq!(admin.query_one(asleep, &[]).await.unwrap().get::<_, i64>(0), 0, "a cancelled statement still runs");
    write_note(store, 2).await.unwrap();
    assert_eq!(notes(store).await, [2]);
    store.close().await;
}
