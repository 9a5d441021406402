//! Sending: what waits in the queue leaves in as few system calls as possible, and what became of each datagram is
//! reported exactly once.
//!
//! Each socket's groups go out with one `sendmmsg`, a run being one message with UDP_SEGMENT. The kernel takes messages in
//! order and stops at the first that it refuses; this one's fate is settled, and sending goes on behind it. Errors mean:
//!
//! | error | fate |
//! |---|---|
//! | EMSGSIZE | `underlay_mtu` |
//! | ENETUNREACH, EHOSTUNREACH, ENETDOWN, EADDRNOTAVAIL | `underlay_unreachable` |
//! | ENOBUFS, ENOMEM | `underlay_queue_full` |
//! | EAGAIN: the socket's memory is used up | `underlay_queue_full` for all that waits for this socket: no spinning |
//! | EPERM, EACCES (a firewall), all others | `underlay_refused` |
//! | EINTR | once more |
//!
//! An error may also be an *earlier* datagram's: what ICMP says of a datagram the kernel returns from the next send through
//! that socket, whatever that is about, because the control plane has asked for such errors (IP_RECVERR,
//! [`events`](super::events)). Each send takes one such error away, so a send that fails with an error that ICMP can cause is
//! made again, [`TRIES`] times in all, before it is believed.
//!
//! A refused *run* may be the run's fault and not its datagrams': the kernel does not segment for this device or through
//! this IPsec policy (EIO, EINVAL), or will not fragment the segments of a socket that may fragment (EMSGSIZE; EINVAL in older
//! kernels). Then its datagrams are sent one by one. If the first of them passes though EIO or EINVAL was said of the run
//! and fragmenting can't explain it, segmenting is given up for this socket ([`Transmit::give_up_runs`]).
//!
//! A queueing discipline that drops what it is given says so (ENOBUFS, with IP_RECVERR). One that drops something else
//! instead, as fq_codel does, does not; that counts with it alone.

use std::collections::HashMap;

use rustix::io::Errno;

use super::{
    Sent, Target,
    queue::{Cursor, Cut, Message, SendQueue},
};
use crate::{
    bridge::DropReason,
    ids::{BridgeId, VtepId},
    sys::udp::Outgoing,
};

/// The sockets that a [`Tx`] sends through: the kernel's, or a test's.
pub(super) trait Transmit {
    /// How many sockets there are.
    fn socket_count(&self) -> usize;

    /// Which socket a flow takes.
    fn socket(&self, hash: u32, dont_fragment: bool) -> u16;

    /// Whether the kernel may fragment what this socket sends.
    fn may_fragment(&self, socket: u16) -> bool;

    /// Whether to send runs through this socket as they are.
    fn takes_runs(&self, socket: u16) -> bool;

    /// Through this socket runs fail with this error where single datagrams don't.
    fn give_up_runs(&mut self, socket: u16, error: Errno);

    /// As [`SendArrays::send`](crate::sys::udp::SendArrays::send).
    fn send<'a>(&mut self, socket: u16, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<usize, Errno>;
}

/// What sending has cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxCounts {
    /// Calls of `sendmmsg`.
    pub calls: u64,
    /// Messages that the kernel took: runs and single datagrams.
    pub messages: u64,
    /// Times that the queue was full, so that it was sent before the batch's end.
    pub early_flushes: u64,
    /// Runs that the kernel refused, so that their datagrams were sent one by one.
    pub refused_runs: u64,
}

/// The sending half of an underlay's end.
pub(super) struct Tx<T> {
    queue: SendQueue,
    sending: Sending<T>,
    /// Hash and DF of the last datagram, and the socket that they led to: segments of one super-frame come in a row.
    last: (u32, bool, u16),
    early: Outcomes,
}

impl<T: Transmit> Tx<T> {
    pub(super) fn new(transmit: T) -> Self {
        Self {
            queue: SendQueue::new(transmit.socket_count()),
            last: (0, true, transmit.socket(0, true)),
            sending: Sending { transmit, counts: TxCounts::default() },
            early: Outcomes::default(),
        }
    }

