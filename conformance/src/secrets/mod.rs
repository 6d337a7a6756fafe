//! Secrets: two are valid at a time, a rotation reaches whoever follows, and trouble takes nothing away.

mod vault;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::secrets::{Entry, Pair, Provider as _, Secret, Secrets, Variables};
use kernel::task::Tasks;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::case::{Case, case};
use crate::place::Place;
use vault::{Fake, role};

const SET_OUTSIDE: &str = "variables are set by whoever starts the program, and do not change while it runs";
const NO_TOKEN: &str = "only a vault gives tokens that end, and has several hands";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("secrets.two_valid", "beside the one in use another is accepted, and no third",
            fault "a secret without a second", two_valid),
        case!("secrets.rotation", "a rotation in two steps reaches whoever follows",
            fault "a rotation that stops half way", rotation, not "variables": SET_OUTSIDE),
        case!("secrets.readers", "whoever reads while a secret is rotated always accepts the one in use",
            fault "a secret from elsewhere", readers, not "variables": SET_OUTSIDE),
        case!("secrets.trouble", "a secret that cannot be read any more stays in use",
            fault "a process that begins anew", trouble, not "variables": SET_OUTSIDE),
        case!("secrets.missing", "one that is not there is told with the way to put it there",
            fault "one that is there", missing, not "file": "a file that is missing is made"),
        case!("secrets.hidden", "none shows itself where things are printed",
            fault "a log that tells it", hidden),
        case!("secrets.renewal", "a token is renewed in time, and a revoked one is replaced",
            fault "a token without an end", renewal, not "file": NO_TOKEN, not "variables": NO_TOKEN),
        case!("secrets.hands", "the second of two who write at once is refused",
            fault "a hand that came first", hands, not "file": NO_TOKEN, not "variables": NO_TOKEN),
    ]
}

const NAME: &str = "internal";
/// A value that is nowhere else.
const VALUE: &str = "kanarienvogel-1";

/// Secrets of one kind, with one of them laid in.
struct Safe {
    folder: TempDir,
    fake: Option<Fake>,
    variables: Option<Variables>,
}

impl Safe {
    async fn open(place: &Place) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut fake, mut variables) = (None, None);
        let before = if place.seeded { None } else { Some("before") };
        match place.engine.name {
            "vault" => {
                let vault = Fake::start(3600).await;
                vault.put(NAME, json!({ "value": VALUE, "previous": before }));
                fake = Some(vault);
            }
            "variables" => {
                let mut pairs = BTreeMap::from([("FX_SECRET_INTERNAL", VALUE)]);
                pairs.extend(before.map(|before| ("FX_SECRET_INTERNAL_PREVIOUS", before)));
                let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                variables = Some(Variables::new("FX", pairs));
            }
            _ => {
                let files = [("internal", Some(VALUE)), ("internal.previous", before)];
                for (file, text) in files.into_iter().filter_map(|(file, text)| Some((file, text?))) {
                    std::fs::write(folder.path().join(file), text).expect("a file of the case");
                }
            }
        }
        Self { folder, fake, variables }
    }

    /// What one process sees of it.
    async fn process(&self) -> Secrets {
        match (&self.fake, &self.variables) {
            (Some(fake), _) => Secrets::from(Arc::new(fake.open(role(&self.folder)).await.expect("the vault opens"))),
            (_, Some(variables)) => Secrets::from(Arc::new(variables.clone())),
            _ => Secrets::open(self.folder.path()).expect("a folder of the case"),
        }
    }

    /// Takes the secret away, or the way to it.
    fn spoil(&self) {
        match &self.fake {
            Some(fake) => fake.inside.lock().sealed = true,
            None => {
                let file = self.folder.path().join(NAME);
                std::fs::remove_file(&file).expect("it is there");
                std::fs::create_dir(&file).expect("its place is free");
            }
        }
    }
}

fn following(secrets: &Secrets) -> Tasks {
    let (tasks, own) = (Tasks::new(), secrets.clone());
    let stop = tasks.stopping();
    tasks.spawn("secrets", async move { own.watch(Duration::from_millis(20), stop).await });
    tasks
}

async fn two_valid(place: Place) -> String {
    let safe = Safe::open(&place).await;
    let pair = safe.process().await.pair(NAME).expect("it is there");
    let accepted: Vec<String> = pair.accepted().map(Secret::reveal_text).collect();
    assert_eq!(accepted, [VALUE, "before"], "the one in use, and one more");
    format!("{} accepted", accepted.len())
}

async fn rotation(place: Place) -> String {
    let safe = Safe::open(&place).await;
    let secrets = safe.process().await;
    let live = secrets.live(NAME).expect("it is there");
    let _tasks = following(&secrets);
    // Another process rotates.
    let other = safe.process().await;
    let next = other.lay_next(NAME).await.expect("it takes another");
    place.until("the next one is accepted", async || live.get().next.as_ref() == Some(&next)).await;
    assert_eq!(live.get().current.reveal_text(), VALUE, "the old one is still in use");
    if !place.seeded {
        other.promote(NAME).await.expect("it was laid");
    }
    place.until("it is in use", async || live.get().current == next).await;
    let before = live.get().previous.clone().expect("it is kept a while");
    assert_eq!(before.reveal_text(), VALUE);
    "2 steps, both heard of, 1 that came before accepted".to_owned()
}

