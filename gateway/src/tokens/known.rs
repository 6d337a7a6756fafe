//! Tokens that were checked, found again by their whole text. Room is fixed: what nobody asked for makes room for new ones.

use std::hash::{BuildHasher as _, RandomState};

use parking_lot::Mutex;

/// So many shelves, each with its own lock, and so many places on each: a hundred thousand tokens in all. Shelves are
/// deep, so that with half as many tokens about none of them is full by chance.
const SHELVES: usize = 4096;
const PLACES: usize = 24;
/// So much of a token's end is hashed. It is part of a signature: no two that we found good share it, and who can name
/// the end of one has it.
const END: usize = 32;

/// Values by token.
pub(super) struct Known<V> {
    /// With keys of its own, so that nobody outside can tell which tokens share a shelf.
    hashed: RandomState,
    shelves: Box<[Mutex<Shelf<V>>]>,
    places: usize,
}

struct Shelf<V> {
    kept: Vec<Kept<V>>,
    /// Where the search for a place went on last.
    hand: usize,
}

struct Kept<V> {
    hash: u64,
    token: Box<[u8]>,
    value: V,
    /// Whether somebody asked for it since the hand passed.
    asked: bool,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self::with(SHELVES, PLACES)
    }
}

impl<V> Known<V> {
    fn with(shelves: usize, places: usize) -> Self {
        let shelf = || Mutex::new(Shelf { kept: Vec::new(), hand: 0 });
        Self { hashed: RandomState::new(), shelves: (0..shelves).map(|_| shelf()).collect(), places }
    }

    /// The shelf of a token and its hash, which decides nothing: tokens are compared.
    fn shelf(&self, token: &[u8]) -> (&Mutex<Shelf<V>>, u64) {
        let hash = self.hashed.hash_one(&token[token.len().saturating_sub(END)..]);
        let at = usize::try_from(hash % self.shelves.len() as u64).expect("less than there are shelves");
        (&self.shelves[at], hash)
    }

    /// What is known of exactly this token.
    pub(super) fn get(&self, token: &[u8]) -> Option<V>
    where
        V: Clone,
    {
        let (shelf, hash) = self.shelf(token);
        let mut shelf = shelf.lock();
        let kept = shelf.kept.iter_mut().find(|kept| kept.hash == hash && *kept.token == *token)?;
        kept.asked = true;
        Some(kept.value.clone())
    }

    /// Keeps what was found out about a token, in the place of what was known of it.
    pub(super) fn put(&self, token: &[u8], value: V) {
        let (shelf, hash) = self.shelf(token);
        let fresh = Kept { hash, token: token.into(), value, asked: false };
        let mut shelf = shelf.lock();
        let known = shelf.kept.iter().position(|kept| kept.hash == hash && *kept.token == *token);
        let full = shelf.kept.len() >= self.places;
        let replaced = match known.or_else(|| full.then(|| shelf.free())) {
            Some(at) => Some(std::mem::replace(&mut shelf.kept[at], fresh)),
            None => {
                shelf.kept.push(fresh);
                None
            }
        };
        // Others need not wait until its memory is given back.
        drop(shelf);
        drop(replaced);
    }
}

impl<V> Shelf<V> {
    /// The next place that nobody asked for since the last time round; of a full shelf.
    fn free(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.kept.len();
            if !std::mem::take(&mut self.kept[at].asked) {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_end_alike_are_told_apart_and_a_new_value_takes_the_place_of_the_old() {
        let known = Known::with(1, 4);
        let end = "x".repeat(END);
        let (one, two) = (format!("one{end}"), format!("two{end}"));
        known.put(one.as_bytes(), 1);
        for stranger in [&*two, &end, ""] {
            assert_eq!(known.get(stranger.as_bytes()), None, "{stranger}");
        }
        assert_eq!(known.get(one.as_bytes()), Some(1));
        known.put(two.as_bytes(), 2);
        known.put(one.as_bytes(), 3);
        assert_eq!((known.get(one.as_bytes()), known.get(two.as_bytes())), (Some(3), Some(2)));
        assert_eq!(known.shelves[0].lock().kept.len(), 2, "each is kept once");
    }

    #[test]
    fn what_is_asked_for_outlasts_what_is_not_and_the_room_is_fixed() {
        let known = Known::with(1, 4);
        known.put(b"mine", 0);
        for stranger in 1..100 {
            assert_eq!(known.get(b"mine"), Some(0), "{stranger}");
            known.put(format!("stranger {stranger}").as_bytes(), stranger);
        }
        assert_eq!(known.shelves[0].lock().kept.len(), 4);
        assert_eq!((known.get(b"stranger 1"), known.get(b"stranger 99")), (None, Some(99)));
    }

    #[test]
    fn tokens_spread_over_the_shelves() {
        let known = Known::default();
        for token in 0..SHELVES * PLACES / 2 {
            known.put(&token.to_be_bytes(), token);
        }
        let lost = (0..SHELVES * PLACES / 2).filter(|token| known.get(&token.to_be_bytes()) != Some(*token)).count();
        assert!(lost < 100, "{lost} of half as many as there is room for found no place");
    }
}
