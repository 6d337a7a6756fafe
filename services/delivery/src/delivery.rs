//! A delivery's states and the steps between them.

kernel::words! {
    /// Where a delivery stands. The last three are ends.
    pub(crate) enum DeliveryStatus {
        /// No courier yet, or none any more.
        Waiting = "WAITING",
        /// A courier is on the way to the restaurant.
        Assigned = "ASSIGNED",
        /// The courier has the food.
        PickedUp = "PICKED_UP",
        /// The customer has the food.
        Delivered = "DELIVERED",
        /// Nobody could bring it.
        Failed = "FAILED",
        /// The order ended before it was brought.
        Cancelled = "CANCELLED",
    }
}

/// What can happen to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A courier was found.
    Assign,
    /// The courier cannot do it.
    GiveBack,
    /// The courier has the food.
    PickUp,
    /// The customer has the food.
    HandOver,
    /// A deadline passed.
    Fail,
    /// The order ended.
    Cancel,
    /// The order was said to be delivered by somebody else's hand.
    Close,
}

impl Step {
    /// Every step.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 7] =
        [Self::Assign, Self::GiveBack, Self::PickUp, Self::HandOver, Self::Fail, Self::Cancel, Self::Close];

    /// Whether others are told, which is what a delivery's version counts.
    pub(crate) const fn is_published(self) -> bool {
        matches!(self, Self::Assign | Self::PickUp | Self::HandOver | Self::Fail)
    }

    /// How it ends the courier's assignment; none if the courier goes on.
    pub(crate) const fn ends_assignment(self) -> Option<&'static str> {
        match self {
            Self::Assign | Self::PickUp => None,
            Self::GiveBack => Some(GIVEN_BACK),
            Self::HandOver | Self::Close => Some("DELIVERED"),
            Self::Fail => Some("FAILED"),
            Self::Cancel => Some("CANCELLED"),
        }
    }
}

/// The ending of an assignment that keeps its courier from getting the same delivery again.
pub(crate) const GIVEN_BACK: &str = "GIVEN_BACK";

impl DeliveryStatus {
    /// Where this step leads; none if it cannot be taken from here.
    pub(crate) const fn after(self, step: Step) -> Option<Self> {
        Some(match (self, step) {
            (Self::Waiting, Step::Assign) => Self::Assigned,
            (Self::Assigned, Step::GiveBack) => Self::Waiting,
            (Self::Assigned, Step::PickUp) => Self::PickedUp,
            (Self::PickedUp, Step::HandOver) => Self::Delivered,
            (Self::Waiting | Self::PickedUp, Step::Fail) => Self::Failed,
            (Self::Waiting | Self::Assigned | Self::PickedUp, Step::Cancel) => Self::Cancelled,
            (Self::Waiting | Self::Assigned | Self::PickedUp, Step::Close) => Self::Delivered,
            _ => return None,
        })
    }

    /// Whether a courier is busy with it.
    pub(crate) const fn has_courier(self) -> bool {
        matches!(self, Self::Assigned | Self::PickedUp)
    }

    /// Whether nothing comes after it.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Cancelled)
    }

    /// What a courier who drives by themselves does next.
    pub(crate) const fn driven_on_by(self, ready: bool) -> Option<Step> {
        match self {
            Self::Assigned if ready => Some(Step::PickUp),
            Self::PickedUp => Some(Step::HandOver),
            _ => None,
        }
    }
}

kernel::refusals! {
    /// What the delivery service refuses.
    pub enum Refusal {
        /// The kitchen has not said that the food is ready; try again when it has.
        FoodNotReady = 409 "food_not_ready",
        /// The delivery is not waiting to be picked up: the food has left, or the order was called off.
        DeliveryNotAssigned = 409 "delivery_not_assigned",
        /// The food is not on its way: it was not picked up yet, was delivered already, or the order was called off.
        DeliveryNotPickedUp = 409 "delivery_not_picked_up",
        /// Nobody knows where you are; begin your shift with a place.
        PlaceNeeded = 422 "place_needed",
        /// Begin a shift first; nobody's place is kept outside of one.
        NotOnShift = 409 "not_on_shift",
        /// This courier of the demo city is always on shift.
        DemoShift = 409 "demo_shift",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeliveryStatus as D;

    #[test]
    fn each_step_is_taken_from_where_it_may_be_and_from_nowhere_else() {
        let live = [D::Waiting, D::Assigned, D::PickedUp];
        let table = [
            (Step::Assign, vec![(D::Waiting, D::Assigned)]),
            (Step::GiveBack, vec![(D::Assigned, D::Waiting)]),
            (Step::PickUp, vec![(D::Assigned, D::PickedUp)]),
            (Step::HandOver, vec![(D::PickedUp, D::Delivered)]),
            (Step::Fail, vec![(D::Waiting, D::Failed), (D::PickedUp, D::Failed)]),
            (Step::Cancel, live.map(|from| (from, D::Cancelled)).to_vec()),
            (Step::Close, live.map(|from| (from, D::Delivered)).to_vec()),
        ];
        assert_eq!(table.len(), Step::ALL.len());
        for (step, moves) in table {
            for from in D::ALL {
                let wanted = moves.iter().find(|(start, _)| start == from).map(|(_, end)| *end);
                assert_eq!(from.after(step), wanted, "{step:?} from {from}");
            }
        }
    }

    #[test]
    fn an_assignment_ends_exactly_where_a_delivery_loses_its_courier() {
        for from in D::ALL.iter().filter(|status| status.has_courier()) {
            for step in Step::ALL {
                if let Some(to) = from.after(step) {
                    assert_eq!(step.ends_assignment().is_some(), !to.has_courier(), "{step:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn nobody_drives_with_food_that_is_not_ready() {
        assert_eq!(D::Assigned.driven_on_by(false), None);
        assert_eq!(D::Assigned.driven_on_by(true), Some(Step::PickUp));
        assert_eq!(D::PickedUp.driven_on_by(true), Some(Step::HandOver));
        for done in D::ALL.iter().filter(|status| status.is_final() || **status == D::Waiting) {
            assert_eq!(done.driven_on_by(true), None, "{done}");
        }
    }
}
