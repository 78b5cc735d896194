//! What the plain server as a whole is like: which versions it speaks, which of its daemons run.

/// One thing that is wrong with the server, for every address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: NFSv3, 4.0, 4.1 and 4.2 over TCP, v3 over UDP as well.
    Healthy,
    /// NFSv3 only.
    Only3,
    /// NFSv4.0 only.
    Only40,
    /// NFSv4.1 only.
    Only41,
    /// NFSv4.2, 4.1 and 4.0, no NFSv3.
    No3,
    /// NFSv3 over UDP and nothing over TCP.
    OnlyUdp,
    /// Nothing over UDP.
    OnlyTcp,
    /// nfsd was stopped; rpcbind does not know it any more.
    NfsdStopped,
    /// rpc.mountd was stopped; rpcbind does not know it any more.
    MountdStopped,
    /// rpc.mountd died; rpcbind still names its port.
    MountdDied,
    /// rpcbind was stopped; everything else serves on.
    RpcbindStopped,
}

const NFSD_STOP: &str = "echo 0 >/proc/fs/nfsd/threads";
const MOUNTD_START: &str = r#"rpc.mountd --foreground --port 20048 >>"$state/log" 2>&1 &
echo $! >"$state/mountd.pid"
until rpcinfo -T tcp 127.0.0.1 mountd 3 >/dev/null 2>&1; do sleep 0.05; done"#;
const RPCBIND_START: &str = r#"rpcbind -f -w >>"$state/log" 2>&1 &
echo $! >"$state/rpcbind.pid"
until rpcinfo -T tcp 127.0.0.1 portmapper 2 >/dev/null 2>&1; do sleep 0.05; done"#;

impl Condition {
    /// Commands for the server's shell that bring this about in a healthy server.
    pub(super) fn begin(self) -> String {
        match self {
            Self::Healthy => String::new(),
            Self::Only3 => restart_nfsd("--udp -N 4"),
            Self::Only40 => restart_nfsd("-N 3 -N 4.1 -N 4.2"),
            Self::Only41 => restart_nfsd("-N 3 -N 4.0 -N 4.2"),
            Self::No3 => restart_nfsd("-N 3"),
            Self::OnlyUdp => restart_nfsd("--udp --no-tcp -N 4"),
            Self::OnlyTcp => restart_nfsd("--no-udp"),
            Self::NfsdStopped => NFSD_STOP.to_owned(),
            Self::MountdStopped => end("mountd", "TERM"),
            Self::MountdDied => end("mountd", "KILL"),
            Self::RpcbindStopped => end("rpcbind", "TERM"),
        }
    }

    /// Commands that make the server healthy again.
    pub(super) fn end(self) -> String {
        match self {
            Self::Healthy => String::new(),
            Self::Only3
            | Self::Only40
            | Self::Only41
            | Self::No3
            | Self::OnlyUdp
            | Self::OnlyTcp
            | Self::NfsdStopped => start(),
            Self::MountdStopped | Self::MountdDied => MOUNTD_START.to_owned(),
            Self::RpcbindStopped => RPCBIND_START.to_owned(),
        }
    }
}

/// nfsd with everything that it can do.
pub(super) fn start() -> String {
    restart_nfsd("--udp")
}

/// The daemons that a healthy server has beside nfsd.
pub(super) fn start_daemons() -> String {
    format!("{RPCBIND_START}\n{}\n{MOUNTD_START}", start())
}

/// By rpc.nfsd: a port that is opened by nfsd's own file `portlist` is not made known to rpcbind.
fn restart_nfsd(options: &str) -> String {
    // What an earlier call turned off stays off unless it is named.
    format!(
        "{NFSD_STOP}\necho '+3 +4 +4.0 +4.1 +4.2' >/proc/fs/nfsd/versions\nrpc.nfsd {options} 4"
    )
}

/// rpc.mountd and rpcbind withdraw on SIGTERM what they had registered, or store it; on SIGKILL not.
fn end(daemon: &str, signal: &str) -> String {
    format!(
        "pid=$(cat \"$state/{daemon}.pid\")\nkill -{signal} $pid\n\
         while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
    )
}
