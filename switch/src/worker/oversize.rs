//! Frames that are too long for their VTEP.
//!
//! A tunnel that cut its packets would leave it to the far end to put them together, for everybody's traffic, and most are
//! forbidden to (RFC 7348 section 4.3). So what does not fit is the inner sender's affair, if there is a way to tell it:
//!
//! | frame | what becomes of it |
//! |---|---|
//! | IPv4 with DF, IPv6 | an ICMP error to its sender, out of where the frame came in ([`l3::too_big`](crate::l3::too_big)) |
//! | IPv4 without DF | `oversize`: fragments of the inner packet, fragments of the outer one, or nothing |
//! | all else | dropped by name; with `oversize = "outer"` it leaves in fragments as well |
//!
//! The kernel's vxlan devices do the first and the last. The switch's own frames are not held against anything. Each copy of a flooded frame is held against its own VTEP, but its
//! sender is told once.
//!
//! What is here is not on the way of most frames: the walk compares one length with [`room`], and comes here if that is
//! exceeded. [`fate`] is what it asks, and [`super::explain`] too.

use super::{
    egress::{Egress, Outgoing},
    walk::Staged,
};
use crate::{
    bridge::{DropReason, Overlay, Oversize},
    fdb::Stamp,
    ids::{Endpoint, VtepId},
    l3::{
        Fragments, NoAnswer, mss,
        too_big::{self, MAX_ANSWER_LEN},
    },
    offload::Segments,
    underlay::{MAX_DATAGRAM_LEN, Target},
    wire::{
        MacAddr,
        dissect::{Dissected, IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN, dissect},
        ethernet::HEADER_LEN as ETHER_HEADER_LEN,
    },
};
use arrayvec::ArrayVec;

/// Bytes of the longest frame that reaches a VTEP behind its outer headers and a tunnel header of `header_len` bytes, in one
/// packet.
#[inline]
pub(super) fn room(overlay: &Overlay, vtep: VtepId, header_len: usize) -> usize {
    let outer_ip = if overlay.local.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
    let payload = (overlay.path_mtu(vtep) as usize).saturating_sub(outer_ip + UDP_HEADER_LEN);
    payload.min(MAX_DATAGRAM_LEN).saturating_sub(header_len)
}

/// What becomes of a frame that is too long.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it at a time, and it is not put on the heap")]
pub(super) enum Fate {
    /// Its sender gets this frame.
    Answered(ArrayVec<u8, MAX_ANSWER_LEN>),
    /// It leaves in fragments of the packet inside.
    Fragmented,
    /// It leaves whole, and its outer packet in fragments.
    FragmentedOutside,
    /// It is dropped, and nobody is told.
    Dropped(DropReason, NoAnswer),
}

/// What becomes of `frame` if no more than `room` bytes of it, or of a segment, pass. The longest datagram that it would make
/// has `payload_len` bytes.
pub(super) fn fate(overlay: &Overlay, frame: &[u8], dissected: &Dissected, payload_len: usize, room: usize) -> Fate {
    let link_len = dissected.l3.map_or(ETHER_HEADER_LEN, |l3| usize::from(l3.offset));
    let why = match too_big::answer(frame, dissected, room.saturating_sub(link_len)) {
        Ok(answer) => return Fate::Answered(answer),
        Err(why) => why,
    };
    match overlay.oversize {
        Oversize::Fragment if why == NoAnswer::MayBeFragmented => Fate::Fragmented,
        // What the kernel answers, though its bridge drops the answer.
        Oversize::Outer if why == NoAnswer::FromGroup => Fate::Dropped(DropReason::Oversize, why),
        Oversize::Outer if payload_len > MAX_DATAGRAM_LEN => Fate::Dropped(DropReason::UnderlayMtu, why),
        Oversize::Outer => Fate::FragmentedOutside,
        Oversize::Fragment | Oversize::Drop if why == NoAnswer::NotIp => Fate::Dropped(DropReason::OversizeNotIp, why),
        Oversize::Fragment | Oversize::Drop => Fate::Dropped(DropReason::Oversize, why),
    }
}

