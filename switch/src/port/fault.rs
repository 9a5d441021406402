//! FaultPort
use super::{Offloads, Port, PortError, RxBatch, TxFrame};
use crate::bridge::DropReason;
use std::os::fd::BorrowedFd;

/// stub
pub enum FaultPort {}
impl Port for FaultPort {
    fn recv(&mut self, _: &mut RxBatch) -> Result<usize, PortError> {
        match *self {}
    }
    fn send(&mut self, _: &TxFrame<'_>) -> Result<(), DropReason> {
        match *self {}
    }
    fn offloads(&self) -> Offloads {
        match *self {}
    }
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        match *self {}
    }
}
