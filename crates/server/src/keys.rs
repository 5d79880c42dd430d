//! Where the server's own secrets come from: the environment, a file that it names, the configuration, or, with the
//! embedded default, files that are made on the first start. Never two of them for one key, and never a default key.

use std::{io, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, anyhow, bail};
use domain::secret::SecretText;
use store::keyring::{Keyring, Purpose, ServerKey};

use crate::{
    config::{Config, SecretSetting},
    data_folder::{DataFolder, create_private_folder, write_private_file},
};

/// A look into the environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What this process was started with.
pub fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What to do about keys that nobody gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Read the generated files, and make them if the database is not there yet.
    ReadOrMake,
    /// Read the generated files.
    Read,
    /// Refuse: several nodes share the database, and all need the same keys.
    Refuse,
}

/// The keys to run with.
///
/// # Errors
/// When a key is missing, given twice, malformed, or in a file that others may read; the message says what to do and
/// never shows a key.
pub fn load_keyring(
    config: &Config,
    folder: &DataFolder,
    missing: Missing,
    variables: Lookup<'_>,
) -> anyhow::Result<Keyring> {
    let load = |purpose, setting| load_key(purpose, setting, folder, missing, variables);
    Ok(Keyring {
        encryption: load(Purpose::Encryption, &config.keys.encryption)?,
        pepper: load(Purpose::Pepper, &config.keys.pepper)?,
    })
}

const fn variable_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Encryption => "TRUERELAY_ENCRYPTION_KEY",
        Purpose::Pepper => "TRUERELAY_PEPPER",
    }
}

/// Checks the keys as far as they are given, for a look at the configuration that makes nothing.
///
/// # Errors
/// As [`load_keyring`], about keys that are given, and where `must_be_given` about those that are not.
pub fn check_given_keys(config: &Config, must_be_given: bool, variables: Lookup<'_>) -> anyhow::Result<()> {
    for (purpose, setting) in [
        (Purpose::Encryption, &config.keys.encryption),
        (Purpose::Pepper, &config.keys.pepper),
    ] {
        if given_key(purpose, setting, variables)?.is_none() && must_be_given {
            return Err(not_given(purpose));
        }
    }
    Ok(())
}

fn load_key(
    purpose: Purpose,
    setting: &SecretSetting,
    folder: &DataFolder,
    missing: Missing,
    variables: Lookup<'_>,
) -> anyhow::Result<ServerKey> {
    match given_key(purpose, setting, variables)? {
        Some(key) => Ok(key),
        None if missing == Missing::Refuse => Err(not_given(purpose)),
        None => generated_key(purpose, folder, missing),
    }
}

/// The key that the operator gave; `None` when there is none.
fn given_key(purpose: Purpose, setting: &SecretSetting, variables: Lookup<'_>) -> anyhow::Result<Option<ServerKey>> {
    let name = variable_name(purpose);
    let file_name = format!("{name}_FILE");
    let given = |variable: &str| variables(variable).filter(|value| !value.trim().is_empty());
    let in_config = format!("keys.{}", purpose.as_str());
    match (given(name), given(&file_name), setting.get()) {
        (Some(text), None, None) => parse(&SecretText::new(text), name).map(Some),
        (None, Some(path), None) => parse(&read_given_file(Path::new(&path), &file_name)?, &file_name).map(Some),
        (None, None, Some(text)) => parse(text, &in_config).map(Some),
        (None, None, None) => Ok(None),
        _ => bail!(
            "the {} key is given twice: give one of {name}, {file_name}, {in_config}",
            purpose.as_str()
        ),
    }
}

fn not_given(purpose: Purpose) -> anyhow::Error {
    let name = variable_name(purpose);
    anyhow!(
        "the {} key is missing: with PostgreSQL it must be given, the same on every node. Set {name} or {name}_FILE to \
         `<id>:<64 hexadecimal digits>`, for example the output of: echo k1:$(openssl rand -hex 32)",
        purpose.as_str()
    )
}

fn parse(text: &SecretText, source: &str) -> anyhow::Result<ServerKey> {
    ServerKey::parse(text).with_context(|| source.to_owned())
}

/// A file that the operator named: its mode is the operator's affair, since secret mounts differ in it.
fn read_given_file(path: &Path, variable: &str) -> anyhow::Result<SecretText> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{variable}: cannot read {}", path.display()))?;
    Ok(SecretText::new(text))
}