async fn readers(place: Place) -> String {
    let safe = Safe::open(&place).await;
    let (secrets, reader) = (safe.process().await, safe.process().await);
    let live = reader.live(NAME).expect("it is there");
    let _tasks = following(&reader);
    let mut good = vec![secrets.get(NAME).expect("it is there")];
    let stop = CancellationToken::new();
    let told = stop.clone();
    let reading = std::thread::spawn(move || {
        let mut read: Vec<Pair> = Vec::new();
        while !told.is_cancelled() {
            read.push(Pair::clone(&live.get()));
            std::thread::sleep(Duration::from_micros(200));
        }
        read
    });
    for _ in 0..20 {
        good.push(secrets.lay_next(NAME).await.expect("it takes another"));
        tokio::time::sleep(Duration::from_millis(25)).await;
        secrets.promote(NAME).await.expect("it was laid");
    }
    stop.cancel();
    let read = reading.join().expect("it reads to the end");
    assert!(!read.is_empty(), "nobody looked");
    if place.seeded {
        good = vec![Secret::random()];
    }
    for pair in &read {
        let at = good.iter().position(|secret| *secret == pair.current).expect("only whole secrets are read");
        let neighbours = [at.checked_sub(1).map(|before| &good[before]), good.get(at + 1)];
        let first = at == 0;
        assert!(first || pair.other().is_none_or(|other| neighbours.contains(&Some(other))), "not a neighbour at {at}");
    }
    format!("20 rotations, {} looks, the one in use always accepted", read.len())
}

async fn trouble(place: Place) -> String {
    let safe = Safe::open(&place).await;
    let secrets = safe.process().await;
    let live = secrets.live(NAME).expect("it is there");
    let _tasks = following(&secrets);
    safe.spoil();
    tokio::time::sleep(Duration::from_millis(100)).await;
    if place.seeded {
        // Whoever comes only now finds nothing.
        safe.process().await.get(NAME).expect("it is there");
    }
    assert_eq!(live.get().current.reveal_text(), VALUE, "it stays in use");
    "1 in use, though it can no longer be read".to_owned()
}

async fn missing(place: Place) -> String {
    let safe = Safe::open(&place).await;
    let name = if place.seeded { NAME } else { "db-orders" };
    let said = safe.process().await.get(name).expect_err("it is not there").to_string();
    let remedy = if safe.fake.is_some() { "vault kv put secret/city/db-orders" } else { "FX_SECRET_DB_ORDERS" };
    assert!(said.contains(remedy), "{said}");
    format!("told: {remedy}")
}

async fn hidden(place: Place) -> String {
    let safe = Safe::open(&place).await;
    let secrets = safe.process().await;
    let pair = secrets.pair(NAME).expect("it is there");
    let mut printed = format!("{secrets:?} {pair:?} {:?}", pair.current);
    if place.seeded {
        printed.push_str(&pair.current.reveal_text());
    }
    assert!(!printed.contains(VALUE) && !printed.contains("opens"), "it shows");
    "3 things printed, 0 secrets in them".to_owned()
}

async fn renewal(place: Place) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fake = Fake::start(if place.seeded { 3600 } else { 1 }).await;
    fake.put(NAME, json!({ "value": VALUE }));
    let vault = fake.open(role(&folder)).await.expect("the vault opens");
    tokio::time::sleep(Duration::from_millis(750)).await;
    vault.refresh().await.expect("the vault answers");
    assert_eq!(fake.counted(), (1, 1), "logins and renewals");
    fake.inside.lock().tokens.clear();
    vault.refresh().await.expect("the vault answers");
    assert_eq!(fake.counted().0, 2, "a revoked one is replaced");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    vault.refresh().await.expect("the vault answers");
    assert_eq!(fake.counted().0, 3, "a token whose life is over is not even tried");
    "1 renewed, 1 revoked and 1 outlived replaced".to_owned()
}

async fn hands(place: Place) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fake = Fake::start(0).await;
    fake.put(NAME, json!({ "value": VALUE }));
    fake.inside.lock().tokens.push("handed-over".to_owned());
    let file = folder.path().join("token");
    std::fs::write(&file, "handed-over\n").expect("a file of the case");
    let vault = fake.open(Entry::Token(file)).await.expect("the vault opens");
    let pair = vault.read(NAME).expect("it is there");
    if !place.seeded {
        fake.put(NAME, json!({ "value": "by another hand" }));
    }
    let said = vault.write(NAME, &pair).await.expect_err("another was first").to_string();
    assert!(said.contains("check-and-set"), "{said}");
    "1 of 2 refused".to_owned()
}
