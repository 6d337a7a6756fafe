//! Customers who ask without end while something is done to the city, and what they were answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How often each answer was given.
pub(crate) type Answers = BTreeMap<String, u64>;

/// Customers at work, each a thread of its own.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    customers: Vec<JoinHandle<Answers>>,
}

impl Load {
    /// Two of them; each asks until it is told to stop.
    pub(crate) fn of(customer: impl Fn(usize, &AtomicBool) -> Answers + Clone + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = |number| {
            let (customer, stop) = (customer.clone(), stop.clone());
            std::thread::spawn(move || customer(number, &stop))
        };
        Self { customers: (0..2).map(begin).collect(), stop }
    }

    /// What all of them were answered.
    pub(crate) fn end(self) -> Answers {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = BTreeMap::new();
        for customer in self.customers {
            for (answer, count) in customer.join().unwrap() {
                *all.entry(answer).or_default() += count;
            }
        }
        all
    }
}

/// Every request was served, and there were some.
pub(crate) fn only_good(answers: &Answers) {
    assert!(answers.len() == 1 && answers.get("200").is_some_and(|count| *count > 100), "{answers:?}");
}
