//! In which zones a volume is wanted, in which one it is, and whose it is.

use std::collections::HashMap;

use crate::csi::controller_request::ControllerRequestError;
use crate::csi::topology::TopologyKey;
use crate::model::StorageClass;
use crate::model::VolumeClass;
use crate::model::Zone;
use crate::model::attributes::SIDECAR_PREFIX;
use crate::proto::csi;

/// What the external-provisioner adds with `--extra-create-metadata`.
const CLAIM: [&str; 3] = ["pvc/name", "pvc/namespace", "pv/name"];

/// The zones of the class's servers, where its volumes are bound to them.
pub(super) struct Zones(Option<(TopologyKey, Vec<(String, Zone)>)>);

impl Zones {
    /// From where the volume with these attributes can be mounted; nothing where from everywhere.
    pub(super) fn of(&self, context: &HashMap<String, String>) -> Vec<csi::Topology> {
        let Some((key, zones)) = &self.0 else { return Vec::new() };
        let server = context.get("server");
        let found = zones.iter().find(|(name, _)| Some(name) == server);
        found.map(|(_, zone)| key.topology(zone)).into_iter().collect()
    }
}

/// Puts the zones that a volume is wanted in into its class. Only directories have servers to choose from; what is made
/// by the vendor's API, and what volumes share, is where its class says, and can be mounted from every zone.
pub(super) fn place(
    class: &mut VolumeClass,
    key: Option<&TopologyKey>,
    requirement: Option<&csi::TopologyRequirement>,
) -> Result<Zones, ControllerRequestError> {
    match class {
        VolumeClass::Directory(class) => place_directory(class, key, requirement),
        VolumeClass::Shared(_) | VolumeClass::FileSystem(_) | VolumeClass::AccessPoint(_) => {
            Ok(Zones(None))
        }
    }
}

fn place_directory(
    class: &mut StorageClass,
    key: Option<&TopologyKey>,
    requirement: Option<&csi::TopologyRequirement>,
) -> Result<Zones, ControllerRequestError> {
    class.wanted_zones = key.map(|key| key.zones(requirement)).unwrap_or_default();
    if !class.is_bound_to_zone {
        return Ok(Zones(None));
    }
    let key = key.ok_or(ControllerRequestError::NoTopology)?;
    let may_be = |zone: &Zone| class.wanted_zones.is_empty() || class.wanted_zones.contains(zone);
    let known = class.places.iter().filter_map(|place| Some((&place.server, place.zone.as_ref()?)));
    let zones: Vec<_> = known.map(|(server, zone)| (server.clone(), zone.clone())).collect();
    if !zones.iter().any(|(_, zone)| may_be(zone)) {
        let words: Vec<_> = class.wanted_zones.iter().map(Zone::to_string).collect();
        return Err(ControllerRequestError::NotInZone { wanted: words.join(", ") });
    }
    // A server elsewhere is of no use: the claim's pods would never run. Nor can the volume be there already: as long as
    // something may have been made, the provisioner asks for the same zones.
    class.places.retain(|place| place.zone.as_ref().is_some_and(may_be));
    Ok(Zones(Some((key.clone(), zones))))
}

