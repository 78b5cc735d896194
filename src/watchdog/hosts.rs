//! Lines of `/etc/hosts` for the tunnels that are in use, where somebody asks for them.
//!
//! The vendor's client writes such lines so that df(1) shows a name. Here the mount itself has the domain; the lines are for
//! tools that show addresses. A name is the vendor's, `<mount target>.tls.<address>`, and never the domain itself, which
//! would lead the tunnel and plain mounts to the loopback.
//!
//! Nothing is remembered: every second what should be there is compared with what is, by the file's times first. So lines
//! that a crash left behind go, and lines that an editor threw away come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::host::hosts_file::HostsFile;
use crate::host::hosts_file::Written;
use crate::host::hosts_text::HostsEntry;
use crate::watchdog::record::Record;
use crate::watchdog::tunnels::Tunnels;

const EVERY: Duration = Duration::from_secs(1);

/// Keeps a line for each tunnel in use until `stop`. The lines stay then: the mounts do, too.
pub async fn run(tunnels: Arc<Tunnels>, hosts: HostsFile, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut done, mut trouble) = (None, None);
    let forever = async {
        loop {
            ticks.tick().await;
            let wanted = entries(&tunnels);
            let state = Some((wanted.clone(), hosts.look()));
            if done == state {
                continue;
            }
            // What was written is looked at once more: an editor may have been about.
            let found = told(&hosts, &wanted, &mut trouble).await;
            done = state.filter(|_| found == Some(Written::Not));
        }
    };
    stop.run_until_cancelled(forever).await;
}

/// Takes out what was written when lines were still asked for. A file without them is not touched.
pub async fn clear(hosts: &HostsFile) {
    match hosts.ensure(&BTreeSet::new()).await {
        Ok(how) => tracing::debug!(?how, "no lines in the hosts file"),
        // Nobody has asked for anything here.
        Err(error) => tracing::debug!(%error, "the hosts file was not looked at"),
    }
}

/// What became of the file; trouble is logged when it changes.
async fn told(
    hosts: &HostsFile,
    wanted: &BTreeSet<HostsEntry>,
    trouble: &mut Option<String>,
) -> Option<Written> {
    let found = hosts.ensure(wanted).await;
    if let Ok(how @ (Written::Replaced | Written::InPlace)) = &found {
        tracing::info!(lines = wanted.len(), ?how, "hosts file written");
    }
    let now = found.as_ref().err().map(ToString::to_string);
    if let Some(error) = now.as_ref().filter(|_| now != *trouble) {
        tracing::error!(error, "the lines for the tunnels are not in the hosts file");
    }
    *trouble = now;
    found.ok()
}

fn entries(tunnels: &Tunnels) -> BTreeSet<HostsEntry> {
    let in_use = tunnels.list().into_iter().filter(|listed| !listed.closing);
    in_use.map(|listed| entry(&listed.record)).collect()
}

/// As in the vendor's client, but for the random end of the name: the tunnel is shared.
fn entry(record: &Record) -> HostsEntry {
    let (host, address) = (record.spec.host.to_string(), *record.endpoint.ip());
    let target = match host.split_once(".nas.") {
        Some((file_system, _)) => format!("alinas-{file_system}"),
        None => host,
    };
    HostsEntry { address, name: format!("{target}.tls.{address}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;
    use tokio::time::sleep;

    const DOMAIN: &str = "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com";

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_has_a_line_while_somebody_holds_it() {
        let node = Node::new();
        let file = node.dir.path().join("hosts");
        std::fs::write(&file, "127.0.0.1 localhost\n").unwrap();
        let text = || std::fs::read_to_string(&file).unwrap();
        let stop = CancellationToken::new();
        let hosts = HostsFile::new(file.clone(), "/run/x");
        let running = tokio::spawn(run(Arc::clone(&node.tunnels), hosts.clone(), stop.clone()));

        node.tunnels.acquire(spec(DOMAIN), user(1)).await.unwrap();
        node.tunnels.acquire(spec(DOMAIN), user(2)).await.unwrap();
        sleep(3 * EVERY).await;
        let line =
            "127.0.1.1 alinas-0123456789-abc12.cn-hangzhou.tls.127.0.1.1 # alinas-csi /run/x";
        assert_eq!(text(), format!("127.0.0.1 localhost\n{line}\n"));

        // Whoever throws it away gets it back.
        std::fs::write(&file, "127.0.0.1 other\n").unwrap();
        sleep(3 * EVERY).await;
        assert_eq!(text(), format!("127.0.0.1 other\n{line}\n"));

        node.tunnels.release("pv-1", "/stage/1").unwrap();
        sleep(3 * EVERY).await;
        assert!(text().contains(line));
        node.tunnels.release("pv-2", "/stage/2").unwrap();
        sleep(3 * EVERY).await;
        assert_eq!(text(), "127.0.0.1 other\n");

        node.tunnels.acquire(spec("a.example"), user(1)).await.unwrap();
        sleep(3 * EVERY).await;
        stop.cancel();
        running.await.unwrap();
        assert!(text().contains(" a.example.tls.127.0.1."), "the mount goes on: {}", text());
        clear(&hosts).await;
        assert_eq!(text(), "127.0.0.1 other\n");
    }
}
