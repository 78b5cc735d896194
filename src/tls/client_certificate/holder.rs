//! All client certificates of this process, made when they are needed and renewed in time.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::system::uname;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::host::credentials::Credentials;
use crate::model::ClientSubject;
use crate::runtime::Chain;
use crate::runtime::Clock;
use crate::runtime::Moment;
use crate::runtime::SystemClock;
use crate::tls::client_certificate::fault::CertificateFault;
use crate::tls::client_certificate::key::ClientKey;
use crate::tls::client_certificate::presenter::Presenter;
use crate::tls::client_certificate::schedule::Action;
use crate::tls::client_certificate::schedule::Event;
use crate::tls::client_certificate::schedule::State;
use crate::tls::client_certificate::schedule::step;
use crate::tls::client_certificate::x509::Content;
use crate::tls::client_certificate::x509::Time;
use crate::tls::client_certificate::x509::self_signed;

/// For the key, which is made once, and for a credentials file on a file system that may be slow.
const DEADLINE: Duration = Duration::from_secs(30);

/// The certificates of one process. All have one key, which lives and dies with it.
#[derive(Debug)]
pub struct ClientCertificates {
    maker: Arc<Maker>,
    known: Mutex<HashMap<ClientSubject, Held>>,
    /// One at a time, so that a file that cannot be read holds up one thread.
    making: tokio::sync::Mutex<()>,
}

/// What there is for one subject.
#[derive(Clone, Debug)]
struct Held {
    state: State,
    presenter: Arc<Presenter>,
}

struct Maker {
    key: OnceLock<Result<Arc<ClientKey>, ()>>,
    common_name: String,
    clock: Arc<dyn Clock>,
}

impl Default for ClientCertificates {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl ClientCertificates {
    /// None yet; they are made by this clock. The key, too, waits until a server asks.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let host_name = uname().nodename().to_string_lossy().into_owned();
        let common_name = if host_name.is_empty() { "localhost".to_owned() } else { host_name };
        Self {
            maker: Arc::new(Maker { key: OnceLock::new(), common_name, clock }),
            known: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// What to begin a handshake with. Where nobody has asked for a certificate yet it may be empty, unless the
    /// subject is somebody only by its certificate: see [`Presenter::was_lacking`].
    ///
    /// # Errors
    /// Says why there is no certificate, where one is needed.
    pub async fn at_hand(
        &self,
        subject: &ClientSubject,
    ) -> Result<Arc<Presenter>, CertificateFault> {
        let held = self.held(subject);
        if held.state == State::Unasked && !subject.is_essential() {
            return Ok(held.presenter);
        }
        self.current(subject).await
    }

    /// The certificate to show now; it is made where there is none that will do.
    ///
    /// # Errors
    /// Says why it cannot be made.
    pub async fn current(
        &self,
        subject: &ClientSubject,
    ) -> Result<Arc<Presenter>, CertificateFault> {
        self.after(subject, Event::Needed).await?;
        Ok(self.held(subject).presenter)
    }

    /// Renews what is due, and forgets the certificates of everybody else.
    pub async fn renew(&self, subjects: &HashSet<ClientSubject>) {
        self.known().retain(|subject, _| subjects.contains(subject));
        for subject in subjects {
            if let Err(error) = self.after(subject, Event::TimePasses).await {
                // There was a warning when it began.
                tracing::debug!(error = %Chain(&error), "the client certificate was not renewed");
            }
        }
    }

    async fn after(&self, subject: &ClientSubject, event: Event) -> Result<(), CertificateFault> {
        if self.take(subject, event) != Action::Make {
            return Ok(());
        }
        let _one_at_a_time = self.making.lock().await;
        // Somebody else may have made it while we waited.
        if self.take(subject, event) != Action::Make {
            return Ok(());
        }
        match self.make(subject).await {
            Ok((presenter, since)) => {
                let mut known = self.known();
                let held = known.entry(subject.clone()).or_insert_with(Held::none);
                held.presenter = Arc::new(presenter);
                drop(known);
                if self.take(subject, Event::Made(since)) == Action::Reassure {
                    tracing::info!(client = %subject, "the client certificate is renewed again");
                }
                Ok(())
            }
            Err(fault) => {
                if self.take(subject, Event::Failed) == Action::Warn {
                    tracing::warn!(
                        client = %subject, error = %Chain(&fault),
                        "failed to renew the client certificate; the last one serves until it ends, at most three \
                         hours after it was made"
                    );
                }
                self.instead_of(subject, fault)
            }
        }
    }

    /// A certificate that still holds will do.
    fn instead_of(
        &self,
        subject: &ClientSubject,
        fault: CertificateFault,
    ) -> Result<(), CertificateFault> {
        match self.held(subject).state {
            State::InForce { .. } | State::Overdue { .. } => Ok(()),
            State::Unasked | State::Missing => Err(fault),
        }
    }

    fn take(&self, subject: &ClientSubject, event: Event) -> Action {
        let mut known = self.known();
        let held = known.entry(subject.clone()).or_insert_with(Held::none);
        let (state, action) = step(held.state, event, self.maker.clock.now());
        held.state = state;
        action
    }

    async fn make(&self, subject: &ClientSubject) -> Result<(Presenter, Moment), CertificateFault> {
        let (maker, subject) = (Arc::clone(&self.maker), subject.clone());
        let making = spawn_blocking(move || maker.make(&subject));
        match timeout(DEADLINE, making).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(CertificateFault::Panicked),
            Err(_) => Err(CertificateFault::Late(DEADLINE.as_secs())),
        }
    }

