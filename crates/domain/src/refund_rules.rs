//! PURE: the refund rules, as one table. Each way in which a request can end is a row: its code, what the customer then pays,
//! and who bears what else it cost.
//!
//! The relay and recovery take their decisions from this table, and `GET /v1/refund-policy` publishes it: what is published
//! is what is done. A new row is all that a new way to end needs here; the compiler then asks where it is decided.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the customer pays. Never more than was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pays {
    /// Nothing: everything that was held comes back.
    Nothing,
    /// The usage that the provider reported.
    ReportedUsage,
    /// An estimate of the input and the output, because the provider reported no usage that can be believed.
    EstimatedUsage,
    /// The usage that the provider reported; if it reported none, an estimate of the input and of the output so far.
    ReportedElseEstimatedUsage,
    /// The input and the output that were on record last, or nothing if no output was.
    NotedUsage,
}

impl Pays {
    /// As published.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::ReportedUsage => "reported_usage",
            Self::EstimatedUsage => "estimated_usage",
            Self::ReportedElseEstimatedUsage => "reported_else_estimated_usage",
            Self::NotedUsage => "noted_usage",
        }
    }

    /// What it means, in a sentence for the customer.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Nothing => "Nothing; all that was held comes back.",
            Self::ReportedUsage => "The usage that the provider reported.",
            Self::EstimatedUsage => "An estimate of the input and of the output that was relayed.",
            Self::ReportedElseEstimatedUsage => {
                "The usage that the provider reported; if it reported none that can be believed, an estimate of the input and \
                 of the output until then."
            }
            Self::NotedUsage => "The input and the output that were on record last; nothing if no output was.",
        }
    }

    /// Every basis.
    pub const ALL: [Self; 5] = [
        Self::Nothing,
        Self::ReportedUsage,
        Self::EstimatedUsage,
        Self::ReportedElseEstimatedUsage,
        Self::NotedUsage,
    ];
}

/// What the operator bears beside what the customer pays: what a provider may bill all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bears {
    /// Nothing: no provider has worked in vain.
    Nothing,
    /// What was sent to providers and came to nothing.
    Unbilled,
    /// What the node that died had under way, as far as it was not on record.
    Node,
}

impl Bears {
    /// The ledger's account.
    pub const fn account(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Unbilled => Some("operator_loss:unbilled"),
            Self::Node => Some("operator_loss:node"),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundRule {
    /// The code that stands on the request and on its receipt.
    pub reason: Reason,
    /// When it applies.
    pub when: &'static str,
    /// What the customer pays.
    pub pays: Pays,
    /// What the operator bears.
    pub bears: Bears,
    /// Why the charge is what it is, in a sentence on the request itself.
    pub explanation: &'static str,
}

macro_rules! refund_rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $pays:ident, $bears:ident, $when:literal, $explanation:literal;)+) => {
        /// How a request ended, as the customer is told, and by which rule its charge was decided.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[$doc])* $name),+
        }

        impl Reason {
            /// Every way to end, in the order in which they are published.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable code, as stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code),+
                }
            }

            /// The rule that decides the charge.
            pub const fn rule(self) -> RefundRule {
                match self {
                    $(Self::$name => RefundRule {
                        reason: self,
                        when: $when,
                        pays: Pays::$pays,
                        bears: Bears::$bears,
                        explanation: $explanation,
                    }),+
                }
            }
        }
    };
}

