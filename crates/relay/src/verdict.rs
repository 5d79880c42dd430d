//! PURE: how an answer ended, by what had come of it. What is charged for that the refund rules say (`domain::refund_rules`).
//!
//! Inference counts as begun when a 2xx head has arrived. Nothing came out: free.

use domain::{refund_rules::Pays, request::Reason};

/// How the exchange with the winning upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The upstream ended its answer.
    ByUpstream,
    /// The connection to the upstream broke.
    Broken,
    /// The upstream sent something that cannot be relayed.
    Unreadable,
    /// Nothing came for too long.
    TimedOut,
    /// All of it took too long. A client that reads slowly can bring that about.
    TookTooLong,
    /// The client left.
    ByClient,
}

/// What had come of the answer by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Some output: text, reasoning, a tool call.
    pub output: bool,
    /// The upstream said that the answer is complete (a finish or stop reason, or the end mark).
    pub finish: bool,
    /// The upstream reported an error inside its answer.
    pub error: bool,
    /// The upstream's own moderation ended the answer.
    pub filtered: bool,
    /// The upstream said that it ran another model than the one that was sold.
    pub substituted: bool,
    /// The upstream's final usage report, if it is believable.
    pub usage: Option<Reported>,
}

/// What a usage report says about output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// Output tokens of all classes.
    pub output_tokens: u64,
}

/// From what the charge is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The provider's report.
    Reported,
    /// Our estimate from what was relayed, with as much of a report as there is.
    Estimated,
    /// Nothing: the customer pays nothing, and the operator bears the prompt.
    Nothing,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The reason code.
    pub reason: Reason,
    /// What is charged.
    pub basis: Basis,
}

impl Verdict {
    /// By the rule of a reason.
    fn of(reason: Reason, seen: &Seen) -> Self {
        let reported_else_estimated = match seen.usage {
            Some(_) => Basis::Reported,
            None => Basis::Estimated,
        };
        let basis = match reason.rule().pays {
            // what was noted last is recovery's to charge, and no answer ends by it
            Pays::Nothing | Pays::NotedUsage => Basis::Nothing,
            Pays::ReportedUsage | Pays::ReportedElseEstimatedUsage => reported_else_estimated,
            Pays::EstimatedUsage => Basis::Estimated,
        };
        Self { reason, basis }
    }
}

/// Decides about an answer that was read on without its client, because its provider bills it anyway. One that came to
/// nothing is free for whoever has left, too.
pub fn judge_unattended(read: Ended, seen: &Seen) -> Verdict {
    let attended = judge(read, seen);
    if attended.basis == Basis::Nothing {
        attended
    } else {
        Verdict::of(Reason::ClientGoneBilledOn, seen)
    }
}

/// Decides.
pub fn judge(ended: Ended, seen: &Seen) -> Verdict {
    Verdict::of(reason(ended, seen), seen)
}

