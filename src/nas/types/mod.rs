//! The words of the API: ids, what is asked, what is answered. Names and shapes are the vendor's.
//!
//! Source: the vendor's Go client `nas-20170626` and the pages "api-nas-2017-06-26-…". Of an answer we keep what
//! somebody needs; what else is in it is passed over, because the vendor adds fields.

mod access_point;
mod directory;
mod file_system;
mod id;
mod mount_target;
mod recycle_bin;

use std::collections::HashMap;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;

use crate::nas::action::Action;
use crate::nas::query::Query;

pub use access_point::AccessPoint;
pub use access_point::AccessPointRef;
pub use access_point::AccessPointStatus;
pub use access_point::CreateAccessPoint;
pub use access_point::CreatedAccessPoint;
pub use access_point::PosixUser;
pub use access_point::RootDirectory;
pub use directory::CreateDir;
pub use directory::DirQuota;
pub use directory::Gibibytes;
pub use directory::QuotaKind;
pub use directory::QuotaStatus;
pub use directory::QuotaUser;
pub use directory::SetDirQuota;
pub use directory::UserQuota;
pub use file_system::CreateFileSystem;
pub use file_system::FileSystem;
pub use file_system::FileSystemStatus;
pub use file_system::FileSystemType;
pub use id::ClientToken;
pub use id::FileSystemId;
pub use id::IdError;
pub use id::Tag;
pub use mount_target::CreateMountTarget;
pub use mount_target::MountTarget;
pub use mount_target::MountTargetStatus;
pub use recycle_bin::RecycleBin;
pub use recycle_bin::RecycleBinStatus;

pub(super) use access_point::AccessPointsPage;
pub(super) use access_point::CreatedAccessPointAnswer;
pub(super) use access_point::DescribedAccessPoint;
pub(super) use directory::CancelDirQuota;
pub(super) use directory::DescribeDirQuotas;
pub(super) use file_system::CreatedFileSystem;
pub(super) use file_system::DescribeFileSystems;
pub(super) use mount_target::CreatedMountTarget;
pub(super) use mount_target::DescribeMountTargets;
pub(super) use recycle_bin::RecycleBinAnswer;

/// A call whose answer comes in pages.
pub(super) trait Listing {
    const ACTION: Action;
    type Page: DeserializeOwned;
    type Item;

    fn query(&self) -> Query;
    /// The items of a page, and how many there are in all.
    fn items(page: Self::Page) -> (Vec<Self::Item>, u64);
}

/// `{"Tag": […]}`: a list of the API stands in an object of its own.
fn nested<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let object: Option<HashMap<String, Option<Vec<T>>>> = Option::deserialize(from)?;
    Ok(object.into_iter().flatten().filter_map(|(_, list)| list).flatten().collect())
}

/// States are told apart by these words; one that we do not know is kept as it is.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$state_doc:meta])* $state:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
        #[serde(from = "String")]
        pub enum $name {
            $($(#[$state_doc])* $state,)+
            /// A word that is not in the vendor's documentation.
            Other(String),
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                $(if word.eq_ignore_ascii_case(stringify!($state)) {
                    return Self::$state;
                })+
                Self::Other(word)
            }
        }
    };
}
use states;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(default, deserialize_with = "nested")]
        list: Vec<u8>,
    }

    #[test]
    fn a_list_may_be_missing_empty_or_nothing() {
        for (text, list) in [
            (r#"{"list": {"Item": [1, 2]}}"#, vec![1, 2]),
            (r#"{"list": {"Item": []}}"#, vec![]),
            (r#"{"list": {"Item": null}}"#, vec![]),
            (r#"{"list": {}}"#, vec![]),
            (r#"{"list": null}"#, vec![]),
            ("{}", vec![]),
        ] {
            assert_eq!(serde_json::from_str::<Holder>(text).unwrap().list, list, "{text}");
        }
    }

    #[test]
    fn a_state_is_known_by_its_word_and_an_unknown_one_is_kept() {
        let of = |word: &str| AccessPointStatus::from(word.to_owned());
        assert_eq!(of("Active"), AccessPointStatus::Active);
        assert_eq!(of("active"), AccessPointStatus::Active);
        assert_eq!(of("Moving"), AccessPointStatus::Other("Moving".to_owned()));
    }
}
