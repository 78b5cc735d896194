//! What is known about a mount target in use, and what is to be said about it: a pure function of what was seen.
//!
//! ```text
//!              answers                      three looks in a row
//!   New ────────────────► Fine ◄──────┐  ┌──────────────────────────► Troubled(Gone | Silent | Insecure)
//!    │                     │  answers │  │        "gone", "not answering", "insecure"      │
//!    └──► Doubtful ◄───────┘──────────┘──┘                                                 │
//!  no name, no answer, wrong certificate                                                   │
//!                                                                                          │
//!   any ── the API says so, one look ──► Troubled(Disabled | Deleted)                      │
//!                                          "disabled", "deleted"                           │
//!   Troubled ── answers ──► Fine   "back" ◄────────────────────────────────────────────────┘
//! ```
//!
//! Beside that, whenever it answers: other addresses than before are said once ("moved"), and so is a certificate that
//! ends within two weeks ("expiring"). A look that saw nothing, because a resolver or the API was away, changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Looks in a row that must show the same trouble: a name server or a server may stumble.
const LOOKS: u8 = 3;
/// A certificate that ends so soon is said to.
pub const SOON: Duration = Duration::from_secs(14 * 86_400);

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It answers, and proves who it is.
    Answers {
        /// Where its domain leads.
        addresses: BTreeSet<IpAddr>,
        /// When the first certificate of its chain ends, seconds since the epoch.
        certificate_ends: Option<i64>,
    },
    /// The network shows a trouble, which may pass.
    Trouble(Trouble, String),
    /// The API names a trouble.
    Said(Trouble, String),
    /// Nothing could be seen from here.
    Blind(String),
}

/// What may be wrong with a mount target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was switched off.
    Disabled,
    /// It was deleted.
    Deleted,
    /// Its domain does not resolve.
    Gone,
    /// Nobody answers, or not by TLS.
    Silent,
    /// Somebody answers who cannot prove to be the mount target.
    Insecure,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Disabled, Self::Deleted, Self::Gone, Self::Silent, Self::Insecure];

    /// Its word in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::Gone => "gone",
            Self::Silent => "not-answering",
            Self::Insecure => "insecure",
        }
    }

    /// Only the API knows it.
    fn is_said(self) -> bool {
        matches!(self, Self::Disabled | Self::Deleted)
    }
}

/// How a mount target fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Not seen yet.
    #[default]
    New,
    /// As it should be.
    Fine,
    /// Something was wrong at the last looks.
    Doubtful {
        /// What.
        trouble: Trouble,
        /// At how many in a row.
        looks: u8,
    },
    /// Something is wrong, and it has been said.
    Troubled(Trouble),
}

impl Life {
    /// Its word in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "unknown",
            Self::Fine => "fine",
            Self::Doubtful { .. } => "doubtful",
            Self::Troubled(trouble) => trouble.word(),
        }
    }

    /// How long until the next look.
    #[must_use]
    pub fn pause(self) -> Duration {
        match self {
            Self::Fine => Duration::from_secs(300),
            Self::New | Self::Troubled(_) => Duration::from_secs(60),
            Self::Doubtful { .. } => Duration::from_secs(20),
        }
    }
}

/// What is known about a mount target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How it fares.
    pub life: Life,
    /// Where its domain led when it last answered.
    pub addresses: BTreeSet<IpAddr>,
    /// When the first certificate of its chain ends, seconds since the epoch.
    pub certificate_ends: Option<i64>,
    /// The end that was said to come soon.
    expiry_said: Option<i64>,
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Its domain leads elsewhere.
    Moved {
        /// Where it led.
        from: BTreeSet<IpAddr>,
        /// Where it leads.
        to: BTreeSet<IpAddr>,
    },
    /// Something is wrong.
    Trouble(Trouble, String),
    /// Its certificate ends soon, at this second since the epoch.
    Expiring(i64),
    /// Nothing is wrong any more.
    Back,
}

/// Takes note of a look at `now`, in seconds since the epoch.
#[must_use]
pub fn step(known: Known, sight: Sight, now: i64) -> (Known, Vec<Notice>) {
    match sight {
        Sight::Blind(_) => (known, Vec::new()),
        Sight::Answers { addresses, certificate_ends } => {
            answered(known, addresses, certificate_ends, now)
        }
        Sight::Said(trouble, why) => match known.life {
            Life::Troubled(same) if same == trouble => (known, Vec::new()),
            _ => troubled(known, trouble, why),
        },
        Sight::Trouble(trouble, why) => match known.life {
            // The API knew more, and this is what becomes of it.
            Life::Troubled(said) if said == trouble || said.is_said() => (known, Vec::new()),
            Life::Troubled(_) => troubled(known, trouble, why),
            Life::Doubtful { looks, .. } if looks + 1 >= LOOKS => troubled(known, trouble, why),
            Life::Doubtful { looks, .. } => (doubtful(known, trouble, looks + 1), Vec::new()),
            Life::New | Life::Fine => (doubtful(known, trouble, 1), Vec::new()),
        },
    }
}

fn doubtful(known: Known, trouble: Trouble, looks: u8) -> Known {
    Known { life: Life::Doubtful { trouble, looks }, ..known }
}

fn troubled(known: Known, trouble: Trouble, why: String) -> (Known, Vec<Notice>) {
    (Known { life: Life::Troubled(trouble), ..known }, vec![Notice::Trouble(trouble, why)])
}

