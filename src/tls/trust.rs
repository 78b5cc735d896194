//! Whom we trust, now.
//!
//! Roots are read once at the start, and again by [`Trust::follow`] whenever their file or directory has
//! changed: a certificate authority can be added or taken away while mounts are in use. What is open stays
//! open; the next session is under the new roots, and none of an earlier one is resumed.
//!
//! No file is ever read on an async thread.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::model::TlsPolicy;
use crate::model::tls_policy::CaBundle;
use crate::runtime::Chain;
use crate::tls::roots::RootSet;
use crate::tls::roots::RootSource;
pub use crate::tls::roots::TrustError;

/// Between two looks at the files. They are read whole: a time stamp would miss what changes within its grain.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Whom we trust: the bundled Mozilla roots, those of the system, and those of a file or directory; for a
/// volume that brings its own bundle, that alone.
pub struct Trust {
    node: Arc<Followed>,
    bundles: Mutex<HashMap<CaBundle, Arc<Followed>>>,
}

/// The roots of one source, as they were last found good.
#[derive(Debug)]
struct Followed {
    source: RootSource,
    roots: watch::Sender<Arc<RootSet>>,
    /// The last complaint about the file, so that it is logged once.
    complaint: Mutex<Option<String>>,
}

impl Trust {
    /// Trusts the bundled roots, those of the system, and those of `ca`, a file or a directory.
    ///
    /// Reads files: call it before anything is served.
    ///
    /// # Errors
    /// When `ca` is missing, empty or broken, so that a wrong setting shows at start.
    pub fn new(ca: Option<&Path>) -> Result<Self, TrustError> {
        let node = Followed::load(RootSource::Node(ca.map(Path::to_owned)))?;
        Ok(Self { node: Arc::new(node), bundles: Mutex::default() })
    }

    /// Looks for changes of the files until dropped.
    pub async fn follow(&self) {
        loop {
            sleep(LOOK_AGAIN).await;
            self.look_again().await;
        }
    }

    /// Takes over what has changed in the files since they were last read. What cannot be used is reported
    /// once, and the last good roots stay in force.
    pub async fn look_again(&self) {
        let mut followed: Vec<_> = self.bundles().values().cloned().collect();
        followed.push(Arc::clone(&self.node));
        followed.retain(|roots| roots.source.path().is_some());
        let looking = spawn_blocking(move || followed.iter().for_each(|roots| roots.look_again()));
        if let Err(error) = looking.await {
            tracing::error!(%error, "failed to look at the CA files");
        }
    }

    /// The roots for sessions under a policy.
    pub(super) async fn roots(&self, policy: &TlsPolicy) -> Result<Arc<RootSet>, TrustError> {
        let Some(bundle) = &policy.ca_bundle else { return Ok(self.node.now()) };
        if let Some(followed) = self.bundles().get(bundle) {
            return Ok(followed.now());
        }
        let source = RootSource::Bundle(bundle.clone());
        let loaded = spawn_blocking(move || Followed::load(source))
            .await
            .map_err(|error| TrustError::Unusable(error.to_string()))??;
        // Two that come at once must share sessions and reloads: the first one stays.
        Ok(self.bundles().entry(bundle.clone()).or_insert_with(|| Arc::new(loaded)).now())
    }

    /// For HTTPS, under the node's roots of this moment. Its sessions are none of the tunnels'.
    ///
    /// # Errors
    /// When rustls does not take the roots.
    pub async fn https(&self) -> Result<ClientConfig, TrustError> {
        let policy = TlsPolicy::default();
        let config = self.roots(&policy).await?.config(&policy)?;
        let mut config = ClientConfig::clone(&config);
        config.resumption = Resumption::default();
        config.enable_secret_extraction = false;
        Ok(config)
    }

    /// Where it shows that the node's roots have changed.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.node.roots.subscribe())
    }

    fn bundles(&self) -> MutexGuard<'_, HashMap<CaBundle, Arc<Followed>>> {
        self.bundles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes of the node's roots.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<Arc<RootSet>>);

impl Changes {
    /// Returns once the roots are others than when this was last asked. Never where nobody follows them.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Followed {
    fn load(source: RootSource) -> Result<Self, TrustError> {
        let roots = source.roots(source.read()?)?;
        Ok(Self { source, roots: watch::Sender::new(Arc::new(roots)), complaint: Mutex::default() })
    }

    fn now(&self) -> Arc<RootSet> {
        Arc::clone(&self.roots.borrow())
    }

