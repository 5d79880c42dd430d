//! The configuration: what it is made of, where it is read from, what it must fulfil. Read once, at the start; what
//! operators change while the server runs is data, not configuration.

mod list;
mod load;
mod secret_setting;
mod sections;
mod validate;

pub use load::{DEFAULTS, load, process_environment};
pub use secret_setting::SecretSetting;
pub use sections::{Config, LedgerSection, LogFormat, LogLevel, LogSection, ServerSection};

impl Config {
    /// The configuration in force as TOML, with secrets hidden.
    ///
    /// # Errors
    /// When it cannot be written as TOML, which no configuration that was read can cause.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests;
