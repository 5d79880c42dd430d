//! One folder for each wire format: what its requests mean, what its answers report.
//!
//! A client is answered in the format that it asked in, by an upstream that speaks it too: nothing is converted between
//! formats yet. A conversion will be a module of its own beside this one, a file for each ordered pair.

pub mod anthropic_messages;
pub mod openai_chat;
