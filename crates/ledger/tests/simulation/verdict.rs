//! What must be true when everything has ended: of each request, from what really happened to it; and of the whole.

use domain::{RequestId, request::Reason};
use ledger::items::{ChargeRow, ChargeState};

use crate::{
    disks::{Kept, demand_in_database},
    sim::State,
    truth::Request,
};

/// What is needed to judge one request.
struct Case<'a> {
    request: &'a Request,
    row: &'a ChargeRow,
    booked_apart: i64,
    /// An item of it could not be written.
    is_quarantined: bool,
    /// Its node stood still for a while.
    was_paused: bool,
}

/// Everything has ended, and the database can be reached.
pub fn judge(s: &mut State) {
    let open = s.database.holds.len();
    s.demand(open == 0, || format!("{open} holds are open at the end"));
    let requests: Vec<RequestId> = s.truth.requests.keys().copied().collect();
    for id in requests {
        let request = &s.truth.requests[&id];
        let is_quarantined = s.database.quarantined.contains(&id);
        let wrong = match s.database.charges.get(&id) {
            None => unwritten(request, is_quarantined),
            Some(row) => {
                let case = Case {
                    request,
                    row,
                    booked_apart: s.database.booked_apart.get(&id).copied().unwrap_or_default(),
                    is_quarantined,
                    was_paused: s.lives[request.life].paused_until > 0,
                };
                case.wrong_charge().or_else(|| case.wrong_cost())
            }
        };
        if let Some(wrong) = wrong {
            let row = s.database.charges.get(&id);
            let what = format!("request {}: {wrong}; {row:?} {request:?}", request.number);
            s.violate(what);
        }
    }
    let spools = s.drives.iter().flat_map(|drive| &drive.files);
    let kept: Vec<Kept> = spools.map(|(boot, file)| Kept::of(&file.durable, *boot)).collect();
    for kept in kept {
        demand_in_database(s, &kept, "is left");
    }
}

/// There is no terminal row.
fn unwritten(request: &Request, is_quarantined: bool) -> Option<String> {
    if request.was_held || request.handed_out {
        return Some("it was held, and has no end".to_owned());
    }
    let is_owed = request.crash.is_some_and(|crash| crash.cost_is_owed);
    (is_owed && !request.disk_lost_it && !is_quarantined).then(|| "what was spent on it is nowhere".to_owned())
}

impl Case<'_> {
    /// Recovery has ended the request, not its node.
    fn is_recovered(&self) -> bool {
        self.row.reason.is_by_recovery()
    }

    /// What its node had accepted for it could not get lost.
    fn is_safe(&self) -> bool {
        !self.is_quarantined && !self.request.disk_lost_it
    }

    /// What the customer paid.
    fn wrong_charge(&self) -> Option<String> {
        let (request, row) = (self.request, self.row);
        let amount = row.amount.nanos();
        if row.amount > row.held || row.held > request.amount {
            return Some("it was charged more than was held".to_owned());
        }
        if row.state != ChargeState::Settled && amount != 0 {
            return Some("it was charged, and its state says that it was not".to_owned());
        }
        if request.handed_out && row.state == ChargeState::Refused {
            return Some("it was refused, and something was handed out".to_owned());
        }
        if self.is_recovered() {
            return self.wrong_recovery();
        }
        let exact = request
            .end
            .map_or(0, |end| end.wanted.unwrap_or(0).min(request.amount.nanos()));
        (amount != exact).then(|| format!("it was charged {amount}, and its end said {exact}"))
    }

    /// A request that its node did not end is charged at a progress that was queued: never above what the provider
    /// counted, and never below what was durable when the node died, in the database or on its disk.
    fn wrong_recovery(&self) -> Option<String> {
        let (request, row) = (self.request, self.row);
        let amount = row.amount.nanos();
        let by_its_node = row.reason == Reason::RelayCrashed;
        let crash = request.crash?;
        if by_its_node && crash.end_is_durable && self.is_safe() {
            return Some("its end was durable when its node died, and recovery has overruled it".to_owned());
        }
        let cut = |offered: i64| offered.min(request.amount.nanos());
        let at_least = match () {
            () if self.is_quarantined => None,
            () if by_its_node && !request.disk_lost_it => crash.kept,
            () if by_its_node || !self.was_paused => crash.noted,
            () => None,
        };
        if let Some(at_least) = at_least
            && amount < cut(at_least)
        {
            return Some(format!("recovery has charged {amount}, and {at_least} was durable"));
        }
        let is_progress = request.offered.iter().any(|(_, offered)| cut(*offered) == amount);
        (amount != 0 && !is_progress).then(|| format!("recovery has charged {amount}, which was never its progress"))
    }

    /// What the operator owes to the provider.
    fn wrong_cost(&self) -> Option<String> {
        let (request, row) = (self.request, self.row);
        let booked = row.provider_cost.nanos() + row.unbilled.nanos() + self.booked_apart;
        let crash = request.crash?;
        if self.is_recovered() && row.state == ChargeState::Voided && booked < request.estimate {
            return Some(format!(
                "{booked} is booked, and its provider may bill {}",
                request.estimate
            ));
        }
        if let Some(end) = request.end {
            let is_short = crash.end_is_durable && self.is_safe() && booked < end.cost;
            let is_long = !self.is_recovered() && booked > end.cost;
            return (is_short || is_long).then(|| format!("{booked} is booked, and its end said {}", end.cost));
        }
        let (_, refused) = request.refused_cost?;
        (crash.cost_is_owed && self.is_safe() && booked < refused)
            .then(|| format!("{booked} is booked, and {refused} was spent before the refusal"))
    }
}