fn generated_key(purpose: Purpose, folder: &DataFolder, missing: Missing) -> anyhow::Result<ServerKey> {
    let path = folder.keys_folder().join(purpose.as_str());
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let text = SecretText::new(text);
            refuse_readable_by_others(&path)?;
            parse(&text, &path.display().to_string())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(purpose, folder, &path, missing),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn make_key(purpose: Purpose, folder: &DataFolder, path: &Path, missing: Missing) -> anyhow::Result<ServerKey> {
    // keys are made before the database is; a database without them was made with keys that are now gone
    if missing == Missing::Read || folder.database_file().exists() {
        bail!(
            "the {} key is missing: the database was made with the one in {}. Restore that file, or give the key by {}",
            purpose.as_str(),
            path.display(),
            variable_name(purpose)
        );
    }
    create_private_folder(&folder.keys_folder())?;
    let key = ServerKey::generate();
    write_private_file(path, &format!("{}\n", key.to_text().expose()))?;
    tracing::info!(path = %path.display(), key = key.id(), "a key was made: keep a copy apart from the database's");
    Ok(key)
}

/// Refuses a file with a key in it that others may read.
///
/// # Errors
/// When they may, or it is not there.
pub fn refuse_readable_by_others(path: &Path) -> anyhow::Result<()> {
    let mode = path
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{0} has mode {mode:04o}, so others may read the key: run `chmod 600 {0}`",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const KEY: &str = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER: &str = "k2:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn folder() -> (tempfile::TempDir, DataFolder) {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = DataFolder::create(&parent.path().join("data")).expect("it can be made");
        (parent, folder)
    }

    fn defaults() -> Config {
        crate::config::load(None, HashMap::new()).expect("the defaults are valid")
    }

    fn with_variables(
        config: &Config,
        folder: &DataFolder,
        missing: Missing,
        pairs: &[(&str, &str)],
    ) -> anyhow::Result<Keyring> {
        let find = |name: &str| {
            pairs
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        load_keyring(config, folder, missing, &find)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn the_embedded_default_makes_private_keys_once() {
        let (_parent, folder) = folder();
        let first = with_variables(&defaults(), &folder, Missing::ReadOrMake, &[]).expect("made");
        let again = with_variables(&defaults(), &folder, Missing::Read, &[]).expect("read");
        assert_eq!(first.encryption.to_text().expose(), again.encryption.to_text().expose());
        assert_eq!(first.pepper.to_text().expose(), again.pepper.to_text().expose());
        assert_ne!(first.pepper.to_text().expose(), first.encryption.to_text().expose());
        assert_eq!(mode(&folder.keys_folder()), 0o700);
        assert_eq!(mode(&folder.keys_folder().join("pepper")), 0o600);
        assert_eq!(mode(&folder.keys_folder().join("encryption")), 0o600);
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let (_parent, folder) = folder();
        with_variables(&defaults(), &folder, Missing::ReadOrMake, &[]).expect("made");
        let path = folder.keys_folder().join("pepper");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
        let refusal = with_variables(&defaults(), &folder, Missing::ReadOrMake, &[])
            .expect_err("refused")
            .to_string();
        assert!(refusal.contains("0640") && refusal.contains("chmod 600"), "{refusal}");
    }

    #[test]
    fn no_new_key_is_made_beside_an_old_database() {
        let (_parent, folder) = folder();
        std::fs::write(folder.database_file(), "").expect("it can be written");
        let refusal = with_variables(&defaults(), &folder, Missing::ReadOrMake, &[])
            .expect_err("refused")
            .to_string();
        assert!(refusal.contains("Restore"), "{refusal}");
        assert!(!folder.keys_folder().exists());
    }

    #[test]
    fn postgres_asks_for_keys_and_says_how_to_give_them() {
        let (_parent, folder) = folder();
        let refusal = with_variables(&defaults(), &folder, Missing::Refuse, &[])
            .expect_err("refused")
            .to_string();
        assert!(refusal.contains("TRUERELAY_ENCRYPTION_KEY_FILE"), "{refusal}");
        let one = [("TRUERELAY_ENCRYPTION_KEY", KEY)];
        let refusal = with_variables(&defaults(), &folder, Missing::Refuse, &one)
            .expect_err("refused")
            .to_string();
        assert!(refusal.contains("TRUERELAY_PEPPER"), "{refusal}");
        let both = [("TRUERELAY_ENCRYPTION_KEY", KEY), ("TRUERELAY_PEPPER", OTHER)];
        let keyring = with_variables(&defaults(), &folder, Missing::Refuse, &both).expect("given");
        assert_eq!((keyring.encryption.id(), keyring.pepper.id()), ("k1", "k2"));
        assert!(!folder.keys_folder().exists());
    }

    #[test]
    fn a_key_may_come_from_a_file_but_not_from_two_places() {
        let (_parent, folder) = folder();
        let path = folder.path().join("mounted");
        std::fs::write(&path, format!("{KEY}\n")).expect("it can be written");
        let path = path.display().to_string();
        let from_file = [
            ("TRUERELAY_ENCRYPTION_KEY_FILE", path.as_str()),
            ("TRUERELAY_PEPPER", OTHER),
        ];
        let keyring = with_variables(&defaults(), &folder, Missing::Refuse, &from_file).expect("given");
        assert_eq!(keyring.encryption.id(), "k1");
        let in_config = HashMap::from([("TRUERELAY__KEYS__PEPPER".to_owned(), OTHER.to_owned())]);
        let config = crate::config::load(None, in_config).expect("it is valid");
        let refusal = with_variables(&config, &folder, Missing::Refuse, &from_file)
            .expect_err("twice")
            .to_string();
        assert!(refusal.contains("twice") && !refusal.contains("ccddeeff"), "{refusal}");
    }

    #[test]
    fn a_malformed_key_is_named_and_not_shown() {
        let (_parent, folder) = folder();
        let variables = [("TRUERELAY_ENCRYPTION_KEY", "k1:hunter2")];
        let refusal = with_variables(&defaults(), &folder, Missing::Refuse, &variables).expect_err("malformed");
        let refusal = format!("{refusal:#}");
        assert!(
            refusal.contains("TRUERELAY_ENCRYPTION_KEY") && !refusal.contains("hunter2"),
            "{refusal}"
        );
    }
}
