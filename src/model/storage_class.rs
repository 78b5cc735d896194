//! What a StorageClass says: where its volumes are made, how they are mounted, and what becomes of them.
//!
//! [`KEYS`] is the table of the parameters that only a class has; beside them stand those of a volume
//! ([`attributes::KEYS`](crate::model::attributes::KEYS)), which are passed on to it. Keys have any case, and an
//! unknown one is refused.
//!
//! Read [`StorageClass::parse`] first.
//!
//! LONG: one table of keys, what the vendor's driver has besides and why it is refused, and a row for each mistake.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::model::attributes;
use crate::model::attributes::AttributeError;
use crate::model::attributes::KUBERNETES_PREFIXES;
use crate::model::attributes::Key;
use crate::model::attributes::MountProtocol;
use crate::model::attributes::VolumeAttributes;
use crate::model::export_path::ExportPath;
use crate::model::export_path::ExportPathError;
use crate::model::mount_target::MountTarget;
use crate::model::mount_target::MountTargetKind;
use crate::model::nearest::did_you_mean;
use crate::model::volume_handle::Export;
use crate::model::zone::Zone;
use crate::model::zone::ZoneError;

/// The longest name of a volume's directory: with what is put around it when it is archived it still is a name.
const LONGEST_DIRECTORY: usize = 200;
/// How the directory of an archived volume begins.
pub const ARCHIVED: &str = "archived-";

/// Every parameter that only a class has.
pub const KEYS: &[Key] = &[
    Key {
        name: "volumeAs",
        default: "subpath",
        help: "What a volume is: \"subpath\", a directory of its own; \"filesystem\", a file system of its own with a \
               mount target; \"accesspoint\", an access point with a directory of its own; \"sharepath\", the \
               directory `path` itself, which all volumes of the class share.",
    },
    Key {
        name: "server",
        default: "required for subpath and sharepath",
        help: "The mount target, or several as \"nas1[:/path1],nas2[:/path2]\": volumes are spread over them by \
               their names, and one that does not answer is passed over.",
    },
    Key {
        name: "path",
        default: "/",
        help: "The directory of the file system that volumes are made in; it must exist. With several servers it may \
               stand behind each instead.",
    },
    Key {
        name: "zones",
        default: "",
        help: "The zone of each server, in the order of \"server\", as \"cn-hangzhou-b,cn-hangzhou-g\"; an empty one is \
               not known. A volume is made in a zone where its pod may be, if there is one that answers.",
    },
    Key {
        name: "accessibility",
        default: "everywhere",
        help: "From where a volume can be mounted: \"everywhere\", as every zone of a VPC reaches every mount target, or \
               \"zone\", which binds its pods to the zone of its server.",
    },
    Key {
        name: "nameTemplate",
        default: "${pv.metadata.name}",
        help: "What the directory is called; ${pvc.metadata.name}, ${pvc.metadata.namespace} and ${pv.metadata.name} \
               are filled in. Two volumes never share one.",
    },
    Key {
        name: "dirMode",
        default: "0777",
        help: "The permission bits of the directory, in octal.",
    },
    Key { name: "uid", default: "0", help: "The owner of the directory, as a number." },
    Key { name: "gid", default: "0", help: "The group of the directory, as a number." },
    Key {
        name: "onDelete",
        default: "archive",
        help: "What becomes of the data with the volume: \"archive\" renames the directory to \
               archived-NAME.TIME, \"delete\" removes it, \"retain\" leaves it. A file system is removed or retained as \
               a whole, and retained where nothing is said; the directory of an access point, and one that is shared, are \
               always retained.",
    },
    Key {
        name: "archiveOnDelete",
        default: "true",
        help: "The vendor's word: \"true\" is onDelete=archive, \"false\" is onDelete=delete.",
    },
    Key {
        name: "deleteVolume",
        default: "false",
        help: "The vendor's word, for file systems: \"true\" is onDelete=delete, \"false\" is onDelete=retain.",
    },
    Key {
        name: "volumeCapacity",
        default: "false",
        help: "\"true\" makes the size of a claim a quota of its directory, in whole GiB, which the service enforces.",
    },
    Key {
        name: "fileSystemId",
        default: "what the server says",
        help: "The id of the file system: required for accesspoint, and for a quota where the server has a private \
               name.",
    },
    Key {
        name: "regionId",
        default: "the controller's",
        help: "The region of what is made; the controller makes it in its own, so any other is refused.",
    },
    Key {
        name: "vpcId",
        default: "required for filesystem and accesspoint",
        help: "The VPC that the mount target or access point is in.",
    },
    Key {
        name: "vSwitchId",
        default: "required for filesystem and accesspoint",
        help: "The vSwitch there.",
    },
    Key {
        name: "accessGroupName",
        default: "DEFAULT_VPC_GROUP_NAME",
        help: "The permission group, which says who may mount; the default lets the whole VPC in.",
    },
    Key { name: "networkType", default: "vpc", help: "Only \"vpc\" is left at the vendor." },
    Key {
        name: "fileSystemType",
        default: "standard",
        help: "General-purpose NAS; \"extreme\" is refused, because it has no encryption in transit.",
    },
    Key {
        name: "storageType",
        default: "Performance",
        help: "\"Performance\", \"Capacity\" or \"Premium\".",
    },
    Key { name: "protocolType", default: "NFS", help: "Only \"NFS\" can be mounted here." },
    Key {
        name: "zoneId",
        default: "what the service chooses",
        help: "The zone of the file system, as cn-hangzhou-b; that of the vSwitch is the nearest.",
    },
    Key {
        name: "encryptType",
        default: "0",
        help: "Encryption at rest: \"0\" none, \"1\" with a key of the service, \"2\" with the one of `kmsKeyId`.",
    },
    Key { name: "kmsKeyId", default: "", help: "The key of KMS for encryptType 2." },
    Key {
        name: "description",
        default: "the volume's name",
        help: "What the vendor's console shows for the file system; 2 to 128 characters, of which the first is a letter.",
    },
    Key {
        name: "accesspointOwnerUserId",
        default: "0",
        help: "The vendor's word for uid, for access points.",
    },
    Key {
        name: "accesspointOwnerGroupId",
        default: "0",
        help: "The vendor's word for gid, for access points.",
    },
    Key {
        name: "accesspointPermission",
        default: "0777",
        help: "The vendor's word for dirMode, for access points.",
    },
    Key {
        name: "accesspointPosixUserId",
        default: "who comes",
        help: "As which user everybody comes who comes by the access point.",
    },
    Key {
        name: "accesspointPosixGroupId",
        default: "who comes",
        help: "As which group; user and group are given together.",
    },
    Key {
        name: "accesspointPosixSecondaryGroupIds",
        default: "",
        help: "Further groups, as \"100,200\".",
    },
];

