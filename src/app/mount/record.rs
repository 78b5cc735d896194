//! What utab remembers of a mount: the option text that worked, for umount and for people.

use std::path::Path;

use super::asked::Asked;
use crate::app::command::Caller;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::mount_table::topmost_at;
use crate::host::utab::Utab;
use crate::host::utab::UtabEntry;
use crate::host::utab::UtabError;
use crate::nfs::policy::Mounted;
use crate::runtime::Chain;

/// Adds the line. A machine that can have no utab is no reason to fail: as for mount(8), the mount is what
/// counts. Where there is one and it cannot be changed, umount may lack something, and the caller is to know.
pub(super) async fn add(
    caller: Caller,
    asked: &Asked,
    target: &Path,
    mounted: &Mounted,
) -> Result<(), Ending> {
    match Utab::system().add(&entry(asked, target, mounted, &ProcMountTable)).await {
        Ok(()) => Ok(()),
        Err(error @ UtabError::NotWritable { .. }) => {
            tracing::warn!(error = %Chain(&error), "the mount is not remembered");
            caller.say_if_verbose(&Chain(&error).to_string());
            Ok(())
        }
        Err(error) => Err(Ending::new(Exit::Table, format!("mounted; but {}", Chain(&error)))),
    }
}

/// The source as the kernel shows it: libmount looks for the line by it, and version 4 normalises it.
fn entry(asked: &Asked, target: &Path, mounted: &Mounted, mounts: &dyn MountTable) -> UtabEntry {
    let table = mounts.read().unwrap_or_default();
    let shown = topmost_at(&table, target).map(|mount| mount.source.clone());
    UtabEntry {
        source: shown.unwrap_or_else(|| asked.device.to_string()),
        target: target.to_owned(),
        root: "/".to_owned(),
        attributes: mounted.options.clone(),
        options: asked.for_utab.clone(),
    }
}
