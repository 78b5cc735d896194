//! The mount-target domain: the address of a file system, and what its form says about it.
//!
//! The forms (`facts` of the vendor's console and API):
//!
//! | form | file system | TLS |
//! | --- | --- | --- |
//! | `<id>-<suffix>.<region>.nas.aliyuncs.com` | General-purpose | yes |
//! | `ap-<id>.<region>.nas.aliyuncs.com` | access point of a General-purpose one | yes |
//! | `ap-<id>.<file system>.<region>.nas.aliyuncs.com` | the same, as the API's pages show it | yes |
//! | `<id>-<suffix>.<region>.extreme.nas.aliyuncs.com` | Extreme | no |
//! | `cpfs-<id>-<suffix>.<region>.cpfs.aliyuncs.com` | CPFS | no |
//! | any other host name | a private name (PrivateZone, CNAME) | the certificate will show |
//! | an address | - | only with an explicit TLS server name |

use std::fmt;

use crate::model::client_identity::AccessPointId;
use crate::model::tunnel_spec::ServerName;
use crate::model::tunnel_spec::ServerNameError;

const GENERAL_PURPOSE: &str = ".nas.aliyuncs.com";
const EXTREME: &str = ".extreme.nas.aliyuncs.com";
const CPFS: &str = ".cpfs.aliyuncs.com";

/// Where a file system is reached. Cannot be made for a domain that has no TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountTarget {
    name: ServerName,
    kind: MountTargetKind,
}

/// What the form of a mount target says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MountTargetKind {
    /// A mount target of a General-purpose file system.
    GeneralPurpose {
        /// `0123456789` of `0123456789-abc12`.
        file_system: String,
        /// `cn-hangzhou`.
        region: String,
    },
    /// An access point.
    AccessPoint {
        /// `ap-…` with its id.
        access_point: String,
        /// `cn-hangzhou`.
        region: String,
    },
    /// A name that is not the vendor's.
    PrivateName,
    /// An IPv4 or IPv6 address.
    Address,
}

/// The name of a file system in a client certificate (aliyun-alinas-utils 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileSystemName {
    /// `alinas-` and the domain in front of `.nas.`: `alinas-0123456789-abc12.cn-hangzhou`.
    pub id: String,
    /// `cn-hangzhou`.
    pub region: String,
}

/// Why a text is no mount target that this driver can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountTargetError {
    /// No host name at all.
    #[error("{0}")]
    Name(#[from] ServerNameError),
    /// The domain belongs to a product without encryption in transit.
    #[error(
        "{domain:?} is the domain of {product}, which offers no encryption in transit; use a mount target of a \
         General-purpose NAS file system (<id>-<suffix>.<region>.nas.aliyuncs.com)"
    )]
    NoTls {
        /// What was given.
        domain: String,
        /// The product's name.
        product: &'static str,
    },
    /// It ends like a mount target but lacks its parts.
    #[error(
        "{0:?} is no complete mount target domain; expected <id>-<suffix>.<region>.nas.aliyuncs.com or \
         ap-<id>.<region>.nas.aliyuncs.com"
    )]
    Incomplete(String),
}

impl MountTarget {
    /// Reads a mount target. Letters may have any case, IPv6 may stand in brackets.
    ///
    /// # Errors
    /// Says why the text cannot be used.
    pub fn parse(text: &str) -> Result<Self, MountTargetError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let name = ServerName::parse(bare)?;
        let kind = classify(&name)?;
        Ok(Self { name, kind })
    }

    /// The name or address itself.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// What its form says.
    #[must_use]
    pub fn kind(&self) -> &MountTargetKind {
        &self.kind
    }

    /// What a client certificate calls the file system; a private name or an address does not say it.
    #[must_use]
    pub fn file_system(&self) -> Option<FileSystemName> {
        let (MountTargetKind::GeneralPurpose { region, .. }
        | MountTargetKind::AccessPoint { region, .. }) = &self.kind
        else {
            return None;
        };
        let front = self.name.as_str().strip_suffix(GENERAL_PURPOSE)?;
        Some(FileSystemName { id: format!("alinas-{front}"), region: region.clone() })
    }

    /// The access point that the domain belongs to.
    #[must_use]
    pub fn access_point(&self) -> Option<AccessPointId> {
        match &self.kind {
            MountTargetKind::AccessPoint { access_point, .. } => {
                AccessPointId::parse(access_point).ok()
            }
            _ => None,
        }
    }

    /// The name that a certificate should carry; an address has none by itself.
    #[must_use]
    pub fn certificate_name(&self) -> Option<&ServerName> {
        match self.kind {
            MountTargetKind::Address => None,
            _ => Some(&self.name),
        }
    }
}

