//! Provisional.
#![allow(missing_docs)]
use std::{
    io,
    path::{Path, PathBuf},
};
use uuid::Uuid;
pub trait Disk: Send {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("full")]
    Full,
    #[error("{0}")]
    Failed(#[from] io::Error),
}
pub struct Spool {
    n: usize,
}
impl Spool {
    pub fn append(&mut self, _p: &[u8]) -> Result<(), SpoolError> {
        self.n += 1;
        Ok(())
    }
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }
    pub fn clear(&mut self) -> Result<(), SpoolError> {
        self.n = 0;
        Ok(())
    }
    pub const fn is_empty(&self) -> bool {
        self.n == 0
    }
}
pub struct Contents {
    pub payloads: Vec<Vec<u8>>,
    pub damaged: Vec<String>,
    pub tail_cut: bool,
}
pub trait Spools: Send + Sync {
    fn create(&self, boot: Uuid) -> io::Result<Spool>;
    fn earlier(&self, boot: Uuid) -> io::Result<Vec<Uuid>>;
    fn read(&self, boot: Uuid) -> io::Result<Contents>;
    fn remove(&self, boot: Uuid) -> io::Result<()>;
}
pub struct SpoolFolder {
    _p: PathBuf,
}
impl SpoolFolder {
    pub fn open(p: &Path, _r: u64) -> io::Result<Self> {
        Ok(Self { _p: p.into() })
    }
}
impl Spools for SpoolFolder {
    fn create(&self, _boot: Uuid) -> io::Result<Spool> {
        Ok(Spool { n: 0 })
    }
    fn earlier(&self, _boot: Uuid) -> io::Result<Vec<Uuid>> {
        Ok(vec![])
    }
    fn read(&self, _boot: Uuid) -> io::Result<Contents> {
        Ok(Contents {
            payloads: vec![],
            damaged: vec![],
            tail_cut: false,
        })
    }
    fn remove(&self, _boot: Uuid) -> io::Result<()> {
        Ok(())
    }
}
