//! What the API says about a mount target.

use std::fmt;

use async_trait::async_trait;

use crate::nas::NasClient;
use crate::nas::NasFault;
use crate::nas::types::FileSystemId;
use crate::nas::types::MountTarget;

/// Describes mount targets.
#[async_trait]
pub trait MountTargets: Send + Sync + fmt::Debug {
    /// A mount target, if it is there.
    ///
    /// # Errors
    /// See [`NasFault`].
    async fn mount_target(
        &self,
        file_system: &FileSystemId,
        domain: &str,
    ) -> Result<Option<MountTarget>, NasFault>;
}

#[async_trait]
impl MountTargets for NasClient {
    async fn mount_target(
        &self,
        file_system: &FileSystemId,
        domain: &str,
    ) -> Result<Option<MountTarget>, NasFault> {
        Self::mount_target(self, file_system, domain).await
    }
}

/// Mount targets as a test says.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// Answers in turn; the last word is repeated.
    #[derive(Debug, Default)]
    pub(crate) struct FakeTargets(pub(crate) Mutex<VecDeque<Option<&'static str>>>);

    impl FakeTargets {
        pub(crate) fn saying(words: &[Option<&'static str>]) -> Self {
            Self(Mutex::new(words.iter().copied().collect()))
        }
    }

    #[async_trait]
    impl MountTargets for FakeTargets {
        async fn mount_target(
            &self,
            _file_system: &FileSystemId,
            domain: &str,
        ) -> Result<Option<MountTarget>, NasFault> {
            let mut words = self.0.lock().unwrap();
            let word = if words.len() > 1 { words.pop_front() } else { words.front().copied() };
            let described = |status: &str| {
                let json = serde_json::json!({"MountTargetDomain": domain, "Status": status});
                serde_json::from_value(json).unwrap()
            };
            Ok(word.flatten().map(described))
        }
    }
}
