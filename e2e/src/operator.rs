//! What an operator sees of a node: what the kubelet is told, events, `alinas-csi status`, and metrics.
//!
//! Nothing else is looked at here: no log, no record, no mount table.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::api_server::ApiServer;
use crate::csi_client::Volume;
use crate::driver::Driver;
use crate::driver::Told;
use crate::driver::binary;
use crate::failure::Failure;
use crate::failure::Result;
use crate::failure::ensure;
use crate::process::run;
use crate::process::wait_until;
use crate::troubles;
use crate::troubles::TROUBLES_TOTAL;
use crate::troubles::Trouble;

/// What is found by calls some seconds apart, several of them, on a busy or an emulated machine.
const PATIENCE: Duration = Duration::from_secs(150);
const CALL: Duration = Duration::from_secs(60);
const WATCHDOG_METRICS: &str = "127.0.0.1:29665";
const NODE_METRICS: &str = "127.0.0.1:29666";
const NAMESPACE: &str = "default";

/// A person before a cluster, of which there is as much as events need.
#[derive(Debug)]
pub struct Operator {
    api: ApiServer,
    runtime: Runtime,
}

impl Operator {
    /// Of the network that this thread is in.
    ///
    /// # Errors
    /// When the API server does not come up.
    pub fn new() -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let api = runtime.block_on(ApiServer::start_stand_in())?;
        Ok(Self { api, runtime })
    }

    /// What makes a driver show itself to the operator.
    ///
    /// # Errors
    /// When there are no credentials for it.
    pub fn told(&self) -> Result<Told> {
        let credentials = self.api.credentials("the-node")?.display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let node = ["--events", "--kubernetes-credentials", &credentials];
        Ok(Told {
            watchdog: words(&["--metrics-listen", WATCHDOG_METRICS]),
            node: words(&[&node[..], &["--metrics-listen", NODE_METRICS]].concat()),
            environment: self.api.environment().map(|(key, value)| (key.to_owned(), value)).into(),
            ..Told::default()
        })
    }

    /// Has a volume staged that cannot be, and looks at every place: each must tell of this trouble and no other.
    ///
    /// # Errors
    /// Says which place does not.
    pub fn sees_a_failed_mount(
        &self,
        trouble: &Trouble,
        driver: &Driver,
        volume: &Volume,
    ) -> Result<()> {
        let volume = of_claim(volume);
        let before = self.counted()?;
        let Err(status) = driver.client()?.stage(&volume) else {
            return Err(Failure::new(format!("{}: the volume was staged", trouble.name)));
        };
        let said = status.message();
        println!("{}: {:?} {said}", trouble.name, status.code());
        ensure(troubles::told_by_message(said) == [trouble.name], format!("{trouble:?}: {said}"))?;
        let code = trouble.says.iter().any(|sentence| {
            sentence.code == status.code() && said.ends_with(&format!(" [{}]", sentence.id))
        });
        ensure(code, format!("{}: the code is {:?}: {said}", trouble.name, status.code()))?;
        self.sees_the_event(trouble, &volume.id, said)?;
        self.sees_the_count(trouble, &before)
    }

    /// The event has the reason, and the sentence of the call.
    fn sees_the_event(&self, trouble: &Trouble, claim: &str, said: &str) -> Result<()> {
        let is_its = |event: &Event| {
            event.about == format!("PersistentVolumeClaim {claim}")
                || (event.about.starts_with("Node ") && event.message.contains(claim))
        };
        let mut events = Vec::new();
        wait_until("there is an event", PATIENCE, || {
            events = self.events().unwrap_or_default();
            events.retain(is_its);
            !events.is_empty()
        })?;
        let found: Vec<_> = events.iter().map(|event| Some(event.reason.as_str())).collect();
        ensure(found == [trouble.reason], format!("{}: {events:?}", trouble.name))?;
        ensure(events[0].message.ends_with(said), format!("{}: {events:?}", trouble.name))
    }

    fn sees_the_count(&self, trouble: &Trouble, before: &BTreeMap<String, u64>) -> Result<()> {
        let after = self.counted()?;
        let more = |(reason, count): (&String, &u64)| {
            let former = before.get(reason).copied().unwrap_or_default();
            (*count > former).then(|| (reason.clone(), count - former))
        };
        let more: Vec<_> = after.iter().filter_map(more).collect();
        let expected = trouble.reason.map(|reason| (reason.to_owned(), 1));
        ensure(
            more == expected.into_iter().collect::<Vec<_>>(),
            format!("{}: counted {more:?}", trouble.name),
        )
    }

    /// Waits until `alinas-csi status`, as text and as JSON, and the metrics of the watchdog tell of this trouble of a
    /// tunnel, and looks that they tell of no other.
    ///
    /// # Errors
    /// Says which does not.
    pub fn sees_it_in_use(&self, trouble: &Trouble, driver: &Driver) -> Result<()> {
        let shown = trouble.in_use.as_ref();
        let shown = shown.ok_or_else(|| Failure::new(format!("{} is not shown", trouble.name)))?;
        let (mut text, mut json, mut scraped) = (String::new(), Value::Null, String::new());
        let seen = wait_until(&format!("{} is seen", trouble.name), PATIENCE, || {
            text = said_or_why(status(driver, &[]));
            json = serde_json::from_str(&said_or_why(status(driver, &["-o", "json"])))
                .unwrap_or_default();
            scraped = said_or_why(scrape(WATCHDOG_METRICS));
            let (place, part) = shown.json;
            let value = json.pointer(place).unwrap_or(&Value::Null);
            troubles::told_by_status(&text).contains(&trouble.name)
                && troubles::told_by_metrics(&scraped).contains(&trouble.name)
                && !value.is_null()
                && *value != 0
                && value.to_string().contains(part)
        });
        println!("{text}");
        let all = || format!("{text}\n{json:#}\n{scraped}");
        seen.map_err(|failure| Failure::new(format!("{failure}:\n{}", all())))?;
        ensure(troubles::told_by_status(&text) == [trouble.name], all())?;
        ensure(troubles::told_by_metrics(&scraped) == [trouble.name], all())
    }

    /// Looks that neither `alinas-csi status` nor the metrics of the watchdog tell of a trouble.
    ///
    /// # Errors
    /// Where one does.
    pub fn sees_no_trouble_in_use(&self, driver: &Driver) -> Result<()> {
        let (text, scraped) = (status(driver, &[])?, scrape(WATCHDOG_METRICS)?);
        let told = [troubles::told_by_status(&text), troubles::told_by_metrics(&scraped)].concat();
        ensure(told.is_empty(), format!("{told:?}: {text}\n{scraped}"))
    }

    fn counted(&self) -> Result<BTreeMap<String, u64>> {
        // The socket that the driver's start waits for is there a moment before.
        let mut scraped = Err(Failure::new("nobody was asked"));
        wait_until("the node plugin shows metrics", PATIENCE, || {
            scraped = scrape(NODE_METRICS);
            scraped.is_ok()
        })?;
        let scraped = scraped?;
        let count = |line: &str| {
            let labels = line.strip_prefix(TROUBLES_TOTAL)?.strip_prefix("{reason=\"")?;
            let (reason, value) = labels.split_once("\"} ")?;
            Some((reason.to_owned(), value.parse().ok()?))
        };
        let counts: BTreeMap<_, _> = scraped.lines().filter_map(count).collect();
        ensure(!counts.is_empty(), format!("no {TROUBLES_TOTAL} in {scraped}"))?;
        Ok(counts)
    }

    fn events(&self) -> Result<Vec<Event>> {
        let events = format!("/api/v1/namespaces/{NAMESPACE}/events");
        let list = self.runtime.block_on(self.api.read(&events))?;
        Ok(list["items"].as_array().into_iter().flatten().map(Event::read).collect())
    }
}

/// As `kubectl describe` shows it.
#[derive(Debug)]
struct Event {
    reason: String,
    /// Kind and name.
    about: String,
    message: String,
}

impl Event {
    fn read(event: &Value) -> Self {
        let text = |place: &str| {
            event.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let about = format!("{} {}", text("/involvedObject/kind"), text("/involvedObject/name"));
        Self { reason: text("/reason"), about, message: text("/message") }
    }
}

/// The volume of a claim that is called as the volume is.
fn of_claim(volume: &Volume) -> Volume {
    let volume = volume.clone();
    let name = volume.id.clone();
    volume
        .with("csi.storage.k8s.io/pvc/namespace", NAMESPACE)
        .with("csi.storage.k8s.io/pvc/name", &name)
}

/// What `alinas-csi status` prints.
///
/// # Errors
/// When it fails.
pub fn status(driver: &Driver, more: &[&str]) -> Result<String> {
    let state = driver.state_dir().display().to_string();
    let arguments = [&["status", "--state-dir", &state], more].concat();
    run(CALL, &binary()?.display().to_string(), &arguments)
}

fn scrape(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(CALL))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn said_or_why(answer: Result<String>) -> String {
    answer.unwrap_or_else(|failure| failure.to_string())
}