    /// See [`UnderlayEnd::reserve`](super::UnderlayEnd::reserve).
    #[inline]
    pub(super) fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8] {
        let (last_hash, last_dont_fragment, mut socket) = self.last;
        if (hash, target.dont_fragment) != (last_hash, last_dont_fragment) {
            socket = self.sending.transmit.socket(hash, target.dont_fragment);
            self.last = (hash, target.dont_fragment, socket);
        }
        let place = match self.queue.reserve(socket, target, len) {
            Some(place) => place,
            None => {
                self.flush_early();
                self.queue.reserve(socket, target, len).expect("an empty queue has a free place")
            }
        };
        self.queue.bytes_mut(place)
    }

    #[cold]
    fn flush_early(&mut self) {
        let Self { queue, sending, early, .. } = self;
        sending.counts.early_flushes += 1;
        sending.send_all(queue, &mut |sent| early.add(sent));
    }

    /// See [`UnderlayEnd::flush`](super::UnderlayEnd::flush).
    pub(super) fn flush(&mut self, report: &mut dyn FnMut(Sent)) {
        self.early.report(report);
        if !self.queue.is_empty() {
            self.sending.send_all(&mut self.queue, report);
        }
    }

    pub(super) fn counts(&self) -> TxCounts {
        self.sending.counts
    }

    pub(super) fn transmit(&self) -> &T {
        &self.sending.transmit
    }
}

/// What became of datagrams that were sent before the caller could be told. There are as many entries as the switch's
/// bridges, VTEPs and reasons meet, and they are kept, so a steady state does not allocate.
#[derive(Default)]
struct Outcomes {
    totals: HashMap<Outcome, (u64, u64), foldhash::fast::RandomState>,
}

/// What frames and bytes are summed up by.
type Outcome = (BridgeId, VtepId, Result<(), DropReason>);

impl Outcomes {
    fn add(&mut self, sent: Sent) {
        let (frames, bytes) = self.totals.entry((sent.bridge, sent.vtep, sent.result)).or_default();
        *frames += sent.frames;
        *bytes += sent.bytes;
    }

    fn report(&mut self, report: &mut dyn FnMut(Sent)) {
        for ((bridge, vtep, result), (frames, bytes)) in self.totals.drain() {
            report(Sent { bridge, vtep, frames, bytes, result });
        }
    }
}

/// How often a send is made at most that fails with what may be an earlier datagram's error. Twice would do if errors came
/// one by one; while the control plane empties a queue of them, the kernel makes each next one pending in turn
/// (`net/core/skbuff.c`: sock_dequeue_err_skb).
const TRIES: usize = 4;

struct Sending<T> {
    transmit: T,
    counts: TxCounts,
}

/// What a call of `sendmmsg` led to.
enum Step {
    /// Some messages went, and the cursor stands behind them.
    Sent,
    /// The first message was refused.
    Refused(Errno),
    /// The socket takes nothing now.
    Full,
}

impl<T: Transmit> Sending<T> {
    fn send_all(&mut self, queue: &mut SendQueue, report: &mut dyn FnMut(Sent)) {
        for &socket in queue.active() {
            self.send_socket(queue, socket, report);
        }
        queue.clear();
    }

    /// Sends and settles everything that waits for one socket.
    fn send_socket(&mut self, queue: &SendQueue, socket: u16, report: &mut dyn FnMut(Sent)) {
        let mut at = queue.begin(socket);
        while !at.is_end() {
            let cut = if self.transmit.takes_runs(socket) { Cut::Runs } else { Cut::Singles };
            let step = match self.send_some(queue, socket, &mut at, cut, false, report) {
                Step::Refused(error) => self.after_refusal(queue, socket, &mut at, cut, error, report),
                step @ (Step::Sent | Step::Full) => step,
            };
            if matches!(step, Step::Full) {
                let reason = DropReason::UnderlayQueueFull;
                queue.messages(at, cut).for_each(|message| settle(&message, Err(reason), report));
                return;
            }
        }
    }

    /// Goes on behind a refused message; if that was a run, perhaps with the datagrams that it consists of.
    fn after_refusal(
        &mut self,
        queue: &SendQueue,
        socket: u16,
        at: &mut Cursor,
        cut: Cut,
        error: Errno,
        report: &mut dyn FnMut(Sent),
    ) -> Step {
        let is_run = queue.messages(*at, cut).next().is_some_and(|message| message.outgoing.segment_len.is_some());
        if is_run && matches!(error, Errno::IO | Errno::INVAL | Errno::MSGSIZE) {
            self.send_singly(queue, socket, at, error, report)
        } else {
            skip_refused(queue, at, cut, error, report);
            Step::Refused(error)
        }
    }

