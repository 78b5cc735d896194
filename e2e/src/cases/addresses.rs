//! How a server may be named: by name, by IPv4 and IPv6 address, and by what is neither.

use crate::cases::Case;
use crate::cases::IMPATIENT;
use crate::cases::share;
use crate::plain::Front;
use crate::plain::NAME;
use crate::plain::NAME_HALF;
use crate::plain::NAME_UNKNOWN;
use crate::plain::NAME_V6;
use crate::plain::SERVER_LINK_LOCAL;
use crate::plain::SERVER_V6;
use crate::plain::silent_name;

pub(super) fn cases() -> Vec<Case> {
    [good(), bad(), client_addresses()].concat()
}

fn good() -> Vec<Case> {
    let v6 = format!("[{SERVER_V6}]");
    let link_local = format!("[{SERVER_LINK_LOCAL}]");
    let third = "vers=3,nolock";
    vec![
        Case::new("a_name_v4", share(NAME), "vers=4.2")
            .shows(&[17, 21])
            .with(&["addr=203.0.113.10"]),
        Case::new("a_name_v3", share(NAME), third).shows(&[17]).with(&["addr=203.0.113.10"]),
        Case::new("a_name_with_ipv6_only_v4", share(NAME_V6), "vers=4.2")
            .shows(&[8])
            .with(&["proto=tcp6", "addr=2001:db8:98::2"]),
        Case::new("an_ipv6_address_v4", share(&v6), "vers=4.2")
            .shows(&[8])
            .with(&["proto=tcp6", "clientaddr=2001:db8:98::1"]),
        Case::new("an_ipv6_address_v3", share(&v6), third)
            .shows(&[8])
            .with(&["proto=tcp6", "mountaddr=2001:db8:98::2"]),
        Case::new("a_link_local_address_v4", share(&link_local), "vers=4.2")
            .shows(&[8])
            .with(&["addr=fe80::98:2%"]),
        Case::new("a_link_local_address_v3", share(&link_local), third).shows(&[8]),
        Case::new("proto_tcp6_asks_for_ipv6", share(NAME_V6), "vers=4.2,proto=tcp6")
            .shows(&[8])
            .with(&["proto=tcp6"]),
        Case::new("a_name_whose_first_address_refuses_v4", share(NAME_HALF), "vers=4.2")
            .shows(&[7])
            .with(&["addr=203.0.113.10"]),
        Case::new("a_name_whose_first_address_refuses_v3", share(NAME_HALF), third)
            .shows(&[7])
            .with(&["addr=203.0.113.10"]),
    ]
}

fn bad() -> Vec<Case> {
    vec![
        Case::new("an_unknown_name", share(NAME_UNKNOWN), "vers=4.2")
            .shows(&[29, 79])
            .fails(&[&["unknown.plain.test"], &["resolve", "name"]]),
        Case::new("a_name_service_that_is_silent", share(silent_name()), "vers=4.2,retry=0")
            .shows(&[31])
            .fails(&[&["silent.plain.test"], &["resolve", "name"]])
            .differs("the reason names the server and the resolver"),
        Case::new("proto_tcp6_for_a_name_without_ipv6", share(NAME), "vers=4.2,proto=tcp6,retry=0")
            .shows(&[8, 29])
            .fails(&[&["plain.test"], &["ipv6", "address family", "tcp6"]]),
        Case::new("proto_tcp6_for_an_ipv4_address", share(Front::Good.address()), "vers=4.2,proto=tcp6,retry=0")
            .shows(&[8, 29])
            .fails(&[&["203.0.113.10"], &["ipv6", "address family", "tcp6"]]),
        Case::new("no_colon", "203.0.113.10/share", "vers=4.2").shows(&[57]).fails(&[&["203.0.113.10/share"], &[":"]]),
        Case::new("no_host", ":/share", "vers=4.2").shows(&[57]).fails(&[&[":/share"], &["server", "host"]]),
        Case::new("an_open_bracket", "[2001:db8:98::2:/share", "vers=4.2").shows(&[57]).fails(&[&["]", "bracket"]]),
        Case::new("two_hosts", "203.0.113.10,203.0.113.11:/share", "vers=4.2").shows(&[57])
            .fails(&[&["203.0.113.10,203.0.113.11"]])
            .differs("a list of servers was never supported; the first one taken in silence is a surprise"),
        Case::new("a_url", "nfs://203.0.113.10/share", "vers=4.2").shows(&[57]).fails(&[&["url", "nfs://"]]),
        Case::new("a_very_long_host", format!("{}:/share", "h".repeat(300)), "vers=4.2").shows(&[58]).fails(&[&["at most"]]),
        Case::new("a_very_long_path", format!("203.0.113.10:/{}", "p".repeat(5000)), "vers=4.2").shows(&[58]).fails(&[&["at most"]]),
    ]
}

fn client_addresses() -> Vec<Case> {
    let at = |name: &str, options: &str| {
        Case::at(name, Front::Good, format!("{options},{IMPATIENT}")).shows(&[133])
    };
    vec![
        at("clientaddr_is_found", "vers=4.0")
            .shows(&[22, 134, 135])
            .with(&["clientaddr=203.0.113.1"]),
        at("clientaddr_is_found_for_ipv4_with_minor_1", "vers=4.1")
            .shows(&[22, 134])
            .with(&["clientaddr=203.0.113.1"]),
        at("clientaddr_garbage", "vers=4.0,clientaddr=garbage")
            .shows(&[136])
            .fails(&[&["clientaddr"], &["garbage"]])
            .differs("the message names the option and its value"),
        at("clientaddr_arrives_unchanged", "vers=4.0,clientaddr=203.0.113.1")
            .shows(&[23, 137])
            .with(&["clientaddr=203.0.113.1"]),
        at("clientaddr_of_another_client", "vers=4.0,clientaddr=203.0.113.250")
            .shows(&[23, 138])
            .with(&["clientaddr=203.0.113.250"]),
        at("clientaddr_that_cannot_work", "vers=4.0,clientaddr=192.0.2.250")
            .shows(&[23, 139])
            .with(&["clientaddr=192.0.2.250"]),
        at("clientaddr_any", "vers=4.0,clientaddr=0.0.0.0")
            .shows(&[137])
            .with(&["clientaddr=0.0.0.0"]),
        at("addr_of_the_user_is_not_taken", "vers=4.2,addr=203.0.113.14")
            .shows(&[23])
            .with(&["addr=203.0.113.10"]),
    ]
}
