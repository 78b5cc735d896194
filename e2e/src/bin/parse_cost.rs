//! What reading an option text costs, and a device name, and a line of the mount table: medians over many.
//!
//! Built like the tests, almost without optimisation; a release is several times as fast (1 to 2.3 microseconds for
//! the option texts here). The first round of each is thrown away: it builds the index of the option table.
//! Fails where an option text takes longer than [`MOST`].

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::host::mount_table;
use alinas_csi::model::DeviceName;
use alinas_csi::model::MountOptions;
use alinas_csi::model::nfs_option::Rules;

/// How many rounds of [`CALLS`] are measured.
const ROUNDS: usize = 101;
const CALLS: u32 = 1000;

/// What an option text may cost: little beside a mount, even when a thousand start at once.
const MOST: Duration = Duration::from_micros(10);

/// As long as real ones get: the vendor's recommendation, what mountinfo shows for an NFSv4 mount, and a Kerberos
/// mount with labels.
const OPTION_TEXTS: [(Rules, &str); 4] = [
    (
        Rules::Tunnel,
        "vers=3,nolock,noacl,proto=tcp,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport",
    ),
    (Rules::Direct, "nfsvers=3,proto=tcp"),
    (
        Rules::Direct,
        "rw,noatime,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,\
         clientaddr=10.0.0.7,local_lock=none,addr=10.0.0.1",
    ),
    (
        Rules::Direct,
        "sec=krb5p:krb5i:krb5,context=\"system_u:object_r:container_file_t:s0:c1,c2\",nconnect=4,softerr,\
         x-systemd.automount,_netdev,bg,retry=10,xprtsec=mtls,ro,nosuid,nodev,noexec",
    ),
];

const MOUNTINFO: &str = "36 35 0:51 / /var/lib/kubelet/pods/a\\040b/mount rw,relatime shared:1 - nfs4 nas.example:/a \
                         rw,vers=4.2,rsize=1048576,wsize=1048576,hard,proto=tcp,timeo=600,retrans=2,sec=sys\n";

fn main() -> ExitCode {
    let mut slowest = Duration::ZERO;
    for (rules, text) in OPTION_TEXTS {
        let cost = cost_of(|| MountOptions::parse(rules, [black_box(text)]).is_ok());
        println!("{cost}  {:>2} options, {rules:?}: {text}", text.split(',').count());
        slowest = slowest.max(cost.least);
    }
    let device = cost_of(|| DeviceName::parse(black_box("[2001:db8::1]:/export/share")).is_ok());
    println!("{device}  a device name");
    let line = cost_of(|| mount_table::parse(black_box(MOUNTINFO)).is_ok());
    println!("{line}  a line of mountinfo");
    if slowest < MOST {
        return ExitCode::SUCCESS;
    }
    eprintln!("parse_cost: {slowest:?} for an option text, where at most {MOST:?} are allowed");
    ExitCode::FAILURE
}

/// The median is what people ask for; the least is what another program on the machine cannot spoil.
struct Cost {
    median: Duration,
    least: Duration,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>6} ns (least {:>6})", self.median.as_nanos(), self.least.as_nanos())
    }
}

/// What one call costs. Every call must succeed: an error is read faster than a text.
fn cost_of(call: impl Fn() -> bool) -> Cost {
    let mut rounds: Vec<Duration> = (0..=ROUNDS)
        .map(|_| {
            let start = Instant::now();
            assert!((0..CALLS).all(|_| call()), "what is measured was refused");
            start.elapsed() / CALLS
        })
        .skip(1)
        .collect();
    rounds.sort_unstable();
    Cost { median: rounds[ROUNDS / 2], least: rounds[0] }
}