refund_rules! {
    /// The answer ended normally and the provider reported its usage.
    Completed = "completed", ReportedUsage, Nothing,
        "The answer ended normally and the provider reported its usage.",
        "The answer ended normally; the charge is the usage that the provider reported.";
    /// The answer ended normally without a usage report: charged by estimate.
    CompletedUsageEstimated = "completed_usage_estimated", EstimatedUsage, Nothing,
        "The answer ended normally and the provider reported no usage that can be believed.",
        "The answer ended normally but the provider reported no usable usage; the charge is an estimate, never above the hold.";
    /// The client left after the provider had begun, and the provider was told to stop: charged for what was produced.
    ClientGone = "client_gone", ReportedElseEstimatedUsage, Nothing,
        "The client left after the provider had accepted the request, and the provider was told to stop.",
        "The client left after the provider had begun; the charge is the input and the output produced until then.";
    /// The client left, and the provider bills the whole answer all the same: charged for all of it.
    ClientGoneBilledOn = "client_gone_billed_on", ReportedElseEstimatedUsage, Nothing,
        "The client left after the provider had accepted the request, and this provider bills the whole answer even if it is \
         told to stop; or the answer was not streamed, and so was whole already. It was read to its end.",
        "The client left, and the provider bills the whole answer all the same; the charge is what it reported for all of it.";
    /// The client left before anything of an answer could be handed out: free.
    ClientGoneBeforeHead = "client_gone_before_head", Nothing, Unbilled,
        "The client left before a provider had accepted the request, or while its answer was kept back because the credit was \
         still being reserved.",
        "The client left before an answer could be handed out; nothing is charged.";
    /// The upstream failed after output had begun: charged for what was relayed.
    UpstreamCutOff = "upstream_cut_off", ReportedElseEstimatedUsage, Nothing,
        "The provider failed after output had begun: the connection broke, or an error or something unreadable came.",
        "The provider failed after output had begun; the charge is the input and the output that was relayed.";
    /// The upstream accepted and then produced nothing: free.
    UpstreamNoOutput = "upstream_no_output", Nothing, Unbilled,
        "The provider accepted the request and no output came: of an answer that it ended normally neither visible output nor a \
         report of hidden output, of any other no visible output.",
        "The provider accepted the request and produced nothing; nothing is charged.";
    /// Every attempt failed before an answer began: free.
    UpstreamFailed = "upstream_failed", Nothing, Unbilled,
        "Every provider that was tried failed before an answer began: no connection, an error status.",
        "No provider answered; nothing is charged.";
    /// The upstream refused the request itself (4xx): free.
    UpstreamRejected = "upstream_rejected", Nothing, Unbilled,
        "The provider refused the request itself (4xx), for its content too.",
        "The provider refused the request; nothing is charged.";
    /// The upstream said that it ran another model than the one that was sold: free.
    ModelSubstituted = "model_substituted", Nothing, Unbilled,
        "The provider said that it ran another model than the one that was sold: a name that is not among the offer's \
         `served_names` (`GET /v1/models/{id}`), or more than nine different names, however the answer ended.",
        "The provider said that it ran another model than the one that was asked for; nothing is charged.";
    /// The provider's moderation ended the answer before any output: free.
    FilteredBeforeOutput = "filtered_before_output", Nothing, Unbilled,
        "The provider's own moderation ended the answer before any output; hidden reasoning that the provider reports is output.",
        "The provider's moderation ended the answer before any output; nothing is charged.";
    /// The provider's moderation ended the answer after output had begun, hidden reasoning included: charged for what was produced.
    FilteredAfterOutput = "filtered_after_output", ReportedElseEstimatedUsage, Nothing,
        "The provider's own moderation ended the answer after output had begun; hidden reasoning that the provider reports is output.",
        "The provider's moderation ended the answer after output had begun; the charge is the input and the output until then, hidden reasoning included.";
    /// A time limit of ours ran out before output: free.
    TimeoutBeforeOutput = "timeout_before_output", Nothing, Unbilled,
        "A time limit of the relay ran out before any output.",
        "A time limit ran out before any output; nothing is charged.";
    /// A time limit of ours ran out after output had begun: charged for what was relayed.
    TimeoutAfterOutput = "timeout_after_output", ReportedElseEstimatedUsage, Nothing,
        "A time limit of the relay ran out after output had begun.",
        "A time limit ran out after output had begun; the charge is the input and the output that was relayed.";
    /// The credit did not cover the hold: nothing was handed out, free.
    InsufficientCredit = "insufficient_credit", Nothing, Unbilled,
        "The credit did not cover what the request could cost at most.",
        "The credit did not cover the request; nothing was handed out and nothing is charged.";
    /// The key's budget did not cover the hold: nothing was handed out, free.
    BudgetExceeded = "budget_exceeded", Nothing, Unbilled,
        "A budget of the key or its tenant did not cover what the request could cost at most.",
        "The key's budget did not cover the request; nothing was handed out and nothing is charged.";
    /// The node stopped before the request ended: charged for what it had noted of the answer by then, free if that was
    /// nothing. What the provider bills beyond is the operator's.
    RelayCrashed = "relay_crashed", NotedUsage, Node,
        "The relay's node stopped before the answer ended.",
        "The relay stopped before the answer ended; the charge is the input and the output that were on record by then, or nothing if no output was.";
    /// The hold was older than any request may be: charged as after a crash.
    HoldExpired = "hold_expired", NotedUsage, Node,
        "The request was not ended within the longest time that a request may take, and was closed.",
        "The request outlived the longest time a request may take; the charge is the input and the output that were on record by then, or nothing if no output was.";
    /// The ledger's database was away: nothing of an answer was handed out, free.
    LedgerUnavailable = "ledger_unavailable", Nothing, Unbilled,
        "The credit could not be reserved because the ledger's database was away.",
        "The credit could not be reserved because the ledger's database was away; nothing was handed out and nothing is charged.";
    /// An error of ours after the hold: free.
    InternalError = "internal_error", Nothing, Unbilled,
        "The relay itself failed.",
        "The relay failed; nothing is charged.";
}

