//! The text of hosts(5), as bytes: which of its lines are ours, and how it looks with others of them.
//!
//! Pure. Every line of somebody else's keeps its bytes and its place; bytes that are no UTF-8, line ends of other systems and
//! a last line without an end included. A line is ours only as we write it, to the last byte:
//!
//! ```text
//! 127.0.1.1 alinas-0123456789-abc12.cn-hangzhou.tls.127.0.1.1 # alinas-csi /run/alinas-csi
//! ```
//!
//! Whoever adds a name to it has made it theirs. Where lines cannot be taken out ([`patches`]), one that is not wanted any
//! more becomes a comment of the same length, and the next one of ours takes its place.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What stands behind the name, with the owner behind it.
const MARK: &str = "# alinas-csi";

/// One line of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostsEntry {
    /// The address.
    pub address: Ipv4Addr,
    /// Its name. Without blanks.
    pub name: String,
}

/// A change that moves no other byte of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Patch {
    /// As many bytes as are there.
    Over { at: usize, bytes: Vec<u8> },
    /// Behind the last byte.
    Append(Vec<u8>),
}

/// A line of ours.
#[derive(Debug, PartialEq, Eq)]
enum Ours {
    Entry(HostsEntry),
    /// The place of an entry that is gone.
    Free,
}

/// The text with exactly these entries of `owner`; none where it is so already.
pub(super) fn rewritten(
    text: &[u8],
    owner: &str,
    wanted: &BTreeSet<HostsEntry>,
) -> Option<Vec<u8>> {
    let mut missing = wanted.clone();
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let stays = match ours(line, owner) {
            None => true,
            Some(Ours::Entry(entry)) => missing.remove(&entry),
            Some(Ours::Free) => false,
        };
        if stays {
            lines.push(line.to_owned());
        }
    }
    // Before the empty rest behind the last line end; without such an end, behind the last line.
    let end = lines.len() - usize::from(lines.last().is_some_and(Vec::is_empty));
    lines.splice(end..end, missing.iter().map(|entry| spelled(entry, owner).into_bytes()));
    let new = lines.join(&b'\n');
    (new != text).then_some(new)
}

/// What leads to these entries of `owner` without a byte being moved.
pub(super) fn patches(text: &[u8], owner: &str, wanted: &BTreeSet<HostsEntry>) -> Vec<Patch> {
    let (mut missing, mut free, mut gone) = (wanted.clone(), Vec::new(), Vec::new());
    let mut at = 0;
    for line in text.split(|byte| *byte == b'\n') {
        match ours(line, owner) {
            Some(Ours::Entry(entry)) if !missing.remove(&entry) => gone.push((at, line.len())),
            Some(Ours::Free) => free.push((at, line.len())),
            _ => {}
        }
        at += line.len() + 1;
    }
    let (mut patches, mut appended) = (Vec::new(), Vec::new());
    for entry in missing {
        let line = spelled(&entry, owner);
        let place = [&mut gone, &mut free].into_iter().find_map(|places| {
            let fits = places.iter().position(|(_, length)| *length >= line.len())?;
            Some(places.remove(fits))
        });
        match place {
            Some((at, length)) => patches.push(over(at, length, &line)),
            None => appended.push(line),
        }
    }
    patches.extend(gone.into_iter().map(|(at, length)| over(at, length, &mark(owner))));
    if !appended.is_empty() {
        let lines = appended.join("\n");
        let ends = text.last().is_none_or(|last| *last == b'\n');
        let lines = if ends { format!("{lines}\n") } else { format!("\n{lines}") };
        patches.push(Patch::Append(lines.into_bytes()));
    }
    patches
}

