//! Passwords: argon2id, two at a time, on threads that may block; and the same work for people who do not exist.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use kernel::http::Fail;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Each run takes 19 MiB and a whole core; more at once would only take both from everybody else.
const AT_ONCE: usize = 2;
/// Runs that wait or work. A run takes some 30 ms, so the last in line is served within about a second.
const IN_LINE: usize = 64;

kernel::refusals! {
    /// Why a password was not even looked at.
    pub(crate) enum PasswordRefusal {
        /// Too many people are signing in at this moment; try again shortly.
        TooBusy = 503 "sign_in_busy",
    }
}

/// Hashes and checks passwords.
pub(crate) struct Passwords {
    line: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    /// What a password is checked against when there is no account: a hash that no password has.
    nobody: Arc<str>,
}

/// The right to hash or check one password. Whoever holds it is next to nobody but one other.
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Passwords {
    /// Runs argon2 once, for the hash that stands for nobody.
    pub(crate) fn new() -> Result<Self, String> {
        let nobody = hash(&kernel::ids::secret_bytes::<32>())?;
        Ok(Self {
            line: Arc::new(Semaphore::new(IN_LINE)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            nobody: nobody.into(),
        })
    }

    /// Waits for a turn; with too long a line, not at all.
    pub(crate) async fn turn(&self) -> Result<Turn, Fail> {
        let place = self.line.clone().try_acquire_owned();
        let busy = |_| PasswordRefusal::TooBusy.problem().retry_after(Duration::from_secs(1));
        let place = place.map_err(busy)?;
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|e| Fail::Fault(format!("the line for passwords is closed: {e}")))?;
        Ok(Turn { _place: place, _turn: turn })
    }

    /// The hash to store.
    pub(crate) async fn hash(&self, turn: Turn, password: String) -> Result<String, Fail> {
        in_turn(turn, move || hash(password.as_bytes())).await?.map_err(Fail::Fault)
    }

    /// Whether the password fits. `stored` is none when there is no account; that takes as long and says no.
    pub(crate) async fn fits(&self, turn: Turn, password: String, stored: Option<String>) -> Result<bool, Fail> {
        let nobody = self.nobody.clone();
        in_turn(turn, move || {
            let exists = stored.is_some();
            verify(password.as_bytes(), stored.as_deref().unwrap_or(&nobody)).map(|fits| fits && exists)
        })
        .await?
        .map_err(Fail::Fault)
    }
}

/// The turn travels with the work: a caller who hangs up frees it only when the work is done.
async fn in_turn<T: Send + 'static>(turn: Turn, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fail> {
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    });
    done.await.map_err(|e| Fail::Fault(format!("password work ended early: {e}")))
}

/// Argon2id with the defaults of the crate: 19 MiB, two passes, one lane, as OWASP recommends.
fn hash(password: &[u8]) -> Result<String, String> {
    Argon2::default().hash_password(password).map(|hash| hash.to_string()).map_err(|e| format!("argon2: {e}"))
}

fn verify(password: &[u8], stored: &str) -> Result<bool, String> {
    let stored = PasswordHash::new(stored).map_err(|e| format!("a stored password hash does not read: {e}"))?;
    Ok(Argon2::default().verify_password(password, &stored).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_nobody_fits_at_all() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash(passwords.turn().await.unwrap(), "a long one".to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        for (password, stored, fits) in
            [("a long one", Some(&stored), true), ("another", Some(&stored), false), ("a long one", None, false)]
        {
            let turn = passwords.turn().await.unwrap();
            assert_eq!(passwords.fits(turn, password.to_owned(), stored.cloned()).await.unwrap(), fits);
        }
    }

    #[tokio::test]
    async fn a_full_line_is_refused_at_once_instead_of_growing() {
        let passwords = Arc::new(Passwords::new().unwrap());
        let (first, second) = (passwords.turn().await.unwrap(), passwords.turn().await.unwrap());
        let mut waiting: Vec<_> = (2..IN_LINE).map(|_| Box::pin(passwords.turn())).collect();
        for turn in &mut waiting {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(turn.as_mut().poll(cx).is_pending()));
            assert!(polled.await, "only two work at once");
        }
        let Err(Fail::Refused(problem)) = passwords.turn().await else { panic!("the line is full") };
        assert_eq!((problem.status, problem.code.as_ref()), (503, "sign_in_busy"));
        drop((first, second));
        assert!(waiting.swap_remove(0).await.is_ok());
    }
}
