//! The ten troubles of docs/troubles.md, and what tells each from the others in every place that an operator looks at.
//!
//! One table. The tests that cause the troubles hold the driver to it, and those below hold the document to it: no two
//! rows may look the same.
//!
//! LONG: it is a table.

use tonic::Code;

/// A trouble, and how it is told.
#[derive(Debug)]
pub struct Trouble {
    /// The heading of its section.
    pub name: &'static str,
    /// Of the event, and of the count of the node plugin. None where no call fails.
    pub reason: Option<&'static str>,
    /// What a failed call says: one of these.
    pub says: &'static [Sentence],
    /// How it shows in a tunnel that is in use. None where the tunnel is well.
    pub in_use: Option<InUse>,
}

/// What `kubectl describe pod` shows.
#[derive(Debug)]
pub struct Sentence {
    /// In brackets at its end.
    pub id: &'static str,
    /// The code of the call.
    pub code: Code,
    /// What does not change from case to case. The last one is what to do.
    pub parts: &'static [&'static str],
}

/// What the watchdog shows.
#[derive(Debug)]
pub struct InUse {
    /// In `alinas-csi status`.
    pub status: &'static [&'static str],
    /// In `alinas-csi status -o json`: where, and a part of what stands there. 0 and null are not looked at.
    pub json: (&'static str, &'static str),
    /// In the metrics of the watchdog.
    pub series: Series,
}

/// A series of which there is one with this value.
#[derive(Debug)]
pub struct Series {
    /// Its name.
    pub name: &'static str,
    /// Each stands among its labels.
    pub labels: &'static [&'static str],
    /// Whether its value is 0; else it is not.
    pub is_zero: bool,
}

/// The counter of the node plugin that has the reasons of events.
pub const TROUBLES_TOTAL: &str = "alinas_csi_node_troubles_total";

const WHY: &str = "/tunnels/0/health/why";

const fn failed_dials(kind: &'static [&'static str]) -> Series {
    Series { name: "alinas_csi_tunnel_dial_failures_total", labels: kind, is_zero: false }
}

/// The name of the mount target does not exist.
pub static WRONG_DOMAIN: Trouble = Trouble {
    name: "Wrong domain",
    reason: Some("MountTargetNameNotFound"),
    says: &[Sentence {
        id: "name-not-found",
        code: Code::Unavailable,
        parts: &[
            "failed to resolve ",
            ": no such name: ",
            "; check the mount target's domain, and that this node's DNS knows it (mount targets resolve only inside \
             their VPC)",
        ],
    }],
    in_use: None,
};

/// The network says that the mount target cannot be reached.
pub static NO_ROUTE: Trouble = Trouble {
    name: "No route",
    reason: Some("MountTargetUnreachable"),
    says: &[Sentence {
        id: "no-route",
        code: Code::Unavailable,
        parts: &[
            "failed to connect to ",
            "No route to host",
            "; check this node's routes to the mount target",
        ],
    }],
    in_use: Some(InUse {
        status: &[
            "SERVER-DOWN: failed to connect to ",
            "; check this node's routes to the mount target",
        ],
        json: (WHY, "; check this node's routes to the mount target"),
        series: failed_dials(&["kind=\"no-route\""]),
    }),
};

/// The server has no TLS there.
pub static TLS_REFUSED: Trouble = Trouble {
    name: "TLS refused",
    reason: Some("EncryptionRefused"),
    says: &[
        Sentence {
            id: "not-tls",
            code: Code::FailedPrecondition,
            parts: &[
                "failed to set up TLS with ",
                "the server closed the connection during the TLS handshake; ",
                "check that the port is the one with encryption in transit, and that the mount target's permission \
                 group lets this node in",
            ],
        },
        Sentence {
            id: "handshake-lost",
            code: Code::Unavailable,
            parts: &[
                "failed to set up TLS with ",
                "the connection was lost during the TLS handshake: ",
                "; try again, and if it stays so, check that the port is the one with encryption in transit",
            ],
        },
    ],
    in_use: Some(InUse {
        status: &[
            "SERVER-DOWN: failed to set up TLS with ",
            "the server closed the connection during the TLS handshake; check that the port is the one with encryption \
             in transit",
        ],
        json: (WHY, "check that the port is the one with encryption in transit"),
        series: failed_dials(&["kind=\"not-tls\""]),
    }),
};

