//! Money on its way back: a refund's states and what the provider's words mean for it.

kernel::words! {
    /// Where a refund stands.
    pub enum RefundState {
        /// Asked for; the provider may have been told.
        Pending = "PENDING",
        /// Whether the provider did it is not known.
        Unknown = "UNKNOWN",
        /// The money went back.
        Succeeded = "SUCCEEDED",
        /// The provider refused; no money moved.
        Failed = "FAILED",
    }
}

/// What was learnt of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundFinding {
    /// The money went back.
    Done,
    /// The provider refused with this code.
    Refused(String),
    /// No answer that can be believed, and why.
    Silent(String),
    /// The call never left this machine.
    NothingNew(String),
}

impl RefundState {
    /// The state after a finding; `None` when an ended refund is told again.
    pub fn after(self, finding: &RefundFinding) -> Option<Self> {
        match (self, finding) {
            (Self::Succeeded | Self::Failed, _) => None,
            (_, RefundFinding::Done) => Some(Self::Succeeded),
            (_, RefundFinding::Refused(_)) => Some(Self::Failed),
            (_, RefundFinding::Silent(_)) => Some(Self::Unknown),
            (state, RefundFinding::NothingNew(_)) => Some(state),
        }
    }

    /// Whether the outcome is still to come.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Unknown)
    }
}

kernel::refusals! {
    /// Why a payment or refund is not taken on.
    pub enum PaymentRefusal {
        /// An attempt to pay for this order is under way; wait for its outcome.
        AttemptUnderWay = 409 "payment_attempt_under_way",
        /// This order is paid; there is nothing left to pay.
        AlreadyPaid = 409 "payment_already_made",
        /// The time or the number of tries to pay for this order is used up, or the order is over; order again.
        TooLate = 409 "payment_too_late",
        /// The amount is more than is left of what was taken for this payment.
        RefundTooLarge = 409 "refund_exceeds_capture",
        /// Nothing was taken for this payment, so nothing can be given back.
        NothingTaken = 409 "payment_not_captured",
    }
}

kernel::refusals! {
    /// Why a message of the provider is not believed.
    pub enum MessageRefusal {
        /// The signature is missing or is not that of the provider over these bytes.
        BadSignature = 401 "webhook_signature_invalid",
        /// The message was signed too long ago, or in the future.
        Stale = 401 "webhook_timestamp_stale",
        /// The message is signed and still does not read.
        Unreadable = 400 "webhook_unreadable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_refund_stays_as_it_ended() {
        let findings = [
            RefundFinding::Done, RefundFinding::Refused("x".into()), RefundFinding::Silent("x".into()),
            RefundFinding::NothingNew("x".into()),
        ];
        for state in RefundState::ALL {
            for finding in &findings {
                assert_eq!(state.after(finding).is_none(), !state.is_open(), "{state} {finding:?}");
            }
        }
        assert_eq!(RefundState::Pending.after(&findings[3]), Some(RefundState::Pending));
        assert_eq!(RefundState::Unknown.after(&findings[0]), Some(RefundState::Succeeded));
    }
}