impl Reason {
    /// Recovery has ended the request, in place of the node that should have: its cost is a supposition.
    pub const fn is_by_recovery(self) -> bool {
        matches!(self.rule().pays, Pays::NotedUsage)
    }

    /// Why the charge is what it is, in a sentence for the customer.
    pub const fn explanation(self) -> &'static str {
        self.rule().explanation
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let found = Self::ALL.iter().find(|reason| reason.as_str() == text);
        found.copied().ok_or(UnknownReason)
    }
}

/// The text names no reason that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason code")]
pub struct UnknownReason;

/// What holds for every request, however it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Always {
    /// What the relay itself refuses is never charged.
    RefusedByRelay,
    /// Attempts that failed before the first byte are not the customer's.
    WinningAttemptOnly,
    /// The hold is the most that is charged.
    NeverAboveHold,
    /// A request is charged once.
    ChargedOnce,
    /// What a provider read from its prompt cache costs the price of that.
    PromptCacheAsReported,
}

/// A rule that holds for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlwaysRule {
    /// The stable code.
    pub code: &'static str,
    /// What the customer can rely on.
    pub promise: &'static str,
    /// The ledger's account of what the operator bears by it.
    pub account: Option<&'static str>,
}

impl Always {
    /// All of them, in the order in which they are published.
    pub const ALL: [Self; 5] = [
        Self::RefusedByRelay,
        Self::WinningAttemptOnly,
        Self::NeverAboveHold,
        Self::ChargedOnce,
        Self::PromptCacheAsReported,
    ];

    /// What it says.
    pub const fn rule(self) -> AlwaysRule {
        let (code, account, promise) = match self {
            Self::RefusedByRelay => (
                "refused_by_relay",
                None,
                "A request that the relay refuses (a bad key, a rate limit, an unknown model, a body that cannot be read) is \
                 not sent, not held and not charged.",
            ),
            Self::WinningAttemptOnly => (
                "winning_attempt_only",
                Some("operator_loss:unbilled"),
                "If several providers or credentials are tried before the first byte, only the one that answered is charged.",
            ),
            Self::NeverAboveHold => (
                "never_above_hold",
                Some("operator_loss:overrun"),
                "No charge is above what was held when the request was admitted, even if the provider produces more.",
            ),
            Self::ChargedOnce => (
                "charged_once",
                Some("operator_loss:late"),
                "A request is charged at most once. What becomes known after its end can only lower it.",
            ),
            Self::PromptCacheAsReported => (
                "prompt_cache_as_reported",
                None,
                "Input that the provider read from or wrote to its prompt cache costs the published price of that.",
            ),
        };
        AlwaysRule { code, promise, account }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_stable_and_each_names_one_row() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(reason.rule().reason, *reason);
        }
        assert_eq!("nonsense".parse::<Reason>(), Err(UnknownReason));
        for pays in Pays::ALL {
            assert_eq!(serde_json::to_value(pays).unwrap(), pays.as_str());
        }
    }

    #[test]
    fn the_operator_bears_only_what_nobody_else_pays() {
        for reason in Reason::ALL {
            let rule = reason.rule();
            let is_free = rule.pays == Pays::Nothing;
            assert_eq!(is_free, rule.bears == Bears::Unbilled, "{reason}");
            assert_eq!(rule.explanation.contains("nothing is charged"), is_free, "{reason}");
        }
    }
}
