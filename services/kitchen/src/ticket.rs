//! A ticket's states and the steps between them.

kernel::words! {
    /// Where a ticket stands. The last four are ends.
    pub(crate) enum TicketStatus {
        /// The restaurant has to say yes or no.
        Open = "OPEN",
        /// The restaurant said yes; the money is being taken.
        Accepted = "ACCEPTED",
        /// Being cooked.
        Cooking = "COOKING",
        /// Waiting for the courier.
        Ready = "READY",
        /// With the courier.
        HandedOver = "HANDED_OVER",
        /// The restaurant said no.
        Rejected = "REJECTED",
        /// The restaurant did not answer in time.
        Expired = "EXPIRED",
        /// The order ended before the food left.
        Withdrawn = "WITHDRAWN",
    }
}

/// What can happen to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Accept,
    Reject,
    Expire,
    Start,
    Finish,
    HandOver,
    Withdraw,
}

impl Step {
    /// Whether others are told, which is what a ticket's version counts.
    pub(crate) const fn is_published(self) -> bool {
        !matches!(self, Self::HandOver | Self::Withdraw)
    }
}

impl TicketStatus {
    /// Where this step leads; none if it cannot be taken from here.
    pub(crate) const fn after(self, step: Step) -> Option<Self> {
        Some(match (self, step) {
            (Self::Open, Step::Accept) => Self::Accepted,
            (Self::Open, Step::Reject) => Self::Rejected,
            (Self::Open, Step::Expire) => Self::Expired,
            (Self::Accepted, Step::Start) => Self::Cooking,
            (Self::Cooking, Step::Finish) => Self::Ready,
            (Self::Cooking | Self::Ready, Step::HandOver) => Self::HandedOver,
            (Self::Open | Self::Accepted | Self::Cooking | Self::Ready, Step::Withdraw) => Self::Withdrawn,
            _ => return None,
        })
    }
}

kernel::refusals! {
    /// What the kitchen refuses.
    pub enum Refusal {
        /// The ticket is not open: it was answered already, its time is over, or the order was called off.
        TicketNotOpen = 409 "ticket_not_open",
        /// The ticket is not being cooked: the order is not confirmed yet, is ready already, or was called off.
        TicketNotCooking = 409 "ticket_not_cooking",
        /// More than this is set aside for orders; give a larger figure, or reject some orders first.
        StockReserved = 409 "stock_reserved",
        /// The item has no daily stock and is not counted; give it a daily stock in the menu first.
        StockNotLimited = 409 "stock_not_limited",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_goes_forward_and_never_comes_back() {
        use TicketStatus as T;
        let table = [
            (Step::Accept, vec![(T::Open, T::Accepted)]),
            (Step::Reject, vec![(T::Open, T::Rejected)]),
            (Step::Expire, vec![(T::Open, T::Expired)]),
            (Step::Start, vec![(T::Accepted, T::Cooking)]),
            (Step::Finish, vec![(T::Cooking, T::Ready)]),
            (Step::HandOver, vec![(T::Cooking, T::HandedOver), (T::Ready, T::HandedOver)]),
            (Step::Withdraw, [T::Open, T::Accepted, T::Cooking, T::Ready].map(|from| (from, T::Withdrawn)).to_vec()),
        ];
        for (step, moves) in table {
            for from in T::ALL {
                let wanted = moves.iter().find(|(start, _)| start == from).map(|(_, end)| *end);
                assert_eq!(from.after(step), wanted, "{step:?} from {from}");
            }
        }
    }
}
