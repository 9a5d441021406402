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
mod tests {
    use std::{cell::RefCell, collections::VecDeque, rc::Rc};

    use super::*;
    use crate::underlay::queue::GROUP_COUNT;

    #[test]
    fn a_batch_leaves_with_one_call_for_each_socket() {
        let (mut tx, kernel) = tx();
        for (vtep, hash) in [(1, 0), (2, 0), (1, 1), (1, 0), (2, 1)] {
            put(&mut tx, vtep, hash, 108);
        }
        assert_eq!(
            flush(&mut tx),
            [(1, 2, 200, Ok(())), (2, 1, 100, Ok(())), (1, 1, 100, Ok(())), (2, 1, 100, Ok(()))]
        );
        assert_eq!(
            kernel.borrow().calls,
            [(0, vec![(216, Some(108)), (108, None)]), (1, vec![(108, None), (108, None)])]
        );
    }

    #[test]
    fn nothing_reserved_costs_no_call() {
        let (mut tx, kernel) = tx();
        assert_eq!(flush(&mut tx), []);
        assert!(kernel.borrow().calls.is_empty());
    }

    #[test]
    fn what_the_kernel_left_over_is_sent_with_the_next_call() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Ok(1), Ok(2)].into();
        for vtep in [1, 2, 3] {
            put(&mut tx, vtep, 0, 108);
        }
        assert_eq!(flush(&mut tx), [(1, 1, 100, Ok(())), (2, 1, 100, Ok(())), (3, 1, 100, Ok(()))]);
        assert_eq!(kernel.borrow().calls.len(), 2);
        assert_eq!(kernel.borrow().calls[1].1.len(), 2);
    }

    #[test]
    fn each_error_has_its_reason_and_does_not_stop_the_others() {
        for (error, reason) in [
            (Errno::MSGSIZE, DropReason::UnderlayMtu),
            (Errno::NETUNREACH, DropReason::UnderlayUnreachable),
            (Errno::HOSTUNREACH, DropReason::UnderlayUnreachable),
            (Errno::NETDOWN, DropReason::UnderlayUnreachable),
            (Errno::ADDRNOTAVAIL, DropReason::UnderlayUnreachable),
            (Errno::NOBUFS, DropReason::UnderlayQueueFull),
            (Errno::PERM, DropReason::UnderlayRefused),
            (Errno::ACCESS, DropReason::UnderlayRefused),
            (Errno::INVAL, DropReason::UnderlayRefused),
        ] {
            let (mut tx, kernel) = tx();
            let tries = if may_be_an_earlier_ones(error) { TRIES } else { 1 };
            let refusals = std::iter::repeat_n(Err(error), tries);
            kernel.borrow_mut().answers = [Ok(1)].into_iter().chain(refusals).chain([Ok(1)]).collect();
            for vtep in [1, 2, 3] {
                put(&mut tx, vtep, 0, 108);
            }
            let expected = [(1, 1, 100, Ok(())), (2, 1, 100, Err(reason)), (3, 1, 100, Ok(()))];
            assert_eq!(flush(&mut tx), expected, "{error}");
            assert!(tx.transmit().takes_runs(0));
        }
    }

    #[test]
    fn a_full_socket_is_left_alone_but_others_are_not() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Ok(1), Err(Errno::AGAIN), Ok(1)].into();
        for (vtep, hash) in [(1, 0), (2, 0), (2, 0), (3, 0), (4, 1)] {
            put(&mut tx, vtep, hash, 108);
        }
        let full = Err(DropReason::UnderlayQueueFull);
        assert_eq!(flush(&mut tx), [(1, 1, 100, Ok(())), (2, 2, 200, full), (3, 1, 100, full), (4, 1, 100, Ok(()))]);
        assert_eq!(kernel.borrow().calls.len(), 3);
    }

    #[test]
    fn earlier_datagrams_errors_cost_calls_and_no_datagram() {
        for error in [Errno::CONNREFUSED, Errno::MSGSIZE, Errno::HOSTUNREACH, Errno::INTR] {
            let (mut tx, kernel) = tx();
            let pending = || Err(error);
            kernel.borrow_mut().answers = [pending(), Ok(1), pending(), pending(), pending(), Ok(1), Ok(1)].into();
            for vtep in [1, 2, 3] {
                put(&mut tx, vtep, 0, 108);
            }
            assert_eq!(flush(&mut tx), [(1, 1, 100, Ok(())), (2, 1, 100, Ok(())), (3, 1, 100, Ok(()))], "{error}");
            assert_eq!(kernel.borrow().calls.len(), 7);
        }
    }

    #[test]
    fn an_error_that_stays_is_the_datagrams_own() {
        let (mut tx, kernel) = tx();
        let refused = || Err(Errno::CONNREFUSED);
        kernel.borrow_mut().answers = [Ok(1), refused(), refused(), refused(), refused(), Ok(1)].into();
        for vtep in [1, 2, 3] {
            put(&mut tx, vtep, 0, 108);
        }
        assert_eq!(
            flush(&mut tx),
            [(1, 1, 100, Ok(())), (2, 1, 100, Err(DropReason::UnderlayRefused)), (3, 1, 100, Ok(()))]
        );
    }

    #[test]
    fn a_run_that_meets_an_earlier_datagrams_error_is_sent_again_as_a_run() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Err(Errno::MSGSIZE), Ok(1)].into();
        put(&mut tx, 1, 0, 108);
        put(&mut tx, 1, 0, 108);
        assert_eq!(flush(&mut tx), [(1, 2, 200, Ok(()))]);
        assert_eq!(tx.counts().refused_runs, 0);
        assert_eq!(kernel.borrow().calls[1], (0, vec![(216, Some(108))]));
    }

    #[test]
    fn a_run_that_is_refused_where_its_datagrams_pass_ends_segmentation() {
        for error in [Errno::IO, Errno::INVAL] {
            let (mut tx, kernel) = tx();
            kernel.borrow_mut().answers = [Err(error), Ok(2), Ok(1), Ok(2)].into();
            for (vtep, len) in [(1, 108), (1, 108), (1, 58), (2, 108), (2, 108)] {
                put(&mut tx, vtep, 0, len);
            }
            let sent = flush(&mut tx);
            assert_eq!(sent.iter().map(|sent| sent.1).sum::<u64>(), 5);
            assert!(sent.iter().all(|sent| sent.3.is_ok()));
            assert!(!tx.transmit().takes_runs(0));
            assert_eq!(tx.counts().refused_runs, 1);
            let calls = &kernel.borrow().calls;
            assert_eq!(calls[0].1, [(274, Some(108)), (216, Some(108))]);
            assert_eq!(calls[1].1, [(108, None), (108, None), (58, None)]);
            assert_eq!(calls[2].1, [(58, None)]);
            assert_eq!(calls[3].1, [(108, None), (108, None)]);
        }
    }

    #[test]
    fn segmentation_ends_for_the_socket_that_was_refused_and_goes_on_for_others() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Err(Errno::IO)].into();
        for hash in [0, 0, 1, 1] {
            put(&mut tx, 1, hash, 108);
        }
        flush(&mut tx);
        let calls = std::mem::take(&mut kernel.borrow_mut().calls);
        assert_eq!(calls[2], (1, vec![(216, Some(108))]));
        for hash in [0, 0, 1, 1] {
            put(&mut tx, 1, hash, 108);
        }
        flush(&mut tx);
        let calls = &kernel.borrow().calls;
        assert_eq!(calls[..], [(0, vec![(108, None), (108, None)]), (1, vec![(216, Some(108))])]);
        assert_eq!(tx.counts().refused_runs, 1);
    }

    #[test]
    fn a_run_of_datagrams_that_are_too_long_does_not_end_segmentation_and_its_short_tail_passes() {
        for error in [Errno::MSGSIZE, Errno::INVAL] {
            let (mut tx, kernel) = tx();
            let tries = |error| std::iter::repeat_n(Err(error), if may_be_an_earlier_ones(error) { TRIES } else { 1 });
            kernel.borrow_mut().answers = tries(error).chain(tries(Errno::MSGSIZE)).chain([Ok(1)]).collect();
            for len in [1508, 1508, 1508, 58] {
                put(&mut tx, 1, 0, len);
            }
            let mtu = Err(DropReason::UnderlayMtu);
            assert_eq!(flush(&mut tx), [(1, 1, 1500, mtu), (1, 1, 1500, mtu), (1, 1, 1500, mtu), (1, 1, 50, Ok(()))]);
            assert!(tx.transmit().takes_runs(0));
            assert_eq!(tx.counts().refused_runs, 1);
        }
    }

    #[test]
    fn a_run_that_must_be_fragmented_goes_singly_and_does_not_end_segmentation() {
        for error in [Errno::MSGSIZE, Errno::INVAL] {
            let (mut tx, kernel) = tx();
            kernel.borrow_mut().may_fragment = true;
            let tries = if may_be_an_earlier_ones(error) { TRIES } else { 1 };
            kernel.borrow_mut().answers = std::iter::repeat_n(Err(error), tries).chain([Ok(2)]).collect();
            put(&mut tx, 1, 0, 1508);
            put(&mut tx, 1, 0, 1508);
            assert_eq!(flush(&mut tx), [(1, 1, 1500, Ok(())), (1, 1, 1500, Ok(()))]);
            assert!(tx.transmit().takes_runs(0));
        }
    }

    #[test]
    fn a_run_that_a_firewall_refuses_is_refused_as_a_whole() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Err(Errno::PERM)].into();
        put(&mut tx, 1, 0, 108);
        put(&mut tx, 1, 0, 58);
        assert_eq!(flush(&mut tx), [(1, 2, 150, Err(DropReason::UnderlayRefused))]);
        assert_eq!(kernel.borrow().calls.len(), 1);
    }

    #[test]
    fn without_segmentation_an_unreachable_vtep_costs_the_calls_of_one_datagram() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().without_runs.push(0);
        let unreachable = std::iter::repeat_n(Err(Errno::NETUNREACH), TRIES);
        kernel.borrow_mut().answers = unreachable.chain([Ok(1)]).collect();
        for vtep in [1, 1, 1, 2] {
            put(&mut tx, vtep, 0, 108);
        }
        let unreachable = (1, 1, 100, Err(DropReason::UnderlayUnreachable));
        assert_eq!(flush(&mut tx), [unreachable, unreachable, unreachable, (2, 1, 100, Ok(()))]);
        assert_eq!(kernel.borrow().calls.len(), TRIES + 1);
    }

    #[test]
    fn a_socket_that_fills_up_amid_single_datagrams_keeps_the_account_whole() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Err(Errno::IO), Ok(1), Err(Errno::AGAIN)].into();
        for vtep in [1, 1, 1, 2] {
            put(&mut tx, vtep, 0, 108);
        }
        let sent = flush(&mut tx);
        assert_eq!(sent.iter().map(|sent| sent.1).sum::<u64>(), 4);
        assert_eq!(sent.iter().filter(|sent| sent.3.is_ok()).map(|sent| sent.1).sum::<u64>(), 1);
        assert_eq!(kernel.borrow().calls.len(), 3);
    }

    #[test]
    fn a_full_queue_is_sent_early_and_reported_with_the_next_flush() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = std::iter::repeat_n(Err(Errno::NETUNREACH), TRIES).collect();
        let count = GROUP_COUNT as u16 + 1;
        for vtep in 0..count {
            put(&mut tx, vtep, 0, 108);
        }
        assert!(!kernel.borrow().calls.is_empty(), "sent before flush");
        assert_eq!(tx.counts().early_flushes, 1);
        let mut sent = flush(&mut tx);
        sent.sort_by_key(|sent| sent.0);
        let expected: Vec<_> = (0..count)
            .map(|vtep| (vtep, 1, 100, if vtep == 0 { Err(DropReason::UnderlayUnreachable) } else { Ok(()) }))
            .collect();
        assert_eq!(sent, expected);
        assert_eq!(flush(&mut tx), [], "reported once only");
    }

    #[test]
    fn a_longer_tunnel_header_is_no_part_of_the_frames_either() {
        let (mut tx, kernel) = tx();
        kernel.borrow_mut().answers = [Err(Errno::IO)].into();
        let geneve = Target { header_len: 8 + 12, ..target(1) };
        for _ in 0..3 {
            tx.reserve(&geneve, 0, 120);
        }
        assert_eq!(flush(&mut tx), [(1, 1, 100, Ok(())), (1, 1, 100, Ok(())), (1, 1, 100, Ok(()))], "one by one");
        tx.reserve(&geneve, 0, 120);
        tx.reserve(&target(1), 0, 120);
        assert_eq!(flush(&mut tx), [(1, 1, 100, Ok(())), (1, 1, 112, Ok(()))]);
    }

    #[test]
    fn df_chooses_among_the_sockets_of_one_flow() {
        let (mut tx, kernel) = tx();
        tx.reserve(&target(1), 0, 108);
        tx.reserve(&Target { dont_fragment: false, ..target(1) }, 0, 108);
        flush(&mut tx);
        let sockets: Vec<_> = kernel.borrow().calls.iter().map(|call| call.0).collect();
        assert_eq!(sockets, [0, 2]);
    }

    /// Two sockets, chosen by the hash's lowest bit, and two more for datagrams that may be fragmented.
    fn tx() -> (Tx<Mock>, Rc<RefCell<Kernel>>) {
        let kernel = Rc::<RefCell<Kernel>>::default();
        (Tx::new(Mock(Rc::clone(&kernel))), kernel)
    }

    type Call = (u16, Vec<(usize, Option<u16>)>);

    #[derive(Default)]
    struct Kernel {
        without_runs: Vec<u16>,
        may_fragment: bool,
        /// What the next calls return; then everything is taken.
        answers: VecDeque<Result<usize, Errno>>,
        /// Socket, and length and segment length of each message.
        calls: Vec<Call>,
    }

    struct Mock(Rc<RefCell<Kernel>>);

    impl Transmit for Mock {
        fn socket_count(&self) -> usize {
            4
        }
        fn socket(&self, hash: u32, dont_fragment: bool) -> u16 {
            (hash & 1) as u16 + if dont_fragment { 0 } else { 2 }
        }
        fn may_fragment(&self, _: u16) -> bool {
            self.0.borrow().may_fragment
        }
        fn takes_runs(&self, socket: u16) -> bool {
            !self.0.borrow().without_runs.contains(&socket)
        }
        fn give_up_runs(&mut self, socket: u16, _: Errno) {
            self.0.borrow_mut().without_runs.push(socket);
        }
        fn send<'a>(&mut self, socket: u16, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<usize, Errno> {
            let messages: Vec<_> = messages.map(|message| (message.payload.len(), message.segment_len)).collect();
            let count = messages.len();
            let mut kernel = self.0.borrow_mut();
            kernel.calls.push((socket, messages));
            kernel.answers.pop_front().unwrap_or(Ok(count))
        }
    }

    fn target(vtep: u16) -> Target {
        Target {
            bridge: BridgeId(1),
            vtep: VtepId(vtep),
            address: "192.0.2.1:4789".parse().unwrap(),
            tos: 0,
            ttl: 64,
            dont_fragment: true,
            header_len: 8,
        }
    }

    fn put(tx: &mut Tx<Mock>, vtep: u16, hash: u32, len: usize) {
        tx.reserve(&target(vtep), hash, len).fill(vtep as u8);
    }

    /// VTEP, frames, bytes and result of each report.
    fn flush(tx: &mut Tx<Mock>) -> Vec<(u16, u64, u64, Result<(), DropReason>)> {
        let mut sent = Vec::new();
        tx.flush(&mut |report| sent.push((report.vtep.0, report.frames, report.bytes, report.result)));
        sent
    }
}
