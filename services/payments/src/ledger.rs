//! The books: every movement is one transfer between two accounts, so that debits and credits cannot differ.

use kernel::money::Currency;
use uuid::Uuid;

use crate::attempt::AttemptState;

kernel::words! {
    /// The accounts. Their balance is debits minus credits; all of them together are always zero.
    pub enum Account {
        /// Money that banks hold on customers' cards for us.
        CardHolds = "card_holds",
        /// The other side of the holds: captures that may come. Zero when no attempt is open.
        PendingCaptures = "pending_captures",
        /// What the provider took for us and has yet to pay out.
        ProviderReceivable = "provider_receivable",
        /// What we owe the restaurant's organisation.
        RestaurantPayable = "restaurant_payable",
    }
}

kernel::words! {
    /// Why money moved.
    pub enum TransferKind {
        /// A bank holds money.
        Hold = "HOLD",
        /// A hold ended, by capture, void or expiry.
        Release = "RELEASE",
        /// Held money was taken.
        Capture = "CAPTURE",
        /// Taken money was given back.
        Refund = "REFUND",
    }
}

impl TransferKind {
    /// The account that is debited and the one that is credited.
    pub fn accounts(self) -> (Account, Account) {
        match self {
            Self::Hold => (Account::CardHolds, Account::PendingCaptures),
            Self::Release => (Account::PendingCaptures, Account::CardHolds),
            Self::Capture => (Account::ProviderReceivable, Account::RestaurantPayable),
            Self::Refund => (Account::RestaurantPayable, Account::ProviderReceivable),
        }
    }

    /// The place among the transfers of one source; with the source it is unique, so nothing is booked twice.
    pub fn leg(self) -> i64 {
        match self {
            Self::Hold | Self::Refund => 1,
            Self::Release => 2,
            Self::Capture => 3,
        }
    }
}

/// What is booked when an attempt goes from one state to another.
pub fn bookings(from: AttemptState, to: AttemptState) -> Vec<TransferKind> {
    let mut kinds = Vec::new();
    if !from.holds() && to.holds() {
        kinds.push(TransferKind::Hold);
    }
    if from.holds() && !to.holds() {
        kinds.push(TransferKind::Release);
    }
    if to == AttemptState::Captured && from != to {
        kinds.push(TransferKind::Capture);
    }
    kinds
}

/// Whose money moved, why and how much: what a transfer needs beside its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The attempt or refund that moved it.
    pub source: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// The order.
    pub order_id: Uuid,
    /// How much.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// The key under which the provider has it in its own books.
    pub provider_key: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::attempt::{Move, Operation};

    fn post(balances: &mut BTreeMap<Account, i64>, kind: TransferKind, amount: i64) {
        let (debit, credit) = kind.accounts();
        *balances.entry(debit).or_default() += amount;
        *balances.entry(credit).or_default() -= amount;
    }

    fn balance(balances: &BTreeMap<Account, i64>, account: Account) -> i64 {
        balances.get(&account).copied().unwrap_or_default()
    }

    const MOVES: [Move; 10] = [
        Move::Send(Operation::Authorize), Move::Send(Operation::Capture), Move::Send(Operation::Void), Move::Held,
        Move::Challenged, Move::Refused, Move::Taken, Move::Released, Move::Lapsed, Move::Silent,
    ];

    proptest! {
        #[test]
        fn whatever_happens_the_books_balance_and_holds_are_closed(
            steps in prop::collection::vec((0..MOVES.len(), 0..4_i64), 600),
            amount in 1..1_000_000_i64,
        ) {
            let (mut state, mut balances) = (AttemptState::Created, BTreeMap::new());
            let (mut captured, mut refunded, mut legs) = (0, 0, Vec::new());
            for (pick, part) in steps {
                let Ok(next) = state.after(MOVES[pick]) else {
                    if state == AttemptState::Captured && captured - refunded >= part && part > 0 {
                        post(&mut balances, TransferKind::Refund, part);
                        refunded += part;
                    }
                    continue;
                };
                for kind in bookings(state, next) {
                    prop_assert!(!legs.contains(&kind.leg()), "{} booked twice", kind);
                    legs.push(kind.leg());
                    post(&mut balances, kind, amount);
                }
                captured = if next == AttemptState::Captured { amount } else { 0 };
                state = next;
                prop_assert_eq!(balances.values().sum::<i64>(), 0);
                prop_assert_eq!(balance(&balances, Account::CardHolds), if state.holds() { amount } else { 0 });
            }
            prop_assert_eq!(balance(&balances, Account::ProviderReceivable), captured - refunded);
            prop_assert_eq!(balance(&balances, Account::RestaurantPayable), refunded - captured);
        }
    }

    #[test]
    fn no_transfer_has_one_account_on_both_sides() {
        for kind in TransferKind::ALL {
            let (debit, credit) = kind.accounts();
            assert_ne!(debit, credit, "{kind}");
        }
    }
}
