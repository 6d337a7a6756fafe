//! What we tell a service about who calls, as it is written: the identity and our word for it.

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use kernel::clock::Timestamp;
use kernel::http::assertion::{Carried, Signer};

/// The lines that were told last about one caller. A proof names the second it was made in, so whatever a caller asks of
/// a service within that second is told in the same words: a page asks for several things at once, and everybody who has
/// not signed in is the same nobody.
#[derive(Debug, Default)]
pub(crate) struct Said(ArcSwapOption<Last>);

#[derive(Debug)]
struct Last {
    service: &'static str,
    second: i64,
    lines: Bytes,
}

impl Said {
    /// The lines for this service at this moment.
    pub(crate) fn to(&self, service: &'static str, who: &Carried, signer: &Signer, now: Timestamp) -> Bytes {
        let second = now.seconds();
        if let Some(last) = &*self.0.load()
            && last.second == second
            && last.service == service
        {
            return last.lines.clone();
        }
        let lines = Bytes::from(signer.lines(crate::NAME, service, who, now));
        self.0.store(Some(Last { service, second, lines: lines.clone() }.into()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};
    use kernel::http::assertion::Identity;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_service_gets_a_proof_of_its_own_and_an_old_one_is_not_told_again() {
        let (signer, said) = (Signer::new(b"a secret of the city"), Said::default());
        let (email, roles, orgs) = ("a@b.c".to_owned(), vec!["CUSTOMER".to_owned()], Vec::new());
        let who = Identity { user_id: Uuid::from_u128(7), email, roles, orgs, auth_time: 1, session: None };
        let carried = Carried::of(Some(&who));
        let start = Timestamp::from_micros(1_800_000_000_000_000);
        for (service, later) in [("orders", 0), ("orders", 0), ("payments", 0), ("orders", 1), ("orders", 120)] {
            let now = start.plus(Duration::from_secs(later));
            let lines = said.to(service, &carried, &signer, now);
            let headers = std::str::from_utf8(&lines).unwrap().lines().map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
            });
            let told = signer.verify(&headers.collect(), service, now);
            assert_eq!(told, Ok(("gateway".to_owned(), Some(who.clone()))), "{service} {later}");
        }
    }
}
