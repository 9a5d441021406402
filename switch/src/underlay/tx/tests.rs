use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::*;
use crate::underlay::queue::GROUP_COUNT;

#[test]
fn a_batch_leaves_with_one_call_for_each_socket() {
    let (mut tx, kernel) = tx();
    for (vtep, hash) in [(1, 0), (2, 0), (1, 1), (1, 0), (2, 1)] {
        put(&mut tx, vtep, hash, 108);
    }
    assert_eq!(flush(&mut tx), [(1, 2, 200, Ok(())), (2, 1, 100, Ok(())), (1, 1, 100, Ok(())), (2, 1, 100, Ok(()))]);
    assert_eq!(kernel.borrow().calls, [(0, vec![(216, Some(108)), (108, None)]), (1, vec![(108, None), (108, None)])]);
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
