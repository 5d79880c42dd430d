//! A setting that must not be shown: a key, or an address that holds a password.

use domain::secret::SecretText;
use serde::{Deserialize, Serialize, Serializer};

/// What stands for a secret where the configuration is shown.
const HIDDEN: &str = "(hidden)";

/// Secret text; empty when it is not set. Serialises to a placeholder, and its `Debug` shows nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct SecretSetting(SecretText);

impl SecretSetting {
    /// The secret; `None` when nothing was set.
    pub fn get(&self) -> Option<&SecretText> {
        (!self.0.expose().trim().is_empty()).then_some(&self.0)
    }
}

impl Serialize for SecretSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.get().is_some() { HIDDEN } else { "" })
    }
}
