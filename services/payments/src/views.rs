//! What callers send and see: the wire types of the API.

use contracts::payments::PaymentStatus;
use garde::Validate;
use kernel::cards::looks_like_a_card;
use kernel::clock::Timestamp;
use kernel::money::{Currency, LIMIT_MINOR};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::attempt::AttemptState;
use crate::ledger::{Account, TransferKind};
use crate::refund::RefundState;
use crate::store::ledger::TransferRow;
use crate::store::{AttemptRow, PaymentRow, RefundRow};

/// A card as the provider's own form gave it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCard {
    /// The provider's token.
    #[garde(length(min = 1, max = 120), custom(no_card_number))]
    pub(crate) token: String,
    /// Such as `visa`.
    #[garde(length(min = 1, max = 20), custom(no_card_number))]
    pub(crate) brand: String,
    /// The last four digits.
    #[garde(pattern(r"^[0-9]{4}$"))]
    pub(crate) last4: String,
}

/// Another card for an order whose payment failed.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPayment {
    /// The order to pay for.
    #[garde(skip)]
    pub(crate) order_id: Uuid,
    /// The card to try.
    #[garde(dive)]
    pub(crate) card: NewCard,
}

/// Money to give back.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRefund {
    /// How much, in minor units of the payment's currency.
    #[garde(range(min = 1, max = LIMIT_MINOR))]
    pub(crate) amount_minor: i64,
    /// Why, for the records.
    #[serde(default)]
    #[garde(length(max = 200), custom(no_card_number))]
    pub(crate) reason: String,
}

/// Which payments to list.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentFilter {
    /// Only that of this order.
    #[garde(skip)]
    pub(crate) order_id: Option<Uuid>,
    /// Items on a page; 20 if not given.
    #[garde(range(min = 1, max = 100))]
    pub(crate) page_size: Option<i64>,
    /// From the page before.
    #[garde(length(min = 1, max = 80))]
    pub(crate) page_token: Option<String>,
}

/// The payment in the path.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) struct PaymentPath {
    /// The payment.
    pub(crate) id: Uuid,
}

/// A card number belongs to the provider alone, wherever somebody types it.
fn no_card_number(text: &str, _: &()) -> garde::Result {
    if looks_like_a_card(text) { Err(garde::Error::new("this looks like a card number; send the provider's token")) } else { Ok(()) }
}

/// A payment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct PaymentView {
    /// The payment.
    pub(crate) payment_id: Uuid,
    /// The order it pays for.
    pub(crate) order_id: Uuid,
    /// The restaurant's organisation.
    pub(crate) org_id: Uuid,
    /// Who pays.
    pub(crate) customer_id: Uuid,
    /// Where it stands.
    pub(crate) status: PaymentStatus,
    /// Currency of the amounts.
    pub(crate) currency: Currency,
    /// What is to be paid.
    pub(crate) amount_minor: i64,
    /// What was taken.
    pub(crate) captured_minor: i64,
    /// What was given back.
    pub(crate) refunded_minor: i64,
    /// The card tried last.
    #[serde(rename = "maskedCard")]
    pub(crate) masked_card: String,
    /// Why the last card was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<String>,
    /// Until when another card may be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_until: Option<Timestamp>,
    /// When it was begun.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

impl From<PaymentRow> for PaymentView {
    fn from(p: PaymentRow) -> Self {
        Self {
            payment_id: p.id,
            order_id: p.order_id,
            org_id: p.org_id,
            customer_id: p.customer_id,
            status: p.status,
            currency: p.currency,
            amount_minor: p.amount_minor,
            captured_minor: p.captured_minor,
            refunded_minor: p.refunded_minor,
            masked_card: p.masked_card,
            decline_code: p.decline_code,
            retry_until: p.retry_until.filter(|_| p.status == PaymentStatus::Failed),
            created_at: p.created_at,
            updated_at: p.updated_at,
        }
    }
}

/// A payment with everything that was tried.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct PaymentDetail {
    /// The payment.
    #[serde(flatten)]
    pub(crate) payment: PaymentView,
    /// Where the cardholder has to prove who they are, if they have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) challenge_url: Option<String>,
    /// The cards that were tried, oldest first.
    pub(crate) attempts: Vec<AttemptView>,
    /// What was given back, oldest first.
    pub(crate) refunds: Vec<RefundView>,
}