/// What a volume is, by the word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeAs {
    /// A directory of its own.
    SubPath,
    /// A directory that others have, too.
    SharePath,
    /// A file system.
    FileSystem,
    /// An access point.
    AccessPoint,
}

use VolumeAs::{AccessPoint, FileSystem, SharePath, SubPath};

impl VolumeAs {
    const ALL: [Self; 4] = [SubPath, SharePath, FileSystem, AccessPoint];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SubPath => "subpath",
            SharePath => "sharepath",
            FileSystem => "filesystem",
            AccessPoint => "accesspoint",
        }
    }
}

/// Which kinds of volumes each key says something about; a key that is not here says it about every kind.
const ONLY: &[(&str, &[VolumeAs])] = &[
    ("server", &[SubPath, SharePath]),
    ("path", &[SubPath, SharePath, AccessPoint]),
    ("zones", &[SubPath]),
    ("accessibility", &[SubPath]),
    ("nameTemplate", &[SubPath, AccessPoint]),
    ("dirMode", &[SubPath, FileSystem, AccessPoint]),
    ("uid", &[SubPath, FileSystem, AccessPoint]),
    ("gid", &[SubPath, FileSystem, AccessPoint]),
    ("archiveOnDelete", &[SubPath]),
    ("deleteVolume", &[FileSystem]),
    ("volumeCapacity", &[SubPath, AccessPoint]),
    ("fileSystemId", &[SubPath, AccessPoint]),
    ("regionId", &[SubPath, FileSystem, AccessPoint]),
    ("vpcId", &[FileSystem, AccessPoint]),
    ("vSwitchId", &[FileSystem, AccessPoint]),
    ("accessGroupName", &[FileSystem, AccessPoint]),
    ("networkType", &[FileSystem]),
    ("fileSystemType", &[FileSystem]),
    ("storageType", &[FileSystem]),
    ("protocolType", &[FileSystem]),
    ("zoneId", &[FileSystem]),
    ("encryptType", &[FileSystem]),
    ("kmsKeyId", &[FileSystem]),
    ("description", &[FileSystem]),
    ("accesspointOwnerUserId", &[AccessPoint]),
    ("accesspointOwnerGroupId", &[AccessPoint]),
    ("accesspointPermission", &[AccessPoint]),
    ("accesspointPosixUserId", &[AccessPoint]),
    ("accesspointPosixGroupId", &[AccessPoint]),
    ("accesspointPosixSecondaryGroupIds", &[AccessPoint]),
    // Attributes of a volume: what is made has one access point, or none.
    ("accesspoint", &[SubPath, SharePath]),
    ("accesspointId", &[SubPath, SharePath]),
];

