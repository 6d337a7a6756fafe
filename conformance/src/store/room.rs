//! A disk that is full: what units and readers are told, and that all goes on when there is room again.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kernel::clock::Clock;
use kernel::store::{Away, Engine, Options, Store, StoreError, Tx, WriteError};
use kernel::testing::world::{Note, On, STEPS, World, notes, write_note};
use kernel::{params, sql};

use super::tamper;
use crate::place::{Place, small_disk};

/// The part that has the small disk.
pub(crate) const DISK: &str = "store.disk";
/// The only line of it that counts.
const SAW: &str = "it saw: ";
/// Units that are tried while there is no room.
const TRIED: i64 = 200;
/// What refuses to grow a table, as a server does whose disk is full.
const STUCK: &str = "CREATE FUNCTION pg_temp.stuck() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$";

pub(super) async fn full(place: &Place, world: &World) -> String {
    if world.on == On::Sqlite {
        let (place, folder) = (place.clone(), world.path("disk"));
        let played = tokio::task::spawn_blocking(move || play_on_a_small_disk(&place, &folder));
        return played.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    }
    let admin = world.admin().await;
    let store = world.open().await;
    let schema = world.schema();
    let stuck = STUCK.replace("pg_temp", schema);
    let trigger = format!("CREATE TRIGGER stuck BEFORE INSERT ON {schema}.note EXECUTE FUNCTION {schema}.stuck()");
    let fill = async || admin.batch_execute(&format!("{stuck}; {trigger}")).await.expect("the server works");
    let empty = async || {
        let empty = format!("DROP TRIGGER stuck ON {schema}.note; DROP FUNCTION {schema}.stuck()");
        admin.batch_execute(&empty).await.expect("the server works");
    };
    play(&store, place.seeded, "postgres.url", fill, empty).await
}

/// Whether this machine lets somebody have a small disk, which the case needs; why not.
pub(crate) fn missing() -> Option<&'static str> {
    let folder = std::env::temp_dir();
    let tried = small_disk(&folder).arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let may = tried.is_ok_and(|ended| ended.success());
    (!may).then_some("this machine does not let a process mount a small disk of its own (unshare --user --mount)")
}

fn play_on_a_small_disk(place: &Place, folder: &Path) -> String {
    fs::create_dir(folder).expect("a temporary folder");
    let part = format!("{DISK}|{}\n{}", place.seeded, folder.display());
    let mut child = place.start_on_disk(&part, folder, Stdio::piped());
    let output = BufReader::new(child.0.stdout.take().expect("it is piped"));
    let lines: Vec<String> = output.lines().map_while(Result::ok).collect();
    let saw = lines.iter().find_map(|line| line.split_once(SAW)).map(|(_, saw)| saw.to_owned());
    let saw = saw.unwrap_or_else(|| panic!("the process on the small disk ended by itself: {lines:?}"));
    assert!(!saw.starts_with("broken: "), "{saw}");
    saw
}

/// The part with the small disk: it plays the case and prints what came of it.
pub(crate) async fn on_a_small_disk(told: &str) {
    let (seeded, folder) = told.split_once('\n').expect("two lines");
    let (seeded, folder) = (seeded == "true", Path::new(folder).to_owned());
    let played = kernel::testing::world::spawn(async move {
        let store = open(&folder).await.expect("there is room for a store");
        let filler = folder.join("filler");
        let fill = async || fill_up(&filler);
        let empty = async || fs::remove_file(&filler).expect("it is ours");
        let saw = play(&store, seeded, &folder.display().to_string(), fill, empty).await;
        store.close().await;
        refuses_to_start(&folder).await;
        saw
    });
    let text = match played.await {
        Ok(saw) => saw,
        Err(broken) => format!("broken: {}", panic_text(broken)),
    };
    writeln!(std::io::stdout(), "{SAW}{text}").expect("somebody reads it");
}

fn panic_text(broken: tokio::task::JoinError) -> String {
    let panic = broken.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default().replace('\n', " ")
}

async fn open(folder: &Path) -> Result<Store, StoreError> {
    let engine = Engine::Sqlite { path: folder.join("test.db") };
    Store::open(Options::new(engine, Clock::system()), STEPS).await
}

/// Takes what room there is, to the last block.
fn fill_up(filler: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(filler).expect("a file");
    for block in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![7; block]).is_ok() {}
    }
}

/// A new database on a disk that is full does not start, and says why.
async fn refuses_to_start(folder: &Path) {
    fill_up(&folder.join("filler"));
    let other = folder.join("other");
    // Without room for as much as a folder, the database's own folder has to do.
    let place = if fs::create_dir(&other).is_ok() { other } else { folder.to_owned() };
    let engine = Engine::Sqlite { path: place.join("new.db") };
    let said = Store::open(Options::new(engine, Clock::system()), STEPS).await.err().expect("no room").to_string();
    assert!(said.contains("is full") && said.contains("--data"), "{said}");
}

/// Fills the disk under a store that works, empties it again, and counts.
async fn play(store: &Store, seeded: bool, named: &str, fill: impl AsyncFnOnce(), empty: impl AsyncFnOnce()) -> String {
    let mut acknowledged: Vec<i64> = Vec::new();
    for id in 0..20 {
        write_note(store, id).await.expect("there is room");
        acknowledged.push(id);
    }
    fill().await;
    let began = Instant::now();
    let (mut refused, mut unknown) = (0, Vec::new());
    for id in 20..20 + TRIED {
        match long_note(store, id).await {
            Ok(()) => acknowledged.push(id),
            Err(WriteError::Unknown) => unknown.push(id),
            Err(WriteError::Unit(error) | WriteError::Store(error)) => {
                assert!(matches!(error, StoreError::Lost(Away::Full(_)) | StoreError::Sealed(_)), "{error}");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > TRIED / 2, "{refused} of {TRIED} were refused");
    assert!(began.elapsed() < Duration::from_secs(30), "nobody waits for room: {:?}", began.elapsed());
    let why = store.room().await.expect_err("there is no room");
    assert!(why.contains(named) && why.contains("make room"), "{why}");
    assert_eq!(notes(store).await, acknowledged, "reads go on");
    empty().await;
    let emptied = Instant::now();
    let next = 20 + TRIED;
    while long_note(store, next).await.is_err() {
        assert!(emptied.elapsed() < Duration::from_secs(20), "there has been room for long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    acknowledged.push(next);
    let ready = async {
        while store.room().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("it is ready again");
    if seeded {
        tamper(store, sql!("DELETE FROM note WHERE id = 0")).await;
    }
    let there = notes(store).await;
    let lost: Vec<&i64> = acknowledged.iter().filter(|id| there.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let more: Vec<&i64> = there.iter().filter(|id| !acknowledged.contains(id) && !unknown.contains(id)).collect();
    assert!(more.is_empty(), "refused and there: {more:?}");
    format!("{refused} of {TRIED} units refused, reads went on, {} acknowledged, 0 lost", acknowledged.len())
}

/// A note of some size, so that it needs room of its own.
async fn long_note(store: &Store, id: i64) -> Result<(), WriteError<StoreError>> {
    let unit = move |tx: Tx| async move {
        tx.insert(&Note { id, body: "x".repeat(20_000), remark: None }).await?;
        tx.run(sql!("UPDATE note SET remark = 'kept' WHERE id = $1"), params![id]).await.map(drop)
    };
    store.write(unit).await
}