    /// Sends the rest of a group whose run was refused with `error`.
    fn send_singly(
        &mut self,
        queue: &SendQueue,
        socket: u16,
        at: &mut Cursor,
        error: Errno,
        report: &mut dyn FnMut(Sent),
    ) -> Step {
        self.counts.refused_runs += 1;
        let run = *at;
        while at.same_group(run) {
            let is_first = *at == run;
            match self.send_some(queue, socket, at, Cut::Singles, true, report) {
                Step::Sent => {
                    let fragments_explain = error == Errno::INVAL && self.transmit.may_fragment(socket);
                    if is_first && error != Errno::MSGSIZE && !fragments_explain {
                        self.transmit.give_up_runs(socket, error);
                    }
                }
                Step::Refused(error) => skip_refused(queue, at, Cut::Singles, error, report),
                Step::Full => return Step::Full,
            }
        }
        Step::Sent
    }

    /// One `sendmmsg` of what waits from `at` on, or only of the rest of that group; settles what the kernel took.
    fn send_some(
        &mut self,
        queue: &SendQueue,
        socket: u16,
        at: &mut Cursor,
        cut: Cut,
        only_group: bool,
        report: &mut dyn FnMut(Sent),
    ) -> Step {
        let first = *at;
        let mut tries = TRIES;
        loop {
            let mut messages = queue.messages(first, cut);
            let outgoing = std::iter::from_fn(|| {
                let in_reach = !only_group || messages.at().same_group(first);
                if in_reach { messages.next().map(|message| message.outgoing) } else { None }
            });
            self.counts.calls += 1;
            match self.transmit.send(socket, outgoing) {
                Ok(0) | Err(Errno::AGAIN) => return Step::Full,
                Ok(sent_count) => {
                    self.counts.messages += sent_count as u64;
                    let mut messages = queue.messages(first, cut);
                    messages.by_ref().take(sent_count).for_each(|message| settle(&message, Ok(()), report));
                    *at = messages.at();
                    return Step::Sent;
                }
                Err(error) if tries > 1 && may_be_an_earlier_ones(error) => tries -= 1,
                Err(error) => return Step::Refused(error),
            }
        }
    }
}

/// Settles the message at the cursor, and those behind it in the same group that would meet the same refusal.
fn skip_refused(queue: &SendQueue, at: &mut Cursor, cut: Cut, error: Errno, report: &mut dyn FnMut(Sent)) {
    let reason = reason(error);
    let group = *at;
    let mut refused_len = None;
    while at.same_group(group) {
        let mut messages = queue.messages(*at, cut);
        let Some(message) = messages.next() else { return };
        let len = message.outgoing.payload.len();
        let is_alike = match refused_len {
            None => true,
            Some(refused_len) if reason == DropReason::UnderlayMtu => len >= refused_len,
            Some(_) => reason == DropReason::UnderlayUnreachable,
        };
        if !is_alike {
            return;
        }
        refused_len = Some(len);
        settle(&message, Err(reason), report);
        *at = messages.at();
    }
}

fn settle(message: &Message<'_>, result: Result<(), DropReason>, report: &mut dyn FnMut(Sent)) {
    let Target { bridge, vtep, header_len, .. } = *message.target;
    let frames = u64::from(message.count);
    let bytes = (message.outgoing.payload.len() as u64).saturating_sub(frames * u64::from(header_len));
    report(Sent { bridge, vtep, frames, bytes, result });
}

/// What the kernel makes of ICMP and ICMPv6 (`net/ipv4/icmp.c`: icmp_err_convert; `net/ipv4/udp.c`: __udp4_lib_err;
/// `net/ipv6/icmp.c`: icmpv6_err_convert), and a signal.
const fn may_be_an_earlier_ones(error: Errno) -> bool {
    matches!(
        error,
        Errno::MSGSIZE
            | Errno::CONNREFUSED
            | Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PROTO
            | Errno::ACCESS
            | Errno::INTR
    )
}

fn reason(error: Errno) -> DropReason {
    match error {
        Errno::MSGSIZE => DropReason::UnderlayMtu,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL => {
            DropReason::UnderlayUnreachable
        }
        Errno::NOBUFS | Errno::NOMEM => DropReason::UnderlayQueueFull,
        _ => DropReason::UnderlayRefused,
    }
}

#[cfg(test)]
mod tests;