/// What the vendor's driver takes and this one does not, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "containerNetworkFileSystem",
        "there is no CNFS here: give its mount target as \"server\", or for access points its \"fileSystemId\"",
    ),
    ("snapshotID", "the vendor's API makes no file system from a snapshot: leave it out"),
    ("allowVolumeExpansion", "it is a field of the StorageClass, not a parameter"),
    ("mountType", "volumes are mounted one way: leave it out"),
    ("mode", "give the directory its permission bits by \"dirMode\""),
    (
        "modeType",
        "nothing is changed recursively: give the directory its permission bits by \"dirMode\"",
    ),
    ("sysConfig", "no setting of the node is changed for a volume: leave it out"),
];

/// The parameters that the external-provisioner adds with `--extra-create-metadata`.
pub const METADATA_KEYS: [&str; 3] = [
    "csi.storage.k8s.io/pvc/name",
    "csi.storage.k8s.io/pvc/namespace",
    "csi.storage.k8s.io/pv/name",
];
/// Where each of them is filled in.
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("${pvc.metadata.name}", METADATA_KEYS[0]),
    ("${pvc.metadata.namespace}", METADATA_KEYS[1]),
    ("${pv.metadata.name}", METADATA_KEYS[2]),
];
const DEFAULT_MODE: u32 = 0o777;

/// A class whose volumes are directories, checked, for one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageClass {
    /// Where volumes may be made, in the order given. Never empty.
    pub places: Vec<Place>,
    /// What the volume's directory is called.
    pub directory: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What becomes of it.
    pub on_delete: OnDelete,
    /// The region that its file system is said to be in.
    pub region: Option<String>,
    /// Whether it is to be mounted in the zone of its server alone.
    pub is_bound_to_zone: bool,
    /// The zones that the volume is wanted in, the best first.
    pub wanted_zones: Vec<Zone>,
    /// What the volume says besides `server` and `path`.
    attributes: BTreeMap<String, String>,
}

/// One of the places of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The mount target as the volume is to name it: a domain, never an address found out.
    pub server: String,
    /// What is reached there.
    pub export: Export,
    /// The id of the file system that a quota is set on, where the class asks for one.
    pub quota_on: Option<String>,
    /// The zone that it is in, where the class says so.
    pub zone: Option<Zone>,
}

/// What becomes of a volume's data when the volume is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// It is removed.
    Delete,
    /// Its directory gets another name. So it is where nothing is said: what a class of the vendor's driver means by
    /// that, and the one of the three that neither loses data nor leaves them in the way.
    #[default]
    Archive,
    /// Nothing.
    Retain,
}

impl OnDelete {
    /// Reads a word; none where it is no such word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "delete" => Some(Self::Delete),
            "archive" => Some(Self::Archive),
            "retain" => Some(Self::Retain),
            _ => None,
        }
    }
}

/// Why a class cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// A key that we do not know.
    #[error("unknown parameter {0:?}{hint}", hint = did_you_mean(.0, known()))]
    Unknown(String),
    /// A key of the vendor's driver.
    #[error("parameter {key:?} is not supported: {why}")]
    Refused {
        /// The key.
        key: &'static str,
        /// What to do instead.
        why: &'static str,
    },
    /// The same key twice, in different case.
    #[error("parameter {0:?} is given twice")]
    Twice(String),
    /// A value outside its range.
    #[error("parameter {key:?} is {value:?}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// A key of another kind of volume.
    #[error("parameter {key:?} says nothing about a volume that is \"{kind}\"; leave it out")]
    NotHere {
        /// The key.
        key: &'static str,
        /// What the volumes are.
        kind: &'static str,
    },
    /// What the kind needs.
    #[error("parameter {key:?} is required for volumeAs \"{kind}\": {why}")]
    Needed {
        /// The key.
        key: &'static str,
        /// What the volumes are.
        kind: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// What is not done with the data of this kind.
    #[error("parameter \"onDelete\" is {value:?} for volumeAs \"{kind}\": {why}")]
    OnDelete {
        /// What was given.
        value: String,
        /// What the volumes are.
        kind: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// Two parameters say different things.
    #[error("parameters {0:?} and {1:?} contradict each other; leave one of them out")]
    Contradiction(&'static str, &'static str),
    /// An entry of `server` has no name or its path is none.
    #[error(
        "parameter \"server\": {0:?} is no mount target; expected \"domain\" or \"domain:/path\""
    )]
    Server(String),
    /// `zones` does not say one for each server.
    #[error(
        "parameter \"zones\" names {zones} zones for {servers} servers; give one for each, in the same order"
    )]
    Zones {
        /// How many there are.
        zones: usize,
        /// How many there should be.
        servers: usize,
    },
    /// One of `zones` is none.
    #[error("parameter \"zones\": {0}")]
    Zone(#[from] ZoneError),
    /// A volume cannot be bound to a zone that nobody knows.
    #[error(
        "parameter \"accessibility\" is \"zone\", and \"zones\" does not name the zone of every server"
    )]
    ZonesMissing,
    /// `path` and a path behind a server.
    #[error("parameter \"path\" is given, and {0:?} has a path of its own; leave one of them out")]
    TwoPaths(String),
    /// A path is none.
    #[error("parameter \"path\": {0}")]
    Path(#[from] ExportPathError),
    /// The template has a placeholder that is not filled in.
    #[error(
        "parameter \"nameTemplate\": {0} is not known; run the external-provisioner with --extra-create-metadata, and \
         use only ${{pvc.metadata.name}}, ${{pvc.metadata.namespace}} and ${{pv.metadata.name}}"
    )]
    Placeholder(String),
    /// What the template becomes is no name for a directory.
    #[error("parameter \"nameTemplate\" becomes {name:?}: {why}")]
    Directory {
        /// What it becomes.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The controller speaks through TLS only.
    #[error(
        "volumes without encryption are not provisioned: leave \"tls\" and \"mountProtocol\" out, or make the \
         PersistentVolume by hand"
    )]
    Plain,
    /// A parameter that the volume gets.
    #[error("{0}")]
    Attribute(#[from] AttributeError),
}

