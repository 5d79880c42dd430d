//! The key that signs heads of the transparency log: from the environment, or a file that the configuration names, or, with
//! the embedded default, one that is made. A new key in its place is a rotation: the log retires the one before it.

use std::{io, path::Path};

use anyhow::{Context, anyhow, bail};
use transparency::LogKey;

use crate::{
    config::Config,
    data_folder::{DataFolder, create_private_folder, write_private_file},
    keys::{Lookup, refuse_readable_by_others},
};

const VARIABLE: &str = "TRUERELAY_SIGNING_KEY";
const FILE: &str = "log-signing.pem";

/// The key to sign with; `makes_one` when nobody gave one.
///
/// # Errors
/// When it is missing, given twice, malformed, or if it was made here and others may read it. The mode of a file that is
/// given is the operator's affair, since secret mounts differ in it.
pub fn load_signing_key(
    config: &Config,
    folder: &DataFolder,
    makes_one: bool,
    variables: Lookup<'_>,
) -> anyhow::Result<LogKey> {
    match given_key(config, variables)? {
        Some(key) => Ok(key),
        None if makes_one => own_key(folder),
        None => Err(not_given()),
    }
}

/// Checks the key as far as it is given.
///
/// # Errors
/// As [`load_signing_key`].
pub fn check_signing_key(config: &Config, must_be_given: bool, variables: Lookup<'_>) -> anyhow::Result<()> {
    if given_key(config, variables)?.is_none() && must_be_given {
        return Err(not_given());
    }
    Ok(())
}

fn given_key(config: &Config, variables: Lookup<'_>) -> anyhow::Result<Option<LogKey>> {
    let given = variables(VARIABLE).filter(|value| !value.trim().is_empty());
    let file = &config.transparency.key_file;
    match (given, !file.as_os_str().is_empty()) {
        (None, false) => Ok(None),
        (Some(text), false) => LogKey::from_pem(&text).context(VARIABLE).map(Some),
        (None, true) => read_key(file).context("transparency.key_file").map(Some),
        (Some(_), true) => bail!("the signing key is given twice: give one of {VARIABLE}, transparency.key_file"),
    }
}

fn read_key(path: &Path) -> anyhow::Result<LogKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    LogKey::from_pem(&text).with_context(|| path.display().to_string())
}

fn not_given() -> anyhow::Error {
    anyhow!(
        "the signing key of the transparency log is missing: with PostgreSQL it must be given, the same on every node. \
         Make one with: openssl genpkey -algorithm ed25519 -out log-signing.pem; then set transparency.key_file to its \
         path, or {VARIABLE} to its text"
    )
}

fn own_key(folder: &DataFolder) -> anyhow::Result<LogKey> {
    let path = folder.keys_folder().join(FILE);
    match path.metadata() {
        Ok(_) => {
            refuse_readable_by_others(&path)?;
            read_key(&path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_private_folder(&folder.keys_folder())?;
            let key = LogKey::from_seed(&rand::random());
            write_private_file(&path, key.to_pem()?.expose())?;
            tracing::info!(path = %path.display(), key = key.id(), "a signing key was made for the transparency log");
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, os::unix::fs::PermissionsExt};

    use super::*;

    fn folder() -> (tempfile::TempDir, DataFolder) {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = DataFolder::create(&parent.path().join("data")).expect("it can be made");
        (parent, folder)
    }

    #[test]
    fn the_embedded_default_makes_one_private_key_and_keeps_it() {
        let (_parent, folder) = folder();
        let config = crate::config::load(None, HashMap::new()).expect("the defaults are valid");
        let load = |makes_one| load_signing_key(&config, &folder, makes_one, &|_| None);
        let refused = load(false).expect_err("nobody gave one").to_string();
        assert!(refused.contains("openssl genpkey"), "{refused}");
        let first = load(true).expect("made");
        assert_eq!(load(true).expect("read").id(), first.id());
        let path = folder.keys_folder().join(FILE);
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        assert_eq!(
            path.metadata().expect("it is there").permissions().mode() & 0o777,
            0o600
        );
        mode(0o644).expect("it can be set");
        let refused = load(true).expect_err("others may read it").to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        mode(0o600).expect("it can be set");
        std::fs::write(&path, "no key").expect("it can be written");
        assert!(load(true).is_err());
    }

    #[test]
    fn a_key_is_given_by_file_or_by_text() {
        let (parent, folder) = folder();
        let key = LogKey::from_seed(&[7; 32]);
        let pem = key.to_pem().expect("it can be written");
        let path = parent.path().join("key.pem");
        std::fs::write(&path, pem.expose()).expect("it can be written");
        let file = HashMap::from([(
            "TRUERELAY__TRANSPARENCY__KEY_FILE".to_owned(),
            path.display().to_string(),
        )]);
        let by_file = crate::config::load(None, file).expect("it is valid");
        let by_text = crate::config::load(None, HashMap::new()).expect("the defaults are valid");
        let text = |name: &str| (name == VARIABLE).then(|| pem.expose().to_owned());
        let loaded = load_signing_key(&by_file, &folder, false, &|_| None).expect("a file");
        assert_eq!(loaded.id(), key.id());
        let loaded = load_signing_key(&by_text, &folder, false, &text).expect("a text");
        assert_eq!(loaded.id(), key.id());
        assert!(
            load_signing_key(&by_file, &folder, false, &text).is_err(),
            "given twice"
        );
    }
}
