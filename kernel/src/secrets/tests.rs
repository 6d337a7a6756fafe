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
