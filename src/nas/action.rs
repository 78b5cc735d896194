//! Every call that is made, as one table: its name, how often it may be made, and whether it may be made twice.
//!
//! `deploy/ram-policy.json` grants these and nothing else; a test compares them.

use std::fmt;

use crate::nas::pace::Rate;

/// Of the API that the requests are written for.
pub(super) const VERSION: &str = "2017-06-26";

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the vendor's names, and the vendor documents them")]
pub enum Action {
    CancelDirQuota,
    CreateAccessPoint,
    CreateDir,
    CreateFileSystem,
    CreateMountTarget,
    DeleteAccessPoint,
    DeleteFileSystem,
    DeleteMountTarget,
    DescribeAccessPoint,
    DescribeAccessPoints,
    DescribeDirQuotas,
    DescribeFileSystems,
    DescribeMountTargets,
    GetRecycleBinAttribute,
    SetDirQuota,
    TagResources,
}

/// What happens if a call is made again whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing: it reads, or it says how things are to be.
    Harmless,
    /// The service sees by the `ClientToken` that it is the same call.
    KnownByToken,
    /// There may be two of a thing. The API has no token for it, so whoever asked must look first.
    MakesTwo,
}

/// The vendor's own driver makes six a second and ten at once, and is not throttled.
const USUAL: Rate = Rate { per_minute: 360, burst: 10 };
/// The tightest limit of the service that is known (alibaba-cloud-csi-driver, pull request 1761).
const QUOTAS: Rate = Rate { per_minute: 120, burst: 10 };

struct Row {
    action: Action,
    name: &'static str,
    method: &'static str,
    repeat: Repeat,
    rate: Rate,
}

const fn row(action: Action, name: &'static str, repeat: Repeat) -> Row {
    Row { action, name, method: "POST", repeat, rate: USUAL }
}

use Repeat::{Harmless, KnownByToken, MakesTwo};

const TABLE: [Row; 16] = [
    row(Action::CancelDirQuota, "CancelDirQuota", Harmless),
    row(Action::CreateAccessPoint, "CreateAccessPoint", MakesTwo),
    // "If the root directory exists, … the configurations for directory creation are ignored."
    row(Action::CreateDir, "CreateDir", Harmless),
    row(Action::CreateFileSystem, "CreateFileSystem", KnownByToken),
    row(Action::CreateMountTarget, "CreateMountTarget", MakesTwo),
    row(Action::DeleteAccessPoint, "DeleteAccessPoint", Harmless),
    row(Action::DeleteFileSystem, "DeleteFileSystem", Harmless),
    row(Action::DeleteMountTarget, "DeleteMountTarget", Harmless),
    row(Action::DescribeAccessPoint, "DescribeAccessPoint", Harmless),
    row(Action::DescribeAccessPoints, "DescribeAccessPoints", Harmless),
    row(Action::DescribeDirQuotas, "DescribeDirQuotas", Harmless),
    row(Action::DescribeFileSystems, "DescribeFileSystems", Harmless),
    row(Action::DescribeMountTargets, "DescribeMountTargets", Harmless),
    Row {
        method: "GET",
        ..row(Action::GetRecycleBinAttribute, "GetRecycleBinAttribute", Harmless)
    },
    Row { rate: QUOTAS, ..row(Action::SetDirQuota, "SetDirQuota", Harmless) },
    row(Action::TagResources, "TagResources", Harmless),
];

impl Action {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.action)
    }

    /// What a RAM user or role must be granted for it.
    #[must_use]
    pub fn permission(self) -> String {
        format!("nas:{self}")
    }

    /// As the API calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) fn method(self) -> &'static str {
        self.row().method
    }

    pub(super) fn repeat(self) -> Repeat {
        self.row().repeat
    }

    pub(super) fn rate(self) -> Rate {
        self.row().rate
    }

    fn row(self) -> &'static Row {
        static ROWS: [Row; 16] = TABLE;
        // The rows stand in the order of the variants; a test holds that.
        &ROWS[self as usize]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn each_row_stands_where_its_action_looks_for_it() {
        for action in Action::all() {
            assert_eq!(action.row().action, action);
            assert_eq!(format!("{action:?}"), action.name());
        }
    }

    #[test]
    fn the_policy_that_is_shipped_grants_each_call_that_is_made_and_no_other() {
        let policy = include_str!("../../deploy/ram-policy.json");
        let policy: Value = serde_json::from_str(policy).unwrap();
        assert_eq!(policy["Version"], "1");
        let statements = policy["Statement"].as_array().unwrap();
        let mut granted = Vec::new();
        for statement in statements {
            assert_eq!(
                (&statement["Effect"], &statement["Resource"]),
                (&"Allow".into(), &"*".into())
            );
            let actions = statement["Action"].as_array().unwrap();
            granted.extend(actions.iter().map(|action| action.as_str().unwrap().to_owned()));
        }
        let made: BTreeSet<_> = Action::all().map(Action::permission).collect();
        assert_eq!(granted, made.into_iter().collect::<Vec<_>>(), "sorted, and each one once");
    }
}
