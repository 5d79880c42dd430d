//! Layering: the compiled-in defaults, then a file, then the environment.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, anyhow, bail};
use config::{ConfigError, Environment, File, FileFormat};

use super::Config;

/// The commented default file.
pub const DEFAULTS: &str = include_str!("../../../../deploy/truerelay.toml");

const ENVIRONMENT_PREFIX: &str = "TRUERELAY__";
/// How the variables begin that somebody may have meant to be settings.
const MEANT_PREFIX: &str = "TRUERELAY_";

/// The variables of this process that are or may be meant to be settings. What is not Unicode cannot be one.
pub fn process_environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(MEANT_PREFIX))
        .collect()
}

/// Reads all layers and checks the whole.
///
/// # Errors
/// When a file cannot be read, a key is unknown, a value has a wrong type, or the whole makes no sense; the message
/// says what to change and shows no value of a secret.
pub fn load(file: Option<&Path>, environment: HashMap<String, String>) -> anyhow::Result<Config> {
    let mut layers = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(path) = file {
        // read here, so that the message names the path and the reason
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        check_syntax(path, &text)?;
        layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
    }
    refuse_single_underscores(&environment)?;
    let environment: HashMap<String, String> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect();
    let variables = Environment::with_prefix("TRUERELAY")
        .prefix_separator("__")
        .separator("__");
    let config: Config = layers
        .add_source(variables.source(Some(environment)))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| explain(&error, file))?;
    config.validate()?;
    Ok(config)
}

/// A setting that is spelled `TRUERELAY_SERVER_LISTEN` would be ignored without a word. Other names with this beginning
/// are nobody's mistake: container platforms make some.
fn refuse_single_underscores(environment: &HashMap<String, String>) -> anyhow::Result<()> {
    let defaults: toml::Table = DEFAULTS.parse()?;
    let sections = defaults
        .iter()
        .filter_map(|(name, section)| Some((name, section.as_table()?)));
    for (section, key) in sections.flat_map(|(name, section)| section.keys().map(move |key| (name, key))) {
        let (section, key) = (section.to_uppercase(), key.to_uppercase());
        let meant = format!("{MEANT_PREFIX}{section}_{key}");
        if environment.contains_key(&meant) {
            bail!("{meant} is no setting: write {ENVIRONMENT_PREFIX}{section}__{key}");
        }
    }
    Ok(())
}

/// A syntax error by its place only: the parser's own message repeats the line, which may hold a secret.
fn check_syntax(path: &Path, text: &str) -> anyhow::Result<()> {
    let Err(error) = text.parse::<toml::Table>() else {
        return Ok(());
    };
    let line = error.span().map_or(1, |span| {
        text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    });
    Err(anyhow!(
        "{} is not TOML: line {line}: {}",
        path.display(),
        error.message()
    ))
}

fn explain(error: &ConfigError, file: Option<&Path>) -> anyhow::Error {
    let layers = match file {
        Some(path) => format!("{} or a variable {ENVIRONMENT_PREFIX}*", path.display()),
        None => format!("a variable {ENVIRONMENT_PREFIX}*"),
    };
    anyhow!("the configuration is wrong ({layers}): {error}")
}
