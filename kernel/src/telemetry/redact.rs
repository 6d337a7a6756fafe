//! Keeps out of logs what must never stand there: card numbers, tokens, passwords, e-mail addresses, telephone numbers.

use std::borrow::Cow;

use uuid::Uuid;

/// What stands in place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// Words that make a name one of a secret, wherever they stand in it.
const SECRET: &[&str] =
    &["token", "password", "passwd", "secret", "authorization", "cookie", "key", "pan", "cvc", "cvv", "pin", "jwt"];
/// Of those, the ones that also end an ordinary sentence's clause: `unknown key: x` hides nothing.
const ORDINARY: &[&str] = &["key", "pan", "pin"];
/// Headers whose whole value is secret, up to the end of the line.
const WHOLE_LINE: &[&str] = &["authorization", "cookie"];

/// Whether a field of this name holds a secret: `idempotency_key`, `accessToken`, but not `company`.
pub(crate) fn is_secret_name(name: &str) -> bool {
    words(name).iter().any(|word| SECRET.contains(&word.as_str()))
}

fn words(name: &str) -> Vec<String> {
    let (mut all, mut after_small) = (vec![String::new()], false);
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_small) {
            all.push(String::new());
        }
        if c.is_alphanumeric() {
            all.last_mut().expect("there is always a last word").extend(c.to_lowercase());
        }
        after_small = c.is_lowercase();
    }
    all
}

/// A text without anything that must not be logged.
pub(crate) fn scrub(text: &str) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    if text.contains(['=', ':', '@']) || text.contains("eyJ") || text.contains("earer") {
        clean = Cow::Owned(hide_named(text));
    }
    if clean.bytes().filter(u8::is_ascii_digit).nth(7).is_some() {
        clean = Cow::Owned(hide_numbers(&clean));
    }
    clean
}

/// A telephone number with its last two digits.
pub(crate) fn mask_phone(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    format!("***{}", &digits[digits.len().saturating_sub(2)..])
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || "=:&?;,{}()[]\"'<>".contains(c)
}

/// Hides the values of secret names, bearer tokens, JSON web tokens and e-mail addresses.
fn hide_named(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The last name that could be followed by a value, and whether a secret value comes next.
    let (mut name, mut armed) = ("", false);
    while let Some(first) = rest.chars().next() {
        if is_separator(first) {
            let named = is_secret_name(name);
            armed = match first {
                '=' => named,
                ':' => named && !words(name).iter().any(|word| ORDINARY.contains(&word.as_str())),
                ' ' if name.eq_ignore_ascii_case("bearer") => true,
                '"' | '\'' => armed,
                c => armed && c.is_whitespace(),
            };
            if !matches!(first, '"' | '\'') && !armed {
                name = "";
            }
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let atom = &rest[..rest.find(is_separator).unwrap_or(rest.len())];
        let whole = armed && WHOLE_LINE.iter().any(|header| name.eq_ignore_ascii_case(header));
        let taken = if whole {
            rest.find('\n').unwrap_or(rest.len())
        } else if armed {
            rest.find(|c: char| c.is_whitespace() || "&;,\"'})]>".contains(c)).unwrap_or(rest.len())
        } else {
            atom.len()
        };
        match (armed, atom.split_once('@')) {
            (true, _) => out.push_str(REDACTED),
            _ if is_web_token(atom) => out.push_str("[token]"),
            (_, Some((local, domain))) if !local.is_empty() && domain.contains('.') => {
                out.extend(local.chars().next());
                out.push_str("***@");
                out.push_str(domain);
            }
            _ => out.push_str(atom),
        }
        name = if armed { "" } else { atom };
        armed = false;
        rest = &rest[taken..];
    }
    out
}

fn is_web_token(atom: &str) -> bool {
    atom.len() > 20 && atom.starts_with("eyJ") && atom.contains('.')
}

/// Hides card and telephone numbers.
fn hide_numbers(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        if begins && is_uuid_at(text, at) {
            out.push_str(&text[at..at + 36]);
            at += 36;
        } else if begins && bytes[at] == b'+' && phone_end(bytes, at + 1).is_some() {
            let end = phone_end(bytes, at + 1).unwrap_or(at + 1);
            out.push('+');
            out.push_str(&mask_phone(&text[at..end]));
            at = end;
        } else if let Some(end) = begins.then(|| card_end(bytes, at)).flatten() {
            let digits: String = text[at..end].chars().filter(char::is_ascii_digit).collect();
            out.push_str("****");
            out.push_str(&digits[digits.len() - 4..]);
            at = end;
        } else {
            let next = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + next]);
            at += next;
        }
    }
    out
}