impl Egress<'_> {
    /// Does with a frame what has to be done if not more than `room` bytes pass. `Err`: nothing of it was queued.
    #[cold]
    pub(super) fn send_oversized(
        &mut self,
        staged: &Staged<'_>,
        outgoing: &Outgoing<'_>,
        dissected: &Dissected,
        segments: &Segments<'_>,
        room: usize,
    ) -> Result<(), DropReason> {
        let overlay = self.tables.overlay.as_ref().ok_or(DropReason::UnderlayAbsent)?;
        let payload_len = usize::from(outgoing.target.header_len) + segments.len(0);
        match fate(overlay, staged.bytes, dissected, payload_len, room) {
            Fate::Answered(answer) => Err(self.tell_sender(staged, &answer)),
            Fate::Fragmented => self.send_fragments(staged, outgoing, segments, room),
            Fate::FragmentedOutside => {
                let target = Target { dont_fragment: false, ..outgoing.target };
                self.encapsulate(&Outgoing { target, ..*outgoing }, dissected, segments, room)
            }
            Fate::Dropped(reason, _) => Err(reason),
        }
    }

    /// Sends the answer, unless another copy of the frame had one, or answers have been many. Says how the frame ends.
    fn tell_sender(&mut self, staged: &Staged<'_>, answer: &[u8]) -> DropReason {
        let frame = staged.bytes.as_ptr_range();
        if let Some((told, reason)) = &self.told
            && *told == frame
        {
            return *reason;
        }
        let (bridge, ingress) = (staged.bridge_id(), staged.ingress());
        let sender =
            staged.bytes.get(6..).and_then(|bytes| bytes.first_chunk()).map_or(MacAddr::ZERO, |mac| MacAddr::new(*mac));
        let reason = if self.answers.take(ingress, sender, self.now) {
            self.counters.copied(ingress, bridge, 1);
            self.deliver_now(&staged.answer(answer), ingress);
            DropReason::OversizeAnswered
        } else {
            DropReason::OversizeMuted
        };
        self.told = Some((frame, reason));
        reason
    }

    /// Each wire frame is finished first, since the checksum of its transport covers all fragments.
    fn send_fragments(
        &mut self,
        staged: &Staged<'_>,
        outgoing: &Outgoing<'_>,
        segments: &Segments<'_>,
        room: usize,
    ) -> Result<(), DropReason> {
        let underlay = self.underlay.as_deref_mut().ok_or(DropReason::UnderlayAbsent)?;
        let (bridge, at) = (staged.bridge_id(), Endpoint::Vtep(outgoing.target.vtep));
        for index in 0..segments.count() {
            let segment = &mut self.scratch[..segments.len(index)];
            segments.write(index, segment);
            if let Some(macs) = outgoing.macs {
                macs.write(segment);
            }
            let dissected = dissect(segment);
            if outgoing.mss_clamp {
                mss::clamp(segment, &dissected, room, false);
            }
            let Ok(fragments) = Fragments::new(segment, &dissected, room) else {
                self.counters.dropped_out(at, bridge, DropReason::Oversize, 1);
                continue;
            };
            self.counters.copied(staged.ingress(), bridge, fragments.count() as u64 - 1);
            for fragment in 0..fragments.count() {
                fragments.write(fragment, outgoing.reserve(underlay, fragments.len(fragment)));
            }
        }
        Ok(())
    }
}

/// How many answers may still be given, in one worker: so many out of each port, and no more than a part of them to one sender
/// there, so that who sends nothing but what is too big leaves answers for the others.
#[derive(Default)]
pub(super) struct Answers {
    /// By [`PortId`](crate::ids::PortId); no other frames have answers.
    ports: Vec<PortAnswers>,
}

/// The answers of one port.
#[derive(Clone)]
struct PortAnswers {
    all: Bucket,
    /// By the sender's address; some may share one.
    senders: [Bucket; SENDERS],
}

/// Buckets of a port's senders. Two senders share one in a 64th of all cases.
const SENDERS: usize = 64;

impl Answers {
    /// What one sender takes of its own bucket for an answer, where it takes 1 of the port's: a quarter of them is one sender's at
    /// most.
    const SHARES: u64 = 4;

