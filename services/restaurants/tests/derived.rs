//! What every service is held to for its declaration alone, here: restaurants.

use contracts::permissions::ROLES;
use kernel::testing::derived;

#[tokio::test]
async fn every_route_refuses_whom_and_what_it_must() {
    derived::every_route_refuses(&restaurants::service(), ROLES).await;
}

#[tokio::test]
async fn every_statement_prepares_on_a_fresh_database() {
    derived::statements_prepare(&restaurants::service()).await;
}

#[tokio::test]
async fn every_heard_event_counts_once() {
    derived::every_heard_event_counts_once(&restaurants::service(), &[]).await;
}
