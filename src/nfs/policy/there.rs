//! Whether what is mounted at the target already is what was asked for.

use crate::host::mount_table::MountEntry;
use crate::model::NfsVersion;
use crate::nfs::request::MountRequest;
use crate::nfs::request::Way;

/// Whether `entry` is the mount of `request` in one of `versions`, so that nothing is left to be done.
pub(super) fn is_the_same(
    request: &MountRequest,
    versions: &[NfsVersion],
    entry: &MountEntry,
) -> bool {
    let same_version = version_of(entry).is_some_and(|version| versions.contains(&version));
    let same_way = match request.way {
        Way::Direct => true,
        Way::Tunnel { endpoint, .. } => {
            entry.super_option("addr") == Some(endpoint.ip().to_string().as_str())
        }
    };
    entry.is_nfs()
        && same_version
        && same_way
        && entry.is_read_only() == request.options.read_only()
        && normalised(&entry.source) == normalised(&request.device.to_string())
}

/// The version that an entry of mountinfo says it has.
pub(super) fn version_of(entry: &MountEntry) -> Option<NfsVersion> {
    match entry.super_option("vers")? {
        "3" => Some(NfsVersion::V3),
        "4.0" | "4" => Some(NfsVersion::V40),
        "4.1" => Some(NfsVersion::V41),
        "4.2" => Some(NfsVersion::V42),
        _ => None,
    }
}

/// A source as Linux shows it for NFSv4: `host:` is `host:/`, slashes are single, `x/..` is nothing. NFSv3 shows
/// it as it was given, which may be the same directory too.
fn normalised(source: &str) -> String {
    let split = match source.rfind("]:") {
        Some(bracket) => bracket + 1,
        None => source.find(':').unwrap_or(source.len()),
    };
    let (host, path) = source.split_at(split);
    let mut parts = Vec::new();
    for part in path.trim_start_matches(':').split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{host}:/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_compared_as_the_kernel_shows_them() {
        for (source, shown) in [
            ("nas:", "nas:/"),
            ("nas:/", "nas:/"),
            ("nas:a//b/", "nas:/a/b"),
            ("nas:/a/x/../b", "nas:/a/b"),
            ("[2001:db8::1]:/a/", "[2001:db8::1]:/a"),
            ("nas:/with:colon", "nas:/with:colon"),
            ("nas", "nas:/"),
        ] {
            assert_eq!(normalised(source), shown);
        }
    }
}
