//! A provider with honest books that answers badly: it loses calls and answers, by a seed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use kernel::money::Currency;

use crate::provider::{Asking, BookLine, BookPage, Call, Known, KnownRefund, Provider, Reply, Standing, Unreadable, What};

pub(super) struct Hold {
    pub(super) known: Known,
    pub(super) reference: String,
    pub(super) captures: usize,
    pub(super) voids: usize,
    pub(super) refunded_minor: i64,
    token: String,
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) holds: BTreeMap<String, Hold>,
    pub(super) calls: usize,
    pub(super) lost: usize,
    replies: HashMap<String, (Call, Reply)>,
    lines: Vec<BookLine>,
}

/// The provider. Faults come from a small generator of its own, so that a seed names a run.
pub(super) struct Cruel {
    pub(super) books: Mutex<Books>,
    dice: Mutex<u64>,
    pub(super) is_kind: std::sync::atomic::AtomicBool,
}

pub(super) fn roll(dice: &mut u64, sides: u64) -> u64 {
    // Xorshift: nothing here needs better chance than that.
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice % sides
}

impl Cruel {
    pub(super) fn new(seed: u64) -> Self {
        Self { books: Mutex::default(), dice: Mutex::new(seed), is_kind: false.into() }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    fn fate(&self, sides: u64) -> u64 {
        if self.is_kind.load(std::sync::atomic::Ordering::SeqCst) { u64::MAX } else { roll(&mut self.dice.lock().unwrap(), sides) }
    }
}

impl Books {
    fn perform(&mut self, call: &Call) -> Reply {
        if let Some((before, reply)) = self.replies.get(&call.key) {
            assert_eq!(before, call, "one key was used for two calls");
            return reply.clone();
        }
        let reply = self.effect(call);
        self.replies.insert(call.key.clone(), (call.clone(), reply.clone()));
        reply
    }

    fn effect(&mut self, call: &Call) -> Reply {
        match &call.what {
            What::Authorize { reference, token, amount } => self.hold(&call.key, reference, token, amount.amount_minor),
            What::Capture { provider_id, amount_minor } => {
                let hold = self.holds.get_mut(provider_id).unwrap();
                if hold.token == "expires" && hold.known.standing == Standing::Authorized {
                    hold.known.standing = Standing::Expired;
                }
                if hold.known.standing != Standing::Authorized {
                    return Reply::Final(format!("{:?}", hold.known.standing));
                }
                (hold.known.standing, hold.known.captured_minor, hold.captures) = (Standing::Captured, *amount_minor, hold.captures + 1);
                self.write("capture", provider_id, &call.key, *amount_minor)
            }
            What::Void { provider_id } => {
                let hold = self.holds.get_mut(provider_id).unwrap();
                if !matches!(hold.known.standing, Standing::Authorized | Standing::RequiresAction) {
                    return Reply::Final(format!("{:?}", hold.known.standing));
                }
                (hold.known.standing, hold.voids) = (Standing::Voided, hold.voids + 1);
                self.write("void", provider_id, &call.key, 1)
            }
            What::Refund { provider_id, amount_minor } => {
                let hold = self.holds.get_mut(provider_id).unwrap();
                if hold.known.captured_minor - hold.refunded_minor < *amount_minor {
                    return Reply::Final("refund_exceeds_capture".into());
                }
                hold.refunded_minor += amount_minor;
                hold.known.refunds.push(KnownRefund { key: Some(call.key.clone()), succeeded: true, code: None });
                self.write("refund", provider_id, &call.key, *amount_minor)
            }
        }
    }

    fn hold(&mut self, key: &str, reference: &str, token: &str, amount_minor: i64) -> Reply {
        let id = format!("auth_{}", self.holds.len());
        let standing = match token {
            "declines" => Standing::Declined,
            "challenges" => Standing::RequiresAction,
            _ => Standing::Authorized,
        };
        let known = Known {
            provider_id: id.clone(),
            standing,
            decline_code: (standing == Standing::Declined).then(|| "card_declined".to_owned()),
            challenge_url: None,
            captured_minor: 0,
            keys: vec![key.to_owned()],
            refunds: Vec::new(),
        };
        let hold = Hold { known, reference: reference.into(), captures: 0, voids: 0, refunded_minor: 0, token: token.into() };
        self.holds.insert(id.clone(), hold);
        self.write("authorization", &id, key, amount_minor);
        match standing {
            Standing::Declined => Reply::Declined("card_declined".into()),
            Standing::RequiresAction => Reply::RequiresAction(id, "https://bank.example.test".into()),
            _ => Reply::Approved(id),
        }
    }

    fn write(&mut self, kind: &str, id: &str, key: &str, amount_minor: i64) -> Reply {
        let reference = self.holds[id].reference.clone();
        let line = BookLine { kind: kind.into(), succeeded: true, reference, key: Some(key.into()), amount_minor, currency: Currency::EUR };
        self.lines.push(line);
        Reply::Approved(id.to_owned())
    }
}

impl Provider for Cruel {
    fn call<'a>(&'a self, call: &'a Call) -> Asking<'a, Reply> {
        Box::pin(async move {
            let fate = self.fate(10);
            tokio::task::yield_now().await;
            let mut books = self.books();
            books.calls += 1;
            match fate {
                0 => Reply::NotSent("no connection".into()),
                1 => Reply::Unknown("lost on the way there".into()),
                2 | 3 => {
                    books.lost += 1;
                    books.perform(call);
                    Reply::Unknown("lost on the way back".into())
                }
                _ => books.perform(call),
            }
        })
    }

    fn lookup<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Vec<Known>, Unreadable>> {
        Box::pin(async move {
            if self.fate(5) == 0 {
                return Err(Unreadable("no answer".into()));
            }
            let books = self.books();
            Ok(books.holds.values().filter(|h| h.reference == reference).map(|h| h.known.clone()).collect())
        })
    }

    fn books(&self, after: i64) -> Asking<'_, Result<BookPage, Unreadable>> {
        Box::pin(async move {
            // Small pages, so that turning them is tried too.
            let books = self.books.lock().unwrap();
            let from = usize::try_from(after).unwrap();
            let lines: Vec<BookLine> = books.lines.iter().skip(from).take(50).cloned().collect();
            let next = i64::try_from(from + lines.len()).unwrap();
            Ok(BookPage { next_after: (lines.len() == 50).then_some(next), lines })
        })
    }
}
