//! What a StorageClass says of whichever kind its volumes are.
//!
//! Directories are [`StorageClass`]; here are the kinds for which nothing but the vendor's API makes anything, and the
//! one for which nothing is made at all. The table of keys is the same one.
//!
//! Read [`VolumeClass::parse`] first.
//!
//! LONG: three kinds with their fields, and a row for each way to get one wrong.

use std::collections::HashMap;

use crate::model::export_path::ExportPath;
use crate::model::storage_class::ClassError;
use crate::model::storage_class::Given;
use crate::model::storage_class::Mounting;
use crate::model::storage_class::OnDelete;
use crate::model::storage_class::Place;
use crate::model::storage_class::StorageClass;
use crate::model::storage_class::VolumeAs;

/// Lets everybody of the VPC in.
const USUAL_GROUP: &str = "DEFAULT_VPC_GROUP_NAME";
/// In the place of a mount target that is not made yet, to see whether the rest can be mounted.
const SOME_DOMAIN: &str = "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com";
const SOME_ACCESS_POINT: &str = "ap-0abc.cn-hangzhou.nas.aliyuncs.com";

/// A class, checked, for one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeClass {
    /// A directory for each.
    Directory(StorageClass),
    /// One directory for all.
    Shared(SharedClass),
    /// A file system for each.
    FileSystem(FileSystemClass),
    /// An access point for each.
    AccessPoint(AccessPointClass),
}

/// Volumes that are one and the same directory. Nothing is made, and nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedClass {
    /// Where it is.
    pub place: Place,
    mounting: Mounting,
}

/// In which network something is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Where the class says that it is.
    pub region: Option<String>,
    /// The VPC.
    pub vpc_id: String,
    /// The switch in it.
    pub vswitch_id: String,
    /// Who is let in.
    pub access_group: String,
}

/// Whose a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Volumes that are file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemClass {
    /// Where their mount targets are.
    pub site: Site,
    /// `Performance`, `Capacity` or `Premium`.
    pub storage_type: String,
    /// `cn-hangzhou-b`.
    pub zone_id: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// 0, 1 or 2.
    pub encrypt_type: Option<u8>,
    /// For encryption with a key of KMS.
    pub kms_key_id: Option<String>,
    /// Of their root directories.
    pub root: Owner,
    /// Delete or retain.
    pub on_delete: OnDelete,
    /// How they are mounted.
    pub mounting: Mounting,
}

/// Volumes that are access points of one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPointClass {
    /// Of which file system.
    pub file_system_id: String,
    /// Where they are.
    pub site: Site,
    /// The directory behind the volume's, from the file system's root.
    pub root_path: ExportPath,
    /// Of the directory, where it is not there yet.
    pub root: Owner,
    /// As whom everybody comes.
    pub user: Option<ComesAs>,
    /// Whether RAM decides who may mount it.
    pub ram: bool,
    /// Whether the size of a claim bounds the directory.
    pub has_quota: bool,
    /// How they are mounted.
    pub mounting: Mounting,
}

/// As whom everybody comes who comes by an access point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComesAs {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

impl VolumeClass {
    /// Reads the parameters of a class for the volume `volume`, with the mount flags of each capability.
    ///
    /// # Errors
    /// Names the first parameter or option that cannot be used, and the nearest known one.
    pub fn parse(
        parameters: &HashMap<String, String>,
        mount_flags: &[Vec<String>],
        volume: &str,
    ) -> Result<Self, ClassError> {
        let given = Given::sort(parameters)?;
        let kind = given.kind()?;
        given.is_about(kind)?;
        Ok(match kind {
            VolumeAs::SubPath => {
                Self::Directory(StorageClass::read(given, parameters, mount_flags, volume)?)
            }
            VolumeAs::SharePath => Self::Shared(SharedClass::read(given, mount_flags)?),
            VolumeAs::FileSystem => Self::FileSystem(FileSystemClass::read(given, mount_flags)?),
            VolumeAs::AccessPoint => {
                let directory = given.directory(parameters, volume)?;
                Self::AccessPoint(AccessPointClass::read(given, mount_flags, &directory)?)
            }
        })
    }
}

impl SharedClass {
    fn read(given: Given, mount_flags: &[Vec<String>]) -> Result<Self, ClassError> {
        retained(&given, VolumeAs::SharePath, "what volumes share is nobody's to remove")?;
        let mut servers = given.servers()?;
        let (Some((server, path)), true) = (servers.pop(), servers.is_empty()) else {
            // Two servers are two directories, so the volumes would not share one.
            return Err(
                given.wrong("server", "one mount target, as all volumes share its directory")
            );
        };
        let mounting = given.mounting(mount_flags);
        Ok(Self { place: mounting.place(server, path)?, mounting })
    }