/// Leaves of a class the servers whose volumes can be mounted from a topology. `false`: there is none.
pub(super) fn narrow(
    class: &mut StorageClass,
    key: Option<&TopologyKey>,
    topology: Option<&csi::Topology>,
) -> Result<bool, ControllerRequestError> {
    let Some(topology) = topology else { return Ok(true) };
    let requisite = vec![topology.clone()];
    let requirement = csi::TopologyRequirement { requisite, preferred: Vec::new() };
    match place_directory(class, key, Some(&requirement)) {
        Ok(_) => Ok(true),
        Err(ControllerRequestError::NotInZone { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the volume is to say about its claim.
pub(super) fn claim(parameters: &HashMap<String, String>) -> Vec<(String, String)> {
    let keys = CLAIM.iter().map(|key| format!("{SIDECAR_PREFIX}{key}"));
    keys.filter_map(|key| Some((key.clone(), parameters.get(&key)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::controller_request::create;
    use crate::csi::controller_request::tests::create_message;
    use crate::csi::identity::DriverName;

    fn key() -> TopologyKey {
        TopologyKey::of(&DriverName::parse("alinas.csi.alibabacloud.com").unwrap())
    }

    fn class(accessibility: &str) -> StorageClass {
        let mut message = create_message();
        let more =
            [("server", "a.test,b.test"), ("zones", "x,y"), ("accessibility", accessibility)];
        let more = more.map(|(key, value)| (key.to_owned(), value.to_owned()));
        message.parameters.extend(more);
        let VolumeClass::Directory(class) = create(&message).unwrap().class else {
            panic!("another kind")
        };
        class
    }

    fn requirement(zones: &[&str]) -> csi::TopologyRequirement {
        let zones = zones.iter().map(|zone| Zone::parse(zone).unwrap());
        let requisite = zones.map(|zone| key().topology(&zone)).collect();
        csi::TopologyRequirement { requisite, preferred: Vec::new() }
    }

    fn context(server: &str) -> HashMap<String, String> {
        [("server".to_owned(), server.to_owned())].into()
    }

    #[test]
    fn a_volume_can_be_mounted_everywhere_unless_its_class_binds_it_to_a_zone() {
        let placed = |accessibility, requirement: Option<&csi::TopologyRequirement>| {
            let mut class = class(accessibility);
            let zones = place_directory(&mut class, Some(&key()), requirement).unwrap();
            (class, zones)
        };
        let (class, zones) = placed("everywhere", Some(&requirement(&["y"])));
        assert_eq!(class.places.len(), 2, "another zone will do if need be");
        assert_eq!(class.wanted_zones, [Zone::parse("y").unwrap()]);
        assert!(zones.of(&context("b.test")).is_empty());
        let (class, zones) = placed("zone", Some(&requirement(&["y"])));
        assert_eq!(class.places[0].server, "b.test");
        assert_eq!(class.places.len(), 1);
        let expected = key().topology(&Zone::parse("y").unwrap());
        assert_eq!(zones.of(&context("b.test")), [expected]);
        assert_eq!(placed("zone", None).0.places.len(), 2);
    }

    #[test]
    fn room_is_asked_of_the_servers_near_a_node_where_volumes_are_bound_to_their_zone() {
        let near = |accessibility, zone: &str| {
            let topology = key().topology(&Zone::parse(zone).unwrap());
            let mut class = class(accessibility);
            let is_any = narrow(&mut class, Some(&key()), Some(&topology)).unwrap();
            let servers = class.places.iter().map(|place| place.server.clone());
            (is_any, servers.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(near("zone", "y"), (true, "b.test".to_owned()));
        assert_eq!(near("everywhere", "y"), (true, "a.test b.test".to_owned()));
        assert!(!near("zone", "z").0);
        let mut whole = class("zone");
        assert!(narrow(&mut whole, None, None).unwrap());
        assert_eq!(whole, class("zone"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let wanted = requirement(&["z", "w"]);
        let nowhere = place_directory(&mut class("zone"), Some(&key()), Some(&wanted));
        let said = nowhere.map(drop).unwrap_err().to_string();
        assert!(said.starts_with("the class has no server in z, w;"), "{said}");
        let off = place_directory(&mut class("zone"), None, None).map(drop);
        assert_eq!(off, Err(ControllerRequestError::NoTopology));
        let elsewhere = requirement(&["z"]);
        assert!(place_directory(&mut class("everywhere"), None, Some(&elsewhere)).is_ok());
    }

    #[test]
    fn what_has_no_servers_to_choose_from_can_be_mounted_everywhere() {
        let mut message = create_message();
        message.parameters.insert("volumeAs".to_owned(), "sharepath".to_owned());
        let shared = create(&message).unwrap().class;
        let mut class = shared.clone();
        let zones = place(&mut class, Some(&key()), Some(&requirement(&["y"]))).unwrap();
        assert_eq!(class, shared);
        assert!(zones.of(&context("nas.example.com")).is_empty());
    }

    #[test]
    fn a_volume_says_whose_it_is_where_the_provisioner_does() {
        let parameters: HashMap<_, _> = [
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("csi.storage.k8s.io/provisioner-secret-name", "not ours to pass on"),
            ("server", "a.test"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let mut said = claim(&parameters);
        said.sort();
        let keys: Vec<_> = said.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["csi.storage.k8s.io/pvc/name", "csi.storage.k8s.io/pvc/namespace"]);
    }
}
