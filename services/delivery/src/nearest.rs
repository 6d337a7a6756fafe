//! Which courier is nearest to a restaurant.

use contracts::Place;
use kernel::row;
use uuid::Uuid;

row! {
    /// A courier on shift who brings nothing, and where they are.
    pub(crate) struct FreeCourier {
        pub(crate) id: Uuid,
        pub(crate) name: String,
        pub(crate) longitude_e6: i64,
        pub(crate) latitude_e6: i64,
    }
}

impl FreeCourier {
    fn place(&self) -> Place {
        Place { longitude_e6: self.longitude_e6, latitude_e6: self.latitude_e6 }
    }
}

/// The place in the list of the courier who is nearest; of two as near, the one with the smaller identity.
pub(crate) fn nearest(couriers: &[FreeCourier], to: Place, barred: &[Uuid]) -> Option<usize> {
    let may = couriers.iter().enumerate().filter(|(_, courier)| !barred.contains(&courier.id));
    may.min_by_key(|(_, courier)| (courier.place().squared_distance(to), courier.id)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RESTAURANT: Place = Place { longitude_e6: 7_776_000, latitude_e6: 43_815_000 };

    fn courier(id: u128, east: i64, north: i64) -> FreeCourier {
        let (longitude_e6, latitude_e6) = (RESTAURANT.longitude_e6 + east, RESTAURANT.latitude_e6 + north);
        FreeCourier { id: Uuid::from_u128(id), name: String::new(), longitude_e6, latitude_e6 }
    }

    #[test]
    fn the_nearest_courier_is_chosen_unless_barred() {
        let couriers = [courier(1, 900, 0), courier(2, 0, 100), courier(3, -200, 0)];
        let bars: [(&[u128], Option<usize>); 4] =
            [(&[], Some(1)), (&[2], Some(2)), (&[2, 3], Some(0)), (&[1, 2, 3], None)];
        for (barred, wanted) in bars {
            let barred: Vec<Uuid> = barred.iter().map(|id| Uuid::from_u128(*id)).collect();
            assert_eq!(nearest(&couriers, RESTAURANT, &barred), wanted, "{barred:?}");
        }
        assert_eq!(nearest(&[], RESTAURANT, &[]), None);
    }

    #[test]
    fn a_tie_does_not_depend_on_the_order_of_the_list() {
        let (a, b) = (courier(1, 0, 100), courier(2, 0, -100));
        assert_eq!(nearest(&[a.clone(), b.clone()], RESTAURANT, &[]), Some(0));
        assert_eq!(nearest(&[b, a], RESTAURANT, &[]), Some(1));
    }

    proptest! {
        #[test]
        fn nobody_who_was_passed_over_is_nearer(offsets in prop::collection::vec((-90_000_i64..90_000, -90_000_i64..90_000), 1..40)) {
            let couriers: Vec<_> = (1..).zip(&offsets).map(|(id, (east, north))| courier(id, *east, *north)).collect();
            let chosen = &couriers[nearest(&couriers, RESTAURANT, &[]).unwrap()];
            let distance = |courier: &FreeCourier| courier.place().squared_distance(RESTAURANT);
            prop_assert!(couriers.iter().all(|other| distance(chosen) <= distance(other)));
        }
    }
}
