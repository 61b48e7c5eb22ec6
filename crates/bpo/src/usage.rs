//! Classification of usage errors.

#[cfg(feature = "model")]
use bpo_dpo::DpoError;
#[cfg(feature = "model")]
use bpo_model::ModelError;

use crate::distort_files::DistortFilesError;
use crate::error::BpoError;

impl BpoError {
    /// Returns whether the error lies in the command line or the settings, independent of the
    /// content of files. Such errors are found before any data or model is read and before anything
    /// is written.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::UnknownKeys { .. }
            | Self::ConfigSyntax { .. }
            | Self::NotSet { .. }
            | Self::Setting { .. }
            | Self::Conflict { .. }
            | Self::NothingToEvaluate
            | Self::NotBuilt { .. }
            | Self::InputIsOutput { .. }
            | Self::SameOutput { .. }
            | Self::UnknownDevice { .. }
            | Self::SeveralDevices { .. }
            | Self::UnknownDtype { .. }
            | Self::DeviceNotBuilt { .. } => true,
            Self::OfPreset { source, .. } => source.is_usage(),
            Self::Preflight { problems } => problems.iter().all(Self::is_usage),
            #[cfg(feature = "server")]
            Self::Server { .. } => true,
            #[cfg(feature = "model")]
            Self::Model(error) => matches!(error, ModelError::Setting { .. }),
            #[cfg(feature = "model")]
            Self::InTable { source, .. } => source.is::<ModelError>(),
            Self::DistortFiles(error) => matches!(error, DistortFilesError::Inside { .. }),
            #[cfg(feature = "model")]
            Self::Dpo(error) => matches!(error, DpoError::ReferenceStands | DpoError::NothingWeakened),
            _ => false,
        }
    }
}
