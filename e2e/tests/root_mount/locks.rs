//! Locks of NFSv3: with rpc.statd on both sides they reach the server, with `nolock` they do not (R124).

use std::fs;
use std::process::Command;

use e2e::cases::stage::PATIENCE;
use e2e::cases::stage::Stage;
use e2e::cases::stage::only_mount;
use e2e::cases::stage::succeeded;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::plain::Front;
use e2e::process::Process;
use e2e::process::wait_until;
use rustix::fs::FlockOperation;
use rustix::fs::fcntl_lock;

use crate::Steps;

pub(crate) const TESTS: &[Steps] =
    &[("locks_with_statd_reach_the_server", locks_with_statd_reach_the_server)];

/// rpcbind and rpc.statd of the node: in its network, with files of their own. No word to other hosts.
const ON_THE_NODE: &str = "mount -t tmpfs run /run && mount -t tmpfs state /var/lib/nfs \
    && mkdir /var/lib/nfs/sm /var/lib/nfs/sm.bak && rpcbind -w && exec rpc.statd --foreground --no-notify";
const ON_THE_SERVER: &str =
    "mkdir -p \"$state/lib/sm\" \"$state/lib/sm.bak\"\nrpc.statd --no-notify";

fn locks_with_statd_reach_the_server(stage: &mut Stage) -> Result<()> {
    stage.world.run(ON_THE_SERVER)?;
    let mut daemons = Command::new("unshare");
    daemons.args(["--mount", "--propagation", "private", "sh", "-c", ON_THE_NODE]);
    let log = stage.world.folder().join("statd.log");
    let mut daemons = Process::start("rpc.statd", &mut daemons, &log)?;
    // rpcbind puts itself into the background, in the same group: it ends with this value.
    let registered = || {
        let asked =
            Command::new("rpcinfo").args(["-T", "tcp", "127.0.0.1", "status", "1"]).output();
        asked.is_ok_and(|answer| answer.status.success())
    };
    daemons.wait_until("rpc.statd is known to rpcbind", PATIENCE, registered)?;
    let asked = locked_on_the_server(stage, "vers=3,retry=0", "local_lock=none")?;
    ensure(asked, "a lock did not reach the server")?;
    let asked = locked_on_the_server(stage, "vers=3,nolock", "local_lock=all")?;
    ensure(!asked, "a lock that is to stay on the node reached the server")
}

/// Whether the server sees a lock that is taken through a mount with these options.
fn locked_on_the_server(stage: &Stage, options: &str, shown: &str) -> Result<bool> {
    let target = stage.target("locks")?;
    let spec = format!("{}:/share", Front::Good.address());
    succeeded(&stage.mount(options, &spec, &target)?)?;
    let mount = only_mount(&target)?;
    let taken = (|| {
        let through = fs::File::options().read(true).write(true).open(target.join("file"))?;
        fcntl_lock(&through, FlockOperation::NonBlockingLockExclusive)?;
        let beside = fs::File::options()
            .read(true)
            .write(true)
            .open(stage.world.disk().join("share/file"))?;
        let refused = fcntl_lock(&beside, FlockOperation::NonBlockingLockExclusive).is_err();
        fcntl_lock(&through, FlockOperation::Unlock)?;
        drop(through);
        if refused {
            wait_until("the lock is given up", PATIENCE, || {
                fcntl_lock(&beside, FlockOperation::NonBlockingLockExclusive).is_ok()
            })?;
        }
        Ok(refused)
    })();
    succeeded(&stage.unmount(&[], &target)?)?;
    ensure(mount.options.contains(shown), format!("no {shown} in {mount:?}"))?;
    taken
}
