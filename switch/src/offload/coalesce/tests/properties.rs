//! What holds for any mix of frames.

use std::collections::{BTreeMap, VecDeque};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::offload::testing::{bulk, samples};

/// What is done to a stream of segments before it is offered.
#[derive(Clone, Copy, Debug)]
enum Twist {
    None,
    /// An octet somewhere is another.
    Damage(prop::sample::Index, u8),
    /// Its checksum is left open.
    Open,
    /// So many come as one super-frame.
    Joined(usize),
    Lost,
    Doubled,
    /// It comes behind its successor.
    Swapped,
}

fn twists() -> impl Strategy<Value = Twist> {
    prop_oneof![
        20 => Just(Twist::None),
        1 => (any::<prop::sample::Index>(), 1..=255_u8).prop_map(|(at, by)| Twist::Damage(at, by)),
        2 => Just(Twist::Open),
        2 => (2..9_usize).prop_map(Twist::Joined),
        1 => Just(Twist::Lost),
        1 => Just(Twist::Doubled),
        1 => Just(Twist::Swapped),
    ]
}

/// The frames of a stream, each with what stands beside it.
fn twisted(sample: &Sample, twists: &[Twist]) -> Vec<(Vec<u8>, VnetHeader)> {
    let mut frames = vec![];
    let (mut i, mut twists) = (0, twists.iter().cycle());
    while i < sample.segment_count() {
        let segment = sample.segment(i);
        let plain = (segment.clone(), VnetHeader::NONE);
        let mut taken = 1;
        match twists.next() {
            None | Some(Twist::None) => frames.push(plain),
            Some(Twist::Damage(at, by)) => {
                let mut segment = segment;
                let at = at.index(segment.len());
                segment[at] ^= by;
                frames.push((segment, VnetHeader::NONE));
            }
            Some(Twist::Open) => {
                let part = sample.part(i, 1);
                frames.push((part.frame, VnetHeader { gso: None, ..part.vnet }));
            }
            Some(Twist::Joined(count)) => {
                taken = *count;
                let part = sample.part(i, taken);
                frames.push((part.frame, part.vnet));
            }
            Some(Twist::Lost) => {}
            Some(Twist::Doubled) => frames.extend([plain.clone(), plain]),
            Some(Twist::Swapped) => {
                let before = frames.pop();
                frames.push(plain);
                frames.extend(before);
            }
        }
        i += taken;
    }
    frames
}

proptest! {
    /// Any mix of flows: what departs, cut again, is what was offered, octet for octet, each flow in its order.
    #[test]
    fn cutting_is_the_inverse(
        streams in vec((bulk(), vec(twists(), 1..40), 0..2_u16, any::<Option<bool>>()), 1..12),
        strays in vec(samples(), 0..4),
        order in vec(any::<prop::sample::Index>(), 1..200),
        takes in prop_oneof![4 => Just([true; 3]), 1 => any::<[bool; 3]>()],
    ) {
        let takes = |gso| takes[gso as usize];
        let mut queues: Vec<(PortId, Option<TagBytes>, VecDeque<_>)> = streams
            .iter()
            .map(|(sample, twists, port, tag)| {
                (PortId(*port), tag.map(|vid| [0x81, 0, 0, u8::from(vid)]), twisted(sample, twists).into())
            })
            .chain(strays.iter().map(|stray| (PortId(0), None, [(stray.frame.clone(), stray.vnet)].into())))
            .collect();
        let mut offers = vec![];
        for index in order.iter().cycle() {
            queues.retain(|(_, _, queue)| !queue.is_empty());
            if queues.is_empty() {
                break;
            }
            let chosen = index.index(queues.len());
            let (port, tag, queue) = &mut queues[chosen];
            // A few at a time, as they come out of the underlay.
            let some = queue.len().min(1 + index.index(9));
            offers.extend(queue.drain(..some).map(|(bytes, vnet)| (*port, *tag, bytes, vnet)));
        }

        let departures = offers.iter().map(|(port, tag, bytes, vnet)| {
            let frames = wire_frames(bytes, vnet).unwrap_or(1);
            Departure { port: *port, tag: *tag, bytes, vnet: *vnet, frames }
        });
        let offered: Vec<Sent> = departures.clone().map(|departure| Sent::of(&departure)).collect();
        let sent = run(departures, takes);
        for sent in &sent {
            prop_assert_eq!(wire_frames(&sent.bytes, &sent.vnet).unwrap_or(1), sent.frames);
            if let (Some(l3), Some((gso, _))) = (dissect(&sent.bytes).l3, sent.vnet.gso) {
                prop_assert!(sent.bytes.len() - usize::from(l3.offset) <= 65_535);
                let is_offered = offered.contains(sent);
                prop_assert!(is_offered || takes(gso) && (gso != Gso::Udp || sent.frames <= 64));
            }
        }
        prop_assert_eq!(by_flow(&sent), by_flow(&offered));
    }

    #[test]
    fn any_frames_are_kept_or_sent(frames in vec((vec(any::<u8>(), 0..120), 0..40_u16, 0..20_u16), 0..20)) {
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(mut bytes, start, offset)| {
                if let Some(head) = bytes.get_mut(..15) {
                    head[12..].copy_from_slice(if start % 2 == 0 { &[8, 0, 0x45] } else { &[0x86, 0xdd, 0x60] });
                }
                let csum = (start > 20).then_some(PartialCsum { start, offset });
                (bytes, VnetHeader { csum, ..VnetHeader::NONE })
            })
            .collect();
        let sent = run(frames.iter().map(|(bytes, vnet)| departure(bytes, *vnet)), ALL);
        prop_assert_eq!(sent.iter().map(|sent| sent.frames).sum::<u32>(), frames.len() as u32);
    }
}

type TaggedFrame = (Option<TagBytes>, Vec<u8>);

/// The wire frames of each flow with their tags, in order. Frames without ports are a flow for each pair of addresses; what
/// is no IP is one.
fn by_flow(sent: &[Sent]) -> BTreeMap<String, Vec<TaggedFrame>> {
    let mut flows = BTreeMap::<_, Vec<_>>::new();
    for sent in sent {
        for frame in sent.cut() {
            let dissected = dissect(&frame);
            let ports = dissected.l4.map(|l4| (l4.kind, l4.src_port, l4.dst_port));
            let addresses = dissected.l3.and_then(|l3| l3.addresses(&frame));
            let flow = format!("{:?} {addresses:?} {ports:?}", sent.port);
            flows.entry(flow).or_default().push((sent.tag, frame));
        }
    }
    flows
}
