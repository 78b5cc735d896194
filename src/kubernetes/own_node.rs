//! What the cluster says about the node that this process runs on, and the startup taint.
//!
//! A node pool may put a taint on its nodes, so that no pod comes before its volumes can be mounted
//! (`<driver>/agent-not-ready:NoExecute`). It is taken away once the kubelet has registered the driver:
//!
//! ```text
//! the CSINode lists the driver, and the kubelet has asked this process who it is  -> away with it
//! the CSINode lists the driver for half a minute                                  -> away with it
//! ```
//!
//! The list alone is not believed at once: after a reboot it is that of the node's earlier life. Nor is the question
//! alone: it comes before the registration is complete. A plugin that was restarted is not asked again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::kubernetes::fault::KubernetesFault;

/// For so long a list is believed to be of this life of the node.
const LISTED_FOR: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The node that this process runs on.
#[async_trait]
pub trait OwnNode: Send + Sync + fmt::Debug {
    /// Its labels.
    ///
    /// # Errors
    /// When the API server does not say.
    async fn labels(&self) -> Result<BTreeMap<String, String>, KubernetesFault>;

    /// The CSI drivers that its kubelet has registered, by its CSINode.
    ///
    /// # Errors
    /// When the API server does not say.
    async fn drivers(&self) -> Result<Vec<String>, KubernetesFault>;

    /// Takes all taints with a key away.
    ///
    /// # Errors
    /// When the API server does not do it, also because somebody else has just changed the node.
    async fn ensure_no_taint(&self, key: &str) -> Result<Untainted, KubernetesFault>;
}

/// What [`OwnNode::ensure_no_taint`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untainted {
    /// There was one.
    Now,
    /// There was none.
    Already,
}

/// Takes the startup taint away as soon as the kubelet has registered `driver`. `asked` turns true when the kubelet
/// has asked this process who it is. Goes on until it is done.
pub async fn lift_startup_taint(
    node: &dyn OwnNode,
    driver: &str,
    key: &str,
    asked: &watch::Receiver<bool>,
) -> Untainted {
    let mut listed_since = None;
    let mut pause = FIRST_PAUSE;
    let mut last_fault = None;
    loop {
        let is_asked = *asked.borrow();
        match look(node, driver, key, is_asked, &mut listed_since).await {
            Ok(Some(untainted)) => {
                tracing::info!(taint.key = key, found = ?untainted, "the node takes pods");
                return untainted;
            }
            Ok(None) => {}
            Err(fault) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                if last_fault.as_ref() != Some(&fault) {
                    tracing::warn!(taint.key = key, error = %fault, "the startup taint stays; trying again");
                }
                last_fault = Some(fault);
            }
        }
        sleep(pause).await;
    }
}

async fn look(
    node: &dyn OwnNode,
    driver: &str,
    key: &str,
    asked: bool,
    listed_since: &mut Option<Instant>,
) -> Result<Option<Untainted>, KubernetesFault> {
    if !node.drivers().await?.iter().any(|listed| listed == driver) {
        *listed_since = None;
        return Ok(None);
    }
    let since = *listed_since.get_or_insert_with(Instant::now);
    if asked || since.elapsed() >= LISTED_FOR {
        return node.ensure_no_taint(key).await.map(Some);
    }
    Ok(None)
}

/// A node that is as a test says.
#[cfg(test)]
pub(crate) mod fake {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    pub(crate) struct FakeNode {
        pub(crate) labels: Mutex<BTreeMap<String, String>>,
        pub(crate) drivers: Mutex<Vec<String>>,
        pub(crate) taints: Mutex<Vec<String>>,
        pub(crate) faults: Mutex<Vec<KubernetesFault>>,
    }

    impl FakeNode {
        fn fault(&self) -> Result<(), KubernetesFault> {
            self.faults.lock().unwrap().pop().map_or(Ok(()), Err)
        }
    }

    #[async_trait]
    impl OwnNode for FakeNode {
        async fn labels(&self) -> Result<BTreeMap<String, String>, KubernetesFault> {
            self.fault()?;
            Ok(self.labels.lock().unwrap().clone())
        }

        async fn drivers(&self) -> Result<Vec<String>, KubernetesFault> {
            self.fault()?;
            Ok(self.drivers.lock().unwrap().clone())
        }

        async fn ensure_no_taint(&self, key: &str) -> Result<Untainted, KubernetesFault> {
            self.fault()?;
            let mut taints = self.taints.lock().unwrap();
            let before = taints.len();
            taints.retain(|taint| taint != key);
            Ok(if taints.len() < before { Untainted::Now } else { Untainted::Already })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinHandle;

    use super::fake::FakeNode;
    use super::*;

    fn begin(node: &Arc<FakeNode>) -> (watch::Sender<bool>, JoinHandle<Untainted>) {
        let (tell, asked) = watch::channel(false);
        node.taints.lock().unwrap().extend(["not-ready".to_owned(), "other".to_owned()]);
        let node = Arc::clone(node);
        let lifting = async move { lift_startup_taint(&*node, "d", "not-ready", &asked).await };
        (tell, tokio::spawn(lifting))
    }

    fn taints(node: &FakeNode) -> usize {
        node.taints.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn the_taint_stays_until_the_kubelet_has_registered_the_driver() {
        let node = Arc::<FakeNode>::default();
        let (tell, lifted) = begin(&node);
        tell.send(true).unwrap();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(taints(&node), 2, "the kubelet has asked, and not registered");
        node.drivers.lock().unwrap().extend(["e".to_owned(), "d".to_owned()]);
        assert_eq!(lifted.await.unwrap(), Untainted::Now);
        assert_eq!(*node.taints.lock().unwrap(), ["other"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_of_an_earlier_life_is_not_believed_at_once() {
        let node = Arc::<FakeNode>::default();
        node.drivers.lock().unwrap().push("d".to_owned());
        let (_tell, lifted) = begin(&node);
        sleep(LISTED_FOR - Duration::from_secs(2)).await;
        assert_eq!(taints(&node), 2);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(lifted.await.unwrap(), Untainted::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_refuses_or_is_away_is_asked_until_it_does_it() {
        let node = Arc::<FakeNode>::default();
        node.drivers.lock().unwrap().push("d".to_owned());
        let fault = |code| KubernetesFault::Refused { action: "x", code, why: String::new() };
        node.faults.lock().unwrap().extend([fault(409), fault(503), fault(403)]);
        let (tell, lifted) = begin(&node);
        tell.send(true).unwrap();
        assert_eq!(lifted.await.unwrap(), Untainted::Now);
    }
}
