//! From whole frame to whole frame through any bytes, in time that grows with their number only.

use std::io::{self, Read};

use memchr::memmem::Finder;

use super::{
    frame::{Header, MARKER, OVERHEAD_BYTES, Seal},
    window::Window,
};

/// A whole frame of this boot, of any generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    /// Where it begins.
    pub(super) offset: u64,
    /// Where the next one may begin.
    pub(super) end: u64,
    /// What stands before its payload.
    pub(super) header: Header,
}

/// Goes through a source. The frame sighted last is still in memory.
pub(super) struct Scan<R> {
    window: Window<R>,
    seal: Seal,
    finder: Finder<'static>,
    sighted_bytes: usize,
}

impl<R: Read> Scan<R> {
    /// Begins at the source's present position, which counts as offset 0.
    pub(super) fn new(source: R, seal: Seal) -> Self {
        Self {
            window: Window::new(source),
            seal,
            finder: Finder::new(&MARKER),
            sighted_bytes: 0,
        }
    }

    /// The next whole frame; what is between is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Sighting>> {
        self.window.pass(std::mem::take(&mut self.sighted_bytes));
        while self.go_to_marker()? {
            if let Some(header) = self.whole_frame()? {
                let offset = self.window.offset();
                self.sighted_bytes = header.frame_bytes();
                let end = offset + self.sighted_bytes as u64;
                return Ok(Some(Sighting { offset, end, header }));
            }
            self.window.pass(MARKER.len());
        }
        Ok(None)
    }

    /// The payload of the frame sighted last.
    pub(super) fn payload(&self, sighting: &Sighting) -> Vec<u8> {
        let frame = self.window.bytes().get(..sighting.header.frame_bytes());
        sighting.header.payload(frame.unwrap_or_default())
    }

    /// The source and the seal, to go through it again.
    pub(super) fn into_parts(self) -> (R, Seal) {
        (self.window.into_source(), self.seal)
    }

    fn go_to_marker(&mut self) -> io::Result<bool> {
        loop {
            let bytes = self.window.bytes();
            if let Some(at) = self.finder.find(bytes) {
                self.window.pass(at);
                return Ok(true);
            }
            // a marker may begin at the end of what is in memory
            let kept = bytes.len().min(MARKER.len() - 1);
            self.window.pass(bytes.len() - kept);
            if !self.window.fill(kept + 1)? {
                return Ok(false);
            }
        }
    }

    /// The header of the frame that begins here, if it is whole.
    fn whole_frame(&mut self) -> io::Result<Option<Header>> {
        if !self.window.fill(OVERHEAD_BYTES)? {
            return Ok(None);
        }
        let Some(header) = Header::parse(self.window.bytes()) else {
            return Ok(None);
        };
        if !self.window.fill(header.frame_bytes())? {
            return Ok(None);
        }
        let frame = self.window.bytes().get(..header.frame_bytes()).unwrap_or_default();
        // no frame holds a marker; to look first keeps false lengths from costing a checksum each
        let behind = frame.get(MARKER.len()..).unwrap_or_default();
        let whole = self.finder.find(behind).is_none() && header.is_whole(frame, &self.seal);
        Ok(whole.then_some(header))
    }
}