/// Nobody who is trusted has signed the server's certificate.
pub static UNTRUSTED: Trouble = Trouble {
    name: "Untrusted certificate",
    reason: Some("CertificateUntrusted"),
    says: &[Sentence {
        id: "certificate-untrusted",
        code: Code::FailedPrecondition,
        parts: &[
            "failed to set up TLS with ",
            "the certificate of ",
            " was issued by ",
            ", which is not trusted; ",
            "if that is right, add the issuer's certificate to the CA file",
        ],
    }],
    in_use: Some(InUse {
        status: &[
            "SERVER-DOWN: failed to set up TLS with ",
            ", which is not trusted; if that is right, add the issuer's certificate to the CA file",
        ],
        json: (WHY, "if that is right, add the issuer's certificate to the CA file"),
        series: failed_dials(&["kind=\"certificate-untrusted\""]),
    }),
};

/// The server's certificate has ended.
pub static EXPIRED: Trouble = Trouble {
    name: "Expired certificate",
    reason: Some("CertificateExpired"),
    says: &[Sentence {
        id: "certificate-expired",
        code: Code::FailedPrecondition,
        parts: &[
            "failed to set up TLS with ",
            "the certificate of ",
            " expired at ",
            "; the server needs a new one (is this node's clock right?)",
        ],
    }],
    in_use: Some(InUse {
        status: &[
            "SERVER-DOWN: failed to set up TLS with ",
            "; the server needs a new one (is this node's clock right?)",
        ],
        json: (WHY, "; the server needs a new one (is this node's clock right?)"),
        series: failed_dials(&["kind=\"certificate-expired\""]),
    }),
};

/// NFS does not let the node in.
pub static EXPORT_DENIED: Trouble = Trouble {
    name: "Export denied",
    reason: Some("AccessDenied"),
    says: &[
        Sentence {
            id: "nfs.export-denied",
            code: Code::PermissionDenied,
            parts: &[
                "failed to mount ",
                ": the mount target denied access; ",
                "allow this node's address in the permission group of the mount target",
            ],
        },
        Sentence {
            id: "nfs.export-denied-or-missing",
            code: Code::PermissionDenied,
            parts: &[
                "failed to mount ",
                ": the mount target denied access; ",
                "allow this node's address in the permission group of the mount target, and check that the path of the \
                 volume exists there",
            ],
        },
    ],
    in_use: None,
};

/// The directory of the volume does not exist.
pub static MISSING_DIRECTORY: Trouble = Trouble {
    name: "Missing directory",
    reason: Some("DirectoryMissing"),
    says: &[Sentence {
        id: "nfs.export-missing",
        code: Code::NotFound,
        parts: &[
            "failed to mount ",
            ": the mount target has no such directory; ",
            "create it there, or correct the path of the volume",
        ],
    }],
    in_use: None,
};

/// Nobody answers.
pub static SERVER_SILENT: Trouble = Trouble {
    name: "Server silent",
    reason: Some("MountTargetSilent"),
    says: &[Sentence {
        id: "connect-timeout",
        code: Code::Unavailable,
        parts: &[
            "failed to connect to ",
            " within 3 s; ",
            "check security groups, the mount target's permission group, and that this node is in its VPC",
        ],
    }],
    in_use: Some(InUse {
        status: &[
            "SERVER-DOWN: failed to connect to ",
            " within 3 s; check security groups, the mount target's permission group, and that this node is in its VPC",
        ],
        json: (WHY, "check security groups, the mount target's permission group"),
        series: failed_dials(&["kind=\"connect-timeout\""]),
    }),
};