    fn held(&self, subject: &ClientSubject) -> Held {
        self.known().entry(subject.clone()).or_insert_with(Held::none).clone()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ClientSubject, Held>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn none() -> Self {
        Self { state: State::Unasked, presenter: Arc::default() }
    }
}

impl Maker {
    /// Blocks: the key takes its time, and the credentials are read anew each time.
    fn make(&self, subject: &ClientSubject) -> Result<(Presenter, Moment), CertificateFault> {
        let generate = || ClientKey::generate().map(Arc::new).map_err(drop);
        let key = self.key.get_or_init(generate).clone().map_err(|()| CertificateFault::Key)?;
        let credentials =
            subject.ram.as_ref().map(|ram| Credentials::read(ram.path())).transpose()?;
        let now = self.clock.now();
        let content = Content {
            common_name: self.common_name.clone(),
            now: Time::since_epoch(now.wall),
            file_system: subject.file_system.clone(),
            access_point: subject.access_point.clone(),
        };
        let certificate = self_signed(&content, credentials.as_ref(), &key)?;
        Ok((Presenter::new(certificate, key, now.wall), now))
    }
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").field("common_name", &self.common_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use rustls::client::ResolvesClientCert;
    use x509_parser::prelude::FromDer;
    use x509_parser::prelude::X509Certificate;

    use crate::model::client_identity::CredentialsPath;
    use crate::model::mount_target::FileSystemName;
    use crate::tls::client_certificate::golden;

    use super::*;

    /// A clock that a test turns.
    #[derive(Debug)]
    struct Turned(Mutex<Moment>);

    impl Turned {
        fn new() -> Arc<Self> {
            let wall = Duration::from_secs(1_800_000_000);
            Arc::new(Self(Mutex::new(Moment { steady: Instant::now(), wall })))
        }

        fn pass(&self, minutes: u64) {
            let mut now = self.0.lock().unwrap();
            now.steady += Duration::from_secs(60 * minutes);
            now.wall += Duration::from_secs(60 * minutes);
        }
    }

    impl Clock for Turned {
        fn now(&self) -> Moment {
            *self.0.lock().unwrap()
        }
    }

    /// With the key of the golden tests, which takes no time to make.
    fn certificates(clock: &Arc<Turned>) -> ClientCertificates {
        let key = OnceLock::from(Ok(Arc::new(golden::key())));
        let clock: Arc<dyn Clock> = clock.clone();
        let maker = Maker { key, common_name: "node-1".to_owned(), clock };
        ClientCertificates { maker: Arc::new(maker), ..ClientCertificates::default() }
    }

