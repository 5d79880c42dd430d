//! What may go wrong, as these types in process or as JSON over the control port.

use serde::{Deserialize, Serialize};

/// All faults of a proxy. They replace the earlier ones at once, on open connections too; bytes and events are counted
/// anew on each connection from then on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// New connections are refused, as if nobody listened. Open ones stay.
    pub refuse: bool,
    /// From the server to the client.
    pub to_client: Lane,
    /// From the client to the server.
    pub to_server: Lane,
    /// What jitter is drawn from: the same seed and the same traffic give the same delays.
    pub seed: u64,
}

/// The faults of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lane {
    /// How much later everything arrives. Order and throughput stay.
    pub latency_ms: u64,
    /// At most so much more, drawn for each read. Order stays.
    pub jitter_ms: u64,
    /// The most that passes in a second; 0 and absent are no limit.
    pub bytes_per_s: Option<u64>,
    /// Passes small slices with pauses; goes before `bytes_per_s`.
    pub drip: Option<Drip>,
    /// Nothing passes, not even an end; what arrives waits, and goes on when this is taken back. On both lanes it is a
    /// black hole: connections are accepted and nothing is ever said.
    pub stalled: bool,
    /// Breaks the connection.
    pub cut: Option<Cut>,
    /// Inverts the bits of the byte at this offset.
    pub corrupt_byte: Option<u64>,
}

/// Slices and their pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// The size of a slice, at least 1.
    pub bytes: usize,
    /// The pause after each, in milliseconds.
    pub every_ms: u64,
}

/// Where, how and how often connections break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// After how much.
    pub after: CutPoint,
    /// How both sides see it.
    #[serde(default)]
    pub how: CutKind,
    /// How many connections are cut; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// How much passes before the cut. After nothing means: instead of the first byte that arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutPoint {
    /// So many bytes.
    Bytes(u64),
    /// So many events. An event ends with two line feeds in a row; heads and chunk framing of HTTP have carriage
    /// returns between theirs, so they do not count.
    Events(u64),
    /// Everything up to the last byte of this text, where it stands for the first time: the receiver never has all of it,
    /// however it was cut up on its way.
    Text(String),
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutKind {
    /// An orderly end in the wrong place.
    Fin,
    /// A reset: what was not yet read may be lost.
    #[default]
    Rst,
}
