//! The mount targets of the embedded NAS, by what is wrong with each.

use std::net::Ipv4Addr;

use crate::nas::splitter;

/// A mount target, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Nothing.
    Good,
    /// Nothing: another mount target of the same file system.
    Second,
    /// The server's access rules do not allow this node.
    Denied,
    /// The certificate is signed by an authority that nobody trusts.
    Untrusted,
    /// The certificate is for another name.
    WrongName,
    /// The certificate ended yesterday.
    Expired,
    /// NFS without TLS.
    Plain,
    /// Another protocol, which answers in words of its own.
    Foreign,
    /// Nothing listens.
    Closed,
    /// TCP is accepted, and then nothing.
    SilentTls,
    /// TLS is fine, but NFS never answers.
    SilentNfs,
    /// The address has no route.
    Unreachable,
}

/// Every mount target.
pub const FRONTS: [Front; 12] = [
    Front::Good,
    Front::Second,
    Front::Denied,
    Front::Untrusted,
    Front::WrongName,
    Front::Expired,
    Front::Plain,
    Front::Foreign,
    Front::Closed,
    Front::SilentTls,
    Front::SilentNfs,
    Front::Unreachable,
];

/// A domain of the vendor's form that no name service knows.
pub const UNKNOWN_DOMAIN: &str = "0123456789-nil00.cn-hangzhou.nas.aliyuncs.com";

impl Front {
    /// Its domain.
    #[must_use]
    pub fn domain(self) -> &'static str {
        match self {
            Self::Good => "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com",
            Self::Second => "0123456789-abc13.cn-hangzhou.nas.aliyuncs.com",
            Self::Denied => "0123456789-den14.cn-hangzhou.nas.aliyuncs.com",
            Self::Untrusted => "0123456789-unt20.cn-hangzhou.nas.aliyuncs.com",
            Self::WrongName => "0123456789-wro21.cn-hangzhou.nas.aliyuncs.com",
            Self::Expired => "0123456789-exp22.cn-hangzhou.nas.aliyuncs.com",
            Self::Plain => "0123456789-pla23.cn-hangzhou.nas.aliyuncs.com",
            Self::Foreign => "0123456789-for28.cn-hangzhou.nas.aliyuncs.com",
            Self::Closed => "0123456789-clo24.cn-hangzhou.nas.aliyuncs.com",
            Self::SilentTls => "0123456789-sil25.cn-hangzhou.nas.aliyuncs.com",
            Self::SilentNfs => "0123456789-sil26.cn-hangzhou.nas.aliyuncs.com",
            Self::Unreachable => "0123456789-unr27.cn-hangzhou.nas.aliyuncs.com",
        }
    }

    /// Its address. 192.0.2.0/24 is the cable; 198.51.100.0/24 has no route.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Good => Ipv4Addr::new(192, 0, 2, 10),
            Self::Second => Ipv4Addr::new(192, 0, 2, 11),
            Self::Denied => Ipv4Addr::new(192, 0, 2, 14),
            Self::Untrusted => Ipv4Addr::new(192, 0, 2, 20),
            Self::WrongName => Ipv4Addr::new(192, 0, 2, 21),
            Self::Expired => Ipv4Addr::new(192, 0, 2, 22),
            Self::Plain => Ipv4Addr::new(192, 0, 2, 23),
            Self::Foreign => Ipv4Addr::new(192, 0, 2, 28),
            Self::Closed => Ipv4Addr::new(192, 0, 2, 24),
            Self::SilentTls => Ipv4Addr::new(192, 0, 2, 25),
            Self::SilentNfs => Ipv4Addr::new(192, 0, 2, 26),
            Self::Unreachable => Ipv4Addr::new(198, 51, 100, 27),
        }
    }

    pub(super) fn listens(self) -> bool {
        !matches!(self, Self::Closed | Self::Unreachable)
    }

    /// Where its TLS terminator leads, and with which kind of certificate. `None`: it has no terminator.
    pub(super) fn terminator(self) -> Option<(CertificateKind, &'static str)> {
        match self {
            Self::Good | Self::Second => Some((CertificateKind::Good, splitter::ALLOWED)),
            Self::Denied => Some((CertificateKind::Good, splitter::DENIED)),
            Self::Untrusted => Some((CertificateKind::Untrusted, splitter::ALLOWED)),
            Self::WrongName => Some((CertificateKind::WrongName, splitter::ALLOWED)),
            Self::Expired => Some((CertificateKind::Expired, splitter::ALLOWED)),
            Self::SilentNfs => Some((CertificateKind::Good, splitter::SILENT)),
            Self::Plain | Self::Foreign | Self::SilentTls | Self::Closed | Self::Unreachable => {
                None
            }
        }
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Copy)]
pub(super) enum CertificateKind {
    Good,
    Untrusted,
    WrongName,
    Expired,
}
