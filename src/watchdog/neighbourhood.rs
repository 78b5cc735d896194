//! Other watchdogs in this network namespace: another install with a state directory of its own.
//!
//! Two of them do each other no harm: neither gives out an address that the other listens at or that the kernel uses. But
//! it is seldom meant, so the one that comes second says so, once.

use std::time::Duration;

use tokio::time::sleep;

use crate::host::claim::Claim;
use crate::host::claim::claim;
use crate::watchdog::tunnels::Tunnels;

/// The name that one watchdog of a network namespace has.
const NAME: &str = "alinas-csi/watchdog";
/// Between two attempts to get it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Claims the name, and tells who asks that we are `line`; where another watchdog has it, says who that is. Until
/// dropped.
pub async fn watch(tunnels: &Tunnels, line: &str) {
    watch_name(tunnels, NAME, line).await;
}

async fn watch_name(tunnels: &Tunnels, name: &str, line: &str) {
    loop {
        match claim(name).await {
            Ok(Claim::Ours(name)) => name.tell(line).await,
            Ok(Claim::Others(who)) => tunnels.notices.say(format!(
                "another watchdog runs in this network namespace ({who}); both go on, with addresses of their own; stop \
                 one of them unless two installs are meant"
            )),
            Err(error) => tracing::debug!(%error, "failed to find out whether there is another watchdog"),
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::Node;
    use tokio::time::timeout;

    #[tokio::test]
    async fn the_second_watchdog_of_a_network_namespace_names_the_first_one_and_goes_on() {
        let (first, second) = (Node::new(), Node::new());
        let name = format!("alinas-csi/test/watchdog/{}", std::process::id());
        let both = async {
            tokio::join!(
                watch_name(&first.tunnels, &name, "pid 1, state directory \"/a\""),
                watch_name(&second.tunnels, &name, "pid 2, state directory \"/b\""),
            )
        };
        let said = async {
            while second.tunnels.notices().all().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = both => panic!("it ended"),
            said = timeout(Duration::from_secs(20), said) => said.unwrap(),
        }
        let notices = second.tunnels.notices().all();
        assert!(notices[0].contains("(pid 1, state directory \"/a\")"), "{notices:?}");
        assert!(first.tunnels.notices().all().is_empty());
    }
}
