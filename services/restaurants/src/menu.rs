//! A menu's rules: option groups that can be chosen from, and how much a menu may hold.

use std::collections::BTreeSet;

use contracts::restaurants::OptionGroup;

/// Every change publishes the whole menu, so a menu has a size.
pub(crate) const MOST_ITEMS: usize = 300;
const MOST_GROUPS: usize = 20;
const MOST_CHOICES: usize = 40;
const LONGEST_NAME: usize = 80;
const DEAREST_CHOICE_MINOR: i64 = 1_000_000;

/// What is wrong with an item's option groups, if anything.
pub(crate) fn check_options(groups: &[OptionGroup]) -> Result<(), String> {
    if groups.len() > MOST_GROUPS {
        return Err(format!("at most {MOST_GROUPS} option groups"));
    }
    let mut seen = BTreeSet::new();
    for group in groups {
        check_group(group).map_err(|why| format!("option group {}: {why}", group.group_id))?;
        let ids = group.choices.iter().map(|choice| choice.choice_id).chain([group.group_id]);
        for id in ids {
            if !seen.insert(id) {
                return Err(format!("{id} names two groups or choices of one item"));
            }
        }
    }
    Ok(())
}

fn check_group(group: &OptionGroup) -> Result<(), &'static str> {
    let count = i64::try_from(group.choices.len()).unwrap_or(i64::MAX);
    if group.choices.is_empty() || group.choices.len() > MOST_CHOICES {
        return Err("has 1 to 40 choices");
    }
    if group.min < 0 || group.max < 1 || group.min > group.max || group.max > count {
        return Err("needs 0 <= min <= max, and max at least 1 and at most the number of its choices");
    }
    let mut names = group.choices.iter().map(|choice| choice.name.as_str()).chain([group.name.as_str()]);
    if names.any(|name| !is_name(name)) {
        return Err("names have 1 to 80 characters and no card number");
    }
    if group.choices.iter().any(|choice| !(0..=DEAREST_CHOICE_MINOR).contains(&choice.price_minor)) {
        return Err("a choice costs 0 to 1000000 minor units");
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let length = text.chars().count();
    !text.trim().is_empty() && length <= LONGEST_NAME && !kernel::cards::looks_like_a_card(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::restaurants::Choice;
    use uuid::Uuid;

    fn group(first_id: u128, min: i64, max: i64, prices: &[i64]) -> OptionGroup {
        let choices = (1_u128..).zip(prices).map(|(n, price)| Choice {
            choice_id: Uuid::from_u128(first_id + n),
            name: format!("Choice {n}"),
            price_minor: *price,
        });
        OptionGroup { group_id: Uuid::from_u128(first_id), name: "Size".into(), min, max, choices: choices.collect() }
    }

    #[test]
    fn groups_that_can_be_chosen_from_are_taken() {
        for groups in
            [vec![], vec![group(10, 1, 1, &[0, 350])], vec![group(10, 0, 2, &[0, 0, 90]), group(20, 2, 2, &[0, 0])]]
        {
            assert_eq!(check_options(&groups), Ok(()), "{groups:?}");
        }
    }

    #[test]
    fn groups_that_nobody_could_satisfy_or_tell_apart_are_refused() {
        let nameless = OptionGroup { name: " ".into(), ..group(10, 1, 1, &[0]) };
        let card = OptionGroup { name: "4242 4242 4242 4242".into(), ..group(10, 1, 1, &[0]) };
        for groups in [
            vec![group(10, 1, 1, &[])],
            vec![group(10, 2, 1, &[0, 0])],
            vec![group(10, 1, 3, &[0, 0])],
            vec![group(10, -1, 1, &[0])],
            vec![group(10, 0, 0, &[0])],
            vec![group(10, 1, 1, &[-5])],
            vec![group(10, 1, 1, &[0, 0]), group(11, 1, 1, &[0])],
            vec![nameless],
            vec![card],
            (0..21).map(|n| group(100 * (n + 1), 1, 1, &[0])).collect(),
        ] {
            assert!(check_options(&groups).is_err(), "{groups:?}");
        }
    }
}
