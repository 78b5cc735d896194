//! Which of several mount targets a volume is made on.
//!
//! Round robin without a counter: where to begin follows from the volume's name, so that a process that was started anew,
//! or another one, begins at the same. Those in a zone that the volume is wanted in come first, the best zone before the
//! others; then those whose zone nobody says. One that cannot be used is passed over by whoever goes through them.

use aws_lc_rs::digest;

use crate::model::Zone;
use crate::model::storage_class::Place;

/// The places in the order in which a volume tries them. `wanted` are the zones that it is wanted in, the best first.
#[must_use]
pub fn in_order<'a>(places: &'a [Place], name: &str, wanted: &[Zone]) -> Vec<&'a Place> {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    let number = digest.as_ref().first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let count = u64::try_from(places.len()).unwrap_or(u64::MAX).max(1);
    let first = usize::try_from(number.unwrap_or_default() % count).unwrap_or_default();
    let (before, from) = places.split_at(first.min(places.len()));
    let mut order: Vec<&Place> = from.iter().chain(before).collect();
    // Stable: among equals the round goes on.
    if !wanted.is_empty() {
        order.sort_by_key(|place| rank(place, wanted));
    }
    order
}

fn rank(place: &Place, wanted: &[Zone]) -> usize {
    match &place.zone {
        None => wanted.len(),
        Some(zone) => wanted.iter().position(|wanted| wanted == zone).unwrap_or(wanted.len() + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::StorageClass;

    fn places(zones: &str) -> Vec<Place> {
        let parameters = [("server", "a.test,b.test,c.test,d.test"), ("zones", zones)];
        let parameters: HashMap<_, _> = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        StorageClass::parse(&parameters, &[], "pvc-1").unwrap().places
    }

    fn first(places: &[Place], name: &str, wanted: &[&str]) -> String {
        let wanted: Vec<_> = wanted.iter().map(|zone| Zone::parse(zone).unwrap()).collect();
        in_order(places, name, &wanted)[0].server.clone()
    }

    #[test]
    fn volumes_are_spread_by_their_names_over_those_in_the_best_zone() {
        let places = places("x,x,y,");
        let of = |wanted: &[&str]| {
            let mut servers: Vec<_> =
                (0..50).map(|number| first(&places, &format!("pvc-{number}"), wanted)).collect();
            servers.sort();
            servers.dedup();
            servers
        };
        assert_eq!(of(&[]), ["a.test", "b.test", "c.test", "d.test"]);
        assert_eq!(of(&["x", "y"]), ["a.test", "b.test"]);
        assert_eq!(of(&["y"]), ["c.test"]);
        assert_eq!(of(&["z"]), ["d.test"], "its zone is not known, so it may be the one");
    }

    #[test]
    fn a_volume_always_has_the_same_order_and_every_place_in_it_once() {
        let places = places("x,,y,x");
        let wanted = [Zone::parse("y").unwrap()];
        let order = in_order(&places, "pvc-1", &wanted);
        assert_eq!(order, in_order(&places, "pvc-1", &wanted));
        let mut servers: Vec<_> = order.iter().map(|place| place.server.as_str()).collect();
        servers.sort_unstable();
        assert_eq!(servers, ["a.test", "b.test", "c.test", "d.test"]);
    }
}
