//! Codes and refresh tokens: 256 random bits that mean nothing by themselves and are stored only as their hash.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// An unguessable word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opaque([u8; 32]);

impl Opaque {
    /// A new one.
    pub(crate) fn fresh() -> Self {
        Self(kernel::ids::secret_bytes())
    }

    /// The one that this text stands for.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?)
    }

    /// The one with these bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it travels.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// As it is stored. 256 random bits need no salt and no slow hash.
    pub(crate) fn hash(&self) -> Vec<u8> {
        digest(&SHA256, &self.0).as_ref().to_vec()
    }

    /// The bytes themselves, to make a key from or to seal.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_travels_as_text_and_does_not_show_itself() {
        let word = Opaque::fresh();
        assert_eq!(Opaque::parse(&word.text()), Some(word));
        assert_ne!(Opaque::fresh(), word);
        assert_eq!(word.hash().len(), 32);
        assert!(!format!("{word:?}").contains(&word.text()));
        for text in ["", "abc", "!!!", &"A".repeat(44), &"A".repeat(42)] {
            assert_eq!(Opaque::parse(text), None, "{text}");
        }
    }
}
