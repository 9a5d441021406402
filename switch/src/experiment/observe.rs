//! Who counts what is on the wire: packet sockets beside the path, not the switches on it.
//!
//! One thread reads the beginning of every frame at each [`Spot`] and adds it to that spot's [`Tally`]. The kernel may hand a
//! super-frame on whole, since it trusts the next device to cut it; then the virtio-net header says where the cuts are, and each
//! piece is counted as the frame that it is on a wire, with headers of its own.
//!
//! What the observer itself missed is in the tally too: a measurement in which [`Tally::missed`] is not zero is no
//! measurement of the wire.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use weft_vxlan::encapsulation::{BASE_HEADER_LEN, Encapsulation};

use super::error::ExperimentError;
use crate::{
    lab::Namespace,
    offload::{Gso, VNET_HEADER_LEN, VnetHeader},
    sys::packet_socket::{self, Direction, Interest, PacketSocket, RECV_MAX, Received},
    wire::dissect::{Dissected, IpVersion, L3, L4, L4Kind, TCP_HEADER_LEN, UDP_HEADER_LEN, dissect},
};

/// Bytes that are read of each frame: outer headers, the longest tunnel header and inner headers with options.
const HEAD_LEN: usize = 14 + 40 + 8 + 260 + 14 + 40 + 60;

/// Where one looks, and which way.
pub struct Spot<'n> {
    /// The namespace of the interface.
    pub namespace: &'n Namespace,
    /// The interface.
    pub interface: &'static str,
    /// Frames that the namespace receives there, or that it sends.
    pub direction: Direction,
    /// All frames, or ICMP alone.
    pub interest: Interest,
}

/// What was seen at a spot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Frames as a wire carries them, in bytes without preamble and checksum, whatever is in them.
    pub all: Amount,
    /// Of these: packets of the tunnel, whole or in fragments.
    pub tunnel: Amount,
    /// Of these: fragments of IP packets.
    pub fragments: Amount,
    /// Whole packets of the tunnel by their length in bytes.
    pub lengths: BTreeMap<u32, u64>,
    /// ICMP "fragmentation needed" and ICMPv6 "packet too big".
    pub too_big: u64,
    /// Other ICMP errors.
    pub other_errors: u64,
    /// Frames that the observer could not read in time, or make sense of.
    pub missed: u64,
}

/// Frames and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Amount {
    /// Frames.
    pub frames: u64,
    /// Bytes, from the Ethernet header to the end of what it carries.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, frames: u64, bytes: u64) {
        self.frames += frames;
        self.bytes += bytes;
    }

    /// What came since an earlier moment.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self { frames: self.frames - earlier.frames, bytes: self.bytes - earlier.bytes }
    }
}

impl Tally {
    /// What came since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let lengths = self.lengths.iter().map(|(&len, count)| (len, count - earlier.lengths.get(&len).unwrap_or(&0)));
        Self {
            all: self.all.since(earlier.all),
            tunnel: self.tunnel.since(earlier.tunnel),
            fragments: self.fragments.since(earlier.fragments),
            lengths: lengths.filter(|(_, count)| *count > 0).collect(),
            too_big: self.too_big - earlier.too_big,
            other_errors: self.other_errors - earlier.other_errors,
            missed: self.missed - earlier.missed,
        }
    }

    /// Adds one frame as it was read: the beginning of a frame of `frame_len` bytes.
    fn add(&mut self, head: &[u8], frame_len: usize, vnet: &VnetHeader, vteps: &[IpAddr; 2]) {
        let dissected = dissect(head);
        let Some((frames, bytes)) = wire_frames(head, frame_len, vnet, &dissected) else {
            self.missed += 1;
            return;
        };
        self.all.add(frames, bytes);
        let Some(l3) = dissected.l3 else { return };
        match icmp_kind(head, &l3) {
            Some(IcmpKind::TooBig) => self.too_big += 1,
            Some(IcmpKind::OtherError) => self.other_errors += 1,
            Some(IcmpKind::Other) => {}
            None if is_between(head, &l3, vteps) => {
                self.tunnel.add(frames, bytes);
                if l3.fragment {
                    self.fragments.add(frames, bytes);
                } else {
                    self.add_lengths(frames, bytes, frame_len, vnet);
                }
            }
            None => {}
        }
    }

    /// All pieces of a super-frame are of one length but for the last one.
    fn add_lengths(&mut self, frames: u64, bytes: u64, frame_len: usize, vnet: &VnetHeader) {
        if frames == 1 {
            *self.lengths.entry(bytes as u32).or_default() += 1;
            return;
        }
        let size = u64::from(vnet.gso.map_or(0, |(_, size)| size));
        let header_len = (bytes - frame_len as u64) / (frames - 1);
        let full = header_len + size;
        *self.lengths.entry(full as u32).or_default() += frames - 1;
        *self.lengths.entry((bytes - full * (frames - 1)) as u32).or_default() += 1;
    }
}