fn reason(ended: Ended, seen: &Seen) -> Reason {
    if seen.substituted {
        return Reason::ModelSubstituted;
    }
    // hidden reasoning is output that only the report knows of
    let produced = seen.output || seen.usage.is_some_and(|usage| usage.output_tokens > 0);
    match ended {
        Ended::ByUpstream if seen.finish && !seen.error => match seen.usage {
            _ if seen.filtered && !produced => Reason::FilteredBeforeOutput,
            _ if seen.filtered => Reason::FilteredAfterOutput,
            _ if !produced => Reason::UpstreamNoOutput,
            Some(_) => Reason::Completed,
            None => Reason::CompletedUsageEstimated,
        },
        Ended::ByUpstream | Ended::Broken | Ended::Unreadable if !seen.output => Reason::UpstreamNoOutput,
        Ended::ByUpstream | Ended::Broken | Ended::Unreadable => Reason::UpstreamCutOff,
        Ended::TimedOut | Ended::TookTooLong if !seen.output => Reason::TimeoutBeforeOutput,
        Ended::TimedOut | Ended::TookTooLong => Reason::TimeoutAfterOutput,
        // it left because of how the answer had ended already: SDKs hang up at an error event, and at a finish
        Ended::ByClient if (seen.error && !seen.output) || (seen.finish && !produced) => {
            reason(Ended::ByUpstream, seen)
        }
        // the client chose to leave after inference had begun: the input was spent
        Ended::ByClient => Reason::ClientGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ended: Ended, output: bool, finish: bool, error: bool, usage: Option<u64>) -> (Reason, Basis) {
        let usage = usage.map(|output_tokens| Reported { output_tokens });
        let verdict = judge(
            ended,
            &Seen {
                output,
                finish,
                error,
                usage,
                ..Seen::default()
            },
        );
        (verdict.reason, verdict.basis)
    }

    #[test]
    fn a_complete_answer_is_charged_as_reported() {
        assert_eq!(
            verdict(Ended::ByUpstream, true, true, false, Some(5)),
            (Reason::Completed, Basis::Reported)
        );
        // reasoning that the client never sees is output too
        assert_eq!(
            verdict(Ended::ByUpstream, false, true, false, Some(9)),
            (Reason::Completed, Basis::Reported)
        );
        assert_eq!(
            verdict(Ended::ByUpstream, true, true, false, None),
            (Reason::CompletedUsageEstimated, Basis::Estimated)
        );
    }

    #[test]
    fn nothing_came_out_is_free() {
        let free = |reason| (reason, Basis::Nothing);
        for usage in [None, Some(0)] {
            assert_eq!(
                verdict(Ended::ByUpstream, false, true, false, usage),
                free(Reason::UpstreamNoOutput)
            );
            assert_eq!(
                verdict(Ended::ByUpstream, false, false, false, usage),
                free(Reason::UpstreamNoOutput)
            );
            assert_eq!(
                verdict(Ended::ByUpstream, false, true, true, usage),
                free(Reason::UpstreamNoOutput)
            );
            assert_eq!(
                verdict(Ended::Broken, false, false, false, usage),
                free(Reason::UpstreamNoOutput)
            );
            assert_eq!(
                verdict(Ended::Unreadable, false, false, false, usage),
                free(Reason::UpstreamNoOutput)
            );
            assert_eq!(
                verdict(Ended::TimedOut, false, false, false, usage),
                free(Reason::TimeoutBeforeOutput)
            );
        }
    }

    #[test]
    fn a_cut_after_output_is_charged_for_what_was_relayed() {
        for ended in [Ended::ByUpstream, Ended::Broken, Ended::Unreadable] {
            assert_eq!(
                verdict(ended, true, false, false, None),
                (Reason::UpstreamCutOff, Basis::Estimated)
            );
            assert_eq!(
                verdict(ended, true, true, true, Some(3)),
                (Reason::UpstreamCutOff, Basis::Reported)
            );
        }
        assert_eq!(
            verdict(Ended::TimedOut, true, false, false, None),
            (Reason::TimeoutAfterOutput, Basis::Estimated)
        );
    }

    #[test]
    fn an_answer_of_another_model_is_free_however_it_ended() {
        let seen = Seen {
            output: true,
            finish: true,
            substituted: true,
            usage: Some(Reported { output_tokens: 3 }),
            ..Seen::default()
        };
        for ended in [
            Ended::ByUpstream,
            Ended::Broken,
            Ended::Unreadable,
            Ended::TimedOut,
            Ended::TookTooLong,
            Ended::ByClient,
        ] {
            for verdict in [judge(ended, &seen), judge_unattended(ended, &seen)] {
                assert_eq!(
                    (verdict.reason, verdict.basis),
                    (Reason::ModelSubstituted, Basis::Nothing)
                );
            }
        }
    }

    #[test]
    fn a_client_that_left_does_not_pay_for_an_upstream_that_fails() {
        let seen = Seen {
            output: true,
            finish: true,
            usage: Some(Reported { output_tokens: 3 }),
            ..Seen::default()
        };
        let whole = judge_unattended(Ended::ByUpstream, &seen);
        assert_eq!(
            (whole.reason, whole.basis),
            (Reason::ClientGoneBilledOn, Basis::Reported)
        );
        for read in [Ended::ByUpstream, Ended::Broken, Ended::Unreadable, Ended::TimedOut] {
            assert_eq!(judge_unattended(read, &Seen::default()).basis, Basis::Nothing);
        }
    }

    #[test]
    fn what_the_providers_moderation_ended_before_any_output_is_free() {
        let filtered = |output, tokens: Option<u64>| {
            let seen = Seen {
                output,
                finish: true,
                filtered: true,
                usage: tokens.map(|output_tokens| Reported { output_tokens }),
                ..Seen::default()
            };
            let verdict = judge(Ended::ByUpstream, &seen);
            (verdict.reason, verdict.basis)
        };
        for nothing in [None, Some(0)] {
            assert_eq!(filtered(false, nothing), (Reason::FilteredBeforeOutput, Basis::Nothing));
        }
        assert_eq!(filtered(true, None), (Reason::FilteredAfterOutput, Basis::Estimated));
        // hidden reasoning is output
        for output in [false, true] {
            assert_eq!(
                filtered(output, Some(9)),
                (Reason::FilteredAfterOutput, Basis::Reported)
            );
        }
    }

    #[test]
    fn whoever_leaves_at_the_end_of_an_answer_that_came_to_nothing_pays_nothing() {
        let left = |seen| {
            let verdicts = [judge(Ended::ByClient, &seen), judge(Ended::ByUpstream, &seen)];
            assert_eq!(verdicts[0], verdicts[1]);
            assert_eq!(verdicts[0], judge_unattended(Ended::ByUpstream, &seen));
            (verdicts[0].reason, verdicts[0].basis)
        };
        for usage in [None, Some(Reported { output_tokens: 0 })] {
            for (error, finish) in [(true, false), (true, true), (false, true)] {
                let seen = Seen {
                    error,
                    finish,
                    usage,
                    ..Seen::default()
                };
                assert_eq!(left(seen), (Reason::UpstreamNoOutput, Basis::Nothing));
            }
            let filtered = Seen {
                finish: true,
                filtered: true,
                usage,
                ..Seen::default()
            };
            assert_eq!(left(filtered), (Reason::FilteredBeforeOutput, Basis::Nothing));
        }
        // an error event is an error whatever was billed behind the scenes
        let hidden = Seen {
            error: true,
            usage: Some(Reported { output_tokens: 9 }),
            ..Seen::default()
        };
        assert_eq!(left(hidden), (Reason::UpstreamNoOutput, Basis::Nothing));
    }

    #[test]
    fn a_client_that_leaves_pays_for_what_was_produced() {
        assert_eq!(
            verdict(Ended::ByClient, false, false, false, None),
            (Reason::ClientGone, Basis::Estimated)
        );
        assert_eq!(
            verdict(Ended::ByClient, true, false, false, None),
            (Reason::ClientGone, Basis::Estimated)
        );
        assert_eq!(
            verdict(Ended::ByClient, true, true, false, Some(7)),
            (Reason::ClientGone, Basis::Reported)
        );
    }
}
