//! Where the API answers: one table of regions, and what may be said instead.
//!
//! Sources: the vendor's Go client (`nas-20170626`, `EndpointMap`) for the public endpoints with their exceptions,
//! and the vendor's CSI driver (`regionsCanUseVpcEndpoint`) for those inside a VPC.
//!
//! Pure. Only HTTPS: credentials never go over a plain connection.

use std::fmt;

/// Where a public endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Public {
    /// `nas.<region>.aliyuncs.com`
    Regional,
    /// `nas.aliyuncs.com`, which serves regions that have none of their own.
    Central,
    /// A name that follows no rule.
    Named(&'static str),
}

/// Is there a `nas-vpc.<region>.aliyuncs.com`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InVpc {
    Has,
    Lacks,
}

use InVpc::{Has, Lacks};
use Public::{Central, Named, Regional};

const REGIONS: &[(&str, Public, InVpc)] = &[
    ("ap-northeast-1", Regional, Has),
    ("ap-northeast-2", Regional, Has),
    ("ap-south-1", Regional, Has),
    ("ap-southeast-1", Regional, Has),
    ("ap-southeast-2", Central, Has),
    ("ap-southeast-3", Regional, Has),
    ("ap-southeast-5", Regional, Has),
    ("ap-southeast-6", Regional, Has),
    ("ap-southeast-7", Regional, Has),
    ("ap-southeast-8", Regional, Lacks),
    ("cn-beijing", Regional, Has),
    ("cn-beijing-finance-1", Regional, Has),
    ("cn-beijing-gov-1", Central, Lacks),
    ("cn-chengdu", Regional, Has),
    ("cn-guangzhou", Regional, Has),
    ("cn-hangzhou", Regional, Has),
    // The finance cloud of Hangzhou answers under the name of its data centre.
    ("cn-hangzhou-finance", Named("nas.cn-hangzhou-dg-a01.aliyuncs.com"), Has),
    ("cn-heyuan", Regional, Has),
    ("cn-heyuan-acdr-1", Regional, Has),
    ("cn-hongkong", Regional, Has),
    ("cn-huhehaote", Regional, Has),
    ("cn-north-2-gov-1", Regional, Has),
    ("cn-qingdao", Regional, Has),
    ("cn-shanghai", Regional, Has),
    ("cn-shanghai-finance-1", Regional, Has),
    ("cn-shenzhen", Regional, Has),
    ("cn-shenzhen-finance-1", Regional, Has),
    ("cn-wuhan", Central, Lacks),
    ("cn-wulanchabu", Regional, Has),
    ("cn-zhangjiakou", Regional, Has),
    ("cn-zhongwei", Regional, Has),
    ("eu-central-1", Regional, Has),
    ("eu-west-1", Regional, Has),
    ("eu-west-2", Regional, Lacks),
    ("me-central-1", Regional, Has),
    ("me-east-1", Regional, Has),
    ("na-south-1", Regional, Lacks),
    ("us-east-1", Regional, Has),
    ("us-southeast-1", Regional, Lacks),
    ("us-west-1", Regional, Has),
];

/// A region of the vendor, `cn-hangzhou`. It becomes a part of host names, so it has nothing in it but lower
/// case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region(String);

/// By which network the API is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Inside the VPC where the region is known to have such an endpoint, else the public one.
    #[default]
    Automatic,
    /// Inside the VPC.
    Vpc,
    /// Over the internet.
    Public,
}

/// The name of a server and its port, `nas-vpc.cn-hangzhou.aliyuncs.com` or `localhost:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

/// Why a setting names no region or endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It has another character.
    #[error("{0:?} is no region: write its id, like cn-hangzhou")]
    Region(String),
    /// It would send credentials in the clear.
    #[error(
        "endpoint {0:?} is not HTTPS: write a host name, like nas-vpc.cn-hangzhou.aliyuncs.com"
    )]
    Plain(String),
    /// It is no name with an optional port.
    #[error("{0:?} is no endpoint: write HOST or HOST:PORT")]
    Endpoint(String),
}