/// Identities may happen to look like card numbers.
fn is_uuid_at(text: &str, at: usize) -> bool {
    text.as_bytes().get(at + 8) == Some(&b'-')
        && text.get(at..at + 36).is_some_and(|part| Uuid::try_parse(part).is_ok())
}

/// Where 8 to 15 digits after a plus sign end, single spaces and hyphens between them.
fn phone_end(bytes: &[u8], from: usize) -> Option<usize> {
    let ends = group_ends(bytes, from);
    let (end, digits) = ends.into_iter().rfind(|(_, digits)| (8..=15).contains(digits))?;
    (digits > 0).then_some(end)
}

/// Where a card number of 13 to 19 digits ends that begins here, if its check digit is right.
fn card_end(bytes: &[u8], from: usize) -> Option<usize> {
    group_ends(bytes, from)
        .into_iter()
        .rfind(|(end, digits)| (13..=19).contains(digits) && passes_luhn(&bytes[from..*end]))
        .map(|(end, _)| end)
}

/// The ends of the digit groups from here on, with the number of digits so far. A group stuck to a letter is none.
fn group_ends(bytes: &[u8], from: usize) -> Vec<(usize, usize)> {
    let (mut ends, mut at, mut digits) = (Vec::new(), from, 0);
    while digits <= 19 && bytes.get(at).is_some_and(u8::is_ascii_digit) {
        let length = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        (at, digits) = (at + length, digits + length);
        match bytes.get(at) {
            Some(next) if next.is_ascii_alphabetic() => break,
            Some(b' ' | b'-') => {
                ends.push((at, digits));
                at += 1;
            }
            _ => {
                ends.push((at, digits));
                break;
            }
        }
    }
    ends
}

fn passes_luhn(bytes: &[u8]) -> bool {
    let digits = bytes.iter().rev().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0'));
    let sum: u32 = digits.enumerate().map(|(i, d)| if i % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 }).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_keep_their_last_four_digits_only() {
        for (text, clean) in [
            ("card 4242424242424242 declined", "card ****4242 declined"),
            ("card 4242 4242 4242 4242 12/28", "card ****4242 12/28"),
            ("4000-0000-0000-9995,", "****9995,"),
            ("pan:378282246310005", "pan:****0005"),
            ("é4242424242424242é", "é****4242é"),
            ("card 4242424242424241", "card 4242424242424241"),
            ("order 12345 at 2026-01-31 12:00:00", "order 12345 at 2026-01-31 12:00:00"),
        ] {
            assert_eq!(scrub(text), clean);
        }
    }

    #[test]
    fn identities_stay_whole_even_when_they_look_like_card_numbers() {
        let looks = "42424242-4242-7242-8999-123456789012";
        assert!((0..=9).any(|d| passes_luhn(format!("42424242-4242-{d}242").as_bytes())));
        for d in 0..=9 {
            let id = looks.replace("-7242-", &format!("-{d}242-"));
            assert_eq!(scrub(&id), id);
        }
    }

    #[test]
    fn tokens_and_passwords_are_hidden_wherever_they_are_named() {
        for text in [
            "GET /x?access_token=hush&page=2",
            "password=hush",
            "password: hush",
            r#"{"refreshToken": "hush", "page":2}"#,
            "Authorization: Bearer hush",
            "sent bearer hush",
            "Cookie: a=hush; b=hush",
            "idempotency_key=hush:hush",
            "eyJhbGciOiJSUzI1NiJ9.hush.hush",
        ] {
            assert!(!scrub(text).contains("hush"), "{}", scrub(text));
        }
        assert!(scrub("GET /x?access_token=hush&page=2").ends_with("&page=2"));
    }

    #[test]
    fn addresses_and_telephone_numbers_are_masked_and_prose_is_not() {
        assert_eq!(scrub("to <anna@example.com>: sent"), "to <a***@example.com>: sent");
        assert_eq!(scrub("call +49 170 1234567 now"), "call +***67 now");
        for plain in ["unknown key: retry", "company: 12", "a = b", "ratio 12345678", "lost at sea"] {
            assert_eq!(scrub(plain), plain);
        }
    }

    #[test]
    fn a_name_is_secret_by_its_words_not_its_letters() {
        assert!(["token", "accessToken", "API_KEY", "set-cookie", "x.password"].iter().all(|n| is_secret_name(n)));
        assert!(["company", "keyboard", "tokens_used", "maskedCard", "span"].iter().all(|n| !is_secret_name(n)));
    }
}
