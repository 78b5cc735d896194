//! The recycle bin of a file system: whether what is deleted can be had back.

use serde::Deserialize;

use crate::nas::types::states;

states! {
    /// Whether there is one.
    RecycleBinStatus {
        /// There is.
        Enable,
        /// There is none.
        Disable,
    }
}

/// The recycle bin of a file system.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecycleBin {
    /// Whether there is one.
    pub status: RecycleBinStatus,
    /// How long what is deleted is kept, in days; 0 where there is none.
    #[serde(default)]
    pub reserved_days: u32,
    /// Bytes in it.
    #[serde(default)]
    pub size: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct RecycleBinAnswer {
    pub(in crate::nas) recycle_bin_attribute: RecycleBin,
}
