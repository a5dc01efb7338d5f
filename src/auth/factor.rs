//! The second factor: time-based one-time codes (RFC 6238) and recovery codes. Pure; time and randomness come from outside.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use totp_rs::{Builder, Secret as Seed, Totp};

use super::records::sha256;
use crate::core::error::{Error, Kind, Result};
use crate::core::id;
use crate::core::secret::Secret;

/// Marks a 401 that asks for a one-time code. Protocols put it in the words that their clients understand.
pub const ONE_TIME_CODE: &str = "one-time-code";

/// Seconds that a code is the current one. The one before and the one after are good too: clocks differ.
const STEP: u64 = 30;
/// Recovery codes of an enrolment.
const RECOVERY: usize = 10;
/// No code is longer.
const MAX_CODE: usize = 64;

/// What a user's second factor is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactorMode {
    /// Logging in, and whatever concerns the account.
    #[serde(rename = "auth-only")]
    Logins,
    /// That, and every change of a package.
    #[serde(rename = "auth-and-writes")]
    Writes,
}

/// A second factor as it is kept. No `Debug`: the seed is a secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Factor {
    pub(super) mode: FactorMode,
    /// The seed, in base 32 as authenticators read it.
    seed: String,
    /// Whether the user has still to show that the authenticator works.
    pub(super) pending: bool,
    /// Digests of the recovery codes that are left.
    #[serde(default)]
    recovery: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Used>,
}

/// The last code that was taken: it is good once per credential, so that who saw it in passing has no use for it, and a client that
/// publishes twenty packages with one code, or repeats a request whose answer got lost, still may.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Used {
    step: u64,
    /// Digest of the recovery code, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery: Option<String>,
    /// The credential it came with.
    by: String,
}

/// What a code turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Good; the factor has to be stored.
    Good,
    /// Good, and taken note of before.
    Again,
    Wrong,
}

impl Factor {
    /// A new one, to be confirmed.
    pub(super) fn new(mode: FactorMode) -> Result<Self> {
        let mut seed = [0; 20];
        getrandom::fill(&mut seed).map_err(|error| {
            Error::internal("the operating system gives no random bytes").with_source(error)
        })?;
        let seed = Seed::new(Box::new(seed)).to_base32();
        Ok(Self { mode, seed, pending: true, recovery: Vec::new(), used: None })
    }

    /// The URL that an authenticator takes, as a QR code or by hand.
    pub(super) fn url(&self, issuer: &str, user: &str) -> Secret {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let (issuer, user) = (encode(issuer), encode(user));
        Secret::new(format!(
            "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period={STEP}",
            self.seed
        ))
    }

    fn totp(&self) -> Option<Totp> {
        let seed = Seed::try_from_base32(&self.seed).ok()?;
        // SHA-1, six digits, thirty seconds, one step of skew: what every authenticator takes, and the builder's own defaults.
        Builder::new().with_secret(seed).build().ok()
    }

    /// Takes a code that came with the credential `by` at `now` (seconds).
    pub(super) fn take(&mut self, code: &str, by: &str, now: u64) -> Verdict {
        let code: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if code.is_empty() || code.len() > MAX_CODE {
            return Verdict::Wrong;
        }
        match self.totp().and_then(|totp| totp.check(&code, now)) {
            Some(step) => self.take_step(step, by),
            None => self.take_recovery(&code, by, now / STEP),
        }
    }

    fn take_step(&mut self, step: u64, by: &str) -> Verdict {
        match &self.used {
            Some(used) if used.by == by && used.recovery.is_none() && used.step == step => Verdict::Again,
            // Not even an older code: it may have been looked over somebody's shoulder.
            Some(used) if used.step >= step => Verdict::Wrong,
            _ => {
                self.used = Some(Used { step, recovery: None, by: by.to_owned() });
                Verdict::Good
            }
        }
    }

    fn take_recovery(&mut self, code: &str, by: &str, step: u64) -> Verdict {
        let digest = sha256(code);
        let repeated = self.used.as_ref().is_some_and(|used| {
            used.recovery.as_ref() == Some(&digest) && used.by == by && used.step.abs_diff(step) <= 1
        });
        if repeated {
            return Verdict::Again;
        }
        let place = self.recovery.iter().position(|one| one.as_bytes().ct_eq(digest.as_bytes()).into());
        let Some(place) = place.filter(|_| !self.pending) else { return Verdict::Wrong };
        self.recovery.remove(place);
        let step = self.used.as_ref().map_or(step, |used| used.step.max(step));
        self.used = Some(Used { step, recovery: Some(digest), by: by.to_owned() });
        Verdict::Good
    }

