//! Behaviour over HTTP: the real binary, a real database, a simulated provider. Run by `make test` once on SQLite and
//! the in-process limiter, once on PostgreSQL and Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod admin_api;
mod budgets;
mod charges;
mod crash;
mod credit;
mod credit_life;
mod demo;
mod failover;
mod faults;
mod faults_client;
mod faults_clock;
mod faults_connection;
mod faults_crash_loop;
mod faults_database;
mod faults_disk;
mod faults_outage;
mod faults_partition;
mod faults_poison;
mod faults_redis;
mod faults_served;
mod faults_stopped_node;
mod faults_upstream;
mod hostile;
mod keys;
mod log_restore;
mod nodes;
mod operations;
mod overlap;
mod passthrough;
mod prices;
mod pricing;
mod pricing_nodes;
mod privacy;
mod receipts;
mod recordings;
mod recovery;
mod refusals;
mod resources;
mod restore;
mod rolling_restart;
mod sdk;
mod spools;
mod tampering;
mod three_nodes;
