//! The send queue: where datagrams are written once, side by side, so that many leave in one system call.
//!
//! UDP_SEGMENT lets one send carry a *run*: up to 64 datagrams to one address, laid end to end, all of one length but the
//! last, which may be shorter. So the queue keeps *groups*, each of which is or may become a run:
//!
//! ```text
//! socket 3:  group 0 (vtep a)  | 1450 | 1450 | 1450 | 90 |          closed by the shorter one
//!            group 2 (vtep b)  | 114 | 114 |                        open: takes 114 bytes or fewer
//!            group 3 (vtep a)  | 1450 |                             open
//! socket 7:  group 1 (vtep a)  | 66 |                               open
//! ```
//!
//! A datagram goes into the youngest group with its socket and target if it fits there, else into a new one. An older
//! group with the same socket and target is never touched again and each socket's groups leave in the order of their
//! making; so what has one socket and one target, above all one flow, keeps its order.
//!
//! Writing segments here and not leaving them where they are, for the kernel to gather (two `iovec`s a segment: its headers,
//! and its piece of the super-frame), is the faster way, because copying comes nearly free with the checksum that has to be
//! completed anyway, and the kernel pays for each `iovec`. Sums, 43 segments of 1448 bytes and one `sendmsg` took 10.6 us
//! over loopback and 11.9 us over a veth this way, 11.4 and 12.1 us gathered; in batches of eight super-frames 9.7 and 11.0 us,
//! 10.8 and 12.1 us gathered (best of 40 rounds, a receiver that drops everything; EPYC at 2.6 GHz, Linux 6.18).
//!
//! The memory is one block, cut into [`GROUP_COUNT`] places for groups. [`SendQueue::reserve`] says `None` when all are in
//! use, and then it is time to send.

use std::ops::Range;

use weft_vxlan::encapsulation::MAX_HEADER_LEN;

use super::{MAX_DATAGRAM_LEN, Target};
use crate::{buffer::MAX_FRAME_LEN, sys::udp::Outgoing};

/// Groups that wait at most. More would save nothing: a `sendmmsg` takes as many headers, and what has been written should
/// still be in the cache when it is sent. The places cost address space only, until something is written there.
pub(super) const GROUP_COUNT: usize = crate::sys::udp::SEND_COUNT;

/// Datagrams of one run at most: UDP_MAX_SEGMENTS (include/linux/udp.h) since Linux 4.18; newer kernels take 128.
const RUN_COUNT: usize = 64;

/// Bytes from one group's place to the next. The largest run fits, and so does one datagram with the largest frame that a
/// port hands over, though the kernel will refuse it. The odd number of cache lines keeps the beginnings of the groups,
/// where all the small ones are, from competing for the same few sets of the first-level cache.
const PLACE_LEN: usize = 65_536 + 5 * 64;
const _: () = assert!(PLACE_LEN >= MAX_DATAGRAM_LEN && PLACE_LEN >= MAX_FRAME_LEN + MAX_HEADER_LEN);

/// No group.
const NONE: u16 = u16::MAX;
const _: () = assert!(GROUP_COUNT < NONE as usize);

struct Group {
    target: Target,
    socket: u16,
    /// Length of each datagram but the last.
    stride: usize,
    /// Bytes of all of them.
    len: usize,
    count: u16,
    /// The last one is shorter, so none may follow.
    closed: bool,
    /// The groups of the same socket before and behind this one.
    older: u16,
    younger: u16,
}

impl Group {
    fn takes(&self, socket: u16, target: &Target, len: usize) -> bool {
        self.belongs(socket, target)
            && !self.closed
            // The kernel would lose a datagram of 0 bytes behind others.
            && (1..=self.stride).contains(&len)
            && usize::from(self.count) < RUN_COUNT
            && self.len + len <= MAX_DATAGRAM_LEN
    }

    fn belongs(&self, socket: u16, target: &Target) -> bool {
        self.socket == socket && self.target == *target
    }
}

/// The groups of one socket.
#[derive(Clone, Copy)]
struct Lane {
    oldest: u16,
    youngest: u16,
}

const EMPTY_LANE: Lane = Lane { oldest: NONE, youngest: NONE };

pub(super) struct SendQueue {
    bytes: Box<[u8]>,
    groups: Vec<Group>,
    lanes: Box<[Lane]>,
    /// Sockets that have groups, in order of their first one.
    active: Vec<u16>,
    /// The group that was written to last.
    last: u16,
}