    /// Puts the factor in force, with these recovery codes.
    pub(super) fn confirm(&mut self, recovery: &[Secret]) {
        self.pending = false;
        self.recovery = recovery.iter().map(|code| sha256(code.expose())).collect();
    }
}

/// New recovery codes. Of 64 hexadecimal digits, since npm takes nothing else at its prompt.
pub(super) fn recovery_codes() -> Vec<Secret> {
    (0..RECOVERY).map(|_| Secret::new(format!("{}{}", id::uuid(), id::uuid()).replace('-', ""))).collect()
}

/// 401: a code is needed. The words are those that npm, pnpm, yarn and bun look for.
pub(super) fn missing() -> Error {
    Error::new(Kind::Unauthorized, "You must provide a one-time pass.").with_code(ONE_TIME_CODE)
}

/// 401: the code is no good.
pub(super) fn wrong() -> Error {
    Error::new(
        Kind::Unauthorized,
        "the one-time pass is wrong or was used already; take the next one your authenticator shows",
    )
    .with_code(ONE_TIME_CODE)
}

/// For tests: what an authenticator with this seed shows at a time (seconds).
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn shown(seed: &str, at: i64) -> String {
    let seed = Seed::try_from_base32(seed).unwrap();
    Builder::new().with_secret(seed).build().unwrap().generate(at.unsigned_abs()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_010;

    fn enrolled() -> (Factor, Vec<Secret>) {
        let (mut factor, codes) = (Factor::new(FactorMode::Writes).unwrap(), recovery_codes());
        factor.confirm(&codes);
        (factor, codes)
    }

    fn code(factor: &Factor, at: u64) -> String {
        factor.totp().unwrap().generate(at).to_string()
    }

    #[test]
    fn a_code_is_good_once_per_credential_and_never_backwards() {
        let (mut factor, _) = enrolled();
        let (before, now, after) = (code(&factor, NOW - STEP), code(&factor, NOW), code(&factor, NOW + STEP));
        assert_eq!(factor.take(&now, "a", NOW), Verdict::Good);
        assert_eq!(factor.take(&format!(" {} {}", &now[..3], &now[3..]), "a", NOW), Verdict::Again);
        assert_eq!(factor.take(&now, "b", NOW), Verdict::Wrong, "replayed by somebody else");
        assert_eq!(factor.take(&before, "a", NOW), Verdict::Wrong);
        assert_eq!(factor.take(&after, "b", NOW), Verdict::Good);
        assert_eq!(factor.take(&now, "a", NOW), Verdict::Wrong);
    }

    #[test]
    fn clocks_may_differ_by_a_step_and_no_more() {
        let (factor, _) = enrolled();
        for (at, good) in
            [(NOW - 2 * STEP, false), (NOW - STEP, true), (NOW + STEP, true), (NOW + 2 * STEP, false)]
        {
            let verdict = factor.clone().take(&code(&factor, at), "a", NOW);
            assert_eq!(verdict == Verdict::Good, good, "{at}");
        }
    }

    #[test]
    fn nonsense_is_wrong() {
        let (mut factor, _) = enrolled();
        for bad in ["", "1", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "-1", &"9".repeat(1000), "00000\u{0}"]
        {
            assert_eq!(factor.take(bad, "a", NOW), Verdict::Wrong, "{bad:?}");
        }
    }

    #[test]
    fn a_recovery_code_works_once() {
        let (mut factor, codes) = enrolled();
        let first = codes[0].expose();
        assert_eq!(factor.take(first, "a", NOW), Verdict::Good);
        assert_eq!(factor.take(first, "a", NOW + STEP), Verdict::Again, "the same request again");
        assert_eq!(factor.take(first, "b", NOW), Verdict::Wrong);
        assert_eq!(factor.take(first, "a", NOW + 3 * STEP), Verdict::Wrong);
        assert_eq!(factor.take(codes[1].expose(), "a", NOW), Verdict::Good);
        assert_eq!(factor.recovery.len(), RECOVERY - 2);
        let mut pending = Factor::new(FactorMode::Logins).unwrap();
        assert_eq!(pending.take(first, "a", NOW), Verdict::Wrong);
    }

    #[test]
    fn the_url_is_what_authenticators_read() {
        let factor = Factor::new(FactorMode::Logins).unwrap();
        let url = factor.url("registry.example.com", "bob@x");
        let url = url::Url::parse(url.expose()).unwrap();
        assert_eq!((url.scheme(), url.host_str()), ("otpauth", Some("totp")));
        let secret = url.query_pairs().find(|(key, _)| key == "secret").unwrap().1.into_owned();
        assert_eq!(secret, factor.seed);
        assert_eq!(secret.len(), 32, "160 bits");
    }
}
