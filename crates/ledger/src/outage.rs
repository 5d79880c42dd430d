//! What the writer does while the database is away: holds that are not durable are withdrawn, and ends and progress of
//! what is under way are kept on disk, so that a crash during the outage loses none of them.
//!
//! Holds are never kept on disk: nothing of an answer is handed out before its hold is durable, so one that was not
//! written promised nothing.

use std::collections::VecDeque;

use crate::{
    HoldRequest, LedgerError,
    admission::AdmissionView,
    batch::Item,
    spool::{Spool, SpoolError},
    spooled::encode,
    waiting::{Reply, Tag, Waiting},
};

/// The spool of this boot, and how much of it is not in the database yet.
pub struct Outage {
    spool: Spool,
    open: usize,
}

impl Outage {
    /// With an empty spool.
    pub const fn new(spool: Spool) -> Self {
        Self { spool, open: 0 }
    }

    /// The database is taken for away while a batch is under way. Whether the batch's holds have been placed is not
    /// known: their callers are told that they have not, and those that have been will be ended.
    ///
    /// # Errors
    /// [`SpoolError::Failed`] when the disk cannot be trusted any more.
    pub fn begin(
        &mut self,
        in_flight: &[Item],
        tags: &mut [Tag],
        backlog: &mut VecDeque<Waiting>,
        view: &AdmissionView,
    ) -> Result<(), SpoolError> {
        metrics::counter!("truerelay_ledger_outages_total").increment(1);
        tracing::error!("the ledger's database is away: new requests are refused, ends are kept on disk");
        for (item, tag) in in_flight.iter().zip(tags.iter_mut()) {
            match item {
                Item::Hold(request) => withdraw(request, tag, view),
                Item::Progress(_) | Item::Close(_) => self.keep(item, tag)?,
            }
        }
        if self.put_away(backlog, view)? {
            for tag in tags.iter_mut().filter(|tag| tag.is_spooled) {
                tag.place = None;
            }
        }
        Ok(())
    }

    /// Withdraws holds and keeps everything else on disk. Answers whether it is there: a disk without room may take it
    /// later, and until then nobody is told that it is durable.
    ///
    /// # Errors
    /// As [`Outage::begin`].
    pub fn put_away(&mut self, waiting: &mut VecDeque<Waiting>, view: &AdmissionView) -> Result<bool, SpoolError> {
        waiting.retain_mut(|waiting| match &waiting.item {
            Item::Hold(request) => {
                withdraw(request, &mut waiting.tag, view);
                false
            }
            Item::Progress(_) | Item::Close(_) => true,
        });
        for waiting in waiting.iter_mut() {
            self.keep(&waiting.item, &mut waiting.tag)?;
        }
        if let Err(error) = self.spool.sync() {
            return unless_full(error).map(|()| false);
        }
        for waiting in waiting.iter_mut().filter(|waiting| waiting.tag.is_spooled) {
            waiting.tag.place = None;
        }
        Ok(true)
    }

    /// An item has been written, or never will be.
    pub const fn item_done(&mut self, tag: &Tag) {
        if tag.is_spooled {
            self.open = self.open.saturating_sub(1);
        }
    }

    /// Empties the spool when everything in it is in the database.
    ///
    /// # Errors
    /// As [`Outage::begin`].
    pub fn clear_if_done(&mut self) -> Result<(), SpoolError> {
        if self.open == 0 && !self.spool.is_empty() {
            tracing::info!("the ledger's database is back, and everything that was kept on disk is in it");
            // what could not be overwritten would be applied once more at the next boot, which changes nothing
            return self.spool.clear().or_else(unless_full);
        }
        Ok(())
    }

    /// Without room on the disk the item stays in memory alone: a crash would then leave its request to recovery, which
    /// never charges more than the last progress. The log gives way before the money does.
    fn keep(&mut self, item: &Item, tag: &mut Tag) -> Result<(), SpoolError> {
        let is_ours = matches!(tag.reply, Reply::Nobody);
        if tag.is_spooled || !is_ours {
            return Ok(());
        }
        let mut result = Err(SpoolError::Full);
        for with_record in [true, false] {
            let Some(bytes) = encode(item, with_record) else { break };
            result = self.spool.append(&bytes);
            if !matches!(result, Err(SpoolError::Full | SpoolError::TooLong(_))) {
                break;
            }
        }
        match result {
            Ok(()) => {
                tag.is_spooled = true;
                self.open += 1;
                Ok(())
            }
            Err(error) => unless_full(error),
        }
    }
}

/// A disk without room is told, and survived; any other failure ends the process.
fn unless_full(error: SpoolError) -> Result<(), SpoolError> {
    if matches!(error, SpoolError::Failed(_)) {
        return Err(error);
    }
    metrics::counter!("truerelay_ledger_spool_full_total").increment(1);
    tracing::error!(%error, "what should be kept on disk is kept in memory only");
    Ok(())
}

/// Tells the caller that its hold will not be placed. It is told, and counted, once.
fn withdraw(request: &HoldRequest, tag: &mut Tag, view: &AdmissionView) {
    if let Reply::Hold { answer, end_place } = std::mem::replace(&mut tag.reply, Reply::Withdrawn) {
        drop(end_place);
        answer.tell(Err(LedgerError::Unavailable));
        view.hold_ended(request.tenant, request.amount);
    }
    tag.place = None;
}