/// An edit that went into `late`, which was made from `base`, done to `current` as well: lines that came, and lines that
/// went. Lines of `owner` are left out of it.
pub(super) fn carried_over(base: &[u8], late: &[u8], current: &[u8], owner: &str) -> Vec<u8> {
    fn theirs<'a>(text: &'a [u8], owner: &str) -> Vec<&'a [u8]> {
        let lines = text.split(|byte| *byte == b'\n');
        lines.filter(|line| !line.is_empty() && ours(line, owner).is_none()).collect()
    }
    /// What the first has and the second has not, one for one.
    fn beyond<'a>(these: &[&'a [u8]], those: &[&[u8]]) -> Vec<&'a [u8]> {
        let mut those = those.to_vec();
        let mut more = these.to_vec();
        more.retain(|line| match those.iter().position(|other| other == line) {
            Some(place) => {
                those.remove(place);
                false
            }
            None => true,
        });
        more
    }
    let (base, late) = (theirs(base, owner), theirs(late, owner));
    let (mut went, came) = (beyond(&base, &late), beyond(&late, &base));
    let mut lines: Vec<&[u8]> = current.split(|byte| *byte == b'\n').collect();
    lines.retain(|line| match went.iter().position(|other| other == line) {
        Some(place) => {
            went.remove(place);
            false
        }
        None => true,
    });
    let end = lines.len() - usize::from(lines.last().is_some_and(|last| last.is_empty()));
    lines.splice(end..end, came);
    lines.join(&b'\n')
}

fn over(at: usize, length: usize, line: &str) -> Patch {
    let mut bytes = line.as_bytes().to_owned();
    bytes.resize(length, b' ');
    Patch::Over { at, bytes }
}

fn mark(owner: &str) -> String {
    format!("{MARK} {owner}")
}

fn spelled(entry: &HostsEntry, owner: &str) -> String {
    format!("{} {} {}", entry.address, entry.name, mark(owner))
}

