//! PURE: an answer as a list of steps, and what the faults of a rule make of it.

use std::time::Duration;

use bytes::Bytes;

use crate::script::{Chunking, Cut, CutKind, CutPoint, Drip, Faults};

/// One step of sending an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sends one chunk. `tokens` were generated for it; `event` says whether it completes an event.
    Send {
        bytes: Bytes,
        tokens: u64,
        event: bool,
    },
    /// Generates tokens that are not sent yet: an answer that is no stream.
    Think {
        tokens: u64,
    },
    Sleep(Duration),
    Gate(String),
    Hang,
    Cut(CutKind),
}

/// A whole answer: what happens before its head, the head, and the steps of its body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    pub(crate) before_head: Vec<Step>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
}

/// One event of a stream and what it costs to generate.
pub(crate) fn event(text: String, tokens: u64) -> Step {
    Step::Send {
        bytes: Bytes::from(text),
        tokens,
        event: true,
    }
}

impl Plan {
    /// Waits before each generated token.
    pub(crate) fn paced(mut self, delay: Duration) -> Self {
        if delay.is_zero() {
            return self;
        }
        self.before_head = pace(self.before_head, delay);
        self.steps = pace(self.steps, delay);
        self
    }

    /// The plan with the faults worked in. `error_event` is what the dialect sends when the rule asks for an error event.
    pub(crate) fn with_faults(mut self, faults: &Faults, error_event: impl FnOnce() -> String) -> Self {
        if let Some(error) = &faults.error_event {
            truncate_at_event(&mut self.steps, error.after_events);
            self.steps.push(event(error_event(), 0));
        }
        if let Some(events) = faults.hang_after_events {
            truncate_at_event(&mut self.steps, events);
            self.steps.push(Step::Hang);
        }
        match &faults.cut {
            Some(Cut {
                after: CutPoint::BeforeHead,
                how,
            }) => self.before_head.push(Step::Cut(*how)),
            Some(Cut {
                after: CutPoint::Events(events),
                how,
            }) => {
                truncate_at_event(&mut self.steps, *events);
                self.steps.push(Step::Cut(*how));
            }
            Some(Cut {
                after: CutPoint::Bytes(bytes),
                how,
            }) => {
                truncate_at_byte(&mut self.steps, *bytes);
                self.steps.push(Step::Cut(*how));
            }
            None => {}
        }
        if let Some(hold) = &faults.hold_after_events {
            let at = index_after_event(&self.steps, hold.events);
            self.steps.insert(at, Step::Gate(hold.gate.clone()));
        }
        if let Some(drip) = faults.drip {
            self.steps = self.steps.into_iter().flat_map(|step| slice(step, drip)).collect();
        }
        if let Some(gate) = &faults.hold_before_head {
            self.before_head.insert(0, Step::Gate(gate.clone()));
        }
        if faults.hang_before_head {
            self.before_head.insert(0, Step::Hang);
        }
        self
    }
}

fn pace(steps: Vec<Step>, delay: Duration) -> Vec<Step> {
    steps
        .into_iter()
        .flat_map(|step| match step {
            Step::Send { tokens, .. } if tokens > 0 => vec![Step::Sleep(delay), step],
            Step::Think { tokens } => (0..tokens)
                .flat_map(|_| [Step::Sleep(delay), Step::Think { tokens: 1 }])
                .collect(),
            other => vec![other],
        })
        .collect()
}

/// The index of the step that follows the `events`-th event.
fn index_after_event(steps: &[Step], events: usize) -> usize {
    if events == 0 {
        return 0;
    }
    steps
        .iter()
        .enumerate()
        .filter(|(_, step)| matches!(step, Step::Send { event: true, .. }))
        .nth(events - 1)
        .map_or(steps.len(), |(at, _)| at + 1)
}

fn truncate_at_event(steps: &mut Vec<Step>, events: usize) {
    let at = index_after_event(steps, events);
    steps.truncate(at);
}

fn truncate_at_byte(steps: &mut Vec<Step>, mut room: usize) {
    let mut kept = 0;
    for step in steps.iter_mut() {
        if let Step::Send { bytes, event, .. } = step {
            if room == 0 {
                break;
            }
            if bytes.len() > room {
                bytes.truncate(room);
                *event = false;
            }
            room -= bytes.len();
        }
        kept += 1;
    }
    steps.truncate(kept);
}

fn slice(step: Step, drip: Drip) -> Vec<Step> {
    let Step::Send { bytes, tokens, event } = step else {
        return vec![step];
    };
    let mut rest = bytes;
    let mut tokens = tokens;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let piece = rest.split_to(drip.bytes.clamp(1, rest.len()));
        steps.push(Step::Sleep(Duration::from_millis(drip.every_ms)));
        steps.push(Step::Send {
            bytes: piece,
            tokens,
            event: event && rest.is_empty(),
        });
        tokens = 0;
    }
    steps
}

