//! How much room there is for volumes of a class.

use crate::controller::Controller;
use crate::controller::create::open_all;
use crate::controller::tree::ExportFault;
use crate::model::StorageClass;
use crate::model::storage_class::Place;
use crate::nfs::client::NfsFault;

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// No mount target of the class can be used; why the last one cannot.
    #[error(transparent)]
    Export(Box<ExportFault>),
    /// It does not say.
    #[error("{server}: {source}")]
    Ask {
        /// The mount target.
        server: String,
        /// Why.
        source: NfsFault,
    },
}

impl Controller {
    /// The bytes that are free for volumes of a class: where it has several mount targets, those of the one with most.
    /// They may be mount targets of the same file system, so they are not added up.
    ///
    /// # Errors
    /// When none of them says.
    pub async fn free_bytes(&self, class: &StorageClass) -> Result<u64, CapacityError> {
        let places: Vec<&Place> = class.places.iter().collect();
        let trees = open_all(&self.exports, &places).await;
        let (mut most, mut last) = (None, None);
        for (place, tree) in places.into_iter().zip(trees) {
            let free = match tree {
                Ok(mut tree) => tree
                    .free_bytes()
                    .await
                    .map_err(|source| CapacityError::Ask { server: place.server.clone(), source }),
                Err(fault) => Err(CapacityError::Export(Box::new(fault))),
            };
            match free {
                Ok(free) => most = most.max(Some(free)),
                Err(error) => last = Some(error),
            }
        }
        match (most, last) {
            (Some(most), _) => Ok(most),
            (None, Some(error)) => Err(error),
            // A class has a place.
            (None, None) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::controller::create::tests::request;
    use crate::controller::fake::Servers;

    #[tokio::test]
    async fn the_room_of_a_class_is_that_of_its_roomiest_mount_target_that_answers() {
        let servers = Servers::default().with("a.test").with("b.test");
        let class = request("pvc-1", &[("server", "a.test,b.test")]).class;
        let controller = servers.controller();
        assert_eq!(controller.free_bytes(&class).await.unwrap(), 2000);
        servers.silence("b.test");
        assert_eq!(controller.free_bytes(&class).await.unwrap(), 1000);
        servers.silence("a.test");
        assert!(controller.free_bytes(&class).await.is_err());
    }
}