/// How many frames a wire would carry, and how many bytes they are; `None`: the headers are not what the kernel says.
fn wire_frames(head: &[u8], frame_len: usize, vnet: &VnetHeader, dissected: &Dissected) -> Option<(u64, u64)> {
    let Some((gso, size)) = vnet.gso else { return Some((1, frame_len as u64)) };
    let outer = dissected.l4?;
    let header_len = match (gso, outer.kind) {
        (Gso::Udp, L4Kind::Udp) => usize::from(outer.offset) + UDP_HEADER_LEN,
        (Gso::Tcp4 | Gso::Tcp6, L4Kind::Tcp) => tcp_end(head, &outer)?,
        // A tunnel of the kernel's: what is cut is the packet inside.
        (Gso::Tcp4 | Gso::Tcp6, L4Kind::Udp) => {
            let inner_at = usize::from(outer.offset) + UDP_HEADER_LEN + tunnel_header_len(head, &outer);
            let inner = head.get(inner_at..)?;
            inner_at + tcp_end(inner, &dissect(inner).l4?)?
        }
        (Gso::Udp, L4Kind::Tcp) | (Gso::Udp | Gso::Tcp4 | Gso::Tcp6, L4Kind::Other) => return None,
    };
    let payload_len = frame_len.checked_sub(header_len)?;
    let frames = payload_len.div_ceil(usize::from(size)).max(1) as u64;
    Some((frames, frame_len as u64 + (frames - 1) * header_len as u64))
}

/// Where the payload of a TCP segment begins.
fn tcp_end(frame: &[u8], l4: &L4) -> Option<usize> {
    let at = usize::from(l4.offset);
    let len = usize::from(frame.get(at + 12)? >> 4) * 4;
    (l4.kind == L4Kind::Tcp && len >= TCP_HEADER_LEN).then_some(at + len)
}

fn tunnel_header_len(head: &[u8], outer: &L4) -> usize {
    let is_geneve = outer.dst_port == Encapsulation::Geneve.default_port();
    // RFC 8926 section 3.4: the length of the options in units of four bytes, in the low six bits of the first.
    let units = head.get(usize::from(outer.offset) + UDP_HEADER_LEN).map_or(0, |first| first & 0x3f);
    BASE_HEADER_LEN + if is_geneve { usize::from(units) * 4 } else { 0 }
}

enum IcmpKind {
    TooBig,
    OtherError,
    Other,
}

/// RFC 792 and RFC 1191 (type 3, code 4); RFC 4443 (type 2, errors are below 128).
fn icmp_kind(head: &[u8], l3: &L3) -> Option<IcmpKind> {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    if l3.fragment {
        return None;
    }
    let at = usize::from(l3.offset) + usize::from(l3.header_len);
    let kind = head.get(at..)?.first_chunk::<2>().copied();
    match (l3.version, l3.protocol) {
        (IpVersion::V4, ICMP) => Some(match kind {
            Some([3, 4]) => IcmpKind::TooBig,
            Some([3 | 11 | 12, _]) => IcmpKind::OtherError,
            Some(_) | None => IcmpKind::Other,
        }),
        (IpVersion::V6, ICMPV6) => Some(match kind {
            Some([2, _]) => IcmpKind::TooBig,
            Some([0..=127, _]) => IcmpKind::OtherError,
            Some(_) | None => IcmpKind::Other,
        }),
        (IpVersion::V4 | IpVersion::V6, _) => None,
    }
}

/// Whether a packet goes from one of these to the other.
fn is_between(head: &[u8], l3: &L3, [one, other]: &[IpAddr; 2]) -> bool {
    let Some(addresses) = l3.addresses(head) else { return false };
    let (from, to) = addresses.split_at(addresses.len() / 2);
    let is = |bytes: &[u8], address: &IpAddr| match address {
        IpAddr::V4(address) => bytes == address.octets(),
        IpAddr::V6(address) => bytes == address.octets(),
    };
    is(from, one) && is(to, other) || is(from, other) && is(to, one)
}

/// Watches spots until it is dropped.
pub struct Observer {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    tallies: Mutex<Tallies>,
    /// Told when a question was answered.
    answered: Condvar,
    wake: OwnedFd,
    stop: AtomicBool,
}

#[derive(Default)]
struct Tallies {
    by_spot: Vec<Tally>,
    /// Questions asked and answered: see [`Observer::tallies`].
    asked: u64,
    answered: u64,
}