impl SendQueue {
    /// An empty queue for datagrams that leave through so many sockets.
    pub(super) fn new(socket_count: usize) -> Self {
        Self {
            bytes: vec![0; GROUP_COUNT * PLACE_LEN].into_boxed_slice(),
            groups: Vec::with_capacity(GROUP_COUNT),
            lanes: vec![EMPTY_LANE; socket_count].into_boxed_slice(),
            active: Vec::with_capacity(GROUP_COUNT),
            last: NONE,
        }
    }

    /// Where in [`SendQueue::bytes_mut`] a datagram of `len` bytes is to be written; `None`: no place is free.
    #[inline]
    pub(super) fn reserve(&mut self, socket: u16, target: &Target, len: usize) -> Option<Range<usize>> {
        let index = match self.groups.get(usize::from(self.last)) {
            Some(last) if last.takes(socket, target, len) => self.last,
            _ => self.find_or_open(socket, target, len)?,
        };
        let group = &mut self.groups[usize::from(index)];
        let start = usize::from(index) * PLACE_LEN + group.len;
        group.len += len;
        group.count += 1;
        group.closed |= len < group.stride;
        Some(start..start + len)
    }

    fn find_or_open(&mut self, socket: u16, target: &Target, len: usize) -> Option<u16> {
        let mut index = self.lanes[usize::from(socket)].youngest;
        while let Some(group) = self.groups.get(usize::from(index)) {
            if group.belongs(socket, target) {
                if group.takes(socket, target, len) {
                    self.last = index;
                    return Some(index);
                }
                break;
            }
            index = group.older;
        }
        self.open(socket, target, len)
    }

    fn open(&mut self, socket: u16, target: &Target, stride: usize) -> Option<u16> {
        debug_assert!(stride <= PLACE_LEN, "no frame is so long: {stride} bytes");
        if self.groups.len() == GROUP_COUNT {
            return None;
        }
        let index = self.groups.len() as u16;
        let lane = &mut self.lanes[usize::from(socket)];
        let older = lane.youngest;
        lane.youngest = index;
        match self.groups.get_mut(usize::from(older)) {
            Some(older) => older.younger = index,
            None => {
                lane.oldest = index;
                self.active.push(socket);
            }
        }
        let target = *target;
        self.groups.push(Group { target, socket, stride, len: 0, count: 0, closed: false, older, younger: NONE });
        self.last = index;
        Some(index)
    }

    pub(super) fn bytes_mut(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.bytes[place]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Sockets that something waits for.
    pub(super) fn active(&self) -> &[u16] {
        &self.active
    }

    /// The beginning of what waits for this socket.
    pub(super) fn begin(&self, socket: u16) -> Cursor {
        Cursor { group: self.lanes[usize::from(socket)].oldest, done: 0 }
    }

    /// What waits for a socket from `at` on, cut into messages.
    pub(super) fn messages(&self, at: Cursor, cut: Cut) -> Messages<'_> {
        Messages { queue: self, at, cut }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        for socket in self.active.drain(..) {
            self.lanes[usize::from(socket)] = EMPTY_LANE;
        }
        self.groups.clear();
        self.last = NONE;
    }
}

/// How far sending has come through the groups of one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    group: u16,
    /// Datagrams of that group that are done with.
    done: u16,
}

impl Cursor {
    /// Whether nothing is left.
    pub(super) fn is_end(self) -> bool {
        self.group == NONE
    }

    /// Whether both are in the same group.
    pub(super) fn same_group(self, other: Self) -> bool {
        self.group == other.group
    }
}

/// How a socket's groups are cut into messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    /// Each group, or the rest of it, is one message.
    Runs,
    /// Each datagram is one.
    Singles,
}

/// One message, and for whom it is accounted.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) outgoing: Outgoing<'a>,
    pub(super) target: &'a Target,
    /// Datagrams.
    pub(super) count: u16,
}

/// The messages from a cursor to the end of the socket's groups.
pub(super) struct Messages<'a> {
    queue: &'a SendQueue,
    at: Cursor,
    cut: Cut,
}