/// One card that was tried.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct AttemptView {
    /// Counts from 1.
    pub(crate) number: i64,
    /// Where it stands.
    pub(crate) state: AttemptState,
    /// The card.
    #[serde(rename = "maskedCard")]
    pub(crate) masked_card: String,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<String>,
    /// When it was begun.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

impl From<AttemptRow> for AttemptView {
    fn from(a: AttemptRow) -> Self {
        Self {
            number: a.number,
            state: a.state,
            masked_card: a.masked_card,
            decline_code: a.decline_code,
            created_at: a.created_at,
            updated_at: a.updated_at,
        }
    }
}

/// A refund.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct RefundView {
    /// The refund.
    pub(crate) refund_id: Uuid,
    /// The payment it belongs to.
    pub(crate) payment_id: Uuid,
    /// Where it stands.
    pub(crate) state: RefundState,
    /// How much.
    pub(crate) amount_minor: i64,
    /// In which currency.
    pub(crate) currency: Currency,
    /// Why.
    pub(crate) reason: String,
    /// Why the provider refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure_code: Option<String>,
    /// When it was asked for.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

impl From<RefundRow> for RefundView {
    fn from(r: RefundRow) -> Self {
        Self {
            refund_id: r.id,
            payment_id: r.payment_id,
            state: r.state,
            amount_minor: r.amount_minor,
            currency: r.currency,
            reason: r.reason,
            failure_code: r.failure_code,
            created_at: r.created_at,
            updated_at: r.updated_at,
        }
    }
}

/// One movement between two accounts.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct TransferView {
    /// The attempt or refund that moved it.
    pub(crate) source_event_id: Uuid,
    /// Its place among the transfers of that source.
    pub(crate) leg: i64,
    /// Why.
    pub(crate) kind: TransferKind,
    /// The account that is debited.
    pub(crate) debit_account: Account,
    /// The account that is credited.
    pub(crate) credit_account: Account,
    /// How much.
    pub(crate) amount_minor: i64,
    /// In which currency.
    pub(crate) currency: Currency,
    /// The key under which the provider has it.
    pub(crate) provider_key: String,
    /// When it was booked.
    pub(crate) booked_at: Timestamp,
}

impl From<TransferRow> for TransferView {
    fn from(t: TransferRow) -> Self {
        Self {
            source_event_id: t.source_event_id,
            leg: t.leg,
            kind: t.kind,
            debit_account: t.debit_account,
            credit_account: t.credit_account,
            amount_minor: t.amount_minor,
            currency: t.currency,
            provider_key: t.provider_key,
            booked_at: t.booked_at,
        }
    }
}

/// The transfers of one payment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct PaymentLedger {
    /// The payment.
    pub(crate) payment_id: Uuid,
    /// Oldest first.
    pub(crate) transfers: Vec<TransferView>,
}

/// An account of the books in one currency.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct AccountView {
    /// In which currency.
    pub(crate) currency: Currency,
    /// The account.
    pub(crate) account: Account,
    /// Everything it was debited.
    pub(crate) debit_minor: i64,
    /// Everything it was credited.
    pub(crate) credit_minor: i64,
    /// Debits minus credits.
    pub(crate) balance_minor: i64,
}

/// The money of one currency.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct CurrencyView {
    /// The currency.
    pub(crate) currency: Currency,
    /// What the payments say was taken.
    pub(crate) captured_minor: i64,
    /// What the payments say was given back.
    pub(crate) refunded_minor: i64,
    /// What the books say the provider owes us: the same as captured minus refunded.
    pub(crate) receivable_minor: i64,
    /// All accounts together; anything but zero is a fault.
    pub(crate) total_minor: i64,
}

/// How many there are of a kind.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct StateCount {
    /// The state.
    pub(crate) state: String,
    /// How many are in it.
    pub(crate) count: i64,
}

/// The books in short.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct LedgerSummary {
    /// Whether all totals are zero and the books agree with the payments.
    pub(crate) balanced: bool,
    /// Money by currency.
    pub(crate) currencies: Vec<CurrencyView>,
    /// Accounts by currency.
    pub(crate) accounts: Vec<AccountView>,
    /// Payments by public state.
    pub(crate) payments: Vec<StateCount>,
    /// Attempts by state.
    pub(crate) attempts: Vec<StateCount>,
    /// Refunds by state.
    pub(crate) refunds: Vec<StateCount>,
    /// Attempts and refunds whose outcome is still to come.
    pub(crate) unresolved: i64,
    /// Orders that were captured more than once; anything but zero is a fault.
    pub(crate) captured_twice: i64,
}
