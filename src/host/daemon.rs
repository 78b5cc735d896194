//! Whether the daemons of this host that a mount may need are running, as the kernel would find them.
//!
//! What cannot be seen from here (another PID namespace) is [`Presence::Unknown`], never guessed.

/// A daemon of this host that a mount option needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// rpc.statd, for NFSv3 locks over the network.
    Statd,
    /// rpc.gssd, for `sec=krb5*`.
    Gssd,
    /// tlshd, for `xprtsec=tls`.
    Tlshd,
}

/// Whether a daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Runs,
    /// It does not; how that was found out.
    Missing(String),
    /// It could not be found out, and why.
    Unknown(String),
}
