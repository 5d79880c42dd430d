//! Incidents: what went wrong for many, which requests it concerns, and what became of it. Owns `incident`,
//! `incident_update`, `incident_request` and `provider_statement`.
//!
//! Rules open some by durable rows ([`run_round`], [`compare_statements`]), operators open others. What others know (the
//! request log, the ledger, the catalog) comes through [`Evidence`]. No text of a public incident names a tenant, a key, a prompt or a credential.

mod error;
mod evidence;
mod job;
mod kinds;
mod opening;
mod reading;
mod requests;
mod rules;
mod statements;

pub use error::IncidentError;
pub use evidence::{Evidence, Failure, RestartedLog, Substitution};
pub use job::{Scan, compare_statements, run_round};
pub use kinds::{Kind, State};
pub use opening::{NewIncident, add_update, open, resolve};
pub use reading::{Filter, IncidentView, UpdateView, count_open, find, list, tell, updates};
pub use requests::{Link, LinkView, attach, linked, note_refunds, of_request, refundable};
pub use rules::{Counts, OutageRule, OutageStep, Rules, SubstitutionRule, drifts};
pub use statements::{NewStatement, StatementView, enter_statement, list_statements};