    /// The attributes of each volume.
    #[must_use]
    pub fn volume_context(&self) -> std::collections::BTreeMap<String, String> {
        self.mounting.volume_context(&self.place)
    }
}

impl FileSystemClass {
    fn read(given: Given, mount_flags: &[Vec<String>]) -> Result<Self, ClassError> {
        const NO_TLS: &str = "\"standard\"; Extreme NAS and CPFS offer no encryption in transit";
        const STORAGE: &str = "\"Performance\", \"Capacity\" or \"Premium\"";
        given.word("fileSystemType", &["standard"], NO_TLS)?;
        given.word("protocolType", &["NFS"], "\"NFS\"")?;
        given.word("networkType", &["vpc", "Vpc"], "\"vpc\"")?;
        let storage = ["Performance", "Capacity", "Premium"];
        let storage_type = given.word("storageType", &storage, STORAGE)?;
        let storage_type = storage_type.unwrap_or("Performance").to_owned();
        let class = Self {
            site: Site::read(&given, VolumeAs::FileSystem)?,
            storage_type,
            zone_id: given.text("zoneId"),
            description: description(&given)?,
            encrypt_type: encrypt_type(&given)?,
            kms_key_id: given.text("kmsKeyId"),
            root: Owner {
                mode: given.mode()?,
                uid: given.number("uid")?,
                gid: given.number("gid")?,
            },
            on_delete: file_system_on_delete(&given)?,
            mounting: given.mounting(mount_flags),
        };
        class.mounting.place(SOME_DOMAIN.to_owned(), ExportPath::root())?;
        Ok(class)
    }
}

impl AccessPointClass {
    fn read(
        given: Given,
        mount_flags: &[Vec<String>],
        directory: &str,
    ) -> Result<Self, ClassError> {
        let kind = VolumeAs::AccessPoint;
        retained(&given, kind, "the directory behind an access point is not removed with it")?;
        let why = "it is the file system that the access points belong to";
        let file_system_id = needed(&given, kind, "fileSystemId", why)?;
        let base = ExportPath::parse(given.get("path").unwrap_or_default())?;
        let root_path = format!("{}/{directory}", base.as_str().trim_end_matches('/'));
        let class = Self {
            file_system_id,
            site: Site::read(&given, kind)?,
            root_path: ExportPath::parse(&root_path)?,
            root: owner_of_access_point(&given)?,
            user: ComesAs::read(&given)?,
            ram: given.attribute("accesspointEnableRam") == Some("true")
                || given.attribute("ram") == Some("true"),
            has_quota: given.flag("volumeCapacity")?,
            mounting: given.mounting(mount_flags),
        };
        class.mounting.place(SOME_ACCESS_POINT.to_owned(), ExportPath::root())?;
        Ok(class)
    }
}

impl Site {
    fn read(given: &Given, kind: VolumeAs) -> Result<Self, ClassError> {
        let why = "what is made is reached from one network";
        Ok(Self {
            region: given.text("regionId"),
            vpc_id: needed(given, kind, "vpcId", why)?,
            vswitch_id: needed(given, kind, "vSwitchId", why)?,
            access_group: given.text("accessGroupName").unwrap_or_else(|| USUAL_GROUP.to_owned()),
        })
    }
}

impl ComesAs {
    fn read(given: &Given) -> Result<Option<Self>, ClassError> {
        const USER: &str = "accesspointPosixUserId";
        const GROUP: &str = "accesspointPosixGroupId";
        const GROUPS: &str = "accesspointPosixSecondaryGroupIds";
        let missing = |key| {
            let why = "a user is given with its group";
            Err(ClassError::Needed { key, kind: VolumeAs::AccessPoint.as_str(), why })
        };
        let read = |text: &str| text.split(',').map(|one| one.trim().parse().ok()).collect();
        let groups: Option<Vec<u32>> = given.get(GROUPS).map_or(Some(Vec::new()), read);
        let groups = groups.ok_or_else(|| given.wrong(GROUPS, "numbers, as \"100,200\""))?;
        match (given.get(USER), given.get(GROUP)) {
            (Some(_), Some(_)) => {
                Ok(Some(Self { uid: given.number(USER)?, gid: given.number(GROUP)?, groups }))
            }
            (None, None) if groups.is_empty() => Ok(None),
            (Some(_), None) => missing(GROUP),
            (None, _) => missing(USER),
        }
    }
}

/// By our words or by the vendor's.
fn owner_of_access_point(given: &Given) -> Result<Owner, ClassError> {
    let one = |ours: &'static str, theirs: &'static str| match (given.get(ours), given.get(theirs))
    {
        (Some(one), Some(other)) if one != other => Err(ClassError::Contradiction(ours, theirs)),
        (None, Some(_)) => Ok(theirs),
        _ => Ok(ours),
    };
    Ok(Owner {
        mode: given.mode_of(one("dirMode", "accesspointPermission")?)?,
        uid: given.number(one("uid", "accesspointOwnerUserId")?)?,
        gid: given.number(one("gid", "accesspointOwnerGroupId")?)?,
    })
}

