//! What happens to the city: which member dies when, and what each customer and kitchen does, all from one seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::sabotage::Sabotage;

/// After this many kills of single members, all of them are killed at once.
const ALL_EVERY: usize = 10;

/// One act of violence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blow {
    /// How long after the one before.
    pub after: Duration,
    /// Whom it hits.
    pub members: Vec<String>,
    /// What is done to them.
    pub weapon: Weapon,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weapon {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after so long: it wakes up not knowing that it slept.
    Freeze(Duration),
}

/// The same seed and the same members make the same plan.
pub(super) fn kills(seed: u64, count: usize, members: &[String]) -> Vec<Blow> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = Vec::new();
    let mut turn = Vec::new();
    let mut planned = 0;
    while planned < count {
        let after = Duration::from_millis(random.random_range(300..900));
        let hit = if plan.len() % ALL_EVERY == ALL_EVERY - 1 && count - planned >= members.len() {
            members.to_vec()
        } else {
            // Everybody in turn, in an order that the seed shuffles: none is spared by chance.
            if turn.is_empty() {
                turn = shuffled(members, &mut random);
            }
            turn.pop().into_iter().collect()
        };
        planned += hit.len();
        plan.push(Blow { after, members: hit, weapon: Weapon::Kill });
    }
    plan
}

/// A cluster's members are hit one by one, every third by a freeze; its engines meanwhile, a third of all blows.
pub(super) fn raid(seed: u64, count: usize, members: &[String]) -> (Vec<Blow>, Vec<(Duration, Sabotage)>) {
    let mut random = StdRng::seed_from_u64(seed);
    let on_engines = count / 3;
    let (mut blows, mut turn) = (Vec::new(), Vec::new());
    for number in 0..count - on_engines {
        if turn.is_empty() {
            turn = shuffled(members, &mut random);
        }
        let weapon = match number % 3 {
            2 => Weapon::Freeze(Duration::from_millis(random.random_range(1000..6000))),
            _ => Weapon::Kill,
        };
        let after = Duration::from_millis(random.random_range(1500..3000));
        blows.push(Blow { after, members: turn.pop().into_iter().collect(), weapon });
    }
    let (mut sabotage, mut kinds) = (Vec::new(), Vec::new());
    for _ in 0..on_engines {
        if kinds.is_empty() {
            kinds = shuffled(Sabotage::ALL, &mut random);
        }
        let after = Duration::from_millis(random.random_range(1000..3000));
        sabotage.extend(kinds.pop().map(|kind| (after, kind)));
    }
    (blows, sabotage)
}

fn shuffled<T: Clone>(members: &[T], random: &mut StdRng) -> Vec<T> {
    let mut all = members.to_vec();
    for at in (1..all.len()).rev() {
        all.swap(at, random.random_range(0..=at));
    }
    all
}

/// What the customer of one order does beside ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    /// Which demo customer.
    pub customer: usize,
    /// Which restaurant.
    pub restaurant: usize,
    /// Calls the order off after this long.
    pub cancels_after: Option<Duration>,
}

/// What the person at a kitchen without automatic acceptance does with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// Says yes.
    Accepts,
    /// Says no.
    Rejects,
    /// Looks away until the ticket expires.
    Ignores,
}

/// The guest of the `number`th order.
pub(super) fn guest(seed: u64, number: usize) -> Guest {
    let mut random = StdRng::seed_from_u64(seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let cancels = random.random_range(0..100) < 5;
    Guest {
        customer: random.random_range(0..usize::MAX / 2),
        restaurant: random.random_range(0..usize::MAX / 2),
        cancels_after: cancels.then(|| Duration::from_millis(random.random_range(0..1500))),
    }
}

/// What the kitchen does with this order; the same however often it is asked.
pub(super) fn hand(seed: u64, order: &str) -> Hand {
    let digits = order.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    match StdRng::seed_from_u64(digits).random_range(0..10) {
        0 => Hand::Rejects,
        1 => Hand::Ignores,
        _ => Hand::Accepts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_plan_and_nobody_is_spared() {
        let members: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let plan = kills(7, 60, &members);
        assert_eq!(plan, kills(7, 60, &members));
        assert_ne!(plan, kills(8, 60, &members));
        assert!(plan.iter().map(|k| k.members.len()).sum::<usize>() >= 60);
        assert!(members.iter().all(|m| plan.iter().filter(|k| k.members.contains(m)).count() >= 10));
        assert!(plan.iter().any(|k| k.members.len() == members.len()));
        assert_eq!(guest(7, 3), guest(7, 3));
    }

    #[test]
    fn a_raid_hits_every_member_and_every_engine_and_freezes_some() {
        let members: Vec<String> = (0..17).map(|n| format!("m{n}")).collect();
        let (blows, sabotage) = raid(3, 60, &members);
        assert_eq!(blows.len() + sabotage.len(), 60);
        assert!(members.iter().all(|m| blows.iter().any(|blow| blow.members.contains(m))));
        assert!(Sabotage::ALL.iter().all(|kind| sabotage.iter().any(|(_, done)| done == kind)));
        let freezes = blows.iter().filter(|blow| blow.weapon != Weapon::Kill).count();
        assert!((10..20).contains(&freezes), "{freezes}");
        assert_eq!(raid(3, 60, &members), (blows, sabotage));
    }
}