/// Cuts a body into chunks; the chunks joined are the body.
pub(crate) fn cut_into_chunks(body: &Bytes, chunking: &Chunking) -> Vec<Bytes> {
    let ends: Vec<usize> = match chunking {
        Chunking::Whole => Vec::new(),
        Chunking::Lines => (1..body.len()).filter(|at| body.get(at - 1) == Some(&b'\n')).collect(),
        Chunking::Bytes(size) => (1..body.len()).filter(|at| at % (*size).max(1) == 0).collect(),
        Chunking::Sizes(sizes) => sizes
            .iter()
            .scan(0usize, |at, size| {
                *at = at.saturating_add(*size);
                Some(*at)
            })
            .take_while(|at| *at < body.len())
            .collect(),
        // A continuation byte right after a leading byte: every character is cut once.
        Chunking::SplitUtf8 => (1..body.len())
            .filter(|at| {
                body.get(*at).is_some_and(|b| b & 0xc0 == 0x80) && body.get(at - 1).is_some_and(|b| *b >= 0xc0)
            })
            .collect(),
    };
    let mut rest = body.clone();
    let mut start = 0;
    let mut chunks = Vec::new();
    for end in ends {
        chunks.push(rest.split_to(end - start));
        start = end;
    }
    chunks.push(rest);
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{ErrorEvent, Hold};

    fn plan() -> Plan {
        let steps = ["aa", "bb", "cc"].map(|text| event(text.to_owned(), 1)).to_vec();
        Plan {
            steps,
            ..Plan::default()
        }
    }

    fn sent(plan: &Plan) -> String {
        let text = plan.steps.iter().filter_map(|step| match step {
            Step::Send { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        text.collect()
    }

    #[test]
    fn faults_end_the_answer_where_they_say() {
        let run = |faults: Faults| plan().with_faults(&faults, || "error".to_owned());
        let hang = run(Faults {
            hang_after_events: Some(2),
            ..Faults::default()
        });
        assert_eq!((sent(&hang).as_str(), hang.steps.last()), ("aabb", Some(&Step::Hang)));
        let cut = |after| {
            run(Faults {
                cut: Some(Cut {
                    after,
                    how: CutKind::Rst,
                }),
                ..Faults::default()
            })
        };
        assert_eq!(sent(&cut(CutPoint::Events(0))), "");
        assert_eq!(sent(&cut(CutPoint::Events(1))), "aa");
        assert_eq!(sent(&cut(CutPoint::Bytes(3))), "aab");
        assert_eq!(cut(CutPoint::Bytes(99)).steps.last(), Some(&Step::Cut(CutKind::Rst)));
        assert_eq!(cut(CutPoint::BeforeHead).before_head, [Step::Cut(CutKind::Rst)]);
        let error = run(Faults {
            error_event: Some(ErrorEvent {
                after_events: 1,
                data: None,
            }),
            ..Faults::default()
        });
        assert_eq!(sent(&error), "aaerror");
    }

    #[test]
    fn holds_drips_and_delays_lose_nothing() {
        let hold = Faults {
            hold_after_events: Some(Hold {
                gate: "g".into(),
                events: 1,
            }),
            ..Faults::default()
        };
        let held = plan().with_faults(&hold, String::new);
        assert_eq!(
            (sent(&held).as_str(), held.steps.get(1)),
            ("aabbcc", Some(&Step::Gate("g".into())))
        );
        let drip = Faults {
            drip: Some(Drip { bytes: 1, every_ms: 5 }),
            ..Faults::default()
        };
        let dripped = plan().with_faults(&drip, String::new);
        assert_eq!((sent(&dripped).as_str(), dripped.steps.len()), ("aabbcc", 12));
        let paced = plan().paced(Duration::from_millis(3));
        assert_eq!((sent(&paced).as_str(), paced.steps.len()), ("aabbcc", 6));
    }

    #[test]
    fn chunks_joined_are_the_body() {
        let body = Bytes::from("data: caf\u{e9} \u{1f642}\n\ndata: \u{6771}\n\n");
        let ways = [
            Chunking::Whole,
            Chunking::Lines,
            Chunking::Bytes(7),
            Chunking::Bytes(0),
            Chunking::Sizes(vec![1, 0, 5, 1000]),
            Chunking::SplitUtf8,
        ];
        for way in ways {
            assert_eq!(cut_into_chunks(&body, &way).concat(), body, "{way:?}");
        }
        assert_eq!(cut_into_chunks(&body, &Chunking::SplitUtf8).len(), 4);
        assert_eq!(cut_into_chunks(&body, &Chunking::Lines).len(), 4);
        assert!(
            cut_into_chunks(&body, &Chunking::Bytes(7))
                .iter()
                .all(|chunk| chunk.len() <= 7)
        );
        assert!(cut_into_chunks(&Bytes::new(), &Chunking::Whole).is_empty());
    }
}
