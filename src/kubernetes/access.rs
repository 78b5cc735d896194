//! Whether this process may talk to a cluster, and where its API server is.
//!
//! Kubernetes tells a container by two variables and a directory with a token. A host has neither, so a mount command
//! never tries.

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use kube::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::kubernetes::cluster::Cluster;
use crate::runtime::Chain;

/// Where Kubernetes puts the credentials of a service account.
pub const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// For TCP and TLS. A call has a deadline of its own besides.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// An API server, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    url: String,
    credentials: PathBuf,
}

/// Why there is no way to the API server, although there are credentials.
#[derive(Debug, thiserror::Error)]
pub enum AccessFault {
    /// The variables are no address.
    #[error("{0:?} is no URL of an API server; are KUBERNETES_SERVICE_HOST and _PORT set by hand?")]
    Url(String),
    /// The authority that signs for the API server is not there.
    #[error("failed to read {file:?}; is the service account's volume mounted whole?")]
    Authority {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no certificate.
    #[error("{0:?} holds no certificate")]
    NoAuthority(PathBuf),
    /// The client could not be made.
    #[error("failed to set up a client for {url}: {why}")]
    Client {
        /// Of which server.
        url: String,
        /// In the words of the library.
        why: String,
    },
}

impl Access {
    /// Looks for the variables that Kubernetes sets and for a token in `credentials`; none where one is missing.
    #[must_use]
    pub fn look_up(look_up: impl Fn(&str) -> Option<String>, credentials: &Path) -> Option<Self> {
        let set = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let (host, port) = (set("KUBERNETES_SERVICE_HOST")?, set("KUBERNETES_SERVICE_PORT")?);
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
        let credentials = credentials.to_owned();
        let url = format!("https://{host}:{port}");
        credentials.join("token").is_file().then_some(Self { url, credentials })
    }

    /// Makes a client. Nothing is sent yet. The token and the authority are read again while it is used, as Kubernetes
    /// renews both.
    ///
    /// # Errors
    /// Says which part of the credentials is missing.
    pub fn connect(&self) -> Result<Cluster, AccessFault> {
        let url = self.url.parse().map_err(|_| AccessFault::Url(self.url.clone()))?;
        let file = self.credentials.join("ca.crt");
        let mut config = Config::new(url);
        config.root_cert = Some(authorities(&file)?);
        config.root_cert_file = Some(file);
        config.auth_info.token_file =
            Some(self.credentials.join("token").to_string_lossy().into_owned());
        config.connect_timeout = Some(CONNECT_DEADLINE);
        // A call that fails is repeated by who made it, who also knows when it is no longer wanted.
        config.default_retry = false;
        let why = |error: kube::Error| AccessFault::Client {
            url: self.url.clone(),
            why: Chain(&error).to_string(),
        };
        Ok(Cluster::new(Client::try_from(config).map_err(why)?))
    }

    /// Where the API server is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn authorities(file: &Path) -> Result<Vec<Vec<u8>>, AccessFault> {
    let pem = std::fs::read(file)
        .map_err(|source| AccessFault::Authority { file: file.to_owned(), source })?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .filter_map(|certificate| Some(certificate.ok()?.to_vec()))
        .collect();
    if found.is_empty() { Err(AccessFault::NoAuthority(file.to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(host: &str, port: &str, credentials: &Path) -> Option<Access> {
        let look_up = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
            _ => None,
        };
        Access::look_up(look_up, credentials)
    }

    #[test]
    fn a_host_has_no_access_and_a_container_with_a_token_has() {
        let credentials = tempfile::tempdir().unwrap();
        assert_eq!(found("10.0.0.1", "443", credentials.path()), None, "there is no token");
        std::fs::write(credentials.path().join("token"), "t").unwrap();
        assert_eq!(found("", "443", credentials.path()), None, "no variables");
        for (host, url) in
            [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
        {
            assert_eq!(found(host, "443", credentials.path()).unwrap().url(), url);
        }
    }

    #[tokio::test]
    async fn a_token_without_an_authority_is_no_access_and_the_file_is_named() {
        let credentials = tempfile::tempdir().unwrap();
        std::fs::write(credentials.path().join("token"), "t").unwrap();
        let access = found("10.0.0.1", "443", credentials.path()).unwrap();
        let said = access.connect().unwrap_err().to_string();
        assert!(said.contains("ca.crt"), "{said}");
        std::fs::write(credentials.path().join("ca.crt"), "no certificate").unwrap();
        assert!(matches!(access.connect(), Err(AccessFault::NoAuthority(_))));
    }
}