fn needed(
    given: &Given,
    kind: VolumeAs,
    key: &'static str,
    why: &'static str,
) -> Result<String, ClassError> {
    given.text(key).ok_or(ClassError::Needed { key, kind: kind.as_str(), why })
}

/// Whoever asks for more than that is told so, instead of finding his data later.
fn retained(given: &Given, kind: VolumeAs, why: &'static str) -> Result<(), ClassError> {
    match given.get("onDelete") {
        None | Some("retain") => Ok(()),
        Some(value) => {
            Err(ClassError::OnDelete { value: value.to_owned(), kind: kind.as_str(), why })
        }
    }
}

fn file_system_on_delete(given: &Given) -> Result<OnDelete, ClassError> {
    let ours = given.get("onDelete").map(|_| given.on_delete()).transpose()?;
    let vendor_s = match given.word("deleteVolume", &["true", "false"], "\"true\" or \"false\"")? {
        Some("true") => Some(OnDelete::Delete),
        Some(_) => Some(OnDelete::Retain),
        None => None,
    };
    match (ours, vendor_s) {
        (Some(OnDelete::Archive), _) => Err(ClassError::OnDelete {
            value: "archive".to_owned(),
            kind: VolumeAs::FileSystem.as_str(),
            why: "a file system has nothing above it to be moved aside in; use \"retain\"",
        }),
        (Some(ours), Some(vendor_s)) if ours != vendor_s => {
            Err(ClassError::Contradiction("onDelete", "deleteVolume"))
        }
        (ours, vendor_s) => Ok(ours.or(vendor_s).unwrap_or(OnDelete::Retain)),
    }
}

/// The vendor's rule, but for a URL at its beginning, which begins with a letter, too.
fn description(given: &Given) -> Result<Option<String>, ClassError> {
    let Some(text) = given.text("description") else { return Ok(None) };
    let is_short = (2..=128).contains(&text.chars().count());
    let begins_well = text.chars().next().is_some_and(char::is_alphabetic);
    if is_short && begins_well && !text.starts_with("http://") && !text.starts_with("https://") {
        return Ok(Some(text));
    }
    Err(given.wrong("description", "2 to 128 characters, of which the first is a letter"))
}

