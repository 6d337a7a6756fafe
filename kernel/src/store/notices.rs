//! What other instances on the same database are to be told, collected until the next notice leaves.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Names that wait to be told; nothing is kept while nobody is there to hear it.
#[derive(Default)]
pub(super) struct Notices {
    listens: AtomicBool,
    anybody: AtomicBool,
    names: Mutex<BTreeSet<&'static str>>,
    filled: Notify,
}

impl Notices {
    /// Whether this instance hears the others, and whether there are any.
    pub(super) fn set_company(&self, listens: bool, anybody: bool) {
        self.listens.store(listens, Ordering::Relaxed);
        self.anybody.store(anybody, Ordering::Relaxed);
    }

    pub(super) fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, names: &[&'static str]) {
        if self.anybody.load(Ordering::Relaxed) {
            self.names.lock().extend(names);
            self.filled.notify_one();
        }
    }

    /// Everything that waits, with commas between; waits until there is something.
    pub(super) async fn next(&self) -> String {
        loop {
            let names = std::mem::take(&mut *self.names.lock());
            if !names.is_empty() {
                return names.into_iter().collect::<Vec<_>>().join(",");
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_told_once_together_and_only_to_somebody() {
        let notices = Notices::default();
        notices.add(&["unheard"]);
        notices.set_company(true, true);
        notices.add(&["outbox relay", "sweep"]);
        notices.add(&["sweep"]);
        assert_eq!(notices.next().await, "outbox relay,sweep");
        let nothing_left = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(nothing_left, notices.next()).await.is_err());
    }
}