impl StorageClass {
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
        given.is_about(SubPath)?;
        Self::read(given, parameters, mount_flags, volume)
    }

    /// Reads what was sorted already.
    pub(super) fn read(
        given: Given,
        parameters: &HashMap<String, String>,
        mount_flags: &[Vec<String>],
        volume: &str,
    ) -> Result<Self, ClassError> {
        let (mode, uid, gid) = (given.mode()?, given.number("uid")?, given.number("gid")?);
        let on_delete = given.on_delete()?;
        let directory = given.directory(parameters, volume)?;
        let servers = given.servers()?;
        let zones = given.zones(servers.len())?;
        let is_bound_to_zone = given.is_bound_to_zone(&zones)?;
        let has_quota = given.flag("volumeCapacity")?;
        let region = given.text("regionId");
        let named = given.text("fileSystemId");
        if named.is_some() && servers.len() > 1 {
            return Err(given.wrong("fileSystemId", "nothing, where there are several servers"));
        }
        let mounting = given.mounting(mount_flags);
        let mut places = Vec::new();
        for ((server, path), zone) in servers.into_iter().zip(zones) {
            let mut place = mounting.place(server, path)?;
            place.zone = zone;
            if has_quota {
                place.quota_on = Some(quota_on(&place, named.as_deref())?);
            }
            places.push(place);
        }
        Ok(Self {
            places,
            directory,
            mode,
            uid,
            gid,
            on_delete,
            region,
            is_bound_to_zone,
            wanted_zones: Vec::new(),
            attributes: mounting.attributes,
        })
    }

    /// The attributes of the volume in one of the places.
    #[must_use]
    pub fn volume_context(&self, place: &Place) -> BTreeMap<String, String> {
        let mut context = self.attributes.clone();
        let path = place.export.path.as_str().trim_end_matches('/');
        context.insert("server".to_owned(), place.server.clone());
        context.insert("path".to_owned(), format!("{path}/{}", self.directory));
        context
    }
}

/// The file system of a mount target, whose own root is the directory `/` of it.
fn quota_on(place: &Place, named: Option<&str>) -> Result<String, ClassError> {
    let wrong = |why| ClassError::Needed { key: "fileSystemId", kind: "subpath", why };
    let spec = &place.export.spec;
    let target = MountTarget::parse(spec.host.as_str()).map_err(AttributeError::Server)?;
    if target.access_point().is_some() || spec.policy.identity.access_point.is_some() {
        // A quota is set on a path of the file system, and behind an access point nobody sees which that is.
        return Err(ClassError::Contradiction("volumeCapacity", "accesspoint"));
    }
    match (target.kind(), named) {
        (MountTargetKind::GeneralPurpose { file_system, .. }, Some(named))
            if file_system != named =>
        {
            Err(ClassError::Contradiction("server", "fileSystemId"))
        }
        (MountTargetKind::GeneralPurpose { file_system, .. }, _) => Ok(file_system.clone()),
        (_, Some(named)) => Ok(named.to_owned()),
        (_, None) => {
            Err(wrong("a quota is set on a file system, whose id a private name does not say"))
        }
    }
}

/// What concerns the mount: attributes of the volume, and the mount flags of each capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounting {
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) mount_flags: Vec<Vec<String>>,
}