fn encrypt_type(given: &Given) -> Result<Option<u8>, ClassError> {
    let word = given.word("encryptType", &["0", "1", "2"], "\"0\", \"1\" or \"2\"")?;
    let has_key = given.get("kmsKeyId").is_some();
    match (word, has_key) {
        (Some("2"), false) => Err(ClassError::Needed {
            key: "kmsKeyId",
            kind: VolumeAs::FileSystem.as_str(),
            why: "encryptType is \"2\", which is encryption with a key of KMS",
        }),
        (None | Some("0" | "1"), true) => Err(ClassError::Contradiction("encryptType", "kmsKeyId")),
        (word, _) => Ok(word.and_then(|word| word.parse().ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: [(&str, &str); 2] = [("vpcId", "vpc-1"), ("vSwitchId", "vsw-1")];
    const DOMAIN: &str = "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com";

    fn parse(parameters: &[(&str, &str)]) -> Result<VolumeClass, ClassError> {
        let all = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        VolumeClass::parse(&all.collect(), &[vec!["noresvport".to_owned()]], "pvc-1")
    }

    fn made(kind: &str, more: &[(&str, &str)]) -> Result<VolumeClass, ClassError> {
        parse(&[&[("volumeAs", kind)], &NETWORK[..], more].concat())
    }

    #[test]
    fn the_vendor_s_class_of_file_systems_is_read() {
        let class = made(
            "filesystem",
            &[
                ("fileSystemType", "standard"),
                ("storageType", "Capacity"),
                ("protocolType", "NFS"),
                ("networkType", "vpc"),
                ("zoneid", "cn-hangzhou-b"),
                ("regionId", "cn-hangzhou"),
                ("deleteVolume", "false"),
                ("encryptType", "0"),
            ],
        );
        let VolumeClass::FileSystem(class) = class.unwrap() else { panic!("another kind") };
        assert_eq!((class.storage_type.as_str(), class.on_delete), ("Capacity", OnDelete::Retain));
        assert_eq!(class.site.access_group, "DEFAULT_VPC_GROUP_NAME");
        assert_eq!(
            (class.encrypt_type, class.zone_id.as_deref()),
            (Some(0), Some("cn-hangzhou-b"))
        );
        let VolumeClass::FileSystem(plain) = made("filesystem", &[]).unwrap() else { panic!() };
        assert_eq!((plain.on_delete, plain.root.mode), (OnDelete::Retain, 0o777));
    }

    #[test]
    fn an_access_point_has_its_directory_its_owner_and_its_user() {
        let class = made(
            "accesspoint",
            &[
                ("fileSystemId", "31a8e4"),
                ("path", "/k8s/"),
                ("accesspointOwnerUserId", "1000"),
                ("gid", "2000"),
                ("accesspointPermission", "0750"),
                ("accesspointPosixUserId", "1"),
                ("accesspointPosixGroupId", "2"),
                ("accesspointPosixSecondaryGroupIds", "3, 4"),
                ("accesspointEnableRam", "true"),
            ],
        );
        let VolumeClass::AccessPoint(class) = class.unwrap() else { panic!("another kind") };
        assert_eq!(class.root_path.as_str(), "/k8s/pvc-1");
        assert_eq!(class.root, Owner { mode: 0o750, uid: 1000, gid: 2000 });
        assert_eq!(class.user, Some(ComesAs { uid: 1, gid: 2, groups: vec![3, 4] }));
        assert!(class.ram && !class.has_quota);
    }

    #[test]
    fn all_volumes_of_a_shared_directory_have_the_same_attributes() {
        let class = parse(&[("volumeAs", "sharepath"), ("server", DOMAIN), ("path", "/all")]);
        let VolumeClass::Shared(class) = class.unwrap() else { panic!("another kind") };
        let context = class.volume_context();
        assert_eq!((context["server"].as_str(), context["path"].as_str()), (DOMAIN, "/all"));
    }

    #[test]
    fn each_thing_that_a_kind_cannot_have_is_refused_with_its_name() {
        let file_system = |more: &[(&str, &str)]| made("filesystem", more).unwrap_err().to_string();
        let access_point = |more: &[(&str, &str)]| {
            made("accesspoint", &[&[("fileSystemId", "x")], more].concat()).unwrap_err().to_string()
        };
        let shared = |more: &[(&str, &str)]| {
            let all = [&[("volumeAs", "sharepath"), ("server", DOMAIN)], more].concat();
            parse(&all).unwrap_err().to_string()
        };
        for (error, said) in [
            (parse(&[("volumeAs", "pool")]).unwrap_err().to_string(), "\"accesspoint\" or"),
            (
                parse(&[("volumeAs", "filesystem")]).unwrap_err().to_string(),
                "\"vpcId\" is required",
            ),
            (made("accesspoint", &[]).unwrap_err().to_string(), "\"fileSystemId\" is required"),
            (file_system(&[("server", DOMAIN)]), "\"server\" says nothing about"),
            (file_system(&[("accesspoint", "ap-1")]), "\"accesspoint\" says nothing about"),
            (file_system(&[("fileSystemType", "extreme")]), "no encryption in transit"),
            (file_system(&[("storageType", "advance")]), "\"Premium\""),
            (file_system(&[("onDelete", "archive")]), "use \"retain\""),
            (file_system(&[("onDelete", "delete"), ("deleteVolume", "false")]), "contradict"),
            (file_system(&[("encryptType", "2")]), "\"kmsKeyId\" is required"),
            (file_system(&[("kmsKeyId", "k")]), "contradict"),
            (file_system(&[("description", "1")]), "a letter"),
            (file_system(&[("volumeCapacity", "true")]), "says nothing about"),
            (file_system(&[("options", "herd")]), "herd"),
            (file_system(&[("tls", "false")]), "not provisioned"),
            (file_system(&[("snapshotID", "s-1")]), "not supported"),
            (access_point(&[("onDelete", "delete")]), "not removed with it"),
            (access_point(&[("uid", "1"), ("accesspointOwnerUserId", "2")]), "contradict"),
            (access_point(&[("accesspointPosixUserId", "2")]), "\"accesspointPosixGroupId\" is"),
            (access_point(&[("accesspointPosixSecondaryGroupIds", "2")]), "PosixUserId\" is"),
            (access_point(&[("accesspointPosixSecondaryGroupIds", "a")]), "numbers"),
            (access_point(&[("path", "/a/..")]), "\"..\""),
            (access_point(&[("nameTemplate", "..")]), "hidden"),
            (shared(&[("onDelete", "delete")]), "nobody's to remove"),
            (shared(&[("dirMode", "0700")]), "says nothing about"),
            (shared(&[("Server", "")]), "given twice"),
        ] {
            assert!(error.contains(said), "{said}: {error}");
        }
        let two = format!("{DOMAIN},nas.corp");
        let error = parse(&[("volumeAs", "sharepath"), ("server", &two)]).unwrap_err().to_string();
        assert!(error.contains("one mount target"), "{error}");
    }
}
