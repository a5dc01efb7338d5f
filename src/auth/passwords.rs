//! Passwords: argon2id, off the async threads, never more at once than the machine has cores.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::error::{Error, Result};
use crate::core::secret::Secret;

/// Longer ones are refused before they cost anything.
pub(super) const MAX_LENGTH: usize = 1024;

/// Hashes and checks passwords. One per registry.
pub(super) struct Passwords {
    /// One permit per core: a flood of logins waits in line instead of taking 19 MiB and a core each.
    turns: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { turns: Arc::new(Semaphore::new(cores)) }
    }

    /// Waits for a core.
    pub(super) async fn turn(&self) -> Result<Turn> {
        Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map(Turn)
            .map_err(|error| Error::internal("the password checks have stopped").with_source(error))
    }

    /// The PHC string of a password, with a salt of its own and argon2id at OWASP's first recommendation (19 MiB, two passes).
    pub(super) async fn hash(&self, turn: Turn, password: &Secret) -> Result<(String, Turn)> {
        let password = password.clone();
        let (hash, turn) = run(turn, move || {
            let hash = Argon2::default().hash_password(password.expose().as_bytes());
            hash.map(|hash| hash.to_string())
        })
        .await?;
        let hash =
            hash.map_err(|error| Error::internal("a password could not be hashed").with_source(error))?;
        Ok((hash, turn))
    }

    /// Whether `password` is the one behind `phc`. Without a `phc` (an unknown user) it takes as long and is false, so that the time
    /// tells nobody which names exist.
    pub(super) async fn verify(
        &self,
        turn: Turn,
        password: &Secret,
        phc: Option<String>,
    ) -> Result<(bool, Turn)> {
        let Some(phc) = phc else {
            let (_, turn) = self.hash(turn, password).await?;
            return Ok((false, turn));
        };
        let password = password.clone();
        run(turn, move || {
            Argon2::default().verify_password(password.expose().as_bytes(), phc.as_str()).is_ok()
        })
        .await
    }
}

/// A core to work on. It comes back with the answer, so that a failure can be counted before the next in line begins.
pub(super) struct Turn(#[allow(dead_code)] OwnedSemaphorePermit);

/// Runs `work` where blocking is fine. The permit goes along: a caller that hangs up frees no core that is still busy.
async fn run<R: Send + 'static>(turn: Turn, work: impl FnOnce() -> R + Send + 'static) -> Result<(R, Turn)> {
    tokio::task::spawn_blocking(move || (work(), turn))
        .await
        .map_err(|error| Error::internal("a password check broke off").with_source(error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Passwords;
    use crate::core::secret::Secret;

    async fn hash(passwords: &Passwords, password: &Secret) -> String {
        passwords.hash(passwords.turn().await.unwrap(), password).await.unwrap().0
    }

    async fn verify(passwords: &Passwords, password: &Secret, phc: Option<String>) -> bool {
        passwords.verify(passwords.turn().await.unwrap(), password, phc).await.unwrap().0
    }

    #[tokio::test]
    async fn hashes_as_argon2id_with_a_salt_and_checks() {
        let passwords = Passwords::new();
        let secret = Secret::new("correct horse");
        let phc = hash(&passwords, &secret).await;
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_ne!(phc, hash(&passwords, &secret).await);
        assert!(verify(&passwords, &secret, Some(phc.clone())).await);
        assert!(!verify(&passwords, &Secret::new("correct horsf"), Some(phc)).await);
    }

    #[tokio::test]
    async fn an_unknown_user_or_a_damaged_hash_is_just_wrong() {
        let passwords = Passwords::new();
        assert!(!verify(&passwords, &Secret::new("x"), None).await);
        assert!(!verify(&passwords, &Secret::new("x"), Some("$argon2id$nonsense".to_owned())).await);
    }

    #[tokio::test]
    async fn more_checks_than_cores_all_get_their_turn() {
        let passwords = Arc::new(Passwords::new());
        let phc = hash(&passwords, &Secret::new("x")).await;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (passwords, phc) = (Arc::clone(&passwords), phc.clone());
                tokio::spawn(async move { verify(&passwords, &Secret::new("x"), Some(phc)).await })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap());
        }
    }
}