fn answered(
    known: Known,
    addresses: BTreeSet<IpAddr>,
    certificate_ends: Option<i64>,
    now: i64,
) -> (Known, Vec<Notice>) {
    let mut notices = Vec::new();
    if matches!(known.life, Life::Troubled(_)) {
        notices.push(Notice::Back);
    }
    // A name with several addresses may show some of them at a time.
    if !known.addresses.is_empty() && known.addresses.is_disjoint(&addresses) {
        let (from, to) = (known.addresses.clone(), addresses.clone());
        notices.push(Notice::Moved { from, to });
    }
    let soon = now.saturating_add(i64::try_from(SOON.as_secs()).unwrap_or(i64::MAX));
    let expiring = certificate_ends.filter(|ends| *ends < soon);
    if expiring.is_some() && expiring != known.expiry_said {
        notices.extend(expiring.map(Notice::Expiring));
    }
    let expiry_said = expiring;
    (Known { life: Life::Fine, addresses, certificate_ends, expiry_said }, notices)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const DAY: i64 = 86_400;

    fn at(address: u8, ends: i64) -> Sight {
        let addresses = [IpAddr::from([192, 0, 2, address])].into();
        Sight::Answers { addresses, certificate_ends: Some(ends) }
    }

    fn fine() -> Sight {
        at(1, NOW + 90 * DAY)
    }

    fn seen(trouble: Trouble) -> Sight {
        Sight::Trouble(trouble, "seen".to_owned())
    }

    fn said(trouble: Trouble) -> Sight {
        Sight::Said(trouble, "said".to_owned())
    }

    /// What is said of a row of sights, as words.
    fn told(sights: &[Sight]) -> (Life, Vec<String>) {
        let mut known = Known::default();
        let mut words = Vec::new();
        for sight in sights {
            let (next, notices) = step(known, sight.clone(), NOW);
            known = next;
            words.extend(notices.iter().map(|notice| match notice {
                Notice::Moved { .. } => "moved".to_owned(),
                Notice::Trouble(trouble, _) => trouble.word().to_owned(),
                Notice::Expiring(_) => "expiring".to_owned(),
                Notice::Back => "back".to_owned(),
            }));
        }
        (known.life, words)
    }

    #[test]
    fn each_change_is_said_once_and_a_stumble_is_not() {
        use Trouble::{Deleted, Disabled, Gone, Insecure, Silent};
        let blind = || Sight::Blind("the resolver is away".to_owned());
        let silent = || seen(Silent);
        for (sights, life, words) in [
            (vec![fine(), fine()], Life::Fine, vec![]),
            (
                vec![fine(), silent(), silent(), fine(), silent(), silent()],
                Life::Doubtful { trouble: Silent, looks: 2 },
                vec![],
            ),
            (
                vec![fine(), silent(), silent(), silent(), silent()],
                Life::Troubled(Silent),
                vec!["not-answering"],
            ),
            (
                vec![silent(), blind(), silent(), blind(), silent(), fine(), fine()],
                Life::Fine,
                vec!["not-answering", "back"],
            ),
            (vec![silent(), silent(), seen(Gone)], Life::Troubled(Gone), vec!["gone"]),
            (
                vec![seen(Insecure), seen(Insecure), seen(Insecure), seen(Gone)],
                Life::Troubled(Gone),
                vec!["insecure", "gone"],
            ),
            (
                vec![fine(), said(Disabled), said(Disabled)],
                Life::Troubled(Disabled),
                vec!["disabled"],
            ),
            (
                vec![fine(), said(Disabled), silent(), silent(), silent(), fine()],
                Life::Fine,
                vec!["disabled", "back"],
            ),
            (
                vec![silent(), silent(), silent(), said(Deleted), seen(Gone)],
                Life::Troubled(Deleted),
                vec!["not-answering", "deleted"],
            ),
            (vec![blind(), blind(), blind()], Life::New, vec![]),
        ] {
            let expected = (life, words.iter().map(|word| (*word).to_owned()).collect());
            assert_eq!(told(&sights), expected, "{sights:?}");
        }
    }

    #[test]
    fn a_move_is_said_with_both_ends_and_a_further_address_is_none() {
        let ends = NOW + 90 * DAY;
        let both = Sight::Answers {
            addresses: [1, 2].map(|last| IpAddr::from([192, 0, 2, last])).into(),
            certificate_ends: Some(ends),
        };
        let (_, words) = told(&[at(1, ends), both, at(2, ends)]);
        assert_eq!(words, [""; 0], "the name shows another of its addresses");
        let (known, _) = step(Known::default(), at(1, ends), NOW);
        let (known, notices) = step(known, at(9, ends), NOW);
        let end = |last| [IpAddr::from([192, 0, 2, last])].into();
        assert_eq!(notices, [Notice::Moved { from: end(1), to: end(9) }]);
        assert_eq!(step(known, at(9, ends), NOW).1, []);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_said_once_and_its_successor_anew() {
        let (first, second) = (NOW + 13 * DAY, NOW + 14 * DAY - 1);
        let (_, words) = told(&[at(1, first), at(1, first), at(1, second), at(1, NOW + 15 * DAY)]);
        assert_eq!(words, ["expiring", "expiring"]);
    }

    #[test]
    fn what_is_in_doubt_is_looked_at_sooner_than_what_is_fine() {
        let doubtful = Life::Doubtful { trouble: Trouble::Silent, looks: 1 };
        assert!(doubtful.pause() < Life::Troubled(Trouble::Silent).pause());
        assert!(Life::Troubled(Trouble::Silent).pause() < Life::Fine.pause());
    }
}
