//! Sealing: what was sealed for one purpose reads only with the same secret and for the same purpose.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

/// Seals and opens for one purpose.
pub(crate) struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// A sealer whose key is made from `secret` for `purpose` alone.
    pub(crate) fn new(secret: &[u8], purpose: &str) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose.as_bytes());
        let key = RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref());
        Self(key.expect("an HMAC-SHA256 tag is as long as the key"))
    }

    /// Nonce, ciphertext and tag.
    pub(crate) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut text = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut text);
        let nonce = nonce.expect("AES-GCM takes any text shorter than 64 GiB");
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&text);
        sealed
    }

    /// What was sealed; none if it was not sealed with this secret for this purpose, or was touched.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        self.0.open_in_place(nonce, Aad::empty(), &mut text).ok().map(|plain| plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_text_opens_only_untouched_with_the_same_secret_and_purpose() {
        let sealer = Sealer::new(b"secret", "form");
        let sealed = sealer.seal(b"text");
        assert_eq!(sealer.open(&sealed).as_deref(), Some(&b"text"[..]));
        assert_ne!(sealer.seal(b"text"), sealed, "every sealing has a nonce of its own");
        assert_eq!(Sealer::new(b"secret", "key").open(&sealed), None);
        assert_eq!(Sealer::new(b"other", "form").open(&sealed), None);
        for place in 0..sealed.len() {
            let mut touched = sealed.clone();
            touched[place] ^= 1;
            assert_eq!(sealer.open(&touched), None, "byte {place}");
        }
        assert_eq!(sealer.open(b"short"), None);
    }
}
