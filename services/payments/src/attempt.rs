//! One try to take the money: its states, the only moves between them, and what the provider's words mean for it.

use std::time::Duration;

use contracts::payments::PaymentStatus;

kernel::words! {
    /// Where an attempt stands. UNKNOWN keeps the operation whose outcome is not known.
    pub enum AttemptState {
        /// Nothing was asked of the provider.
        Created = "CREATED",
        /// A hold is being asked for.
        Authorizing = "AUTHORIZING",
        /// The bank holds the money for us.
        Authorized = "AUTHORIZED",
        /// The cardholder has to prove who they are.
        RequiresAction = "REQUIRES_ACTION",
        /// The bank said no; nothing is held.
        Declined = "DECLINED",
        /// The hold is being turned into money.
        Capturing = "CAPTURING",
        /// The money was taken.
        Captured = "CAPTURED",
        /// The hold is being let go.
        Voiding = "VOIDING",
        /// The hold was let go.
        Voided = "VOIDED",
        /// The hold, or the time to prove oneself, ran out.
        Expired = "EXPIRED",
        /// Whether the hold exists is not known.
        UnknownAuthorize = "UNKNOWN_AUTHORIZE",
        /// Whether the money was taken is not known.
        UnknownCapture = "UNKNOWN_CAPTURE",
        /// Whether the hold was let go is not known.
        UnknownVoid = "UNKNOWN_VOID",
    }
}

/// What can be asked of the provider about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Hold the money.
    Authorize,
    /// Take what is held.
    Capture,
    /// Let go what is held.
    Void,
}

/// A step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The intent to ask is written down.
    Send(Operation),
    /// The provider holds the money.
    Held,
    /// The provider wants the cardholder to prove who they are.
    Challenged,
    /// The provider said no and holds nothing.
    Refused,
    /// The provider took the money.
    Taken,
    /// The provider let go the hold.
    Released,
    /// The provider's time ran out.
    Lapsed,
    /// The provider gave no answer, or none that can be believed.
    Silent,
}

/// A move that its state does not allow; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an attempt that is {from} cannot make the move {attempted:?}")]
pub struct IllegalMove {
    /// The state.
    pub from: AttemptState,
    /// What it was asked to do.
    pub attempted: Move,
}

/// What was learnt of an attempt by a call or a look at the provider's books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Held under the provider's identity for it.
    Held(String),
    /// Waiting for the cardholder: the provider's identity for it and where they have to go.
    Challenged(String, String),
    /// Refused with the provider's code; nothing is held.
    Refused(String),
    /// Captured.
    Taken,
    /// Voided.
    Released,
    /// Expired.
    Lapsed,
    /// No answer that can be believed, and why.
    Silent(String),
    /// Refused in a way that a look at the books has to explain, at once.
    Doubtful(String),
    /// The call never left this machine, or the books say nothing new.
    NothingNew(String),
}

/// What was heard of the order that an attempt pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Heard {
    /// It ended without success.
    pub ended: bool,
    /// The kitchen accepted it.
    pub accepted: bool,
}

use AttemptState::{
    Authorized, Authorizing, Captured, Capturing, Created, Declined, Expired, RequiresAction, UnknownAuthorize,
    UnknownCapture, UnknownVoid, Voided, Voiding,
};

impl AttemptState {
    /// The state after a move.
    ///
    /// # Errors
    /// Every move that is not in the table below.
    pub fn after(self, step: Move) -> Result<Self, IllegalMove> {
        Ok(match (self, step) {
            (Created | RequiresAction, Move::Send(Operation::Authorize)) => Authorizing,
            (Authorized, Move::Send(Operation::Capture)) => Capturing,
            (Authorized, Move::Send(Operation::Void)) => Voiding,
            (Authorizing | UnknownAuthorize, Move::Held) => Authorized,
            (Authorizing | UnknownAuthorize, Move::Challenged) => RequiresAction,
            (Authorizing | UnknownAuthorize, Move::Refused) => Declined,
            (Authorizing, Move::Silent) => UnknownAuthorize,
            (Capturing | UnknownCapture, Move::Taken) => Captured,
            (Capturing, Move::Silent) => UnknownCapture,
            (Voiding | UnknownVoid, Move::Released) => Voided,
            (Voiding, Move::Silent) => UnknownVoid,
            // A capture or void that finds the hold gone learns it from the books, so it passes through UNKNOWN.
            (Authorized | RequiresAction | UnknownCapture | UnknownVoid, Move::Lapsed) => Expired,
            (from, attempted) => return Err(IllegalMove { from, attempted }),
        })
    }