fn classify(name: &ServerName) -> Result<MountTargetKind, MountTargetError> {
    let text = name.as_str();
    if name.address().is_some() {
        return Ok(MountTargetKind::Address);
    }
    for (suffix, product) in [(EXTREME, "Extreme NAS"), (CPFS, "CPFS")] {
        if text.ends_with(suffix) {
            return Err(MountTargetError::NoTls { domain: text.to_owned(), product });
        }
    }
    let Some(front) = text.strip_suffix(GENERAL_PURPOSE) else {
        return Ok(MountTargetKind::PrivateName);
    };
    vendor_kind(front).ok_or_else(|| MountTargetError::Incomplete(text.to_owned()))
}

/// Reads `<id>-<suffix>.<region>`, `ap-<id>.<region>` or `ap-<id>.<file system>.<region>`.
fn vendor_kind(front: &str) -> Option<MountTargetKind> {
    let (label, behind) = front.split_once('.')?;
    let region = match behind.split_once('.') {
        Some((file_system, region)) if label.starts_with("ap-") && !file_system.is_empty() => {
            region
        }
        _ => behind,
    };
    if region.is_empty() || region.contains('.') {
        return None;
    }
    let region = region.to_owned();
    match label.split_once('-')? {
        ("ap", id) if !id.is_empty() => {
            Some(MountTargetKind::AccessPoint { access_point: label.to_owned(), region })
        }
        (file_system, suffix) if !file_system.is_empty() && !suffix.is_empty() => {
            Some(MountTargetKind::GeneralPurpose { file_system: file_system.to_owned(), region })
        }
        _ => None,
    }
}

impl fmt::Display for MountTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.as_str().contains(':') {
            write!(f, "[{}]", self.name)
        } else {
            self.name.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_mount_target_is_recognised() {
        let general = MountTargetKind::GeneralPurpose {
            file_system: "0123456789".to_owned(),
            region: "cn-hangzhou".to_owned(),
        };
        let access_point = MountTargetKind::AccessPoint {
            access_point: "ap-0abc".to_owned(),
            region: "cn-beijing".to_owned(),
        };
        for (text, shown, kind) in [
            (
                "0123456789-abc12.CN-hangzhou.nas.aliyuncs.com",
                "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com",
                general,
            ),
            (
                "ap-0abc.cn-beijing.nas.aliyuncs.com",
                "ap-0abc.cn-beijing.nas.aliyuncs.com",
                access_point.clone(),
            ),
            (
                "ap-0abc.0123456789-abc12.cn-beijing.nas.aliyuncs.com",
                "ap-0abc.0123456789-abc12.cn-beijing.nas.aliyuncs.com",
                access_point,
            ),
            ("nas.corp.example", "nas.corp.example", MountTargetKind::PrivateName),
            ("192.0.2.7", "192.0.2.7", MountTargetKind::Address),
            ("[2001:db8::7]", "[2001:db8::7]", MountTargetKind::Address),
        ] {
            let target = MountTarget::parse(text).unwrap();
            assert_eq!(target.kind(), &kind, "{text}");
            assert_eq!(target.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn the_vendor_s_domains_name_the_file_system_and_its_region() {
        for (text, id, region, access_point) in [
            (
                "0123456789-abcde.cn-qingdao.nas.aliyuncs.com",
                "alinas-0123456789-abcde.cn-qingdao",
                "cn-qingdao",
                None,
            ),
            ("ap-0abc.cn-x.nas.aliyuncs.com", "alinas-ap-0abc.cn-x", "cn-x", Some("ap-0abc")),
        ] {
            let target = MountTarget::parse(text).unwrap();
            let expected = FileSystemName { id: id.to_owned(), region: region.to_owned() };
            assert_eq!(target.file_system(), Some(expected));
            let found = target.access_point();
            assert_eq!(found.as_ref().map(AccessPointId::as_str), access_point);
        }
        for text in ["nas.corp.example", "192.0.2.7"] {
            assert_eq!(MountTarget::parse(text).unwrap().file_system(), None);
        }
    }

    #[test]
    fn a_product_without_tls_is_refused_by_its_name() {
        for (text, product) in [
            ("0a1b2c-xyz.cn-hangzhou.extreme.nas.aliyuncs.com", "Extreme NAS"),
            ("cpfs-0a1b-xyz.cn-hangzhou.cpfs.aliyuncs.com", "CPFS"),
        ] {
            let error = MountTarget::parse(text).unwrap_err().to_string();
            assert!(error.contains(product) && error.contains("no encryption"), "{error}");
        }
    }

    #[test]
    fn half_a_mount_target_domain_is_refused() {
        for text in [
            "nas.aliyuncs.com.",
            "x.nas.aliyuncs.com",
            "id.cn-hangzhou.nas.aliyuncs.com",
            "id-s.a.b.nas.aliyuncs.com",
            "ap-1.a.b.c.nas.aliyuncs.com",
            "ap-1..b.nas.aliyuncs.com",
            "-s.cn-hangzhou.nas.aliyuncs.com",
            "",
        ] {
            assert!(MountTarget::parse(text).is_err(), "{text:?}");
        }
    }
}
