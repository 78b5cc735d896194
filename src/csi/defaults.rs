//! What holds for volumes of this node that do not say it themselves.
//!
//! Filled in before the attributes are read, so that a default obeys the rules of an attribute, and is written down with
//! the tunnel as if the volume had said it.

use std::collections::HashMap;

use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::RevocationCheck;

/// The attributes by which a volume says what of the certificate is checked.
const CHECK: [&str; 2] = ["tlsCheck", "stunnel_check_cert_hostname"];
const REVOCATION: &str = "stunnel_check_cert_validity";

/// The vendor's settings for all mounts of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeDefaults {
    /// What of the server's certificate is checked.
    pub check: CertificateCheck,
    /// Whether its revocation is looked into.
    pub revocation: RevocationCheck,
}

impl VolumeDefaults {
    /// The attributes with what they leave open. Those of a volume without encryption stay as they are.
    #[must_use]
    pub fn fill(&self, mut attributes: HashMap<String, String>) -> HashMap<String, String> {
        let said = |names: &[&str], value: Option<&str>| {
            attributes.iter().any(|(key, found)| {
                names.iter().any(|name| name.eq_ignore_ascii_case(key))
                    && value.is_none_or(|value| value == found)
            })
        };
        if said(&["mountProtocol"], Some("nfs")) || said(&["tls"], Some("false")) {
            return attributes;
        }
        let mut more = Vec::new();
        if self.check != CertificateCheck::Full && !said(&CHECK, None) {
            more.push(("tlsCheck".to_owned(), self.check.to_string()));
        }
        if self.revocation == RevocationCheck::Ocsp && !said(&[REVOCATION], None) {
            more.push((REVOCATION.to_owned(), "true".to_owned()));
        }
        attributes.extend(more);
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VolumeAttributes;

    const WEAK: VolumeDefaults = VolumeDefaults {
        check: CertificateCheck::DangerousAnyName,
        revocation: RevocationCheck::Ocsp,
    };

    fn filled(defaults: VolumeDefaults, given: &[(&str, &str)]) -> Vec<(String, String)> {
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let filled = defaults.fill(given.collect());
        let mut filled: Vec<_> = filled.into_iter().collect();
        filled.sort();
        filled
    }

    #[test]
    fn a_volume_has_the_default_of_its_node_unless_it_says_otherwise() {
        let check = ("tlsCheck", "dangerous-any-name");
        let revocation = ("stunnel_check_cert_validity", "true");
        for (given, expected) in [
            (vec![], vec![revocation, check]),
            (vec![("TLSCHECK", "full")], vec![("TLSCHECK", "full"), revocation]),
            (
                vec![("stunnel_check_cert_hostname", "true")],
                vec![("stunnel_check_cert_hostname", "true"), revocation],
            ),
            (
                vec![("stunnel_check_cert_validity", "false")],
                vec![("stunnel_check_cert_validity", "false"), check],
            ),
            (vec![("mountProtocol", "nfs")], vec![("mountProtocol", "nfs")]),
            (vec![("tls", "false")], vec![("tls", "false")]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(filled(WEAK, &given), expected, "{given:?}");
        }
        assert_eq!(filled(VolumeDefaults::default(), &[]), []);
    }

    #[test]
    fn what_is_filled_in_is_an_attribute_that_can_be_read() {
        let given = [("server".to_owned(), "nas.example.com".to_owned())].into();
        let attributes = VolumeAttributes::parse(&WEAK.fill(given), &[]).unwrap();
        assert!(format!("{attributes:?}").contains("DangerousAnyName"), "{attributes:?}");
    }
}
