//! Recorded exchanges of real providers, as the wire formats' own tests keep them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One recorded exchange.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The file's name, for messages.
    pub name: String,
    /// The request's body.
    pub request: Value,
    /// The response's status.
    pub status: u16,
    /// The response's content type.
    pub content_type: String,
    /// The response's body.
    pub body: String,
    /// Whether it is a stream.
    pub stream: bool,
    /// What an independent reader found in it.
    pub expect: Value,
}

/// The recordings of a provider in one wire format.
pub fn recordings(provider: &str, format: &str) -> Vec<Recording> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/llm/tests/fixtures")
        .join(provider)
        .join(format);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "recordings in {}", folder.display());
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Recording {
    let text = std::fs::read_to_string(file).expect("a recording");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let response = &value["response"];
    Recording {
        name: file.file_name().expect("a name").to_string_lossy().into_owned(),
        request: value["request"]["body"].clone(),
        status: u16::try_from(response["status"].as_u64().expect("a status")).expect("a status"),
        content_type: response["headers"]["content-type"]
            .as_str()
            .unwrap_or("application/json")
            .to_owned(),
        body: response["body_text"].as_str().unwrap_or_default().to_owned(),
        stream: value["stream"].as_bool().unwrap_or(false),
        expect: value["expect"].clone(),
    }
}