/// No process carries data.
pub static TUNNEL_DEAD: Trouble = Trouble {
    name: "Tunnel dead",
    reason: Some("TunnelUnavailable"),
    says: &[
        Sentence {
            id: "tunnel-unavailable",
            code: Code::Unavailable,
            parts: &[
                "no tunnel process could be asked for the tunnel to ",
                " in time",
                "; see the watchdog's log",
            ],
        },
        Sentence {
            id: "tunnel-unavailable",
            code: Code::Unavailable,
            parts: &[
                "the watchdog does not serve ",
                "; check that the watchdog container of this pod runs and shares the state directory",
            ],
        },
    ],
    in_use: Some(InUse {
        status: &[
            "PROBLEM: no tunnel process runs: it is ",
            "; the watchdog starts another one, and its log says what is wrong with this one",
        ],
        json: ("/problem", "; the watchdog starts another one, and its log says what is wrong"),
        series: Series { name: "alinas_csi_tunnel_up", labels: &[], is_zero: true },
    }),
};

/// A process of the node connects to a tunnel.
pub static INTRUDER: Trouble = Trouble {
    name: "Local intruder",
    reason: None,
    says: &[],
    in_use: Some(InUse {
        status: &[
            "REFUSED: ",
            " connections of local processes, because only the kernel may connect; the watchdog's log says which \
             process it was",
        ],
        json: ("/tunnels/0/connections/refused", ""),
        series: Series {
            name: "alinas_csi_tunnel_refused_connections_total",
            labels: &[],
            is_zero: false,
        },
    }),
};

/// All of them, in the order of the document.
pub static TROUBLES: [&Trouble; 10] = [
    &WRONG_DOMAIN,
    &NO_ROUTE,
    &TLS_REFUSED,
    &UNTRUSTED,
    &EXPIRED,
    &EXPORT_DENIED,
    &MISSING_DIRECTORY,
    &SERVER_SILENT,
    &TUNNEL_DEAD,
    &INTRUDER,
];

impl Sentence {
    fn is_in(&self, message: &str) -> bool {
        message.ends_with(&format!(" [{}]", self.id)) && all_in(self.parts, message)
    }
}

impl Series {
    /// Whether a scrape has it.
    #[must_use]
    pub fn is_in(&self, scraped: &str) -> bool {
        let is_it = |line: &str| {
            let rest = line.strip_prefix(self.name).filter(|rest| rest.starts_with([' ', '{']));
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            rest.is_some_and(|rest| all_in(self.labels, rest))
                && value.is_some_and(|value| (value == 0.0) == self.is_zero)
        };
        scraped.lines().any(is_it)
    }
}

fn all_in(parts: &[&str], text: &str) -> bool {
    parts.iter().all(|part| text.contains(part))
}

/// The names of the troubles that a condition holds of.
pub fn those_of(holds: impl Fn(&Trouble) -> bool) -> Vec<&'static str> {
    TROUBLES.iter().filter(|trouble| holds(trouble)).map(|trouble| trouble.name).collect()
}

/// Which troubles the text of a failed call tells of.
#[must_use]
pub fn told_by_message(message: &str) -> Vec<&'static str> {
    those_of(|trouble| trouble.says.iter().any(|sentence| sentence.is_in(message)))
}

/// Which troubles `alinas-csi status` tells of.
#[must_use]
pub fn told_by_status(text: &str) -> Vec<&'static str> {
    those_of(|trouble| trouble.in_use.as_ref().is_some_and(|shown| all_in(shown.status, text)))
}

