//! What every service is held to for its declaration alone, here: payments.

use contracts::permissions::ROLES;
use kernel::testing::derived;

#[tokio::test]
async fn every_route_refuses_whom_and_what_it_must() {
    derived::every_route_refuses(&payments::service(), ROLES).await;
}

#[tokio::test]
async fn every_statement_prepares_on_a_fresh_database() {
    derived::statements_prepare(&payments::service()).await;
}

#[tokio::test]
async fn every_heard_event_counts_once() {
    // The row of an order is a lock, and taking it counts it up.
    derived::every_heard_event_counts_once(&payments::service(), &[("orders_heard", "touched")]).await;
}
