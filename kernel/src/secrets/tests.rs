//! Providers, rotation in two steps, and that nothing shows itself.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    Variables::new("FX", pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[tokio::test]
async fn a_secret_is_made_once_kept_private_and_rotated_in_two_steps() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(&folder.path().join("secrets")).unwrap();
    let first = secrets.get("internal").unwrap();
    assert_eq!(secrets.get("internal").unwrap(), first);
    assert_eq!(first.reveal().len(), 64);
    let mode = std::fs::metadata(folder.path().join("secrets/internal")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = secrets.lay_next("internal").await.unwrap();
    assert_ne!(second, first);
    let laid = Pair { current: first.clone(), next: Some(second.clone()), previous: None };
    assert_eq!(secrets.pair("internal").unwrap(), laid);
    assert_eq!(secrets.lay_next("internal").await.unwrap(), second, "a rotation that broke off goes on");
    secrets.promote("internal").await.unwrap();
    let done = Pair { current: second, next: None, previous: Some(first.clone()) };
    assert_eq!(secrets.pair("internal").unwrap(), done);
    let said = secrets.promote("internal").await.unwrap_err().to_string();
    assert!(said.contains("no next secret"), "{said}");
    assert_eq!(secrets.provider().names().unwrap(), ["internal"]);
    assert!(!format!("{secrets:?}{first:?}{done:?}").contains(&first.reveal_text()));
}

#[tokio::test]
async fn whoever_reads_while_a_secret_is_rotated_always_accepts_the_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(folder.path()).unwrap();
    let mut good = vec![secrets.get("internal").unwrap()];
    let reader = secrets.clone();
    let stop = CancellationToken::new();
    let told = stop.clone();
    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        while !told.is_cancelled() {
            read.push(reader.pair("internal").unwrap());
        }
        read
    });
    for _ in 0..50 {
        good.push(secrets.lay_next("internal").await.unwrap());
        secrets.promote("internal").await.unwrap();
    }
    stop.cancel();
    for pair in reading.join().unwrap() {
        let at = good.iter().position(|secret| *secret == pair.current).expect("only whole secrets are read");
        // Beside the one in use stands its neighbour in the story, and nothing else.
        let neighbours = [at.checked_sub(1).map(|before| &good[before]), good.get(at + 1)];
        assert!(pair.accepted().count() <= 2, "{pair:?}");
        assert!(pair.other().is_none_or(|other| neighbours.contains(&Some(other))), "{pair:?} at {at}");
    }
}

#[tokio::test]
async fn a_change_is_told_to_those_who_follow_and_trouble_keeps_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(folder.path()).unwrap();
    let live = secrets.live("internal").unwrap();
    let (mut changes, stop) = (live.changes(), CancellationToken::new());
    let watch = secrets.watch(Duration::from_millis(10), stop.clone());
    let change = async {
        let next = secrets.lay_next("internal").await.unwrap();
        changes.changed().await.unwrap();
        assert_eq!(live.get().next.as_ref(), Some(&next));
        secrets.promote("internal").await.unwrap();
        changes.changed().await.unwrap();
        assert_eq!(live.get().current, next);
        let file = folder.path().join("internal");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(live.get().current, next, "a file that cannot be read takes nothing away");
        stop.cancel();
    };
    tokio::join!(watch, change);
}

#[tokio::test]
async fn variables_hold_secrets_or_name_files_and_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mounted");
    std::fs::write(&file, "from a file\n").unwrap();
    let secrets = variables(&[
        ("FX_SECRET_INTERNAL", "from a variable"),
        ("FX_SECRET_INTERNAL_PREVIOUS", "before"),
        ("FX_SECRET_DB_ORDERS_FILE", file.to_str().unwrap()),
        ("OTHER_SECRET_X", "not ours"),
    ]);
    let internal = secrets.read("internal").unwrap();
    assert_eq!(
        (internal.current.reveal(), internal.previous.unwrap().reveal()),
        (&b"from a variable"[..], &b"before"[..])
    );
    assert_eq!(secrets.read("db-orders").unwrap().current.reveal(), b"from a file");
    std::fs::write(&file, "mounted anew").unwrap();
    assert_eq!(secrets.read("db-orders").unwrap().current.reveal(), b"mounted anew");
    assert_eq!(secrets.names().unwrap(), ["db-orders", "internal"]);
    let said = secrets.read("card-network-api-key").unwrap_err().to_string();
    assert!(said.contains("FX_SECRET_CARD_NETWORK_API_KEY_FILE"), "{said}");
    let said = Secrets::from(Arc::new(secrets.clone())).lay_next("internal").await.unwrap_err().to_string();
    assert!(said.contains("FX_SECRET_INTERNAL_NEXT_FILE"), "{said}");
    assert!(!format!("{secrets:?}").contains("from a variable"));
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(folder.path()).unwrap();
    for name in ["../internal", "", "a/b", "internal.next", "Å"] {
        assert!(secrets.get(name).is_err(), "{name:?}");
    }
}
