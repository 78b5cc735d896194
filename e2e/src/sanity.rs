//! What csi-sanity has to say, by the names of its specs: nothing that is announced is skipped in silence.

use std::path::Path;

use serde_json::Value;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;

/// What the report says, by the names of the specs.
#[derive(Debug, Default)]
pub struct Counts {
    /// How many passed.
    pub passed: usize,
    /// Which failed, and why.
    pub failed: Vec<String>,
    /// Which were skipped, and why.
    pub skipped: Vec<String>,
}

impl Counts {
    /// With the skipped specs by name: a skip is never silent.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (passed, failed, skipped) = (self.passed, self.failed.len(), &self.skipped);
        format!("{passed} passed, {failed} failed, {} skipped: {skipped:#?}", skipped.len())
    }

    /// Refuses a skip for another reason than that something is not announced.
    ///
    /// # Errors
    /// Names what was skipped.
    pub fn ensure_nothing_announced_is_skipped(&self) -> Result<()> {
        let announced = |name: &&String| !name.contains("not supported");
        let skipped: Vec<_> = self.skipped.iter().filter(announced).collect();
        if skipped.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("skipped: {skipped:#?}")))
        }
    }

    /// Reads the JSON report of a run.
    ///
    /// # Errors
    /// Where there is none.
    pub fn read(report: &Path) -> Result<Self> {
        let text = std::fs::read(report).during("csi-sanity left no report")?;
        let report: Value = serde_json::from_slice(&text)?;
        let mut counts = Self::default();
        for spec in report[0]["SpecReports"].as_array().into_iter().flatten() {
            // Ginkgo lists what the focus leaves out as skipped without a message.
            let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
            let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
            let texts = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str);
            let name = texts.collect::<Vec<_>>().join(" ");
            match spec["State"].as_str() {
                Some("passed") => counts.passed += usize::from(spec["LeafNodeType"] == "It"),
                Some("pending") => {}
                Some("skipped") if message.is_empty() => {}
                Some("skipped") => counts.skipped.push(format!("{name}: {message}")),
                _ => counts.failed.push(format!("{name}: {message}")),
            }
        }
        Ok(counts)
    }
}