impl Observer {
    /// Begins to watch. `vteps` are the addresses between which the tunnel runs.
    ///
    /// # Errors
    /// An interface can't be watched.
    pub fn start(spots: &[Spot<'_>], vteps: [IpAddr; 2]) -> Result<Self, ExperimentError> {
        let open = |spot: &Spot<'_>| -> Result<PacketSocket, ExperimentError> {
            let watch = || packet_socket::watch(spot.interface, spot.direction, spot.interest, HEAD_LEN as u32);
            Ok(spot.namespace.within(watch)??)
        };
        let sockets = spots.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|errno| ExperimentError::step("make an eventfd")(errno.into()))?;
        let tallies = Tallies { by_spot: vec![Tally::default(); spots.len()], ..Tallies::default() };
        let (tallies, answered, stop) = (Mutex::new(tallies), Condvar::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { tallies, answered, wake, stop });
        let work = Arc::clone(&shared);
        let thread = thread::Builder::new().name("observer".into()).spawn(move || work.watch(&sockets, &vteps));
        let thread = Some(thread.map_err(ExperimentError::step("start the observer's thread"))?);
        Ok(Self { shared, thread })
    }

    /// What was seen so far at each spot, up to everything that had passed when this was called.
    pub fn tallies(&self) -> Vec<Tally> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut tallies = self.shared.lock();
        tallies.asked += 1;
        let question = tallies.asked;
        self.shared.wake();
        let unanswered = |tallies: &mut Tallies| tallies.answered < question;
        // If it takes longer, the observer is too slow for what passes, and its own count of what it missed says so.
        let waited = self.shared.answered.wait_timeout_while(tallies, PATIENCE, unanswered);
        waited.unwrap_or_else(PoisonError::into_inner).0.by_spot.clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Can't fail: the counter is far from its limit.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn watch(&self, sockets: &[PacketSocket], vteps: &[IpAddr; 2]) {
        let mut reader = Reader::new();
        while !self.stop.load(Ordering::Relaxed) {
            let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
            fds.extend(sockets.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)));
            if rustix::event::poll(&mut fds, None).is_err_and(|errno| errno != rustix::io::Errno::INTR) {
                return;
            }
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
            // Asked before anything is read: what had passed by then is read below.
            let asked = self.lock().asked;
            let mut all_read = true;
            for (at, socket) in sockets.iter().enumerate() {
                all_read &= reader.drain(socket, |head, frame_len, vnet| {
                    self.lock().by_spot[at].add(head, frame_len, vnet, vteps);
                });
                let missed = socket.take_drops().map_or(0, u64::from) + std::mem::take(&mut reader.unread);
                self.lock().by_spot[at].missed += missed;
            }
            if all_read {
                self.lock().answered = asked;
            }
            self.answered.notify_all();
        }
    }
}

/// Room to read into.
struct Reader {
    spaces: Vec<u8>,
    received: Box<[Received; RECV_MAX]>,
    /// Frames that could not be read, or whose header makes no sense.
    unread: u64,
}

impl Reader {
    const SPACE: usize = VNET_HEADER_LEN + HEAD_LEN;

    fn new() -> Self {
        Self { spaces: vec![0; Self::SPACE * RECV_MAX], received: Box::new([Received::default(); RECV_MAX]), unread: 0 }
    }

