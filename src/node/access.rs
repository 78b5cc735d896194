//! CSI's access modes, and the two questions that a file system asks of them.

/// How a volume may be used, by how many nodes and pods (CSI 1.13, `VolumeCapability.AccessMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// The mode of before `SINGLE_NODE_MULTI_WRITER` was known.
    SingleNodeWriter,
    /// One node, reading.
    SingleNodeReaderOnly,
    /// Kubernetes: ReadWriteOncePod.
    SingleNodeSingleWriter,
    /// Kubernetes: ReadWriteOnce.
    SingleNodeMultiWriter,
    /// Kubernetes: ReadOnlyMany.
    MultiNodeReaderOnly,
    /// One node writes, the others read.
    MultiNodeSingleWriter,
    /// Kubernetes: ReadWriteMany.
    MultiNodeMultiWriter,
}

impl AccessMode {
    /// Nobody may write.
    #[must_use]
    pub fn is_reader_only(self) -> bool {
        match self {
            Self::SingleNodeReaderOnly | Self::MultiNodeReaderOnly => true,
            Self::SingleNodeWriter
            | Self::SingleNodeSingleWriter
            | Self::SingleNodeMultiWriter
            | Self::MultiNodeSingleWriter
            | Self::MultiNodeMultiWriter => false,
        }
    }

    /// A second target path on this node is refused: the last two columns of the table of
    /// `NodePublishVolume` in CSI 1.13.
    #[must_use]
    pub fn is_for_one_target(self) -> bool {
        match self {
            Self::SingleNodeWriter | Self::SingleNodeReaderOnly | Self::SingleNodeSingleWriter => {
                true
            }
            Self::SingleNodeMultiWriter
            | Self::MultiNodeReaderOnly
            | Self::MultiNodeSingleWriter
            | Self::MultiNodeMultiWriter => false,
        }
    }
}
