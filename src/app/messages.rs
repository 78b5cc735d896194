//! The document about all messages that have a name, docs/messages.md, from the tables that the messages are made of.
//!
//! Events and the checks of `doctor` have documents of their own.

use crate::csi;
use crate::kubernetes::reason::Row;
use crate::nfs::catalogue;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tls::Weakness;
use crate::tunnel::convert::kind_word;

/// The whole text.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned() + &catalogue::table() + KINDS;
    for kind in kinds() {
        if let Some(reason) = csi::event_of(kind) {
            let Row { name, help, remedy, .. } = reason.row();
            page += &format!("| `{}` | `{name}` | {help}. | {remedy}. |\n", kind_word(kind));
        }
    }
    page += WEAKNESSES;
    for weakness in Weakness::ALL {
        page += &format!("| `{}` | {} |\n", weakness.word(), weakness.text());
    }
    page
}

/// What a name means, a line for each of its rows. None where it is none; the brackets that a message has about it may
/// be there.
pub(super) fn explain(name: &str) -> Option<String> {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let marked = format!("| `{name}` |");
    let line = |row: &str| {
        let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        match cells.as_slice() {
            [about, what, to_do] => {
                format!("{name} ({}): {what}; {to_do}\n", about.trim_matches('`'))
            }
            _ => format!("{name}: {}\n", cells.join("; ")),
        }
    };
    let page = page();
    let text: String = page.lines().filter_map(|row| row.strip_prefix(&marked)).map(line).collect();
    (!text.is_empty()).then_some(text)
}

/// Every kind but the unspecified one, which is 0.
fn kinds() -> impl Iterator<Item = Kind> {
    (1_i32..).map_while(|number| Kind::try_from(number).ok())
}

const HEAD: &str = "\
# Messages

Everything that goes wrong is said in one line: what was tried, on what, why it failed, what to do. This page has \
every cause that has a name. A name never changes, while a sentence may be bettered. Look for a part of the sentence \
that you have before you, or for the name; `alinas-csi explain NAME` knows it, too.

It is written from the tables in the code: `alinas-csi explain --messages > docs/messages.md`. Reasons of events are \
in [events.md](events.md), the checks of `alinas-csi doctor` in [doctor.md](doctor.md). The ten troubles that are \
met most often are told from one another in [troubles.md](troubles.md).

## A mount that fails

The line is `failed to mount SOURCE at DIRECTORY over NFS VERSION: CAUSE; REMEDY (DETAILS)`. It is what the mount \
command prints, and in a cluster what the kubelet puts on the Pod, with its id behind it in brackets. The second \
column says for which mounts the sentence is meant: volumes with encryption (tunnel), plain NFS straight to the \
server (plain), or any. Through a tunnel nobody asks rpcbind or mountd. Words in braces are filled in. The whole line \
for every situation that is known is in [messages.txt](../src/nfs/golden/messages.txt).

";
const KINDS: &str = "
## A tunnel that does not come about

Before a volume with encryption is mounted a tunnel has to reach its mount target. Where it does not, the line \
begins with `failed to resolve`, `failed to connect to`, `failed to set up TLS with` or the like, and it says what \
to do. In a cluster its kind stands behind it in brackets. Where the mount target could not be reached, the kind is also the label `kind` of the metric \
`alinas_csi_tunnel_dial_failures_total`, and stands in `alinas-csi status -o json` (`dialFailures`). The second \
column is the reason of the event.

| kind | event | what has happened | what to do |
| --- | --- | --- | --- |
";
const WEAKNESSES: &str = "
## A session that is weaker than it could be

The reason stands in the column WEAK of `alinas-csi status`, and is the label `reason` of the metric \
`alinas_csi_tunnel_session_weak`; the sentence stands below the table of `alinas-csi status`, and in the log.

| reason | what it means |
| --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    /// Renewed by `alinas-csi explain --messages > docs/messages.md`.
    #[test]
    fn the_document_about_messages_is_what_the_tables_say() {
        let committed = include_str!("../../docs/messages.md");
        assert!(committed == page(), "docs/messages.md is old; renew it (see above)");
    }

    #[test]
    fn a_name_is_explained_by_each_of_its_rows() {
        let denied = explain("[nfs.export-denied]").unwrap();
        let begins =
            ["nfs.export-denied (tunnel): the mount target", "nfs.export-denied (plain): the"];
        assert!(
            denied.lines().zip(begins).all(|(line, begin)| line.starts_with(begin)),
            "{denied}"
        );
        assert_eq!(denied.lines().count(), 2);
        let weakness = Weakness::ALL[0];
        let text = format!("{}: {}\n", weakness.word(), weakness.text());
        assert_eq!(explain(weakness.word()), Some(text));
        assert!(explain("").is_none() && explain("nfs").is_none() && explain("any").is_none());
    }

    #[test]
    fn every_kind_and_every_weakness_has_a_row_of_whole_cells() {
        let next = 1 + i32::try_from(kinds().count()).unwrap();
        let is_left_out = (next..next + 100).any(|number| Kind::try_from(number).is_ok());
        assert!(!is_left_out, "the kinds are not numbered without a gap");
        assert!(kinds().all(|kind| csi::event_of(kind).is_some()), "a kind has no row");
        assert!(Weakness::ALL.iter().all(|weakness| !weakness.text().contains('|')));
    }
}