/// Which troubles the metrics of the watchdog tell of.
#[must_use]
pub fn told_by_metrics(scraped: &str) -> Vec<&'static str> {
    those_of(|trouble| trouble.in_use.as_ref().is_some_and(|shown| shown.series.is_in(scraped)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use alinas_csi::kubernetes::Reason;

    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    /// Without line ends and what the document's quotations are indented by.
    fn flat(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn sections() -> Vec<(String, String)> {
        let document = read("docs/troubles.md");
        let sections = document.split("\n## ").skip(1);
        sections
            .map(|section| {
                let (heading, text) = section.split_once('\n').unwrap();
                (heading.to_owned(), flat(text))
            })
            .collect()
    }

    /// A sentence with something in each of its gaps.
    fn example(sentence: &Sentence) -> String {
        format!("{} [{}]", sentence.parts.join("x"), sentence.id)
    }

    #[test]
    fn no_two_troubles_look_the_same_in_a_place_that_shows_them() {
        for trouble in TROUBLES {
            for sentence in trouble.says {
                assert_eq!(told_by_message(&example(sentence)), [trouble.name], "{sentence:?}");
            }
            let Some(shown) = &trouble.in_use else { continue };
            assert_eq!(told_by_status(&shown.status.join("x")), [trouble.name]);
            let labels = format!("{{target=\"nas\",{}}}", shown.series.labels.join(","));
            let value = if shown.series.is_zero { "0" } else { "2.0" };
            let line = format!("{}{labels} {value}\n", shown.series.name);
            assert_eq!(told_by_metrics(&line), [trouble.name]);
        }
        let reasons: BTreeSet<_> = TROUBLES.iter().map(|trouble| trouble.reason).collect();
        assert_eq!(reasons.len(), TROUBLES.len(), "two troubles have one reason");
        assert_eq!(told_by_metrics("alinas_csi_tunnel_up 1\n"), <[&str; 0]>::default());
    }

    #[test]
    fn each_reason_and_each_id_is_one_that_the_driver_explains() {
        let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.row().name).collect();
        let messages = read("docs/messages.md");
        for trouble in TROUBLES {
            assert!(trouble.reason.is_none_or(|reason| reasons.contains(&reason)), "{trouble:?}");
            for Sentence { id, .. } in trouble.says {
                assert!(messages.contains(&format!("\n| `{id}` | ")), "{id} is not explained");
            }
        }
    }

    #[test]
    fn the_document_has_a_section_for_each_with_what_every_place_shows() {
        let sections = sections();
        let headings: Vec<_> = sections.iter().map(|(heading, _)| heading.as_str()).collect();
        assert_eq!(headings, TROUBLES.map(|trouble| trouble.name));
        let overview = read("docs/troubles.md");
        for (trouble, (heading, text)) in TROUBLES.iter().zip(&sections) {
            let row = overview.lines().find(|line| {
                line.to_lowercase().starts_with(&format!("| [{}](#", heading.to_lowercase()))
            });
            let row = row.unwrap_or_else(|| panic!("{heading} is not in the table"));
            let said = trouble.says.iter().flat_map(|sentence| sentence.parts);
            let shown = trouble.in_use.iter().flat_map(|shown| shown.status);
            for part in said.chain(shown) {
                assert!(text.contains(&flat(part)), "{part:?} is missing in {heading:?}: {text}");
            }
            for sentence in trouble.says {
                assert!(text.contains(&format!("[{}]", sentence.id)), "{} in {text}", sentence.id);
            }
            assert!(trouble.reason.is_none_or(|reason| row.contains(reason)), "{row}");
            for series in trouble.in_use.iter().map(|shown| &shown.series) {
                let labels = series.labels.iter().all(|label| row.contains(label));
                assert!(labels && row.contains(series.name), "{series:?} is not in {row}");
            }
        }
    }

    #[test]
    fn the_dashboard_or_an_alert_shows_every_series() {
        let dashboard = read("charts/alinas-csi/files/dashboard.json");
        let alerts = read("charts/alinas-csi/templates/monitoring.yaml");
        let series = TROUBLES.iter().flat_map(|trouble| &trouble.in_use);
        let names = series.map(|shown| shown.series.name).chain([TROUBLES_TOTAL]);
        for name in names {
            assert!(dashboard.contains(name) || alerts.contains(name), "nobody sees {name}");
        }
    }
}