impl Mounting {
    /// A place on a mount target, if it can be mounted as this says.
    ///
    /// # Errors
    /// Names the first attribute or option that cannot be used.
    pub fn place(&self, server: String, path: ExportPath) -> Result<Place, ClassError> {
        let mut all: HashMap<String, String> = self.attributes.clone().into_iter().collect();
        all.insert("server".to_owned(), server.clone());
        all.insert("path".to_owned(), path.as_str().to_owned());
        let mut parsed = VolumeAttributes::parse(&all, &[])?;
        for flags in &self.mount_flags {
            parsed = VolumeAttributes::parse(&all, flags)?;
        }
        match parsed.protocol {
            MountProtocol::Alinas(spec) => {
                Ok(Place { server, export: Export { spec, path }, quota_on: None, zone: None })
            }
            MountProtocol::Nfs => Err(ClassError::Plain),
        }
    }

    /// The attributes of a volume that is a place itself.
    #[must_use]
    pub fn volume_context(&self, place: &Place) -> BTreeMap<String, String> {
        let mut context = self.attributes.clone();
        context.insert("server".to_owned(), place.server.clone());
        context.insert("path".to_owned(), place.export.path.as_str().to_owned());
        context
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    KEYS.iter().chain(attributes::KEYS).map(|key| key.name)
}

/// The parameters by their documented names.
pub(super) struct Given {
    own: BTreeMap<&'static str, String>,
    attributes: BTreeMap<String, String>,
}

impl Given {
    pub(super) fn sort(parameters: &HashMap<String, String>) -> Result<Self, ClassError> {
        let mut given = Self { own: BTreeMap::new(), attributes: BTreeMap::new() };
        // In order, so that of several mistakes the same one is always named.
        let mut all: Vec<_> = parameters.iter().collect();
        all.sort();
        for (key, value) in all {
            if KUBERNETES_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            let is_it = |known: &str| known.eq_ignore_ascii_case(key);
            if let Some((key, why)) = REFUSED.iter().find(|(known, _)| is_it(known)) {
                return Err(ClassError::Refused { key, why });
            }
            let is_twice = if let Some(known) = KEYS.iter().find(|known| is_it(known.name)) {
                given.own.insert(known.name, value.clone()).is_some()
            } else if let Some(known) = attributes::KEYS.iter().find(|known| is_it(known.name)) {
                given.attributes.insert(known.name.to_owned(), value.clone()).is_some()
            } else {
                return Err(ClassError::Unknown(key.clone()));
            };
            if is_twice {
                return Err(ClassError::Twice(key.clone()));
            }
        }
        Ok(given)
    }

    /// What the volumes are.
    pub(super) fn kind(&self) -> Result<VolumeAs, ClassError> {
        const WORDS: &str = "\"subpath\", \"filesystem\", \"accesspoint\" or \"sharepath\"";
        let word = self.get("volumeAs").unwrap_or(SubPath.as_str());
        let known = VolumeAs::ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or_else(|| self.wrong("volumeAs", WORDS))
    }

    /// Every key says something about this kind.
    pub(super) fn is_about(&self, kind: VolumeAs) -> Result<(), ClassError> {
        let is_given = |key: &str| self.own.contains_key(key) || self.attributes.contains_key(key);
        match ONLY.iter().find(|(key, kinds)| is_given(key) && !kinds.contains(&kind)) {
            Some((key, _)) => Err(ClassError::NotHere { key, kind: kind.as_str() }),
            None => Ok(()),
        }
    }

    /// What concerns the mount.
    pub(super) fn mounting(self, mount_flags: &[Vec<String>]) -> Mounting {
        let mut attributes = self.attributes;
        attributes.retain(|_, value| !value.is_empty());
        Mounting { attributes, mount_flags: mount_flags.to_vec() }
    }

    pub(super) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<bool, ClassError> {
        let word = self.word(key, &["true", "false"], "\"true\" or \"false\"")?;
        Ok(word == Some("true"))
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.own.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn wrong(&self, key: &'static str, expected: &'static str) -> ClassError {
        let value = self.get(key).unwrap_or_default().to_owned();
        ClassError::Value { key, value, expected }
    }

    pub(super) fn word(
        &self,
        key: &'static str,
        words: &[&str],
        expected: &'static str,
    ) -> Result<Option<&str>, ClassError> {
        match self.get(key) {
            Some(value) if !words.contains(&value) => Err(self.wrong(key, expected)),
            word => Ok(word),
        }
    }

    pub(super) fn number(&self, key: &'static str) -> Result<u32, ClassError> {
        // 2^32 - 1 is "do not change" to chown(2).
        let read = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX);
        match self.get(key) {
            None => Ok(0),
            Some(text) => {
                read(text).ok_or_else(|| self.wrong(key, "a number from 0 to 4294967294"))
            }
        }
    }

    pub(super) fn mode(&self) -> Result<u32, ClassError> {
        self.mode_of("dirMode")
    }

    pub(super) fn mode_of(&self, key: &'static str) -> Result<u32, ClassError> {
        let read = |text: &str| {
            let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777)
        };
        match self.get(key) {
            None => Ok(DEFAULT_MODE),
            Some(text) => read(text)
                .ok_or_else(|| self.wrong(key, "an octal number from 0 to 7777, as \"0770\"")),
        }
    }