    /// The moves that a finding stands for in this state; several where the books show more than one step at once.
    pub fn moves(self, finding: &Finding) -> Vec<Move> {
        let last = match finding {
            Finding::Held(_) => Move::Held,
            Finding::Challenged(..) => Move::Challenged,
            Finding::Refused(_) => Move::Refused,
            Finding::Taken => Move::Taken,
            Finding::Released => Move::Released,
            Finding::Lapsed => Move::Lapsed,
            Finding::Silent(_) | Finding::Doubtful(_) if self.is_unknown() => return Vec::new(),
            Finding::Silent(_) | Finding::Doubtful(_) => Move::Silent,
            Finding::NothingNew(_) => return Vec::new(),
        };
        match (self, last) {
            (RequiresAction, Move::Challenged) => Vec::new(),
            (RequiresAction, Move::Held | Move::Refused) => vec![Move::Send(Operation::Authorize), last],
            (Capturing | Voiding, Move::Lapsed) => vec![Move::Silent, last],
            _ => vec![last],
        }
    }

    /// What the order's fate asks for next. An end outweighs an acceptance.
    pub fn wanted(self, heard: Heard) -> Option<Operation> {
        match self {
            Created => Some(Operation::Authorize),
            Authorized if heard.ended => Some(Operation::Void),
            Authorized if heard.accepted => Some(Operation::Capture),
            // The open challenge is withdrawn, so that nobody can answer it for an order that is over.
            RequiresAction if heard.ended => Some(Operation::Authorize),
            _ => None,
        }
    }

    /// Whether the outcome of an operation is not known.
    pub fn is_unknown(self) -> bool {
        matches!(self, UnknownAuthorize | UnknownCapture | UnknownVoid)
    }

    /// Whether an operation is under way or its outcome is not known.
    pub fn is_open(self) -> bool {
        self.is_unknown() || matches!(self, Created | Authorizing | Capturing | Voiding)
    }

    /// Whether another attempt may follow this one.
    pub fn is_over(self) -> bool {
        matches!(self, Declined | Expired | Voided)
    }

    /// Whether the bank holds money in this state, as far as we know.
    pub fn holds(self) -> bool {
        matches!(self, Authorized | Capturing | UnknownCapture | Voiding | UnknownVoid)
    }

    /// The public state of a payment whose newest attempt is in this state, before refunds.
    pub fn public(self) -> PaymentStatus {
        match self {
            Created => PaymentStatus::Created,
            Captured => PaymentStatus::Success,
            Declined | Expired | Voided => PaymentStatus::Failed,
            _ => PaymentStatus::Processing,
        }
    }
}

/// How long to wait before the provider's books are looked at once more.
pub fn wait_before_look(tries: i64) -> Duration {
    Duration::from_secs(match tries {
        ..=0 => 1,
        1 => 5,
        2 => 30,
        _ => 60,
    })
}

/// The provider's key of an operation, fixed before the first call: a repeat can have no second effect.
pub fn key(payment: uuid::Uuid, operation: &str, number: i64) -> String {
    format!("{payment}:{operation}:{number}")
}

