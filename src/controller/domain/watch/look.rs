//! One look at a mount target: what the API says where it is asked, then its name, its port and its certificate.
//!
//! The API alone is not believed when it does not know a mount target: it may belong to another account. Only where
//! nobody answers there either, it was deleted.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use crate::controller::domain::described::MountTargets;
use crate::controller::domain::region::region_of;
use crate::controller::domain::watch::step::Sight;
use crate::controller::domain::watch::step::Trouble;
use crate::host::resolve::ResolveFault;
use crate::model::MountTarget;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::model::mount_target::MountTargetKind;
use crate::nas::Region;
use crate::nas::types::FileSystemId;
use crate::nas::types::MountTargetStatus;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tls::TlsFault;
use crate::tunnel::DialFault;
use crate::tunnel::Dialer;
use crate::tunnel::resolve::Names;

/// For the resolver, whose own timeouts are longer.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// Looks at mount targets.
#[async_trait]
pub trait Sights: Send + Sync + fmt::Debug {
    /// What there is to see now. It ends by itself.
    async fn look(&self, spec: &TunnelSpec) -> Sight;
}

/// By the network, and by the API of one region where there are credentials for it.
#[derive(Debug)]
pub struct NetworkSights {
    names: Arc<dyn Names>,
    dialer: Dialer,
    api: Option<(Region, Arc<dyn MountTargets>)>,
}

/// What the API says.
enum Said {
    Nothing,
    Unknown,
    Trouble(Trouble, String),
}

impl NetworkSights {
    /// By the network alone.
    #[must_use]
    pub fn new(names: Arc<dyn Names>, dialer: Dialer) -> Self {
        Self { names, dialer, api: None }
    }

    /// Asks the API about mount targets of a region, too.
    #[must_use]
    pub fn with_api(self, region: Region, targets: Arc<dyn MountTargets>) -> Self {
        Self { api: Some((region, targets)), ..self }
    }

    async fn said(&self, host: &ServerName) -> Said {
        let Some((region, targets)) = &self.api else { return Said::Nothing };
        let Ok(target) = MountTarget::parse(host.as_str()) else { return Said::Nothing };
        let MountTargetKind::GeneralPurpose { file_system, .. } = target.kind() else {
            return Said::Nothing;
        };
        let id = FileSystemId::parse(file_system)
            .ok()
            .filter(|_| region_of(&target).as_ref() == Some(region));
        let Some(id) = id else { return Said::Nothing };
        match targets.mount_target(&id, host.as_str()).await {
            Ok(Some(found)) => of_status(found.status.as_ref()),
            Ok(None) => Said::Unknown,
            Err(fault) => {
                tracing::debug!(%host, error = %fault, "the API does not say how a mount target is");
                Said::Nothing
            }
        }
    }

    async fn addresses(&self, host: &ServerName) -> Result<BTreeSet<IpAddr>, Sight> {
        if let Some(address) = host.address() {
            return Ok([address].into());
        }
        match timeout(RESOLVE_DEADLINE, self.names.addresses(host)).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses.into_iter().collect()),
            Ok(Ok(_)) => Err(gone(DialFault::NoAddress { host: host.clone() })),
            Ok(Err(source @ ResolveFault::NoSuchName(_))) => {
                Err(gone(DialFault::NameNotFound { host: host.clone(), source }))
            }
            Ok(Err(fault)) => Err(Sight::Blind(fault.to_string())),
            Err(_) => Err(Sight::Blind("the resolver did not answer".to_owned())),
        }
    }

    async fn by_network(&self, spec: &TunnelSpec) -> Sight {
        let addresses = match self.addresses(&spec.host).await {
            Ok(addresses) => addresses,
            Err(sight) => return sight,
        };
        match self.dialer.dial_anew(spec).await {
            Ok(dialled) => {
                let first = dialled.negotiated.first_to_end;
                let certificate_ends = first.map(|certificate| certificate.not_after);
                Sight::Answers { addresses, certificate_ends }
            }
            Err(fault) => of_fault(&fault),
        }
    }
}

#[async_trait]
impl Sights for NetworkSights {
    async fn look(&self, spec: &TunnelSpec) -> Sight {
        let said = self.said(&spec.host).await;
        if let Said::Trouble(trouble, why) = said {
            return Sight::Said(trouble, why);
        }
        match (self.by_network(spec).await, said) {
            (Sight::Trouble(_, why), Said::Unknown) => {
                let why = format!(
                    "the API of NAS knows no such mount target, and {why}; make another mount target for the file \
                     system, and PersistentVolumes that name it"
                );
                Sight::Said(Trouble::Deleted, why)
            }
            (sight, _) => sight,
        }
    }
}

