//! A restaurant's rules: hours and whether it is open, and how names are folded for searching.

use contracts::restaurants::{Hours, RestaurantState};
use kernel::clock::Timestamp;

/// Minutes of a week.
pub(crate) const WEEK: i64 = 7 * DAY;
const DAY: i64 = 24 * 60;
/// Four stretches a day are more than any kitchen keeps.
const MOST_STRETCHES: usize = 28;

/// Minutes since Monday 00:00 UTC.
pub(crate) fn utc_week_minute(at: Timestamp) -> i64 {
    // 1970-01-01 was a Thursday.
    (at.seconds().div_euclid(60) + 3 * DAY).rem_euclid(WEEK)
}

/// A stretch of hours as minutes of the local week.
pub(crate) fn in_week(hours: &Hours) -> (i64, i64) {
    let day = (hours.weekday - 1) * DAY;
    (day + hours.opens_minute, day + hours.closes_minute)
}

/// Whether it takes orders at this moment.
pub(crate) fn is_open(restaurant: &RestaurantState, at: Timestamp) -> bool {
    let minute = (utc_week_minute(at) + restaurant.utc_offset_minutes).rem_euclid(WEEK);
    let within = |hours: &Hours| {
        let (from, to) = in_week(hours);
        (from..to).contains(&minute)
    };
    !restaurant.paused && restaurant.hours.iter().any(within)
}

/// What is wrong with a week's hours, if anything.
pub(crate) fn check_hours(hours: &[Hours]) -> Result<(), &'static str> {
    if hours.len() > MOST_STRETCHES {
        return Err("at most 28 stretches a week");
    }
    if hours.iter().any(|h| !(1..=7).contains(&h.weekday)) {
        return Err("weekday goes from 1 (Monday) to 7 (Sunday)");
    }
    if hours.iter().any(|h| h.opens_minute < 0 || h.closes_minute > DAY || h.opens_minute >= h.closes_minute) {
        return Err(
            "minutes go from 0 to 1440, and closes_minute is larger than opens_minute; write a night as two stretches",
        );
    }
    let mut stretches: Vec<(i64, i64)> = hours.iter().map(in_week).collect();
    stretches.sort_unstable();
    if stretches.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err("two stretches overlap");
    }
    Ok(())
}

/// Lower case without the accents that people leave out when they search.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in text.trim().chars().flat_map(char::to_lowercase) {
        match character {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => folded.push('a'),
            'ç' | 'ć' | 'č' => folded.push('c'),
            'ď' | 'đ' => folded.push('d'),
            'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ę' | 'ě' => folded.push('e'),
            'ğ' => folded.push('g'),
            'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => folded.push('i'),
            'ł' => folded.push('l'),
            'ñ' | 'ń' | 'ň' => folded.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ő' => folded.push('o'),
            'ř' => folded.push('r'),
            'ś' | 'š' | 'ş' => folded.push('s'),
            'ť' => folded.push('t'),
            'ù' | 'ú' | 'û' | 'ü' | 'ū' | 'ů' | 'ű' => folded.push('u'),
            'ý' | 'ÿ' => folded.push('y'),
            'ź' | 'ż' | 'ž' => folded.push('z'),
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            // The dot that lower-casing leaves behind a Turkish capital I.
            '\u{307}' => {}
            other => folded.push(other),
        }
    }
    folded
}

/// `text` anywhere in a folded column, for LIKE with `!` as its escape.
pub(crate) fn anywhere(text: &str) -> String {
    let escaped = fold(text).replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Place;
    use kernel::money::Currency;
    use uuid::Uuid;

    fn stretch(weekday: i64, opens_minute: i64, closes_minute: i64) -> Hours {
        Hours { weekday, opens_minute, closes_minute }
    }

    fn restaurant(utc_offset_minutes: i64, hours: Vec<Hours>) -> RestaurantState {
        RestaurantState {
            org_id: Uuid::from_u128(1),
            restaurant_id: Uuid::from_u128(2),
            version: 1,
            name: "Lanterna".into(),
            cuisine: "Italian".into(),
            street: "Quay 1".into(),
            city: "Marenza".into(),
            place: Place { longitude_e6: 0, latitude_e6: 0 },
            currency: Currency::EUR,
            utc_offset_minutes,
            hours,
            paused: false,
            auto_accept: true,
            prep_minutes: 15,
            delivery_fee_minor: 0,
            minimum_order_minor: 0,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_open_from_the_first_minute_until_before_the_last_in_local_time() {
        // 2026-11-23 is a Monday; local time is one hour ahead.
        let lunch = restaurant(60, vec![stretch(1, 720, 840)]);
        for (moment, open) in [
            ("2026-11-23T10:59:59Z", false),
            ("2026-11-23T11:00:00Z", true),
            ("2026-11-23T12:59:59Z", true),
            ("2026-11-23T13:00:00Z", false),
            ("2026-11-24T11:30:00Z", false),
        ] {
            assert_eq!(is_open(&lunch, at(moment)), open, "{moment}");
        }
        let paused = RestaurantState { paused: true, ..lunch };
        assert!(!is_open(&paused, at("2026-11-23T11:30:00Z")));
    }

    #[test]
    fn the_local_week_wraps_at_both_ends() {
        let first_hour = vec![stretch(1, 0, 60)];
        assert!(is_open(&restaurant(120, first_hour.clone()), at("2026-11-22T22:30:00Z")));
        assert!(is_open(&restaurant(-120, first_hour), at("2026-11-23T02:30:00Z")));
        assert!(is_open(&restaurant(-120, vec![stretch(7, 1380, 1440)]), at("2026-11-23T01:30:00Z")));
    }

    #[test]
    fn hours_that_cannot_be_meant_are_refused() {
        let good =
            [vec![], vec![stretch(1, 0, 1440), stretch(2, 0, 1440)], vec![stretch(5, 600, 700), stretch(5, 700, 800)]];
        let bad = [
            vec![stretch(0, 0, 60)],
            vec![stretch(8, 0, 60)],
            vec![stretch(1, 60, 60)],
            vec![stretch(1, -1, 60)],
            vec![stretch(1, 1380, 1500)],
            vec![stretch(3, 600, 720), stretch(3, 700, 800)],
            vec![stretch(1, 0, 1); 29],
        ];
        for hours in good {
            assert_eq!(check_hours(&hours), Ok(()), "{hours:?}");
        }
        for hours in bad {
            assert!(check_hours(&hours).is_err(), "{hours:?}");
        }
    }

    #[test]
    fn searching_overlooks_case_and_accents_and_takes_wildcards_by_the_word() {
        assert_eq!(fold(" CAFÉ Señorita "), "cafe senorita");
        assert_eq!(fold("Straße İstanbul"), "strasse istanbul");
        assert_eq!(anywhere("50%_!"), "%50!%!_!!%");
    }
}
