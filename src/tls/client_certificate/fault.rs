//! Why there is no client certificate.

use crate::host::credentials::CredentialsError;

/// Why a certificate cannot be made. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// Nobody to vouch for it.
    #[error(
        "{0}; check ramConfigFile (mount option ram_config_file), as the tunnel process sees it"
    )]
    Credentials(#[from] CredentialsError),
    /// A signature is for a file system.
    #[error(
        "RAM needs the name and the region of the file system, which only a domain of the vendor says; mount by \
         <id>-<suffix>.<region>.nas.aliyuncs.com, or give it as tlsServerName"
    )]
    UnknownFileSystem,
    /// The library does not say more.
    #[error("failed to make or use an RSA key of 3072 bits")]
    Key,
    /// What is to be in it does not fit into a certificate.
    #[error("failed to write the certificate: {0}")]
    Encoding(#[from] der::Error),
    /// A file system that does not answer, or a machine that is very busy.
    #[error("it was not ready within {0} s; trying again may help")]
    Late(u64),
    /// The thread that makes it has failed.
    #[error("the thread that makes it has failed")]
    Panicked,
}
