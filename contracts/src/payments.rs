//! What `payments` says: the full state of a payment after each step that others care about.

use kernel::clock::Timestamp;
use kernel::events::{Payload, Subject};
use kernel::money::Currency;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

kernel::words! {
    /// The five public states of a payment.
    pub enum PaymentStatus {
        /// Known, nothing asked of the provider yet.
        Created = "CREATED",
        /// Between the first call and the money: authorised, waiting, or not known.
        Processing = "PROCESSING",
        /// Money was taken.
        Success = "SUCCESS",
        /// No money was taken and none will be unless somebody tries again.
        Failed = "FAILED",
        /// All the money was given back.
        Refunded = "REFUNDED",
    }
}

/// A payment for one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentState {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The payment.
    pub payment_id: Uuid,
    /// Counts published steps from 1.
    pub version: i64,
    /// The order it pays for.
    pub order_id: Uuid,
    /// Who pays.
    pub customer_id: Uuid,
    /// Where to tell them.
    pub customer_email: String,
    /// Public state.
    pub status: PaymentStatus,
    /// Currency of the amounts.
    pub currency: Currency,
    /// What is to be paid.
    pub amount_minor: i64,
    /// What was taken.
    pub captured_minor: i64,
    /// What was given back.
    pub refunded_minor: i64,
    /// The card as a receipt shows it, such as `visa ****4242`.
    pub masked_card: String,
    /// Why it failed, in the provider's word.
    pub decline_code: Option<String>,
    /// Until when another card may be tried; none means that the answer is final.
    pub retry_until: Option<Timestamp>,
    /// When this happened.
    pub at: Timestamp,
}

impl Payload for PaymentState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.payment_id, version: self.version }
    }
}

kernel::events! {
    publisher "payments", topic "payments.events", aggregate "payment";
    /// The bank holds the money for us.
    "payment.authorized" v 1 [] => PaymentAuthorized(PaymentState);
    /// The money was taken.
    "payment.success" v 1 ["payment.completed", "PAYMENT_SUCCESS"] => PaymentSucceeded(PaymentState);
    /// The bank said no, or the hold ran out; another card may help while `retry_until` lies ahead.
    "payment.failed" v 1 ["PAYMENT_FAILED"] => PaymentFailed(PaymentState);
    /// The hold was let go; no money moved.
    "payment.voided" v 1 [] => PaymentVoided(PaymentState);
    /// Money was given back.
    "payment.refunded" v 1 [] => PaymentRefunded(PaymentState);
}
