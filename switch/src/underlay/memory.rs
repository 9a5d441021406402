//! MemoryUnderlay
use super::{Sent, Target, UnderlayBatch, UnderlayEnd};
use std::{io, os::fd::BorrowedFd};

/// stub
pub enum MemoryUnderlay {}
impl UnderlayEnd for MemoryUnderlay {
    fn recv(&mut self, _: &mut UnderlayBatch) -> io::Result<usize> {
        match *self {}
    }
    fn reserve(&mut self, _: &Target, _: u32, _: usize) -> &mut [u8] {
        match *self {}
    }
    fn flush(&mut self, _: &mut dyn FnMut(Sent)) {
        match *self {}
    }
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        match *self {}
    }
}
