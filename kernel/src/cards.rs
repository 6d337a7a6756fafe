//! Card numbers where none belong: found by known first digits, length and Luhn's check digit.

/// Whether the digits pass Luhn's check; source: ISO/IEC 7812-1 annex B.
pub fn luhn(digits: &[u8]) -> bool {
    let doubled = |(place, digit): (usize, &u8)| match (place % 2, *digit) {
        (0, d) => u32::from(d),
        (_, d) if d > 4 => u32::from(d) * 2 - 9,
        (_, d) => u32::from(d) * 2,
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// Whether a text contains what is very likely a card number. Blanks, dots and dashes between digits are ignored.
pub fn looks_like_a_card(text: &str) -> bool {
    runs(text).iter().any(|run| {
        let digits: Vec<u8> = run.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
        // A number may hide in a longer run of digits, so each place is tried as its beginning.
        (0..digits.len()).any(|from| (13..=19).any(|len| digits.get(from..from + len).is_some_and(is_card)))
    })
}

/// Stretches of digits with at most one separator between two of them.
fn runs(text: &str) -> Vec<String> {
    let mut runs = vec![String::new()];
    let mut gap = 0;
    for character in text.chars() {
        let current = runs.last_mut().expect("there is always one");
        match character {
            '0'..='9' => {
                current.push(character);
                gap = 0;
            }
            ' ' | '-' | '.' if gap == 0 && !current.is_empty() => gap = 1,
            _ if current.is_empty() => {}
            _ => {
                runs.push(String::new());
                gap = 0;
            }
        }
    }
    runs.retain(|run| run.len() >= 13);
    runs
}

fn is_card(digits: &[u8]) -> bool {
    let brand_fits = matches!(
        (digits[0], digits[1], digits.len()),
        (4, _, 13 | 16 | 19)
            | (5, 1..=5, 16)
            | (2, 2..=7, 16)
            | (3, 4 | 7, 15)
            | (6, 0 | 2 | 4 | 5, 16..=19)
            | (3, 0 | 6 | 8, 14)
            | (3, 5, 16)
    );
    brand_fits && luhn(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_found_however_they_are_written() {
        for text in ["4242424242424242", "my card: 4242 4242 4242 4242!", "5555-5555-5555-4444", "x378282246310005"] {
            assert!(looks_like_a_card(text), "{text}");
        }
    }

    #[test]
    fn phones_and_order_numbers_are_not_cards() {
        for text in
            ["+49 170 1234567", "4242424242424241", "2026-11-21 10:00", "ring twice, 3rd floor", "1234567890123"]
        {
            assert!(!looks_like_a_card(text), "{text}");
        }
    }
}