    pub(super) fn on_delete(&self) -> Result<OnDelete, ClassError> {
        const WORDS: &str = "\"delete\", \"archive\" or \"retain\"";
        const FLAG: &str = "\"true\" or \"false\"";
        let read = |word| OnDelete::parse(word).ok_or_else(|| self.wrong("onDelete", WORDS));
        let ours = self.get("onDelete").map(read).transpose()?;
        let archives = self.word("archiveOnDelete", &["true", "false"], FLAG)?;
        let vendor_s = archives.map(|word| match word {
            "true" => OnDelete::Archive,
            _ => OnDelete::Delete,
        });
        match (ours, vendor_s) {
            (Some(ours), Some(vendor_s)) if ours != vendor_s => {
                Err(ClassError::Contradiction("onDelete", "archiveOnDelete"))
            }
            (ours, vendor_s) => Ok(ours.or(vendor_s).unwrap_or_default()),
        }
    }

    /// `nas1[:/path1],nas2[:/path2]`, with `path` for those that have none.
    pub(super) fn servers(&self) -> Result<Vec<(String, ExportPath)>, ClassError> {
        let Some(text) = self.get("server") else {
            return self.access_point();
        };
        let common = self.get("path");
        text.split(',').map(|entry| server_and_path(entry.trim(), common)).collect()
    }

    /// One for each server, or none at all.
    fn zones(&self, servers: usize) -> Result<Vec<Option<Zone>>, ClassError> {
        let Some(text) = self.get("zones") else { return Ok(vec![None; servers]) };
        let read = |zone: &str| (!zone.is_empty()).then(|| Zone::parse(zone)).transpose();
        let zones: Vec<_> =
            text.split(',').map(|zone| read(zone.trim())).collect::<Result<_, _>>()?;
        match zones.len() {
            count if count == servers => Ok(zones),
            count => Err(ClassError::Zones { zones: count, servers }),
        }
    }

    fn is_bound_to_zone(&self, zones: &[Option<Zone>]) -> Result<bool, ClassError> {
        const WORDS: &str = "\"everywhere\" or \"zone\"";
        match self.word("accessibility", &["everywhere", "zone"], WORDS)? {
            Some("zone") if zones.iter().any(Option::is_none) => Err(ClassError::ZonesMissing),
            word => Ok(word == Some("zone")),
        }
    }

    /// The domain of an access point may stand for the server, as it may in a volume.
    fn access_point(&self) -> Result<Vec<(String, ExportPath)>, ClassError> {
        let domain = self.attributes.get("accesspoint").filter(|text| text.contains('.'));
        let domain = domain.ok_or(AttributeError::Missing("server"))?;
        Ok(vec![(domain.clone(), ExportPath::parse(self.get("path").unwrap_or_default())?)])
    }

    pub(super) fn directory(
        &self,
        parameters: &HashMap<String, String>,
        volume: &str,
    ) -> Result<String, ClassError> {
        let template = self.get("nameTemplate").unwrap_or("${pv.metadata.name}");
        let mut name = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once("${") {
            let (inner, behind) = behind
                .split_once('}')
                .ok_or_else(|| ClassError::Placeholder(format!("${{{behind}")))?;
            let placeholder = format!("${{{inner}}}");
            let known = PLACEHOLDERS.iter().find(|(known, _)| *known == placeholder);
            let value = known.and_then(|(_, key)| parameters.get(*key)).map(String::as_str);
            // The name that the provisioner chose is the PersistentVolume's.
            let value = value.or((placeholder == PLACEHOLDERS[2].0).then_some(volume));
            name.push_str(before);
            name.push_str(value.ok_or(ClassError::Placeholder(placeholder))?);
            rest = behind;
        }
        name.push_str(rest);
        match directory_fault(&name) {
            Some(why) => Err(ClassError::Directory { name, why }),
            None => Ok(name),
        }
    }
}

/// Why a text is no name for a volume's directory.
#[must_use]
pub fn directory_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a directory needs a name")
    } else if name.len() > LONGEST_DIRECTORY {
        Some("a volume's directory has at most 200 bytes")
    } else if name.contains('/') {
        Some("a volume is one directory, so \"/\" has no place in its name")
    } else if name.starts_with('.') {
        Some("a volume's directory must not be hidden")
    } else if name.starts_with(ARCHIVED) {
        Some("that is how directories of archived volumes are called")
    } else if name.chars().any(char::is_control) {
        Some("a control character has no place in a name")
    } else {
        None
    }
}

