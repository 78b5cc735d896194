//! When to warn that a server's certificate ends: 30, 7 and 1 days before, once each.
//!
//! A connection lives for months and knows only the certificate that it began with. So before a warning the
//! server is asked for the one that it has now.

use std::time::Duration;

use crate::tls::CertificateFacts;

const DAY: i64 = 24 * 60 * 60;
/// Days before the end, the earliest first.
const WARNINGS: [i64; 3] = [30, 7, 1];

/// Between two looks at all tunnels.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The certificate of a tunnel's server that ends first, and what was said about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry {
    certificate: CertificateFacts,
    /// The last warning, in days.
    warned: Option<i64>,
}

impl Expiry {
    /// Takes note of a certificate that was just seen. Warnings about another one are forgotten.
    pub(super) fn seen(&mut self, certificate: &CertificateFacts) {
        if self.certificate != *certificate {
            *self = Self { certificate: certificate.clone(), warned: None };
        }
    }

    /// The certificate, once there was one.
    pub(super) fn certificate(&self) -> Option<&CertificateFacts> {
        (self.certificate.not_after != 0).then_some(&self.certificate)
    }

    /// The warning that is due at a moment (seconds since the epoch), as days before the end.
    pub(super) fn due(&self, now: i64) -> Option<i64> {
        let left = self.certificate()?.not_after - now;
        let reached = WARNINGS.into_iter().rfind(|days| left <= days * DAY)?;
        self.warned.is_none_or(|warned| reached < warned).then_some(reached)
    }

    /// Takes note that a warning was given.
    pub(super) fn warned(&mut self, days: i64) {
        self.warned = Some(days);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: i64 = 2_000_000_000;

    fn ending(not_after: i64) -> CertificateFacts {
        CertificateFacts { not_after, ..CertificateFacts::default() }
    }

    /// Looks every hour from 40 days before the end, and says at how many days a warning came.
    fn warnings(expiry: &mut Expiry) -> Vec<i64> {
        let mut given = Vec::new();
        for hour in 0..41 * 24 {
            let now = END - 40 * DAY + hour * 3600;
            if let Some(days) = expiry.due(now) {
                expiry.warned(days);
                given.push((END - now) / DAY);
            }
        }
        given
    }

    #[test]
    fn there_is_one_warning_at_30_at_7_and_at_1_days() {
        let mut expiry = Expiry::default();
        assert_eq!(expiry.due(END), None, "no certificate was seen");
        expiry.seen(&ending(END));
        assert_eq!(warnings(&mut expiry), [30, 7, 1]);
    }

    #[test]
    fn a_late_look_warns_once_and_of_the_nearest() {
        let mut expiry = Expiry::default();
        expiry.seen(&ending(END));
        assert_eq!(expiry.due(END - 3 * DAY), Some(7));
        expiry.warned(7);
        assert_eq!(expiry.due(END - 3 * DAY), None);
    }

    #[test]
    fn another_certificate_is_warned_about_anew_and_the_same_one_is_not() {
        let mut expiry = Expiry::default();
        expiry.seen(&ending(END));
        expiry.warned(7);
        expiry.seen(&ending(END));
        assert_eq!(expiry.due(END - 5 * DAY), None);
        expiry.seen(&ending(END + DAY));
        assert_eq!(expiry.due(END - 5 * DAY), Some(7));
    }
}
