//! What the kubelet writes down beside a volume that it has staged.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Kubernetes' `pkg/volume/csi`, since 1.10: beside `globalmount`, not within it.
const FILE: &str = "vol_data.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeData {
    volume_handle: String,
}

/// The id of the volume at a staging path of the kubelet's. Nothing at the path itself is touched.
#[must_use]
pub fn volume_handle(staging_path: &Path) -> Option<String> {
    let text = fs::read(staging_path.parent()?.join(FILE)).ok()?;
    let data: VolumeData = serde_json::from_slice(&text).ok()?;
    Some(data.volume_handle).filter(|handle| !handle.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stands_beside_the_mount() {
        let home = tempfile::tempdir().unwrap();
        let stage = home.path().join("globalmount");
        assert_eq!(volume_handle(&stage), None);
        let text = "{\"driverName\":\"alinas.csi.alibabacloud.com\",\"volumeHandle\":\"vol-1\"}";
        fs::write(home.path().join(FILE), text).unwrap();
        assert_eq!(volume_handle(&stage).as_deref(), Some("vol-1"));
        fs::write(home.path().join(FILE), "half of").unwrap();
        assert_eq!(volume_handle(&stage), None);
    }
}