fn ours(line: &[u8], owner: &str) -> Option<Ours> {
    let line = std::str::from_utf8(line).ok()?.trim_end_matches(' ');
    let rest = line.strip_suffix(&mark(owner))?;
    if rest.is_empty() {
        return Some(Ours::Free);
    }
    let (address, name) = rest.strip_suffix(' ')?.split_once(' ')?;
    let entry = HostsEntry { address: address.parse().ok()?, name: name.to_owned() };
    let as_written = !entry.name.contains(char::is_whitespace) && spelled(&entry, owner) == line;
    as_written.then_some(Ours::Entry(entry))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWNER: &str = "/run/alinas-csi";

    pub(in crate::host) fn entry(last: u8) -> HostsEntry {
        HostsEntry {
            address: Ipv4Addr::new(127, 0, 1, last),
            name: format!("alinas-nas{}.tls.127.0.1.{last}", "x".repeat(usize::from(last % 7))),
        }
    }

    fn line(last: u8) -> String {
        spelled(&entry(last), OWNER)
    }

    fn wanted(these: &[u8]) -> BTreeSet<HostsEntry> {
        these.iter().map(|last| entry(*last)).collect()
    }

    fn written(text: &[u8], these: &[u8]) -> Vec<u8> {
        rewritten(text, OWNER, &wanted(these)).unwrap_or_else(|| text.to_owned())
    }

    fn patched(text: &[u8], these: &[u8]) -> Vec<u8> {
        let mut new = text.to_owned();
        for patch in patches(text, OWNER, &wanted(these)) {
            match patch {
                Patch::Over { at, bytes } => new[at..at + bytes.len()].copy_from_slice(&bytes),
                Patch::Append(bytes) => new.extend(bytes),
            }
        }
        new
    }

    fn others(text: &[u8]) -> Vec<&[u8]> {
        text.split(|byte| *byte == b'\n').filter(|line| ours(line, OWNER).is_none()).collect()
    }

    fn entries(text: &[u8]) -> BTreeSet<HostsEntry> {
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| ours(line, OWNER));
        lines.filter_map(|ours| if let Ours::Entry(it) = ours { Some(it) } else { None }).collect()
    }

    #[test]
    fn an_entry_comes_behind_the_last_line_and_goes_without_a_trace() {
        for before in ["127.0.0.1 localhost\n", "127.0.0.1 localhost", "", "\n\n", "a\r\n\u{e4}"] {
            let with = written(before.as_bytes(), &[1]);
            assert_eq!(with.len(), before.len() + line(1).len() + 1, "{before:?}");
            assert_eq!(written(&with, &[]), before.as_bytes(), "{before:?}");
        }
        let text = format!("a\n{}\nb\n", line(1));
        assert_eq!(written(text.as_bytes(), &[2]), format!("a\nb\n{}\n", line(2)).as_bytes());
    }

    #[test]
    fn a_line_that_somebody_changed_or_that_another_owner_wrote_is_not_ours() {
        for theirs in [
            format!("{} # mine now", line(1)),
            line(1).replace(" alinas", "  alinas"),
            line(1).replace("127.0.1.1 ", "127.0.1.1 more "),
            line(1).replace(OWNER, "/run/other"),
            format!("{}\r", line(1)),
            line(1).replace("127.0.1.1 ", "::1 "),
        ] {
            assert_eq!(ours(theirs.as_bytes(), OWNER), None, "{theirs}");
            assert_eq!(written(theirs.as_bytes(), &[]), theirs.as_bytes());
        }
        assert!(ours(line(1).as_bytes(), OWNER).is_some());
    }

    #[test]
    fn in_place_a_line_that_goes_leaves_a_comment_for_the_next_one() {
        let text = format!("a\n{}\nb\n", line(1));
        let without = patched(text.as_bytes(), &[]);
        assert_eq!(without.len(), text.len());
        let shown = String::from_utf8(without.clone()).unwrap();
        assert!(shown.starts_with(&format!("a\n{MARK} {OWNER}  ")), "{shown}");
        let again = patched(&without, &[1]);
        assert_eq!(again, text.as_bytes());
        // What can be replaced whole is cleaned up.
        assert_eq!(written(&without, &[]), b"a\nb\n");
    }

    #[test]
    fn an_edit_of_a_text_that_was_replaced_meanwhile_is_done_to_the_new_one() {
        let (base, late) = (&b"a\nb\n"[..], &b"a\nc\n"[..]);
        let current = written(base, &[1]);
        let merged = carried_over(base, late, &current, OWNER);
        assert_eq!(merged, format!("a\n{}\nc\n", line(1)).as_bytes());
        assert_eq!(carried_over(base, base, &current, OWNER), current);
    }

    /// Lines of others and of ours, with and without an end.
    fn any_text() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            (1_u8..9).prop_map(|last| line(last).into_bytes()),
            Just(format!("{MARK} {OWNER}{}", " ".repeat(60)).into_bytes()),
            Just(format!("{} # mine now", line(1)).into_bytes()),
        ];
        proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join(&b'\n'))
    }

    proptest! {
        #[test]
        fn all_other_lines_keep_their_bytes_and_their_order(
            text in any_text(), these in proptest::collection::vec(1_u8..12, 0..6),
        ) {
            for new in [written(&text, &these), patched(&text, &these)] {
                prop_assert_eq!(entries(&new), wanted(&these));
                // Only the empty rest behind a line end that an added line brought or took may differ.
                let full = |text: &[u8]| -> Vec<Vec<u8>> {
                    others(text).into_iter().filter(|l| !l.is_empty()).map(<[u8]>::to_owned).collect()
                };
                prop_assert_eq!(full(&new), full(&text));
            }
            let kept = others(&text);
            let new = patched(&text, &these);
            prop_assert_eq!(&others(&new)[..kept.len()], &kept[..]);
        }

        #[test]
        fn what_is_as_wanted_is_left_alone(
            text in any_text(), these in proptest::collection::vec(1_u8..12, 0..6),
        ) {
            let new = written(&text, &these);
            prop_assert_eq!(rewritten(&new, OWNER, &wanted(&these)), None);
            let new = patched(&text, &these);
            prop_assert_eq!(patches(&new, OWNER, &wanted(&these)), vec![]);
        }

        #[test]
        fn a_text_without_our_lines_comes_back_as_it_was(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8),
            these in proptest::collection::vec(1_u8..12, 0..6),
        ) {
            let text = lines.join(&b'\n');
            prop_assert_eq!(written(&written(&text, &these), &[]), text);
        }
    }
}