    fn subject(ram: Option<&std::path::Path>) -> ClientSubject {
        let (id, region) = ("alinas-0-a.cn-x".to_owned(), "cn-x".to_owned());
        ClientSubject {
            file_system: Some(FileSystemName { id, region }),
            access_point: None,
            ram: ram.map(|path| CredentialsPath::parse(path.to_str().unwrap()).unwrap()),
        }
    }

    fn access_key(presenter: &Presenter) -> String {
        let certificate = presenter.for_open_ssl().unwrap().certificate;
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let proof = parsed
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == "1.3.6.1.4.1.4843.7.2")
            .unwrap();
        // SEQUENCE { UTF8String, …
        let value = proof.value;
        let length = usize::from(value[3]);
        String::from_utf8(value[4..4 + length].to_vec()).unwrap()
    }

    fn credentials(path: &std::path::Path, id: &str) {
        let text = format!("[NASCredentials]\naccessKeyID={id}\naccessKeySecret=topsecret\n");
        fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn nothing_is_made_until_a_server_asks_and_then_all_share_it_for_15_minutes() {
        let clock = Turned::new();
        let (certificates, subject) = (certificates(&clock), subject(None));
        let empty = certificates.at_hand(&subject).await.unwrap();
        assert!(!empty.was_lacking() && empty.not_after().is_none());
        assert!(Arc::ptr_eq(&empty, &certificates.at_hand(&subject).await.unwrap()));
        assert!(empty.resolve(&[], &[]).is_none() && empty.was_lacking());
        let first = certificates.current(&subject).await.unwrap();
        assert_eq!(first.not_after(), Some(1_800_000_000 + 3 * 3600));
        clock.pass(14);
        assert!(Arc::ptr_eq(&first, &certificates.at_hand(&subject).await.unwrap()));
        clock.pass(1);
        certificates.renew(&HashSet::from([subject.clone()])).await;
        let second = certificates.held(&subject).presenter;
        assert_eq!(second.not_after(), first.not_after().map(|end| end + 15 * 60));
        assert!(first.resolve(&[], &[]).is_some(), "who began with it goes on with it");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_is_noticed_by_the_next_handshake() {
        let clock = Turned::new();
        let (certificates, subject) = (certificates(&clock), subject(None));
        certificates.current(&subject).await.unwrap();
        clock.0.lock().unwrap().wall -= Duration::from_secs(30 * 24 * 3600);
        let now = certificates.at_hand(&subject).await.unwrap().not_after().unwrap();
        assert_eq!(now, 1_800_000_000 - 30 * 24 * 3600 + 3 * 3600);
    }

    #[tokio::test]
    async fn credentials_are_read_again_and_while_they_are_unusable_the_old_certificate_serves() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let clock = Turned::new();
        let (certificates, subject) = (certificates(&clock), subject(Some(file.path())));
        let fault = certificates.at_hand(&subject).await.unwrap_err();
        assert!(matches!(fault, CertificateFault::Credentials(_)), "{fault}");
        credentials(file.path(), "LTAI1");
        let first = certificates.at_hand(&subject).await.unwrap();
        assert_eq!(access_key(&first), "LTAI1");
        fs::write(file.path(), "").unwrap();
        clock.pass(15);
        certificates.renew(&HashSet::from([subject.clone()])).await;
        assert!(matches!(certificates.held(&subject).state, State::Overdue { .. }));
        assert!(Arc::ptr_eq(&first, &certificates.at_hand(&subject).await.unwrap()));
        credentials(file.path(), "LTAI2");
        clock.pass(1);
        assert_eq!(access_key(&certificates.at_hand(&subject).await.unwrap()), "LTAI2");
        fs::write(file.path(), "").unwrap();
        clock.pass(180);
        let fault = certificates.at_hand(&subject).await.unwrap_err().to_string();
        assert!(fault.contains("no section") && !fault.contains("topsecret"), "{fault}");
    }

    #[tokio::test]
    async fn the_certificates_of_closed_tunnels_are_forgotten() {
        let certificates = certificates(&Turned::new());
        certificates.current(&subject(None)).await.unwrap();
        certificates.renew(&HashSet::new()).await;
        assert!(certificates.known().is_empty());
    }
}