    /// Whether the sender of a frame that came in here may be answered at `now`; if so, this is one of the answers.
    fn take(&mut self, ingress: Endpoint, sender: MacAddr, now: Stamp) -> bool {
        let Endpoint::Port(port) = ingress else { return false };
        if self.ports.len() <= port.index() {
            let none = PortAnswers { all: Bucket::FULL, senders: [Bucket::FULL; SENDERS] };
            self.ports.resize(port.index() + 1, none);
        }
        let PortAnswers { all, senders } = &mut self.ports[port.index()];
        // The last bytes are those that differ most.
        let [.., a, b, c] = sender.octets();
        let sender = &mut senders[usize::from(a ^ b.rotate_left(3) ^ c) % SENDERS];
        all.fill(now);
        sender.fill(now);
        let may = all.tokens >= 1 && sender.tokens >= Self::SHARES;
        if may {
            all.tokens -= 1;
            sender.tokens -= Self::SHARES;
        }
        may
    }
}

/// A token bucket.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: u64,
    filled: Stamp,
}

impl Bucket {
    /// What comes in one batch from many stations that all have to learn it: as many as a kernel sends of all its ICMP errors at
    /// once (`net.ipv4.icmp_msgs_burst`).
    const BURST: u64 = 50;
    /// A thousand a second, as a kernel of all its ICMP errors (`net.ipv4.icmp_msgs_per_sec`). A station needs one for each
    /// destination and keeps what it heard for ten minutes (RFC 1191 section 6.3), so this serves 600,000 pairs of them. An
    /// answer is at most 1,302 bytes: a port whose stations send nothing but what is too big is sent no more than 10 Mbit/s.
    const PER_MILLISECOND: u64 = 1;
    const FULL: Self = Self { tokens: Self::BURST, filled: Stamp(0) };

    fn fill(&mut self, now: Stamp) {
        let elapsed = now.0.saturating_sub(self.filled.0);
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(Self::PER_MILLISECOND)).min(Self::BURST);
        self.filled = self.filled.max(now);
    }
}

const _: () = assert!(MAX_ANSWER_LEN == 1302);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PortId;

    fn taken(answers: &mut Answers, port: u16, sender: u8, now: u64) -> usize {
        let sender = MacAddr::new([2, 0, 0, 0, 0, sender]);
        (0..200).filter(|_| answers.take(Endpoint::Port(PortId(port)), sender, Stamp(now))).count()
    }

    #[test]
    fn a_sender_has_a_quarter_of_the_answers_of_its_port() {
        let mut answers = Answers::default();
        assert_eq!(taken(&mut answers, 3, 1, 5), 12);
        assert_eq!(
            (taken(&mut answers, 3, 1, 6), taken(&mut answers, 3, 1, 15), taken(&mut answers, 3, 1, 25)),
            (0, 3, 2)
        );
        assert_eq!(taken(&mut answers, 3, 2, 25), 12, "another one is not muted with it");
        // No more than the burst, however long it was silent; and a clock that stands still gives nothing.
        assert_eq!((taken(&mut answers, 3, 1, 100_000), taken(&mut answers, 3, 1, 99_000)), (12, 0));
    }

    #[test]
    fn a_port_has_a_burst_and_then_one_answer_a_millisecond() {
        let mut answers = Answers::default();
        let all =
            |answers: &mut Answers, port, now| (0..9).map(|sender| taken(answers, port, sender, now)).sum::<usize>();
        assert_eq!((all(&mut answers, 1, 5), all(&mut answers, 1, 5), all(&mut answers, 1, 25)), (50, 0, 20));
        assert_eq!(all(&mut answers, 0, 5), 50, "each port for itself");
    }

    #[test]
    fn room_is_the_path_less_the_outer_headers() {
        let mut overlay = Overlay::new("192.0.2.1:4789".parse().unwrap());
        let room = |overlay: &Overlay, vtep| room(overlay, vtep, 8);
        assert_eq!(room(&overlay, VtepId(0)), MAX_DATAGRAM_LEN - 8);
        overlay.underlay_mtu = 1500;
        overlay.path_mtus = vec![None, Some(1400)];
        assert_eq!([0, 1, 2].map(|vtep| room(&overlay, VtepId(vtep))), [14 + 1450, 14 + 1350, 14 + 1450]);
        overlay.local = "[2001:db8::1]:4789".parse().unwrap();
        assert_eq!(room(&overlay, VtepId(0)), 14 + 1430);
        assert_eq!(super::room(&overlay, VtepId(0), 8 + 12), 14 + 1418, "options take their share");
        overlay.underlay_mtu = 20;
        assert_eq!(room(&overlay, VtepId(0)), 0);
    }
}