fn of_status(status: Option<&MountTargetStatus>) -> Said {
    let disabled = |word: &str| {
        let why = format!(
            "the API of NAS says that it is {word}: whoever uses it waits; switch it on in the console of NAS"
        );
        Said::Trouble(Trouble::Disabled, why)
    };
    match status {
        Some(MountTargetStatus::Inactive) => disabled("inactive"),
        Some(MountTargetStatus::Hibernating | MountTargetStatus::Hibernated) => {
            disabled("hibernated")
        }
        Some(MountTargetStatus::Deleting) => {
            let why = "the API of NAS says that it is being deleted; make another mount target for the file system, \
                       and PersistentVolumes that name it";
            Said::Trouble(Trouble::Deleted, why.to_owned())
        }
        Some(
            MountTargetStatus::Active | MountTargetStatus::Pending | MountTargetStatus::Other(_),
        )
        | None => Said::Nothing,
    }
}

fn gone(fault: DialFault) -> Sight {
    Sight::Trouble(Trouble::Gone, DialFault::to_string(&fault))
}

/// What the controller lacks, and a node may have, is no trouble of the mount target.
fn of_fault(fault: &DialFault) -> Sight {
    let why = fault.to_string();
    match fault {
        DialFault::ResolverSilent { .. } | DialFault::Client { .. } => return Sight::Blind(why),
        DialFault::Tls { source, .. } if matches!(**source, TlsFault::NoRoots(_)) => {
            return Sight::Blind(why);
        }
        DialFault::NameNotFound { .. }
        | DialFault::NoAddress { .. }
        | DialFault::Refused { .. }
        | DialFault::Timeout { .. }
        | DialFault::NoRoute { .. }
        | DialFault::Tls { .. }
        | DialFault::HandshakeTimeout { .. }
        | DialFault::NeitherPort { .. }
        | DialFault::OutOfTime { .. } => {}
    }
    match fault.kind() {
        Kind::NameNotFound => Sight::Trouble(Trouble::Gone, why),
        Kind::CertificateUntrusted
        | Kind::CertificateWrongName
        | Kind::CertificateExpired
        | Kind::CertificateNotYetValid => Sight::Trouble(Trouble::Insecure, why),
        Kind::ClientCertificate => Sight::Blind(why),
        _ => Sight::Trouble(Trouble::Silent, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::domain::described::fake::FakeTargets;
    use crate::model::RemotePort;
    use crate::tls::Trust;

    const DOMAIN: &str = "1-a.cn-hangzhou.nas.aliyuncs.com";

    #[derive(Debug)]
    struct FakeNames(Result<Vec<IpAddr>, ResolveFault>);

    #[async_trait]
    impl Names for FakeNames {
        async fn addresses(&self, _host: &ServerName) -> Result<Vec<IpAddr>, ResolveFault> {
            self.0.clone()
        }
    }

    /// A look at a name that leads to a closed port, or nowhere.
    async fn look(
        names: Result<Vec<IpAddr>, ResolveFault>,
        word: Option<Option<&'static str>>,
    ) -> Sight {
        let names: Arc<dyn Names> = Arc::new(FakeNames(names));
        let dialer = Dialer::with_names(Arc::new(Trust::new(None).unwrap()), Arc::clone(&names));
        let mut sights = NetworkSights::new(names, dialer);
        if let Some(word) = word {
            let targets = Arc::new(FakeTargets::saying(&[word]));
            sights = sights.with_api(Region::parse("cn-hangzhou").unwrap(), targets);
        }
        let host = ServerName::parse(DOMAIN).unwrap();
        sights.look(&TunnelSpec::to(host, RemotePort::Only(1))).await
    }

    fn closed() -> Result<Vec<IpAddr>, ResolveFault> {
        Ok(vec![IpAddr::from([127, 99, 99, 97])])
    }

    fn missing() -> Result<Vec<IpAddr>, ResolveFault> {
        Err(ResolveFault::NoSuchName("NXDOMAIN".to_owned()))
    }

    #[tokio::test]
    async fn the_network_shows_whether_the_name_or_the_server_is_missing() {
        let silent = look(closed(), None).await;
        assert!(matches!(silent, Sight::Trouble(Trouble::Silent, _)), "{silent:?}");
        for names in [missing(), Ok(vec![])] {
            let sight = look(names, None).await;
            assert!(matches!(sight, Sight::Trouble(Trouble::Gone, _)), "{sight:?}");
        }
        let away = look(Err(ResolveFault::TryAgain("away".to_owned())), None).await;
        assert_eq!(away, Sight::Blind("away".to_owned()));
    }

    #[tokio::test]
    async fn the_api_says_what_the_network_cannot_show() {
        for (word, trouble) in [
            (Some("Inactive"), Trouble::Disabled),
            (Some("Hibernated"), Trouble::Disabled),
            (Some("Deleting"), Trouble::Deleted),
            (None, Trouble::Deleted),
        ] {
            let Sight::Said(said, why) = look(missing(), Some(word)).await else {
                panic!("{word:?}");
            };
            assert!(said == trouble && why.contains("; "), "{word:?}: {why}");
        }
        let active = look(missing(), Some(Some("Active"))).await;
        assert!(matches!(active, Sight::Trouble(Trouble::Gone, _)), "{active:?}");
    }
}
