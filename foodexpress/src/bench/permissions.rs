//! The guard of a route, as every request meets it.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use contracts::permissions::{CUSTOMER, ORDER_CANCEL, PAYMENT_REFUND, SUPPORT};
use kernel::http::{Identity, guard};
use kernel::manifest::Access;

use super::figures::{Spread, float};
use super::{Row, Site};

pub(super) fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    let (count, rounds) = site.size.pick((5_000_000_usize, 5), (1_000_000, 3), (1000, 1));
    site.watch.stage("permissions");
    let who = identity(&[CUSTOMER, SUPPORT]);
    // Before the figure: it lets in and keeps out.
    ensure!(guard(Access::May(PAYMENT_REFUND), Some(&who)).is_ok(), "support may give money back");
    ensure!(
        guard(Access::May(PAYMENT_REFUND), Some(&identity(&[CUSTOMER]))).is_err(),
        "a customer may not give money back"
    );
    let mut each = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        for _ in 0..count / 2 {
            black_box(guard(black_box(Access::May(ORDER_CANCEL)), black_box(Some(&who))).is_ok());
            black_box(guard(black_box(Access::May(PAYMENT_REFUND)), black_box(Some(&who))).is_ok());
        }
        each.push(began.elapsed().as_secs_f64() * 1e9 / float(count));
    }
    let note = "roles travel in the verified identity, so there is no cache to miss when roles change";
    Ok(vec![Row::measured("permission_check", "ns", Spread::of(each)).budget(1000.0, 200.0).note(note)])
}

fn identity(roles: &[&str]) -> Identity {
    Identity {
        user_id: kernel::ids::fresh(),
        email: "bench@example.org".into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        orgs: Vec::new(),
        auth_time: 0,
        session: None,
    }
}