impl Messages<'_> {
    /// Behind the last message that was taken.
    pub(super) fn at(&self) -> Cursor {
        self.at
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let index = usize::from(self.at.group);
        let group = self.queue.groups.get(index)?;
        let done_len = usize::from(self.at.done) * group.stride;
        let rest = &self.queue.bytes[index * PLACE_LEN + done_len..index * PLACE_LEN + group.len];
        let (payload, count) = match self.cut {
            Cut::Runs => (rest, group.count - self.at.done),
            Cut::Singles => (&rest[..rest.len().min(group.stride)], 1),
        };
        self.at.done += count;
        if self.at.done == group.count {
            self.at = Cursor { group: group.younger, done: 0 };
        }
        let Target { address, tos, ttl, .. } = group.target;
        // A run is never longer than 65,507 bytes, and has at least two datagrams.
        let segment_len = (count > 1).then_some(group.stride as u16);
        Some(Message { outgoing: Outgoing { payload, segment_len, address, tos, ttl }, target: &group.target, count })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{BridgeId, VtepId};

    #[test]
    fn equal_datagrams_become_one_run() {
        let mut queue = SendQueue::new(1);
        for byte in 1..=3 {
            push(&mut queue, 0, 1, 100, byte);
        }
        let run = [[1; 100], [2; 100], [3; 100]].concat();
        assert_eq!(runs(&queue, 0), [(run, Some(100), 3)]);
    }

    #[test]
    fn a_lonely_datagram_is_no_run() {
        let mut queue = SendQueue::new(1);
        push(&mut queue, 0, 1, 100, 1);
        assert_eq!(runs(&queue, 0), [(vec![1; 100], None, 1)]);
    }

    #[test]
    fn a_shorter_datagram_ends_its_run_and_the_next_starts_another() {
        let mut queue = SendQueue::new(1);
        for len in [100, 100, 60, 60, 100] {
            push(&mut queue, 0, 1, len, 1);
        }
        assert_eq!(shapes(&queue, 0), [(260, 3), (60, 1), (100, 1)]);
    }

    #[test]
    fn a_longer_datagram_starts_another_run() {
        let mut queue = SendQueue::new(1);
        for len in [100, 101, 101] {
            push(&mut queue, 0, 1, len, 1);
        }
        assert_eq!(shapes(&queue, 0), [(100, 1), (202, 2)]);
    }

    #[test]
    fn a_run_ends_at_64_datagrams() {
        let mut queue = SendQueue::new(1);
        for _ in 0..65 {
            push(&mut queue, 0, 1, 10, 1);
        }
        assert_eq!(shapes(&queue, 0), [(640, 64), (10, 1)]);
    }

    #[test]
    fn a_run_ends_at_65507_bytes() {
        let mut queue = SendQueue::new(1);
        for _ in 0..9 {
            push(&mut queue, 0, 1, 8000, 1);
        }
        assert_eq!(shapes(&queue, 0), [(64_000, 8), (8000, 1)]);
        push(&mut queue, 0, 2, 32_753, 1);
        push(&mut queue, 0, 2, 32_753, 1);
        push(&mut queue, 0, 3, 32_754, 1);
        push(&mut queue, 0, 3, 32_753, 1);
        assert_eq!(shapes(&queue, 0)[2..], [(65_506, 2), (65_507, 2)]);
        push(&mut queue, 0, 4, 32_754, 1);
        push(&mut queue, 0, 4, 32_754, 1);
        assert_eq!(shapes(&queue, 0)[4..], [(32_754, 1), (32_754, 1)]);
    }

    #[test]
    fn targets_that_take_turns_keep_their_runs() {
        let mut queue = SendQueue::new(1);
        for vtep in [1, 2, 1, 2, 1] {
            push(&mut queue, 0, vtep, 100, vtep as u8);
        }
        assert_eq!(shapes(&queue, 0), [(300, 3), (200, 2)]);
    }

    #[test]
    fn each_field_of_the_target_separates_runs() {
        let mut queue = SendQueue::new(1);
        let target = target(1);
        let others = [
            Target { bridge: BridgeId(9), ..target },
            Target { vtep: VtepId(9), ..target },
            Target { address: "192.0.2.1:9".parse().unwrap(), ..target },
            Target { tos: 9, ..target },
            Target { ttl: 9, ..target },
            Target { dont_fragment: false, ..target },
            Target { header_len: 16, ..target },
        ];
        for target in others.iter().chain([&target]) {
            queue.reserve(0, target, 10).unwrap();
        }
        assert_eq!(shapes(&queue, 0), [(10, 1); 8]);
    }

    #[test]
    fn sockets_have_their_own_runs() {
        let mut queue = SendQueue::new(8);
        for socket in [7, 3, 7, 3] {
            push(&mut queue, socket, 1, 100, 1);
        }
        assert_eq!(queue.active(), [7, 3]);
        assert_eq!(shapes(&queue, 7), [(200, 2)]);
        assert_eq!(shapes(&queue, 3), [(200, 2)]);
        assert_eq!(shapes(&queue, 0), []);
    }

    #[test]
    fn a_datagram_without_bytes_stays_alone() {
        let mut queue = SendQueue::new(1);
        for len in [100, 0, 0, 100] {
            push(&mut queue, 0, 1, len, 1);
        }
        assert_eq!(shapes(&queue, 0), [(100, 1), (0, 1), (0, 1), (100, 1)]);
        assert_eq!(queue.messages(queue.begin(0), Cut::Singles).count(), 4);
    }

    #[test]
    fn a_datagram_as_long_as_the_longest_frame_has_room() {
        let mut queue = SendQueue::new(1);
        let len = MAX_FRAME_LEN + MAX_HEADER_LEN;
        assert_eq!(queue.reserve(0, &target(1), len).unwrap().len(), len);
        assert_eq!(queue.reserve(0, &target(2), len).unwrap().len(), len);
        assert_eq!(shapes(&queue, 0), [(len, 1), (len, 1)]);
    }

    #[test]
    fn a_full_queue_says_so_but_still_takes_what_fits_a_run() {
        let mut queue = SendQueue::new(2);
        for vtep in 0..GROUP_COUNT as u16 {
            push(&mut queue, vtep % 2, vtep, 100, 1);
        }
        assert_eq!(queue.reserve(0, &target(999), 100), None);
        assert!(queue.reserve(0, &target(0), 100).is_some());
        queue.clear();
        assert!(queue.is_empty());
        assert!(queue.active().is_empty());
        assert_eq!(shapes(&queue, 0), []);
        assert!(queue.reserve(0, &target(999), 100).is_some());
    }

    #[test]
    fn single_datagrams_can_be_taken_from_the_middle_of_a_run() {
        let mut queue = SendQueue::new(1);
        for (len, byte) in [(100, 1), (100, 2), (60, 3), (50, 4)] {
            push(&mut queue, 0, 1, len, byte);
        }
        let mut singles = queue.messages(queue.begin(0), Cut::Singles);
        assert_eq!(singles.next().unwrap().outgoing.payload, [1; 100]);
        let mut rest = queue.messages(singles.at(), Cut::Runs);
        let message = rest.next().unwrap();
        assert_eq!(message.outgoing.payload, [[2; 100].as_slice(), &[3; 60]].concat());
        assert_eq!(message.outgoing.segment_len, Some(100));
        let mut rest = queue.messages(rest.at(), Cut::Singles);
        assert_eq!(rest.next().unwrap().outgoing.payload, [4; 50]);
        assert!(rest.at().is_end());
    }

    proptest! {
        /// What went in comes out, in order for each socket and target, whatever came between; and each run is one that
        /// the kernel takes apart in the same way.
        #[test]
        fn datagrams_come_out_in_order(
            datagrams in prop::collection::vec((0u16..3, 0u16..3, prop::sample::select(vec![0usize, 8, 60, 100, 1450, 9000])), 0..300)
        ) {
            let mut queue = SendQueue::new(3);
            let mut expected = std::collections::HashMap::<(u16, u16), Vec<Vec<u8>>>::new();
            for (index, &(socket, vtep, len)) in datagrams.iter().enumerate() {
                let Some(place) = queue.reserve(socket, &target(vtep), len) else { break };
                let content: Vec<u8> = (0..len).map(|at| (index + at) as u8).collect();
                queue.bytes_mut(place).copy_from_slice(&content);
                expected.entry((socket, vtep)).or_default().push(content);
            }
            let mut actual = std::collections::HashMap::<(u16, u16), Vec<Vec<u8>>>::new();
            for &socket in queue.active() {
                for Message { outgoing, target, count } in queue.messages(queue.begin(socket), Cut::Runs) {
                    let out = actual.entry((socket, target.vtep.0)).or_default();
                    let before = out.len();
                    match outgoing.segment_len {
                        Some(stride) => out.extend(outgoing.payload.chunks(stride.into()).map(<[u8]>::to_vec)),
                        None => out.push(outgoing.payload.to_vec()),
                    }
                    prop_assert_eq!(out.len() - before, usize::from(count));
                    prop_assert!(usize::from(count) <= RUN_COUNT);
                    prop_assert!(count == 1 || outgoing.payload.len() <= MAX_DATAGRAM_LEN);
                }
            }
            prop_assert_eq!(actual, expected);
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

    fn push(queue: &mut SendQueue, socket: u16, vtep: u16, len: usize, byte: u8) {
        let place = queue.reserve(socket, &target(vtep), len).unwrap();
        queue.bytes_mut(place).fill(byte);
    }

    fn runs(queue: &SendQueue, socket: u16) -> Vec<(Vec<u8>, Option<u16>, u16)> {
        let messages = queue.messages(queue.begin(socket), Cut::Runs);
        messages.map(|m| (m.outgoing.payload.to_vec(), m.outgoing.segment_len, m.count)).collect()
    }

    fn shapes(queue: &SendQueue, socket: u16) -> Vec<(usize, u16)> {
        queue.messages(queue.begin(socket), Cut::Runs).map(|m| (m.outgoing.payload.len(), m.count)).collect()
    }
}
