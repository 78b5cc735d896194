//! Whether a volume is well, as far as its mount target says.

use crate::controller::Controller;
use crate::controller::find::FindError;
use crate::controller::home::HomeFault;
use crate::controller::home::find_directory;
use crate::controller::tree::ExportFault;
use crate::model::VolumeHandle;
use crate::model::VolumeRef;
use crate::nfs::client::Name;

/// What is the matter with a volume that is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Well,
    /// Its directory is gone, or something else is in its place.
    Lost(String),
    /// Its mount target cannot be used.
    OutOfReach(String),
}

impl Controller {
    /// Looks at a volume. A mount target that does not answer is a condition, and no error.
    ///
    /// # Errors
    /// When there is no such volume, its record cannot be believed, or the vendor's API does not say.
    pub async fn condition(&self, volume: &VolumeRef) -> Result<Condition, FindError> {
        match volume {
            VolumeRef::Directory(handle) => self.condition_of_directory(handle).await,
            VolumeRef::Shared(_) | VolumeRef::FileSystem(_) | VolumeRef::AccessPoint(_) => {
                match self.facts(volume).await {
                    Ok(_) => Ok(Condition::Well),
                    Err(FindError::Export(fault)) => Ok(out_of_reach(&fault)),
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn condition_of_directory(&self, handle: &VolumeHandle) -> Result<Condition, FindError> {
        let record = match self.find(handle).await {
            Ok(record) => record,
            Err(FindError::Export(fault)) => return Ok(out_of_reach(&fault)),
            Err(error) => return Err(error),
        };
        let server = || handle.export.spec.host.to_string();
        let found = match self.exports.open(&handle.export).await {
            Ok(mut tree) => {
                let name = Name::parse(&record.directory).map_err(HomeFault::from);
                let name = name.map_err(|source| FindError::Home { server: server(), source })?;
                let root = tree.root();
                find_directory(tree.as_mut(), &root, &name).await
            }
            Err(fault) => return Ok(out_of_reach(&fault)),
        };
        let directory = &record.directory;
        Ok(match found {
            Ok(Some(_)) => Condition::Well,
            Ok(None) => Condition::Lost(format!("{}: {directory:?} is gone", server())),
            Err(fault @ HomeFault::NotADirectory(..)) => {
                Condition::Lost(format!("{}: {fault}", server()))
            }
            Err(fault) => Condition::OutOfReach(format!("{}: {fault}", server())),
        })
    }
}

fn out_of_reach(fault: &ExportFault) -> Condition {
    Condition::OutOfReach(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::create::tests::request;
    use crate::controller::fake::Servers;

    #[tokio::test]
    async fn a_volume_is_well_while_its_directory_is_one() {
        let servers = Servers::default().with("a.test");
        let controller = servers.controller();
        let created = controller.create(request("pvc-1", &[])).await.unwrap();
        let volume = VolumeRef::parse(created.id.as_str()).unwrap();
        assert_eq!(controller.condition(&volume).await.unwrap(), Condition::Well);
        servers.silence("a.test");
        let silent = controller.condition(&volume).await.unwrap();
        assert!(matches!(silent, Condition::OutOfReach(_)), "{silent:?}");
        servers.speak("a.test");
        servers.replace_by_link("a.test", "pvc-1");
        let Condition::Lost(why) = controller.condition(&volume).await.unwrap() else { panic!() };
        assert!(why.contains("symbolic link"), "{why}");
        let other = VolumeRef::parse("v1:a.test:/:pvc-2").unwrap();
        let missing = controller.condition(&other).await;
        assert!(matches!(missing, Err(FindError::NotFound(_))));
    }
}