    /// Reads what waits at a socket; false: more of it than is good for the others.
    fn drain(&mut self, socket: &PacketSocket, mut each: impl FnMut(&[u8], usize, &VnetHeader)) -> bool {
        // What keeps coming must not keep the other sockets waiting.
        const MOST_ROUNDS: usize = 64;
        for _ in 0..MOST_ROUNDS {
            let count = match socket.recv_many(self.spaces.chunks_exact_mut(Self::SPACE), &mut self.received) {
                Ok(count) => count,
                // A frame, now lost, that no virtio-net header can describe (af_packet.c: packet_rcv_vnet).
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                    self.unread += 1;
                    continue;
                }
                // Nothing waits, or the interface is down.
                Err(_) => return true,
            };
            for (space, received) in self.spaces.chunks_exact(Self::SPACE).zip(self.received.iter()).take(count) {
                let header = space.first_chunk().and_then(|bytes| VnetHeader::parse(bytes).ok());
                match header {
                    Some(vnet) => {
                        each(&space[VNET_HEADER_LEN..received.len.max(VNET_HEADER_LEN)], received.frame_len, &vnet)
                    }
                    None => self.unread += 1,
                }
            }
            if count < RECV_MAX {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const VTEPS: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1))];

    fn tunnel_packet(inner: &[u8], port: u16, tunnel_header: &[u8]) -> Vec<u8> {
        let packet =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [203, 0, 113, 1], 64).udp(50_000, port);
        let mut frame = Vec::new();
        packet.write(&mut frame, &[tunnel_header, inner].concat()).unwrap();
        frame
    }

    fn tcp(payload_len: usize) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2([6; 6], [8; 6]).ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64).tcp(1, 2, 3, 4);
        let mut frame = Vec::new();
        packet.write(&mut frame, &vec![0; payload_len]).unwrap();
        frame
    }

    fn seen(frame: &[u8], vnet: VnetHeader) -> Tally {
        let mut tally = Tally::default();
        tally.add(&frame[..frame.len().min(HEAD_LEN)], frame.len(), &vnet, &VTEPS);
        tally
    }

    fn cut(gso: Gso, size: u16) -> VnetHeader {
        VnetHeader { gso: Some((gso, size)), ..VnetHeader::NONE }
    }

    #[test]
    fn a_run_of_datagrams_is_counted_as_the_frames_that_it_becomes() {
        // Three datagrams of 1000 bytes and one of 10.
        let tally = seen(&tunnel_packet(&[0; 3002], 4789, &[0; 8]), cut(Gso::Udp, 1000));
        assert_eq!(tally.tunnel, Amount { frames: 4, bytes: 3010 + 4 * 42 });
        assert_eq!(tally.lengths, [(1042, 3), (52, 1)].into());
        assert_eq!((tally.all, tally.missed), (tally.tunnel, 0));
    }

    #[test]
    fn a_super_frame_in_a_tunnel_of_the_kernels_is_cut_inside() {
        let header_len = 42 + 8 + 54;
        let tally = seen(&tunnel_packet(&tcp(2500), 4789, &[0; 8]), cut(Gso::Tcp4, 1000));
        assert_eq!(tally.tunnel, Amount { frames: 3, bytes: 2500 + 3 * header_len });
        assert_eq!(tally.lengths, [(1000 + header_len as u32, 2), (500 + header_len as u32, 1)].into());
        // Geneve with two words of options.
        let tally = seen(
            &tunnel_packet(&tcp(2000), 6081, &[2, 0, 0x65, 0x58, 0, 0, 42, 0, 1, 1, 1, 1, 1, 1, 1, 1]),
            cut(Gso::Tcp4, 1000),
        );
        assert_eq!(tally.lengths, [(1000 + header_len as u32 + 8, 2)].into());
    }

    #[test]
    fn fragments_are_of_the_tunnel_but_have_no_length_of_their_own() {
        let mut frame = tunnel_packet(&[0; 100], 4789, &[0; 8]);
        frame[20] = 0x20;
        let tally = seen(&frame, VnetHeader::NONE);
        assert_eq!((tally.tunnel.frames, tally.fragments.frames, tally.lengths.len()), (1, 1, 0));
    }

    #[test]
    fn others_packets_are_no_tunnel() {
        let tally = seen(&tcp(100), VnetHeader::NONE);
        assert_eq!((tally.all.frames, tally.tunnel), (1, Amount::default()));
    }

    #[test]
    fn icmp_errors_are_told_apart() {
        let icmp = |kind, code| {
            let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 254], [192, 0, 2, 1], 64);
            let mut frame = Vec::new();
            packet.icmpv4_raw(kind, code, [0, 0, 5, 120]).write(&mut frame, b"quoted").unwrap();
            let tally = seen(&frame, VnetHeader::NONE);
            (tally.too_big, tally.other_errors)
        };
        assert_eq!([icmp(3, 4), icmp(3, 3), icmp(11, 0), icmp(8, 0)], [(1, 0), (0, 1), (0, 1), (0, 0)]);
        let icmpv6 = |kind| {
            let mut frame = Vec::new();
            let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64);
            packet.icmpv6_raw(kind, 0, [0, 0, 5, 120]).write(&mut frame, b"quoted").unwrap();
            let tally = seen(&frame, VnetHeader::NONE);
            (tally.too_big, tally.other_errors)
        };
        assert_eq!([icmpv6(2), icmpv6(1), icmpv6(135)], [(1, 0), (0, 1), (0, 0)]);
    }

    #[test]
    fn what_makes_no_sense_is_missed_and_not_guessed() {
        assert_eq!(seen(&tcp(100), cut(Gso::Udp, 10)).missed, 1);
        assert_eq!(seen(&[0; 20], cut(Gso::Tcp4, 10)).missed, 1);
    }

    #[test]
    fn tallies_are_subtracted_length_by_length() {
        let mut before = Tally::default();
        let frame = tunnel_packet(&[0; 100], 4789, &[0; 8]);
        before.add(&frame, frame.len(), &VnetHeader::NONE, &VTEPS);
        let mut after = before.clone();
        let longer = tunnel_packet(&[0; 200], 4789, &[0; 8]);
        after.add(&longer, longer.len(), &VnetHeader::NONE, &VTEPS);
        let since = after.since(&before);
        assert_eq!((since.tunnel.frames, since.lengths), (1, [(250, 1)].into()));
    }
}
