//! What a session does not protect from, where it could: one list for the log, the status and the metrics.

use crate::model::TlsPolicy;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::TlsBackend;
use crate::tls::session::Library;
use crate::tls::session::Negotiated;

/// Why a session is weaker than it could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// The server's certificate is not looked at.
    Unverified,
    /// The name in it is not looked at.
    AnyName,
    /// The key exchange has no forward secrecy.
    StaticRsa,
    /// rustls was refused, and the second library was asked.
    OpenSslFallback,
}

impl Weakness {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::Unverified, Self::AnyName, Self::StaticRsa, Self::OpenSslFallback];

    /// Those of a session, the gravest first.
    pub fn of(negotiated: &Negotiated, policy: &TlsPolicy) -> impl Iterator<Item = Self> {
        let (static_rsa, check) = (negotiated.static_rsa, policy.check);
        let fallback = negotiated.library == Library::OpenSsl && policy.backend == TlsBackend::Auto;
        Self::ALL.into_iter().filter(move |weakness| match weakness {
            Self::Unverified => check == CertificateCheck::DangerousNone,
            Self::AnyName => check == CertificateCheck::DangerousAnyName,
            Self::StaticRsa => static_rsa,
            Self::OpenSslFallback => fallback,
        })
    }

    /// In a word, for machines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::AnyName => "any-name",
            Self::StaticRsa => "static-rsa",
            Self::OpenSslFallback => "openssl-fallback",
        }
    }

    /// For people: what somebody could do.
    #[must_use]
    pub fn text(self) -> &'static str {
        let danger = |check: CertificateCheck| check.danger().unwrap_or_default();
        match self {
            Self::Unverified => danger(CertificateCheck::DangerousNone),
            Self::AnyName => danger(CertificateCheck::DangerousAnyName),
            Self::StaticRsa => {
                "WEAKER: static RSA key exchange has no forward secrecy, so whoever records the traffic and gets \
                 the server's key later can read it"
            }
            Self::OpenSslFallback => {
                "WEAKER: the server refused everything that rustls offers, so OpenSSL speaks TLS, and no session \
                 is resumed; have the server offer TLS 1.3, or TLS 1.2 with ECDHE"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(static_rsa: bool, library: Library, policy: &TlsPolicy) -> Vec<Weakness> {
        let negotiated = Negotiated { static_rsa, library, ..Negotiated::default() };
        Weakness::of(&negotiated, policy).collect()
    }

    #[test]
    fn a_session_is_weak_by_its_policy_its_key_exchange_or_its_library() {
        let strict = TlsPolicy::default();
        let checking = |check| TlsPolicy { check, ..TlsPolicy::default() };
        let asked_for = TlsPolicy { backend: TlsBackend::OpenSsl, ..TlsPolicy::default() };
        let any_name = checking(CertificateCheck::DangerousAnyName);
        let none = checking(CertificateCheck::DangerousNone);
        let (rustls, open_ssl) = (Library::Rustls, Library::OpenSsl);
        assert_eq!(found(false, rustls, &strict), []);
        assert_eq!(found(false, open_ssl, &asked_for), [], "it was asked for");
        assert_eq!(found(false, open_ssl, &strict), [Weakness::OpenSslFallback]);
        assert_eq!(found(true, open_ssl, &asked_for), [Weakness::StaticRsa]);
        assert_eq!(found(false, rustls, &any_name), [Weakness::AnyName]);
        let all = [Weakness::Unverified, Weakness::StaticRsa, Weakness::OpenSslFallback];
        assert_eq!(found(true, open_ssl, &none), all);
    }

    #[test]
    fn each_is_said_in_a_word_and_in_a_sentence() {
        for weakness in Weakness::ALL {
            assert!(weakness.word().chars().all(|one| one == '-' || one.is_ascii_lowercase()));
            let text = weakness.text();
            assert!(text.starts_with("WEAKER: ") || text.starts_with("DANGEROUS: "), "{text}");
        }
    }
}
