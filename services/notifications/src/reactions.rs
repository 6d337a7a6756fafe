//! What is told when other services speak.

use std::sync::Arc;

use contracts::delivery::DeliveryAssigned;
use contracts::orders::OrderState;
use contracts::payments::{PaymentFailed, PaymentRefunded, PaymentState};
use kernel::events::{Event, Fault, Received};
use kernel::store::{StoreError, Tx};
use kernel::telemetry::Trace;
use uuid::Uuid;

use crate::Notifications;
use crate::jobs::SEND;
use crate::message::MessageStatus;
use crate::preferences::Via;
use crate::store::{self, HeldRow, KnownOrder, MessageRow};
use crate::telling::{self, Told};
use crate::templates::fill;

/// The event that is told of.
struct Occasion {
    event_id: Uuid,
    org_id: Uuid,
    order_id: Uuid,
    trace: Trace,
}

impl Occasion {
    fn of<E>(event: &Received<E>, order_id: Uuid) -> Self {
        Self { event_id: event.id, org_id: event.org, order_id, trace: event.trace }
    }
}

/// Somebody to tell, and where they are reached.
struct Person {
    id: Uuid,
    email: String,
}

/// An order has reached a status: its customer is told, and whatever waited for the order to be known.
pub(crate) async fn order_moved<E>(tx: Tx, _: Arc<Notifications>, event: Received<E>) -> Result<(), Fault>
where
    E: Event<Payload = OrderState>,
{
    let order = event.event.payload();
    store::put_contact(&tx, order.customer_id, &order.customer_email, order.changed_at).await?;
    learn(&tx, order).await?;
    let person = Person { id: order.customer_id, email: order.customer_email.clone() };
    tell(&tx, &Occasion::of(&event, order.order_id), &person, &telling::of_order(order)).await?;
    Ok(())
}

/// Keeps whose order it is, once, and tells of couriers who were found before that was known.
async fn learn(tx: &Tx, order: &OrderState) -> Result<(), StoreError> {
    if store::known_order(tx, order.org_id, order.order_id).await?.is_some_and(|known| known.customer_id.is_some()) {
        return Ok(());
    }
    let known = KnownOrder {
        org_id: order.org_id,
        order_id: order.order_id,
        customer_id: Some(order.customer_id),
        code: order.code.clone(),
        restaurant_name: order.restaurant_name.clone(),
    };
    store::put_order(tx, &known).await?;
    for held in store::take_held(tx, order.org_id, order.order_id).await? {
        let trace = Trace::parse(&held.traceparent).unwrap_or_default();
        let occasion = Occasion { event_id: held.event_id, org_id: order.org_id, order_id: order.order_id, trace };
        tell_of_courier(tx, &occasion, &known, &held.courier).await?;
    }
    Ok(())
}

pub(crate) async fn payment_failed(tx: Tx, _: Arc<Notifications>, event: Received<PaymentFailed>) -> Result<(), Fault> {
    let told = telling::of_failed_payment(&event);
    payment_told(&tx, &Occasion::of(&event, event.order_id), &event, &told).await
}

pub(crate) async fn payment_refunded(
    tx: Tx,
    _: Arc<Notifications>,
    event: Received<PaymentRefunded>,
) -> Result<(), Fault> {
    let told = telling::of_refund(&event);
    payment_told(&tx, &Occasion::of(&event, event.order_id), &event, &told).await
}

async fn payment_told(tx: &Tx, occasion: &Occasion, payment: &PaymentState, told: &Told) -> Result<(), Fault> {
    store::put_contact(tx, payment.customer_id, &payment.customer_email, payment.at).await?;
    let person = Person { id: payment.customer_id, email: payment.customer_email.clone() };
    tell(tx, occasion, &person, told).await?;
    Ok(())
}

/// A courier was found; whose order it is only the orders' own events say, which may come later.
pub(crate) async fn delivery_assigned(
    tx: Tx,
    _: Arc<Notifications>,
    event: Received<DeliveryAssigned>,
) -> Result<(), Fault> {
    let courier = event.courier_name.clone().unwrap_or_else(|| "A courier".to_owned());
    let occasion = Occasion::of(&event, event.order_id);
    let known = store::ask_for_order(&tx, event.org_id, event.order_id).await?;
    if known.customer_id.is_some() {
        return Ok(tell_of_courier(&tx, &occasion, &known, &courier).await?);
    }
    let held = HeldRow {
        org_id: event.org_id,
        event_id: event.id,
        order_id: event.order_id,
        courier,
        traceparent: event.trace.traceparent(),
    };
    tx.add(&held).await?;
    Ok(())
}

async fn tell_of_courier(tx: &Tx, occasion: &Occasion, order: &KnownOrder, courier: &str) -> Result<(), StoreError> {
    let Some(id) = order.customer_id else { return Ok(()) };
    let Some(email) = store::contact(tx, id).await? else { return Ok(()) };
    let told = telling::of_courier(courier, &order.code, &order.restaurant_name);
    tell(tx, occasion, &Person { id, email }, &told).await
}

/// Writes a message for each channel that the person wants this kind of news over, and wakes the sender.
async fn tell(tx: &Tx, occasion: &Occasion, person: &Person, told: &Told) -> Result<(), StoreError> {
    let wanted = store::preferences(tx, person.id).await?.unwrap_or_default();
    for via in wanted.channels(told.template.kind) {
        if tx.add(&queued(tx, occasion, person, told, via)).await? {
            tx.wake(SEND);
        }
    }
    Ok(())
}

fn queued(tx: &Tx, occasion: &Occasion, person: &Person, told: &Told, via: Via) -> MessageRow {
    let address = match via {
        Via::Email => person.email.clone(),
        // Phones and devices are the channel's to know, by person.
        Via::Sms | Via::Push => person.id.to_string(),
    };
    MessageRow {
        org_id: occasion.org_id,
        id: kernel::ids::fresh(),
        version: 0,
        event_id: occasion.event_id,
        user_id: person.id,
        order_id: occasion.order_id,
        via,
        template: told.template.name.to_owned(),
        address,
        title: fill(told.template.title, &told.values),
        body: fill(told.template.body, &told.values),
        status: MessageStatus::Queued,
        tries: 0,
        next_try_at: Some(tx.now()),
        error: None,
        trace_id: occasion.trace.trace_hex(),
        traceparent: occasion.trace.traceparent(),
        created_at: tx.now(),
        ended_at: None,
    }
}
