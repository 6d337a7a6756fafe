//! Shifts of couriers, inside the caller's unit, and where the demo city's couriers stand.

use contracts::{Place, demo};
use kernel::store::{StoreError, Tx};
use uuid::Uuid;

use crate::assigning::assign_one;
use crate::{Settings, store};

/// The middle of the demo city.
const CENTRE: Place = Place { longitude_e6: 7_776_000, latitude_e6: 43_815_000 };

/// A courier to be put on shift.
#[derive(Clone, Debug)]
pub(crate) struct Beginner {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    /// Where they are; where they were last, if absent.
    pub(crate) place: Option<Place>,
}

/// Puts a courier on shift and gives them what waits; false if nobody knows where they are.
pub(crate) async fn begin_shift(tx: &Tx, settings: &Settings, who: &Beginner) -> Result<bool, StoreError> {
    match who.place {
        Some(place) => store::put_position(tx, who.id, place).await?,
        None if store::position(tx, who.id).await?.is_none() => return Ok(false),
        None => {}
    }
    store::begin_shift(tx, who.id, &who.name).await?;
    assign_one(tx, settings).await?;
    Ok(true)
}

/// The `number`th courier of the demo city at a fixed place around its centre.
pub(crate) fn demo_courier(number: u64) -> Beginner {
    // Two strides that share no factor with the spans spread any number of couriers without a pattern.
    let spread = |stride: u64, span: u64| i64::try_from(number * stride % span).unwrap_or(0);
    let place = Place {
        longitude_e6: CENTRE.longitude_e6 - 15_000 + spread(7_919, 30_001),
        latitude_e6: CENTRE.latitude_e6 - 8_000 + spread(6_271, 16_001),
    };
    Beginner { id: demo::courier(u128::from(number)), name: format!("Courier {number}"), place: Some(place) }
}

/// Whether this is one of the demo city's couriers who never go home.
pub(crate) fn always_on_shift(settings: &Settings, courier: Uuid) -> bool {
    (0..settings.demo_couriers).any(|number| demo::courier(u128::from(number)) == courier)
}

/// What to call a courier who has not told us: the part of their address that they chose themselves.
pub(crate) fn name_from(email: &str) -> String {
    let name = email.split('@').next().unwrap_or("").trim();
    if name.is_empty() { "Courier".to_owned() } else { name.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn demo_couriers_are_the_accounts_of_the_demo_city_and_stand_apart_within_it() {
        let names: BTreeSet<_> = demo::accounts().into_iter().map(|account| (account.user_id, account.name)).collect();
        let mut places = BTreeSet::new();
        for number in 0..40 {
            let courier = demo_courier(number);
            assert!(names.contains(&(courier.id, courier.name)), "courier {number}");
            let place = courier.place.unwrap();
            assert!((place.longitude_e6 - CENTRE.longitude_e6).abs() <= 15_001);
            assert!((place.latitude_e6 - CENTRE.latitude_e6).abs() <= 8_001);
            assert!(
                places.insert((place.longitude_e6, place.latitude_e6)),
                "courier {number} stands on another's feet"
            );
        }
    }

    #[test]
    fn only_as_many_demo_couriers_as_asked_for_are_always_on_shift() {
        let settings = Settings { demo_couriers: 2, ..Settings::default() };
        let always: Vec<bool> = (0..4).map(|n| always_on_shift(&settings, demo::courier(n))).collect();
        assert_eq!(always, [true, true, false, false]);
        assert!(!always_on_shift(&Settings::default(), demo::courier(0)));
    }

    #[test]
    fn a_courier_without_a_name_is_called_by_their_address() {
        for (email, name) in [("mara@demo.example", "mara"), ("@demo.example", "Courier"), ("", "Courier")] {
            assert_eq!(name_from(email), name, "{email}");
        }
    }
}
