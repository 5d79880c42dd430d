//! `truerelay operator`: how the first operator gets in. Works beside a running server.

use std::process::ExitCode;

use accounts::{OperatorRole, OperatorToken, operator_tokens};
use clap::{Args, Subcommand, ValueEnum};
use domain::OperatorTokenId;
use store::audit::Actor;

use super::{ConfigFile, block_on};
use crate::{
    opening::{OpenedForCommand, open_for_command},
    output::{complain, say},
};

/// What to manage.
#[derive(Debug, Subcommand)]
pub enum Subject {
    /// Tokens with which operators sign in to the admin API.
    #[command(subcommand)]
    Token(TokenAction),
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Create a token and show it, once.
    Create(Create),
    /// Show all tokens, without their secrets.
    List(ConfigFile),
    /// Take a token back for good.
    Revoke(Revoke),
}

/// A token to create.
#[derive(Debug, Args)]
pub struct Create {
    /// A name for people, such as whom it is for.
    #[arg(long)]
    name: String,
    /// What it permits.
    #[arg(long, value_enum)]
    role: Role,
    #[command(flatten)]
    config: ConfigFile,
}

/// A token to take back.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The token's id, as `list` shows it.
    id: OperatorTokenId,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// See and change everything.
    Full,
    /// See everything, change nothing.
    ReadOnly,
}

impl From<Role> for OperatorRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Full => Self::Full,
            Role::ReadOnly => Self::ReadOnly,
        }
    }
}

/// Tokens shown per query.
const PAGE: u64 = 200;

/// Creates, shows or revokes tokens.
pub fn run(subject: &Subject) -> anyhow::Result<ExitCode> {
    let Subject::Token(action) = subject;
    block_on(async {
        match action {
            TokenAction::Create(create) => create_token(create).await,
            TokenAction::List(config) => list_tokens(config).await,
            TokenAction::Revoke(revoke) => revoke_token(revoke).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn actor() -> Actor {
    Actor::system("command-line")
}

async fn create_token(create: &Create) -> anyhow::Result<()> {
    let opened = open(&create.config).await?;
    let tx = opened.database.begin().await?;
    let pepper = &opened.keyring.pepper;
    let (token, plain) = operator_tokens::create(&tx, &actor(), pepper, &create.name, create.role.into()).await?;
    tx.commit().await?;
    // the token alone on standard output, so that a script can keep it
    complain(format!(
        "operator token {} ({}), shown once:",
        token.id,
        token.role.as_str()
    ));
    say(plain.expose());
    opened.database.close().await;
    Ok(())
}

async fn list_tokens(config: &ConfigFile) -> anyhow::Result<()> {
    let opened = open(config).await?;
    let mut before = None;
    loop {
        let page = operator_tokens::list(opened.database.readers(), before, PAGE).await?;
        page.iter().for_each(|token| say(line(token)));
        let Some(last) = page.last() else { break };
        before = Some(last.id);
    }
    opened.database.close().await;
    Ok(())
}

async fn revoke_token(revoke: &Revoke) -> anyhow::Result<()> {
    let opened = open(&revoke.config).await?;
    let tx = opened.database.begin().await?;
    let token = operator_tokens::revoke(&tx, &actor(), revoke.id).await?;
    tx.commit().await?;
    say(line(&token));
    opened.database.close().await;
    Ok(())
}

async fn open(config: &ConfigFile) -> anyhow::Result<OpenedForCommand> {
    open_for_command(&config.load()?).await
}

fn line(token: &OperatorToken) -> String {
    let state = match token.revoked_at {
        Some(at) => format!("revoked {}", at.to_rfc3339()),
        None => "valid".to_owned(),
    };
    let OperatorToken {
        id,
        role,
        last4,
        created_at,
        name,
        ..
    } = token;
    format!(
        "{id}  {:<9}  ...{last4}  created {}  {state}  {name}",
        role.as_str(),
        created_at.to_rfc3339()
    )
}
