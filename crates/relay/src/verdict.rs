//! PURE: what is charged for an answer, by how it ended and what had come of it. One table, no IO.
//!
//! The rule: what the provider reported, if it is believable; else an estimate of what was relayed. Inference
//! counts as begun when a 2xx head has arrived. Nothing came out: free.

use domain::request::Reason;

/// How the exchange with the winning upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The upstream ended its answer.
    ByUpstream,
    /// The connection to the upstream broke.
    Broken,
    /// The upstream sent something that cannot be relayed.
    Unreadable,
    /// Nothing came for too long, or all of it took too long.
    TimedOut,
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

/// Decides about an answer that was read on without its client: one that came to nothing is free for whoever has left,
/// too.
pub fn judge_unattended(read: Ended, seen: &Seen) -> Verdict {
    let attended = judge(read, seen);
    if attended.basis == Basis::Nothing {
        attended
    } else {
        judge(Ended::ByClient, seen)
    }
}

/// Decides.
pub fn judge(ended: Ended, seen: &Seen) -> Verdict {
    let free = |reason| Verdict {
        reason,
        basis: Basis::Nothing,
    };
    let estimated = |reason| Verdict {
        reason,
        basis: Basis::Estimated,
    };
    if seen.substituted {
        return free(Reason::ModelSubstituted);
    }
    // hidden reasoning is output that only the report knows of
    let produced = seen.output || seen.usage.is_some_and(|usage| usage.output_tokens > 0);
    let basis = if seen.usage.is_some() {
        Basis::Reported
    } else {
        Basis::Estimated
    };
    match ended {
        Ended::ByUpstream if seen.finish && !seen.error => {
            if !produced {
                return free(Reason::UpstreamNoOutput);
            }
            match seen.usage {
                Some(_) => Verdict {
                    reason: Reason::Completed,
                    basis: Basis::Reported,
                },
                None => estimated(Reason::CompletedUsageEstimated),
            }
        }
        Ended::ByUpstream | Ended::Broken | Ended::Unreadable => {
            if !seen.output {
                return free(Reason::UpstreamNoOutput);
            }
            Verdict {
                reason: Reason::UpstreamCutOff,
                basis,
            }
        }
        Ended::TimedOut if !seen.output => free(Reason::TimeoutBeforeOutput),
        Ended::TimedOut => Verdict {
            reason: Reason::TimeoutAfterOutput,
            basis,
        },
        // the client chose to leave after inference had begun: the input was spent
        Ended::ByClient => Verdict {
            reason: Reason::ClientGone,
            basis,
        },
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
        assert_eq!((whole.reason, whole.basis), (Reason::ClientGone, Basis::Reported));
        for read in [Ended::ByUpstream, Ended::Broken, Ended::Unreadable, Ended::TimedOut] {
            assert_eq!(judge_unattended(read, &Seen::default()).basis, Basis::Nothing);
        }
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