fn server_and_path(entry: &str, common: Option<&str>) -> Result<(String, ExportPath), ClassError> {
    let (server, own) = match entry.split_once(":/") {
        Some((server, path)) => (server, Some(format!("/{path}"))),
        None => (entry, None),
    };
    if server.is_empty() {
        return Err(ClassError::Server(entry.to_owned()));
    }
    let path = match (own, common) {
        (Some(_), Some(_)) => return Err(ClassError::TwoPaths(entry.to_owned())),
        (Some(own), None) => ExportPath::parse(&own)?,
        (None, common) => ExportPath::parse(common.unwrap_or_default())?,
    };
    Ok((server.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: &str = "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com";

    fn parse(parameters: &[(&str, &str)]) -> Result<StorageClass, ClassError> {
        parse_with(parameters, &[])
    }

    fn parse_with(parameters: &[(&str, &str)], flags: &[&str]) -> Result<StorageClass, ClassError> {
        let parameters = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        StorageClass::parse(&parameters, &[flags], "pvc-1")
    }

    #[test]
    fn a_server_alone_is_a_class_with_the_defaults() {
        let class = parse(&[("server", DOMAIN)]).unwrap();
        assert_eq!((class.mode, class.uid, class.gid), (0o777, 0, 0));
        assert_eq!((class.directory.as_str(), class.on_delete), ("pvc-1", OnDelete::Archive));
        let context = class.volume_context(&class.places[0]);
        let expected = [("path", "/pvc-1"), ("server", DOMAIN)];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(context, expected.into());
    }

    #[test]
    fn a_manifest_of_the_vendor_s_driver_is_read() {
        let servers = format!("{DOMAIN}:/a/, nas.corp:/b");
        let class = parse_with(
            &[("volumeAs", "subpath"), ("Server", &servers), ("archiveOnDelete", "true")],
            &["nolock,proto=tcp,noresvport", "vers=3"],
        )
        .unwrap();
        let places: Vec<_> = class
            .places
            .iter()
            .map(|place| (place.server.as_str(), place.export.path.as_str()))
            .collect();
        assert_eq!(places, [(DOMAIN, "/a"), ("nas.corp", "/b")]);
        assert_eq!(class.on_delete, OnDelete::Archive);
        assert_eq!(class.volume_context(&class.places[1])["path"], "/b/pvc-1");
    }

    #[test]
    fn each_server_may_have_a_zone_and_a_volume_may_be_bound_to_it() {
        let servers = ("server", "a.test:/x,b.test,c.test");
        let class = parse(&[servers, ("zones", "cn-a-1, ,cn-a-2")]).unwrap();
        let zones: Vec<_> =
            class.places.iter().map(|place| place.zone.as_ref().map(Zone::as_str)).collect();
        assert_eq!(zones, [Some("cn-a-1"), None, Some("cn-a-2")]);
        assert!(!class.is_bound_to_zone);
        let class = parse(&[servers, ("zones", "x,x,y"), ("accessibility", "zone")]).unwrap();
        assert!(class.is_bound_to_zone);
        assert!(!class.volume_context(&class.places[0]).contains_key("zones"));
        assert!(parse(&[servers, ("zones", "x,,y"), ("accessibility", "zone")]).is_err());
    }

    #[test]
    fn what_concerns_the_mount_goes_into_the_volume_by_its_documented_name() {
        let class = parse(&[
            ("server", DOMAIN),
            ("TLSPORT", "12049"),
            ("options", "hard"),
            ("tlsMinVersion", ""),
            ("csi.storage.k8s.io/pvc/name", "data"),
        ])
        .unwrap();
        let context = class.volume_context(&class.places[0]);
        let keys: Vec<_> = context.keys().map(String::as_str).collect();
        assert_eq!(keys, ["options", "path", "server", "tlsPort"]);
        let volume = VolumeAttributes::parse(&context.into_iter().collect(), &[]).unwrap();
        assert_eq!(volume.source(), format!("{DOMAIN}:/pvc-1"));
    }

    #[test]
    fn a_quota_is_set_on_the_file_system_that_the_server_names_or_the_class() {
        let quota = |more: &[(&str, &str)]| {
            let class = parse(&[more, &[("volumeCapacity", "true")]].concat()).unwrap();
            class.places.into_iter().map(|place| place.quota_on.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(quota(&[("server", DOMAIN)]), ["0123456789"]);
        assert_eq!(quota(&[("server", "nas.corp"), ("fileSystemId", "31a8e4")]), ["31a8e4"]);
        let two = format!("{DOMAIN},31a8e4-x.cn-hangzhou.nas.aliyuncs.com");
        assert_eq!(quota(&[("server", &two)]), ["0123456789", "31a8e4"]);
        assert_eq!(parse(&[("server", DOMAIN)]).unwrap().places[0].quota_on, None);
    }

    #[test]
    fn a_template_is_filled_in() {
        for (template, directory) in [
            ("${pvc.metadata.namespace}-${pvc.metadata.name}", "shop-data"),
            ("v_${pv.metadata.name}", "v_pvc-1"),
            ("fixed", "fixed"),
        ] {
            let class = parse(&[
                ("server", DOMAIN),
                ("nameTemplate", template),
                ("csi.storage.k8s.io/pvc/name", "data"),
                ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ]);
            assert_eq!(class.unwrap().directory, directory);
        }
    }

    #[test]
    fn each_wrong_parameter_is_refused_with_its_name() {
        for (parameters, said) in [
            (vec![], "\"server\" is required"),
            (vec![("server", DOMAIN), ("srver", "x")], "\"srver\"; did you mean \"server\"?"),
            (vec![("server", DOMAIN), ("Server", DOMAIN)], "given twice"),
            (vec![("server", DOMAIN), ("volumeCapacity", "yes")], "\"true\" or \"false\""),
            (
                vec![("server", "nas.corp"), ("volumeCapacity", "true")],
                "\"fileSystemId\" is required",
            ),
            (
                vec![("server", DOMAIN), ("volumeCapacity", "true"), ("fileSystemId", "x")],
                "\"server\" and \"fileSystemId\" contradict",
            ),
            (
                vec![("server", "ap-1.cn-hangzhou.nas.aliyuncs.com"), ("volumeCapacity", "true")],
                "contradict",
            ),
            (vec![("server", DOMAIN), ("vpcId", "vpc-1")], "\"vpcId\" says nothing about"),
            (vec![("server", DOMAIN), ("dirMode", "0888")], "octal"),
            (vec![("server", DOMAIN), ("dirMode", "+777")], "octal"),
            (vec![("server", DOMAIN), ("dirMode", "17777")], "octal"),
            (vec![("server", DOMAIN), ("uid", "root")], "\"uid\" is \"root\""),
            (vec![("server", DOMAIN), ("gid", "4294967295")], "4294967294"),
            (vec![("server", DOMAIN), ("onDelete", "keep")], "\"retain\""),
            (
                vec![("server", DOMAIN), ("onDelete", "retain"), ("archiveOnDelete", "true")],
                "contradict",
            ),
            (vec![("server", ",")], "no mount target"),
            (vec![("server", ":/a")], "no mount target"),
            (vec![("server", "nas.corp:/a"), ("path", "/b")], "a path of its own"),
            (vec![("server", DOMAIN), ("path", "/a/../b")], "\"..\""),
            (vec![("server", "nas.corp:/a/..")], "\"..\""),
            (vec![("server", DOMAIN), ("nameTemplate", "${pvc.name}")], "${pvc.name} is not known"),
            (vec![("server", DOMAIN), ("nameTemplate", "${pvc.metadata.name}")], "--extra-create"),
            (vec![("server", DOMAIN), ("nameTemplate", "a${")], "${ is not known"),
            (vec![("server", DOMAIN), ("nameTemplate", "a/b")], "one directory"),
            (vec![("server", DOMAIN), ("nameTemplate", "..")], "hidden"),
            (vec![("server", DOMAIN), ("nameTemplate", "archived-a")], "archived"),
            (vec![("server", DOMAIN), ("zones", "a,b")], "2 zones for 1 servers"),
            (vec![("server", DOMAIN), ("zones", "a b")], "is no zone"),
            (vec![("server", DOMAIN), ("accessibility", "node")], "\"everywhere\""),
            (vec![("server", DOMAIN), ("accessibility", "zone")], "\"zones\" does not name"),
            (vec![("server", DOMAIN), ("tls", "false")], "not provisioned"),
            (vec![("server", DOMAIN), ("mountProtocol", "nfs")], "not provisioned"),
            (vec![("server", DOMAIN), ("containerNetworkFileSystem", "x")], "not supported"),
            (vec![("server", DOMAIN), ("options", "herd")], "herd"),
            (vec![("server", "a-b.cn-x.extreme.nas.aliyuncs.com")], "Extreme"),
        ] {
            let error = parse(&parameters).unwrap_err().to_string();
            assert!(error.contains(said), "{parameters:?}: {error}");
        }
        assert!(parse_with(&[("server", DOMAIN)], &["herd"]).is_err());
    }

    proptest! {
        #[test]
        fn no_template_leaves_the_directory_or_hides_in_it(
            template in "\\PC{0,20}",
            name in "\\PC{0,20}",
        ) {
            let parameters = [("server", DOMAIN), ("nameTemplate", &template)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            if let Ok(class) = StorageClass::parse(&parameters.into(), &[], &name) {
                let path = ExportPath::parse(&format!("/base/{}", class.directory)).unwrap();
                prop_assert_eq!(path.as_str().matches('/').count(), 2);
                prop_assert!(!class.directory.starts_with('.'));
                prop_assert!(!class.directory.contains('/'));
            }
        }
    }
}
