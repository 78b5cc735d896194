//! The rules by which a mount target's domain names its region.
//!
//! ```text
//! <id>-<suffix>.<label>.nas.aliyuncs.com       the label is the region's id, but for those of the table
//! ```
//!
//! Source: the vendor's list of endpoints ([`crate::nas::endpoint`]), in which the finance cloud of Hangzhou goes by the
//! name of its data centre. Regions that nobody here knows are believed: the vendor opens new ones.

use crate::controller::tree::ExportFault;
use crate::model::MountTarget;
use crate::model::ServerName;
use crate::model::mount_target::MountTargetKind;
use crate::model::nearest::nearest;
use crate::nas::Region;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tunnel::DialFault;

/// Labels of a domain that are not the id of their region.
const OTHER_LABELS: &[(&str, &str)] = &[("cn-hangzhou-dg-a01", "cn-hangzhou-finance")];

/// The region that a mount target is in, as the API calls it; a private name or an address does not say it.
#[must_use]
pub fn region_of(target: &MountTarget) -> Option<Region> {
    let label = label(target)?;
    let other = OTHER_LABELS.iter().find(|(known, _)| *known == label);
    Region::parse(other.map_or(label, |(_, region)| region)).ok()
}

/// What may be wrong with a domain that does not resolve: a region that nobody knows, and one that is spelled nearly so.
#[must_use]
pub fn doubt(host: &ServerName) -> Option<String> {
    let target = MountTarget::parse(host.as_str()).ok()?;
    let label = label(&target)?;
    let known = || Region::known().chain(OTHER_LABELS.iter().map(|(label, _)| *label));
    if known().any(|region| region == label) {
        return None;
    }
    let hint = nearest(label, known()).map(|region| format!("; did you mean {region:?}?"));
    Some(format!("{label:?} is no region of NAS that is known{}", hint.unwrap_or_default()))
}

/// Why a server cannot be reached, with the doubt about its domain where it does not resolve.
pub(in crate::controller) fn explained(host: &ServerName, fault: DialFault) -> ExportFault {
    match doubt(host).filter(|_| fault.kind() == Kind::NameNotFound) {
        Some(doubt) => ExportFault::Region { doubt, source: Box::new(fault) },
        None => ExportFault::Dial(fault),
    }
}

fn label(target: &MountTarget) -> Option<&str> {
    match target.kind() {
        MountTargetKind::GeneralPurpose { region, .. }
        | MountTargetKind::AccessPoint { region, .. } => Some(region),
        MountTargetKind::PrivateName | MountTargetKind::Address => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> MountTarget {
        MountTarget::parse(text).unwrap()
    }

    #[test]
    fn a_domain_says_its_region_also_in_the_finance_clouds() {
        for (domain, region) in [
            ("1-a.cn-hangzhou.nas.aliyuncs.com", Some("cn-hangzhou")),
            ("1-a.cn-shanghai-finance-1.nas.aliyuncs.com", Some("cn-shanghai-finance-1")),
            ("1-a.cn-shenzhen-finance-1.nas.aliyuncs.com", Some("cn-shenzhen-finance-1")),
            ("1-a.cn-beijing-finance-1.nas.aliyuncs.com", Some("cn-beijing-finance-1")),
            ("1-a.cn-hangzhou-finance.nas.aliyuncs.com", Some("cn-hangzhou-finance")),
            ("1-a.cn-hangzhou-dg-a01.nas.aliyuncs.com", Some("cn-hangzhou-finance")),
            ("ap-1.xx-new-9.nas.aliyuncs.com", Some("xx-new-9")),
            ("nas.corp", None),
            ("192.0.2.7", None),
        ] {
            let found = region_of(&target(domain));
            assert_eq!(found.as_ref().map(Region::as_str), region, "{domain}");
        }
    }

    #[test]
    fn a_region_that_is_misspelled_is_named_where_its_domain_does_not_resolve() {
        let doubt = |host: &str| doubt(&ServerName::parse(host).unwrap());
        let said = doubt("1-a.cn-hangzou.nas.aliyuncs.com").unwrap();
        assert!(said.contains("\"cn-hangzou\"") && said.ends_with("\"cn-hangzhou\"?"), "{said}");
        assert_eq!(doubt("1-a.cn-hangzhou.nas.aliyuncs.com"), None);
        assert_eq!(doubt("1-a.cn-hangzhou-dg-a01.nas.aliyuncs.com"), None);
        assert_eq!(doubt("nas.corp"), None);
        let host = ServerName::parse("1-a.cn-hangzou.nas.aliyuncs.com").unwrap();
        let missing = DialFault::NoAddress { host: host.clone() };
        let said = explained(&host, missing).to_string();
        assert!(said.starts_with("failed to resolve 1-a.cn-hangzou"), "{said}");
        assert!(said.ends_with("did you mean \"cn-hangzhou\"?"), "{said}");
    }
}
