//! Servers that do not speak every version or transport.

use crate::cases::Case;
use crate::plain::Condition;
use crate::plain::Front;

const VERSION: &[&str] = &["version", "nfsv"];

pub(super) fn cases() -> Vec<Case> {
    let at =
        |name: &str, condition, options: &str| Case::at(name, Front::Good, options).when(condition);

    vec![
        at("negotiated_down_to_4_1", Condition::Only41, "").shows(&[3, 18, 19]).with(&["vers=4.1"]),
        at("vers_4_negotiated_down_to_4_1", Condition::Only41, "vers=4")
            .shows(&[3])
            .with(&["vers=4.1"]),
        at("vers_4_2_of_a_server_with_4_1", Condition::Only41, "vers=4.2,retry=0")
            .shows(&[53])
            .fails(&[&["4.2"], VERSION])
            .differs("the message names the version"),
        at("negotiated_down_to_4_0", Condition::Only40, "").shows(&[3, 18, 19]).with(&["vers=4.0"]),
        at("vers_3_of_a_server_with_4_0", Condition::Only40, "vers=3,nolock,retry=0")
            .shows(&[32, 53, 69])
            .fails(&[&["3"], VERSION])
            .differs("the message names the version"),
        at("vers_3_of_a_server_without", Condition::No3, "vers=3,nolock,retry=0")
            .shows(&[32, 53, 69])
            .fails(&[&["3"], VERSION])
            .differs("the message names the version"),
        at("negotiated_down_to_3", Condition::Only3, "nolock")
            .shows(&[3, 18, 19])
            .with(&["vers=3"]),
        at("negotiated_down_to_3_where_locks_need_statd", Condition::Only3, "retry=0")
            .shows(&[3, 124])
            .fails(&[&["statd"], &["nolock"]]),
        at("vers_4_is_never_negotiated_down_to_3", Condition::Only3, "vers=4,retry=0")
            .shows(&[3, 53])
            .fails(&[VERSION])
            .differs("the message names the version"),
        at("vers_4_2_of_a_server_with_3", Condition::Only3, "vers=4.2,retry=0")
            .shows(&[53, 70])
            .fails(&[&["4.2"], VERSION])
            .differs("the message names the version"),
        at("tcp_to_a_server_with_udp_only", Condition::OnlyUdp, "vers=3,nolock,proto=tcp,retry=0")
            .shows(&[28, 71])
            .fails(&[&["tcp"]])
            .differs("the transport that the server lacks is named"),
        at(
            "no_transport_named_and_a_server_with_udp_only",
            Condition::OnlyUdp,
            "vers=3,nolock,retry=0",
        )
        .shows(&[5, 71, 83])
        .fails(&[&["tcp", "udp"]])
        .differs("the transport that the server lacks is named"),
        at("udp_to_a_server_with_tcp_only", Condition::OnlyTcp, "vers=3,nolock,proto=udp,retry=0")
            .shows(&[28, 72])
            .fails(&[&["udp"]])
            .differs("the transport is named"),
        at(
            "mountproto_udp_of_a_server_with_tcp_only",
            Condition::OnlyTcp,
            "vers=3,nolock,mountproto=udp",
        )
        .shows(&[72])
        .with(&["mountproto=udp"]),
    ]
}