    fn look_again(&self) {
        match self.changed() {
            Ok(None) => self.complaint().clone_from(&None),
            Ok(Some(roots)) => {
                tracing::info!(ca.path = %self.shown(), "the CA file has changed and is in force");
                self.roots.send_replace(Arc::new(roots));
                *self.complaint() = None;
            }
            Err(error) => self.complain(&error),
        }
    }

    fn changed(&self) -> Result<Option<RootSet>, TrustError> {
        let contents = self.source.read()?;
        if contents == self.now().contents {
            return Ok(None);
        }
        self.source.roots(contents).map(Some)
    }

    fn complain(&self, error: &TrustError) {
        let text = Chain(error).to_string();
        let mut complaint = self.complaint();
        if complaint.as_ref() != Some(&text) {
            tracing::warn!(
                ca.path = %self.shown(), error = %text,
                "the CA file cannot be used; the last good one stays in force"
            );
            *complaint = Some(text);
        }
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.source.path().unwrap_or(Path::new("")).display()
    }

    fn complaint(&self) -> MutexGuard<'_, Option<String>> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("source", &self.node.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        file
    }

    async fn now(trust: &Trust) -> Arc<RootSet> {
        trust.roots(&TlsPolicy::default()).await.unwrap()
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let missing = Path::new("/nonexistent/ca.pem");
        let broken = file("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
        let no_certificate = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let empty = file("");
        let folder = tempfile::tempdir().unwrap();
        for (path, said) in [
            (missing, "failed to read"),
            (broken.path(), "broken"),
            (no_certificate.path(), "broken"),
            (empty.path(), "holds no certificate"),
            (folder.path(), "holds no certificate"),
        ] {
            let error = Trust::new(Some(path)).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_changed_file_brings_new_roots_and_a_broken_one_keeps_the_last() {
        let file = file(&authority());
        let trust = Trust::new(Some(file.path())).unwrap();
        let first = now(&trust).await;
        trust.look_again().await;
        assert!(Arc::ptr_eq(&first, &now(&trust).await), "nothing has changed");
        fs::write(file.path(), authority()).unwrap();
        trust.look_again().await;
        let second = now(&trust).await;
        assert!(!Arc::ptr_eq(&first, &second));
        for broken in ["", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            fs::write(file.path(), broken).unwrap();
            trust.look_again().await;
            assert!(Arc::ptr_eq(&second, &now(&trust).await));
            let said = trust.node.complaint().clone();
            assert!(said.is_some_and(|said| said.contains(file.path().to_str().unwrap())));
        }
        fs::remove_file(file.path()).unwrap();
        trust.look_again().await;
        assert!(Arc::ptr_eq(&second, &now(&trust).await));
    }

    /// As the kubelet does it: `ca.crt -> ..data/ca.crt`, `..data -> ..2026_01`, and a rename over `..data`.
    #[tokio::test]
    async fn a_config_map_that_is_swapped_is_taken_over_as_a_file_and_as_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let place = |version: &str, text: &str| {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("ca.crt"), text).unwrap();
            symlink(version, folder.path().join("..next")).unwrap();
            fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
        };
        place("..2026_01", &authority());
        symlink("..data/ca.crt", folder.path().join("ca.crt")).unwrap();
        let by_file = Trust::new(Some(&folder.path().join("ca.crt"))).unwrap();
        let by_directory = Trust::new(Some(folder.path())).unwrap();
        let before = (now(&by_file).await, now(&by_directory).await);
        place("..2026_02", &authority());
        fs::remove_dir_all(folder.path().join("..2026_01")).unwrap();
        by_file.look_again().await;
        by_directory.look_again().await;
        assert!(!Arc::ptr_eq(&before.0, &now(&by_file).await));
        assert!(!Arc::ptr_eq(&before.1, &now(&by_directory).await));
    }

    #[tokio::test]
    async fn a_bundle_has_roots_of_its_own_and_is_followed_too() {
        let file = file(&authority());
        let trust = Trust::new(None).unwrap();
        let policy = |text: &str| TlsPolicy {
            ca_bundle: Some(CaBundle::parse(text).unwrap()),
            ..TlsPolicy::default()
        };
        let by_text = trust.roots(&policy(&authority())).await.unwrap();
        assert!(!Arc::ptr_eq(&by_text, &now(&trust).await));
        let by_file = policy(file.path().to_str().unwrap());
        let first = trust.roots(&by_file).await.unwrap();
        assert!(Arc::ptr_eq(&first, &trust.roots(&by_file).await.unwrap()));
        fs::write(file.path(), authority()).unwrap();
        trust.look_again().await;
        assert!(!Arc::ptr_eq(&first, &trust.roots(&by_file).await.unwrap()));
        let error = trust.roots(&policy("/nonexistent/ca.pem")).await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
