//! Who we are to the API, and for how long.
//!
//! [`CredentialsHolder`] has the credentials of this moment and renews them ahead of their end, by a pure
//! schedule (`schedule`). It asks the sources in this order; the first one that is set up decides, so that nobody
//! is silently somebody else:
//!
//! | source | set up by | holds |
//! | --- | --- | --- |
//! | [`Environment`] | `ALIBABA_CLOUD_ACCESS_KEY_ID` and `…_SECRET`, `ALIBABA_CLOUD_SECURITY_TOKEN` | until the end of the process |
//! | [`Oidc`], which is RRSA | `ALIBABA_CLOUD_ROLE_ARN`, `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`, `ALIBABA_CLOUD_OIDC_TOKEN_FILE` | an hour |
//! | [`Files`], a mounted Secret | a directory with `id` and `secret`, and perhaps `token` | a minute, then it is read again |
//! | [`InstanceRole`] of ECS | a RAM role on the instance; `ALIBABA_CLOUD_ECS_METADATA_DISABLED` | some hours |
//!
//! It is the order of the vendor's `credentials-go`, without its profile files and its URI. The token file that ACK
//! gives to its managed components is left out: the vendor does not document it, and RRSA does the same.

mod environment;
mod fault;
mod files;
mod holder;
mod instance;
mod oidc;
mod schedule;
mod session;
pub mod settings;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

pub use environment::Environment;
pub use fault::CredentialsFault;
pub use fault::SourceFault;
pub use files::Files;
pub use holder::CredentialsHolder;
pub use instance::InstanceRole;
pub use oidc::Oidc;
pub use oidc::OidcSettings;
pub use settings::CredentialSettings;

/// Of a RAM user, or of a role for as long as its token holds. A secret is wiped when dropped and never printed.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Which user: no secret.
    pub access_key_id: String,
    /// What signatures are made with.
    pub access_key_secret: SecretString,
    /// Of a role.
    pub security_token: Option<SecretString>,
    /// When they end, since the epoch, in UTC.
    pub expires: Option<Duration>,
    /// Where they are from.
    pub origin: Origin,
}

/// Where credentials are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Variables of the process.
    Environment,
    /// A role for a service account of the cluster (RRSA).
    Oidc,
    /// A mounted Secret.
    Files,
    /// The RAM role of the ECS instance.
    InstanceRole,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "the environment",
            Self::Oidc => "the role for the service account (RRSA)",
            Self::Files => "the mounted Secret",
            Self::InstanceRole => "the RAM role of the instance",
        })
    }
}

/// Somewhere that credentials may come from.
#[async_trait]
pub trait CredentialsSource: fmt::Debug + Send + Sync {
    /// Which one.
    fn origin(&self) -> Origin;

    /// What there is now. It ends by itself: whoever asks a network has a deadline for it.
    ///
    /// # Errors
    /// [`SourceFault::Absent`] where it is not set up, and the next source is to be asked.
    async fn credentials(&self) -> Result<Credentials, SourceFault>;

    /// After how long to look again at what has no end of its own.
    fn look_again(&self) -> Option<Duration> {
        None
    }
}

/// A source that says what a test wants.
#[cfg(test)]
pub(super) mod fake {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use super::*;

    /// Answers after `delay` with the access key `K<number of the question>`.
    #[derive(Debug, Default)]
    pub(crate) struct FakeSource {
        pub(crate) asked: AtomicU32,
        pub(crate) delay: Duration,
        /// How long each holds, and by which clock.
        pub(crate) life: Option<Duration>,
        pub(crate) look_again: Option<Duration>,
        pub(crate) fault: Mutex<Option<SourceFault>>,
    }

    impl FakeSource {
        pub(crate) fn times_asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }

        pub(crate) fn fail(&self, fault: Option<SourceFault>) {
            *self.fault.lock().unwrap() = fault;
        }
    }

    pub(crate) fn key(number: u32, expires: Option<Duration>) -> Credentials {
        Credentials {
            access_key_id: format!("K{number}"),
            access_key_secret: "topsecret".into(),
            security_token: None,
            expires,
            origin: Origin::Environment,
        }
    }

    #[async_trait]
    impl CredentialsSource for FakeSource {
        fn origin(&self) -> Origin {
            Origin::Environment
        }

        async fn credentials(&self) -> Result<Credentials, SourceFault> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(self.delay).await;
            if let Some(fault) = self.fault.lock().unwrap().clone() {
                return Err(fault);
            }
            let now = crate::nas::test_clock::wall_now();
            Ok(key(number, self.life.map(|life| now + life)))
        }

        fn look_again(&self) -> Option<Duration> {
            self.look_again
        }
    }
}