impl Region {
    /// Reads a region's id. One that the table lacks is a region, too: the vendor opens new ones.
    ///
    /// # Errors
    /// When it cannot be a part of a host name.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let fits = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
        let outer = |one: Option<char>| one.is_some_and(|one| one != '-');
        let ends_well = outer(text.chars().next()) && outer(text.chars().last());
        if text.len() > 40 || !ends_well || !text.chars().all(fits) {
            return Err(EndpointError::Region(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Its id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ids of the table, the finance and government clouds among them.
    pub fn known() -> impl Iterator<Item = &'static str> {
        REGIONS.iter().map(|(id, ..)| *id)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Endpoint {
    /// Of NAS in a region.
    #[must_use]
    pub fn of_nas(region: &Region, network: Network) -> Self {
        let known = REGIONS.iter().find(|(id, ..)| *id == region.0);
        let (public, in_vpc) = known.map_or((Regional, Lacks), |(_, public, vpc)| (*public, *vpc));
        if network == Network::Vpc || (network == Network::Automatic && in_vpc == Has) {
            return Self(format!("nas-vpc.{region}.aliyuncs.com"));
        }
        Self(match public {
            Regional => format!("nas.{region}.aliyuncs.com"),
            Central => "nas.aliyuncs.com".to_owned(),
            Named(name) => name.to_owned(),
        })
    }

    /// Of the service that gives out temporary credentials. Without a region it is the central one.
    #[must_use]
    pub fn of_sts(region: Option<&Region>, network: Network) -> Self {
        Self(match (region, network) {
            (None, _) => "sts.aliyuncs.com".to_owned(),
            (Some(region), Network::Vpc) => format!("sts-vpc.{region}.aliyuncs.com"),
            (Some(region), Network::Automatic | Network::Public) => {
                format!("sts.{region}.aliyuncs.com")
            }
        })
    }

    /// One that a user names: `HOST` or `HOST:PORT`, with or without `https://`.
    ///
    /// # Errors
    /// When it is anything else, `http://` included.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with("http://") {
            return Err(EndpointError::Plain(text.to_owned()));
        }
        let wrong = || EndpointError::Endpoint(text.to_owned());
        let bare = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let authority: hyper::http::uri::Authority = bare.parse().map_err(|_| wrong())?;
        let port_is_read = authority.port().is_some() == (authority.host().len() < bare.len());
        if authority.host().is_empty() || bare.contains('@') || !port_is_read {
            return Err(wrong());
        }
        Ok(Self(bare.to_owned()))
    }

    /// As it stands in a URL and in the header `host`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nas(region: &str, network: Network) -> String {
        Endpoint::of_nas(&Region::parse(region).unwrap(), network).0
    }

    #[test]
    fn each_kind_of_region_has_its_endpoints() {
        for (region, automatic, public) in [
            ("cn-hangzhou", "nas-vpc.cn-hangzhou.aliyuncs.com", "nas.cn-hangzhou.aliyuncs.com"),
            (
                "cn-hangzhou-finance",
                "nas-vpc.cn-hangzhou-finance.aliyuncs.com",
                "nas.cn-hangzhou-dg-a01.aliyuncs.com",
            ),
            (
                "cn-shanghai-finance-1",
                "nas-vpc.cn-shanghai-finance-1.aliyuncs.com",
                "nas.cn-shanghai-finance-1.aliyuncs.com",
            ),
            ("ap-southeast-2", "nas-vpc.ap-southeast-2.aliyuncs.com", "nas.aliyuncs.com"),
            ("eu-west-2", "nas.eu-west-2.aliyuncs.com", "nas.eu-west-2.aliyuncs.com"),
            ("xx-new-9", "nas.xx-new-9.aliyuncs.com", "nas.xx-new-9.aliyuncs.com"),
        ] {
            assert_eq!(nas(region, Network::Automatic), automatic);
            assert_eq!(nas(region, Network::Public), public);
            assert_eq!(nas(region, Network::Vpc), format!("nas-vpc.{region}.aliyuncs.com"));
        }
    }

    #[test]
    fn the_table_is_sorted_and_each_row_is_a_region() {
        assert!(REGIONS.is_sorted_by_key(|(id, ..)| *id));
        assert!(REGIONS.iter().all(|(id, ..)| Region::parse(id).is_ok()));
        assert!(REGIONS.windows(2).all(|pair| pair[0].0 != pair[1].0), "a region twice");
    }

    #[test]
    fn temporary_credentials_come_from_the_region_where_one_is_known() {
        let region = Region::parse("cn-beijing").unwrap();
        for (region, network, endpoint) in [
            (None, Network::Vpc, "sts.aliyuncs.com"),
            (Some(&region), Network::Vpc, "sts-vpc.cn-beijing.aliyuncs.com"),
            (Some(&region), Network::Automatic, "sts.cn-beijing.aliyuncs.com"),
        ] {
            assert_eq!(Endpoint::of_sts(region, network).0, endpoint);
        }
    }

    #[test]
    fn what_would_lead_credentials_elsewhere_is_refused() {
        for wrong in
            ["", "CN-hangzhou", "cn.hangzhou", "a/b", "a@b", "-a", "a-", "a b", &"a".repeat(41)]
        {
            assert_eq!(Region::parse(wrong), Err(EndpointError::Region(wrong.to_owned())));
        }
        for wrong in
            ["", "https://", "a/b", "user@host", "host:port", "host:", ":443", "a b", "a?b"]
        {
            assert_eq!(Endpoint::parse(wrong), Err(EndpointError::Endpoint(wrong.to_owned())));
        }
        assert!(matches!(Endpoint::parse("http://nas"), Err(EndpointError::Plain(_))));
        for (text, authority) in [
            ("nas.example.com", "nas.example.com"),
            ("https://nas.example.com/", "nas.example.com"),
            ("localhost:8443", "localhost:8443"),
            ("[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().as_str(), authority);
        }
    }
}
