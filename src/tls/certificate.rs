//! What a certificate says about itself, for people to read. Nothing is decided by it.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;
use x509_parser::time::ASN1Time;

/// The parts of a certificate that a message names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// `CN=*.nas.example.com`.
    pub subject: String,
    /// `C=BE, O=GlobalSign, CN=…`.
    pub issuer: String,
    /// The names of the subjectAltName extension, the only ones that count (RFC 9525, section 6.3).
    pub names: Vec<String>,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
}

impl CertificateFacts {
    /// Reads a certificate; `None` where it cannot be read.
    #[must_use]
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = match parsed.subject_alternative_name() {
            Ok(Some(extension)) => {
                extension.value.general_names.iter().filter_map(name_text).collect()
            }
            _ => Vec::new(),
        };
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            names,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// The first certificate of a chain to end, of those that have not ended yet.
///
/// One that has ended is not what the chain was verified by; servers send such ones along.
#[must_use]
pub fn first_to_end(chain: &[CertificateDer<'_>], now: i64) -> Option<CertificateFacts> {
    chain
        .iter()
        .filter_map(CertificateFacts::read)
        .filter(|facts| facts.not_after > now)
        .min_by_key(|facts| facts.not_after)
}

/// A moment as a message shows it.
#[must_use]
pub fn date(seconds_since_epoch: i64) -> String {
    ASN1Time::from_timestamp(seconds_since_epoch)
        .map_or_else(|_| format!("second {seconds_since_epoch}"), |time| time.to_string())
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address_text(bytes),
        _ => None,
    }
}

fn address_text(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_dates_and_parties_are_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(vec!["nas.example.com".into(), "192.0.2.7".into()])
                .unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a server");
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = params.self_signed(&key).unwrap();
        let facts = CertificateFacts::read(certificate.der()).unwrap();
        assert_eq!(facts.names, ["nas.example.com", "192.0.2.7"]);
        assert_eq!(facts.subject, facts.issuer);
        assert!(facts.subject.contains("CN=a server"), "{}", facts.subject);
        assert!(date(facts.not_after).contains("2031"), "{}", date(facts.not_after));
    }

    #[test]
    fn what_is_no_certificate_has_no_facts() {
        assert_eq!(CertificateFacts::read(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