/// The provider's key of what undoes a success that came after the order's end.
pub fn late_key(payment: uuid::Uuid) -> String {
    format!("late:{payment}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MOVES: [Move; 10] = [
        Move::Send(Operation::Authorize), Move::Send(Operation::Capture), Move::Send(Operation::Void), Move::Held,
        Move::Challenged, Move::Refused, Move::Taken, Move::Released, Move::Lapsed, Move::Silent,
    ];

    /// The rule's own words, written a second time and by name: from → to.
    const EDGES: &[(&str, &[&str])] = &[
        ("CREATED", &["AUTHORIZING"]),
        ("AUTHORIZING", &["AUTHORIZED", "REQUIRES_ACTION", "DECLINED", "UNKNOWN_AUTHORIZE"]),
        ("REQUIRES_ACTION", &["AUTHORIZING", "EXPIRED"]),
        ("AUTHORIZED", &["CAPTURING", "VOIDING", "EXPIRED"]),
        ("CAPTURING", &["CAPTURED", "UNKNOWN_CAPTURE"]),
        ("VOIDING", &["VOIDED", "UNKNOWN_VOID"]),
        ("UNKNOWN_AUTHORIZE", &["AUTHORIZED", "REQUIRES_ACTION", "DECLINED"]),
        ("UNKNOWN_CAPTURE", &["CAPTURED", "EXPIRED"]),
        ("UNKNOWN_VOID", &["VOIDED", "EXPIRED"]),
        ("DECLINED", &[]),
        ("CAPTURED", &[]),
        ("VOIDED", &[]),
        ("EXPIRED", &[]),
    ];

    fn edges() -> BTreeSet<(&'static str, &'static str)> {
        EDGES.iter().flat_map(|(from, tos)| tos.iter().map(move |to| (*from, *to))).collect()
    }

    #[test]
    fn the_machine_has_the_rule_s_edges_and_no_other() {
        let mut found = BTreeSet::new();
        for state in AttemptState::ALL {
            for step in MOVES {
                if let Ok(next) = state.after(step) {
                    found.insert((state.word(), next.word()));
                }
            }
        }
        assert_eq!(found, edges());
        assert_eq!(EDGES.len(), AttemptState::ALL.len());
    }

    /// What a bank would know of one attempt: a model that knows no state names.
    #[derive(Default)]
    struct Bank {
        asked: Option<Operation>,
        held: bool,
        challenged: bool,
        over: bool,
        in_doubt: bool,
        captures: u32,
        voids: u32,
    }

    impl Bank {
        fn allows(&self, step: Move) -> bool {
            let asked = |operation| self.asked == Some(operation);
            match step {
                Move::Send(Operation::Authorize) => !self.over && !self.held && self.asked.is_none(),
                Move::Send(_) => self.held && self.asked.is_none(),
                Move::Held | Move::Challenged | Move::Refused => asked(Operation::Authorize),
                Move::Taken => asked(Operation::Capture),
                Move::Released => asked(Operation::Void),
                Move::Lapsed => (self.held || self.challenged) && (self.asked.is_none() || self.in_doubt),
                Move::Silent => self.asked.is_some() && !self.in_doubt,
            }
        }

        fn does(&mut self, step: Move) {
            let asked = match step {
                Move::Send(operation) => Some(operation),
                Move::Silent => self.asked,
                _ => None,
            };
            (self.asked, self.in_doubt) = (asked, step == Move::Silent);
            self.challenged = step == Move::Challenged;
            match step {
                Move::Held => self.held = true,
                Move::Taken => (self.captures, self.held, self.over) = (self.captures + 1, false, true),
                Move::Released => (self.voids, self.held, self.over) = (self.voids + 1, false, true),
                Move::Lapsed | Move::Refused => (self.held, self.over) = (false, true),
                Move::Send(_) | Move::Challenged | Move::Silent => {}
            }
        }
    }

    proptest! {
        // 256 sequences of 600 moves: 153,600 operations, each compared with the model.
        #[test]
        fn random_moves_do_what_a_bank_would_and_never_take_money_twice(picks in prop::collection::vec(0..MOVES.len(), 600)) {
            let (mut state, mut bank) = (Created, Bank::default());
            for pick in picks {
                let step = MOVES[pick];
                let next = state.after(step);
                prop_assert_eq!(next.is_ok(), bank.allows(step), "{} {:?}", state, step);
                if let Ok(next) = next {
                    bank.does(step);
                    prop_assert_eq!(next.holds(), bank.held, "{}", next);
                    state = next;
                }
                prop_assert!(bank.captures + bank.voids <= 1);
                if state.after(Move::Silent).is_err() && MOVES.iter().all(|m| state.after(*m).is_err()) {
                    (state, bank) = (Created, Bank::default());
                }
            }
        }

        #[test]
        fn whatever_is_found_is_either_a_legal_path_or_changes_nothing(at in 0..AttemptState::ALL.len(), what in 0..8_usize) {
            let findings = [
                Finding::Held("a".into()), Finding::Challenged("a".into(), "u".into()), Finding::Refused("c".into()),
                Finding::Taken, Finding::Released, Finding::Lapsed, Finding::Silent("s".into()), Finding::NothingNew("n".into()),
            ];
            let state = AttemptState::ALL[at];
            let path = state.moves(&findings[what]).into_iter().try_fold(state, AttemptState::after);
            if state.is_over() || state == Captured {
                prop_assert!(path.is_err() || path == Ok(state));
            }
            if what == 7 {
                prop_assert_eq!(path, Ok(state));
            }
        }
    }

    #[test]
    fn an_end_outweighs_an_acceptance() {
        let both = Heard { ended: true, accepted: true };
        let accepted = Heard { ended: false, accepted: true };
        assert_eq!(Authorized.wanted(both), Some(Operation::Void));
        assert_eq!(Authorized.wanted(accepted), Some(Operation::Capture));
        assert_eq!(Authorized.wanted(Heard::default()), None);
        assert_eq!(Capturing.wanted(both), None);
    }

    #[test]
    fn five_public_states_cover_every_state() {
        let public = |state: AttemptState| state.public().word();
        for state in AttemptState::ALL {
            let want = match state.word() {
                "CREATED" => "CREATED",
                "CAPTURED" => "SUCCESS",
                "DECLINED" | "EXPIRED" | "VOIDED" => "FAILED",
                _ => "PROCESSING",
            };
            assert_eq!(public(*state), want, "{state}");
        }
    }

    #[test]
    fn the_provider_is_looked_at_after_1_5_and_30_seconds_and_then_each_minute() {
        let waits: Vec<u64> = (0..5).map(|tries| wait_before_look(tries).as_secs()).collect();
        assert_eq!(waits, [1, 5, 30, 60, 60]);
    }
}
