//! What the tests are set up with: commands in the test's namespace, frames, and an injector and witnesses that are not weft.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use weft::{
    offload::{Segments, VnetHeader, wire_frames},
    port::{
        Port, PortQueue, RxBatch, TxFrame,
        tap::{self, TapQueue},
    },
    sys::netns::Netns,
};

/// What a test takes.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// CAP_SYS_ADMIN and CAP_NET_ADMIN: a namespace of one's own.
    Namespace,
    /// /dev/net/tun.
    Tun,
    /// A program on the PATH.
    Program(&'static str),
}

impl Need {
    /// What is missing, if it is.
    pub(crate) fn lack(self) -> Option<String> {
        match self {
            Self::Namespace => {
                Netns::create().err().map(|error| format!("no namespaces can be made (needs root): {error}"))
            }
            Self::Tun => fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .err()
                .map(|error| format!("/dev/net/tun can't be opened: {error}")),
            Self::Program(program) => {
                let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
                // `ip` knows no --version, but it runs.
                found.err().map(|error| format!("`{program}` can't be run: {error}"))
            }
        }
    }
}

/// Keeps the kernel from sending anything on its own in the thread's namespace.
pub(crate) fn quiet() {
    for which in ["default", "all"] {
        // Without IPv6 in the kernel there is nothing to keep quiet.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
}

/// Runs `ip` with these arguments in the thread's namespace.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip can be run");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A veth pair `v0`-`v1`, both up and running.
pub(crate) fn veth() {
    ip("link add v0 type veth peer name v1");
    up("v0");
    up("v1");
    await_running("v0");
    await_running("v1");
}

/// Sets an interface up.
pub(crate) fn up(interface: &str) {
    ip(&format!("link set {interface} up"));
}

/// Waits until an interface that is up can send. The kernel gives it a queue only some time after it has found the carrier
/// (`net/core/link_watch.c`), and what is sent before vanishes as if it had been sent.
pub(crate) fn await_running(interface: &str) {
    eventually(Duration::from_secs(5), || {
        let output = Command::new("ip").args(["link", "show", interface]).output().expect("ip can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains("state UP") && !text.contains("qdisc noop ")
    });
}

/// Waits for something that comes by itself, and fails if it does not.
#[track_caller]
pub(crate) fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "did not come within {patience:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends raw frames out of an interface by python's packet socket, which is nobody's code here.
pub(crate) struct Injector(Child);

impl Injector {
    /// Sends each frame once and waits until all are sent.
    pub(crate) fn send(interface: &str, frames: &[Vec<u8>]) {
        const PROGRAM: &str = "
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for frame in [bytes.fromhex(line) for line in sys.stdin]:
    s.send(frame)
";
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM, interface])
            .stdin(Stdio::piped())
            .spawn()
            .expect("python3 can be run");
        let mut lines = String::new();
        for frame in frames {
            lines.extend(frame.iter().map(|byte| format!("{byte:02x}")));
            lines.push('\n');
        }
        child.stdin.take().expect("is piped").write_all(lines.as_bytes()).expect("python reads");
        assert!(child.wait().expect("python ends").success());
    }

    /// Sends [`numbered`] frames from `first` on as fast as it can, until it is dropped. The first thousand
    /// are sent when this returns.
    pub(crate) fn flood(interface: &str, first: u32) -> Self {
        const PROGRAM: &str = "
import itertools, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
frame = bytes.fromhex(sys.argv[2])
first = int(sys.argv[3])
for n in itertools.count(first):
    s.send(frame[:14] + n.to_bytes(4, 'big') + frame[18:])
    if n == first + 1000:
        print(flush=True)
";
        let frame: String = numbered(0).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM, interface, &frame, &first.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 can be run");
        child.stdout.take().expect("is piped").read_exact(&mut [0]).expect("python sends");
        Self(child)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A packet socket of all interfaces of the thread's namespace: what the kernel has received and sent there.
pub(crate) struct Witness(Socket);

impl Witness {
    pub(crate) fn new() -> Self {
        const ETH_P_ALL: u16 = 3;
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket has a timeout");
        Self(socket)
    }

    /// The next frame that `wanted` is true for, within two seconds.
    pub(crate) fn find(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            let Ok(len) = (&self.0).read(&mut bytes) else { break };
            if wanted(&bytes[..len]) {
                bytes.truncate(len);
                return Some(bytes);
            }
        }
        None
    }
}

/// EtherType for local experiments (IEEE 802): the kernel ignores such frames.
pub(crate) const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// A frame with a number in it, to an address that nobody has.
pub(crate) fn numbered(number: u32) -> Vec<u8> {
    let mut frame = [&[2, 0, 0, 0, 0xee, 2][..], &[2, 0, 0, 0, 0xee, 1], &EXPERIMENT, &number.to_be_bytes()].concat();
    frame.resize(60, 0x5a);
    frame
}

/// The number of a [`numbered`] frame.
pub(crate) fn number_of(frame: &[u8]) -> Option<u32> {
    (frame.get(12..14)? == EXPERIMENT).then(|| frame[14..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes)))?
}

/// A frame with a tag behind its addresses.
pub(crate) fn with_tag(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &tci.to_be_bytes(), &frame[12..]].concat()
}

/// A UDP packet over IPv4 in a frame, without a UDP checksum: `flow` is its source port.
pub(crate) fn udp_frame(flow: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut ip =
        [&[0x45, 0][..], &(20 + udp_len).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0], &[10, 9, 9, 1, 10, 9, 9, 2]]
            .concat();
    let checksum = !internet_sum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let udp = [flow, 4444, udp_len, 0].map(u16::to_be_bytes).concat();
    [&[2, 0, 0, 0, 0xee, 2][..], &[2, 0, 0, 0, 0xee, 1], &[8, 0], &ip, &udp, payload].concat()
}

/// RFC 1071, the slow way.
pub(crate) fn internet_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What a port has and gets, until `enough` frames are there or none has come for the time of `patience`.
pub(crate) fn receive(port: &mut impl Port, enough: usize, patience: Duration) -> Vec<(Vec<u8>, Option<VnetHeader>)> {
    let mut frames = Vec::new();
    let mut batch = RxBatch::new();
    let mut end = Instant::now() + patience;
    while frames.len() < enough && Instant::now() < end {
        batch.clear();
        if port.recv(&mut batch).expect("the port can be read") == 0 {
            thread::sleep(Duration::from_millis(1));
        } else {
            end = Instant::now() + patience;
        }
        frames.extend(batch.iter_mut().map(|(bytes, vnet)| (bytes.to_vec(), *vnet)));
    }
    frames
}

/// What a poll of the port's descriptor says at once.
pub(crate) fn events(port: &impl Port) -> PollFlags {
    let fd = port.poll_fd().expect("the port has a descriptor");
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).expect("poll works");
    fds[0].revents()
}

/// A stack behind the tap `t0` that `open` makes, in a namespace of its own.
pub(crate) fn host<T: Send>(namespace: &Netns, address: &str, open: impl FnOnce() -> T + Send) -> T {
    let make = || {
        quiet();
        let tap = open();
        ip(&format!("addr add {address}/24 dev t0"));
        up("t0");
        tap
    };
    namespace.within(make).expect("the namespace is there")
}

/// A [`host`] behind a tap with offloads.
pub(crate) fn tap_host(namespace: &Netns, address: &str) -> TapQueue {
    host(namespace, address, || tap::open("t0", 1).expect("a tap").remove(0))
}

/// Carries frames between two ports as the worker would: whole where the receiver takes them, finished and cut where not.
pub(crate) fn carry(one: PortQueue, other: PortQueue, stop: &AtomicBool) -> Carried {
    let mut ports = [one, other];
    let mut carried = Carried::default();
    let mut batch = RxBatch::new();
    let mut space = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for from in 0..2 {
            batch.clear();
            idle &= ports[from].recv(&mut batch).expect("the port can be read") == 0;
            let to = &mut ports[1 - from];
            for (bytes, vnet) in batch.iter_mut() {
                let vnet = vnet.expect("the kernel's header makes sense");
                carried.wire_frames += u64::from(wire_frames(bytes, &vnet).expect("header and frame agree"));
                carried.frames += 1;
                carried.partial += u64::from(vnet.csum.is_some());
                if vnet.gso.is_some() {
                    carried.super_frames += 1;
                    carried.sample = Some((bytes.to_vec(), vnet));
                }
                let offloads = to.offloads();
                if vnet == VnetHeader::NONE || (offloads.csum && offloads.tso4) {
                    carried.refused += u64::from(to.send(&TxFrame { bytes, tag: None, vnet }).is_err());
                    continue;
                }
                let segments = Segments::new(bytes, &vnet).expect("header and frame agree");
                for i in 0..segments.count() {
                    let segment = &mut space[..segments.len(i)];
                    segments.write(i, segment);
                    carried.refused += u64::from(to.send(&TxFrame::plain(segment)).is_err());
                }
            }
        }
        if idle {
            thread::sleep(Duration::from_micros(200));
        }
    }
    carried
}

/// What [`carry`] saw.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) frames: u64,
    pub(crate) wire_frames: u64,
    pub(crate) super_frames: u64,
    pub(crate) partial: u64,
    pub(crate) refused: u64,
    /// One of the super-frames.
    pub(crate) sample: Option<(Vec<u8>, VnetHeader)>,
}

/// Sends bytes from one namespace to `10.9.9.2` in another over TCP, checks that they arrive, and carries frames between the
/// two ports meanwhile.
pub(crate) fn tcp_between(ports: (PortQueue, PortQueue), client: &Netns, server: &Netns, byte_count: usize) -> Carried {
    const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 9, 9, 2)), 5001);
    let payload: Vec<u8> = (0..byte_count).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let carrier = scope.spawn(|| carry(ports.0, ports.1, &stop));
        let listener = server.within(|| TcpListener::bind(SERVER)).expect("the namespace is there").expect("free port");
        let sender = scope.spawn(|| {
            let connect = || TcpStream::connect_timeout(&SERVER, Duration::from_secs(5));
            let mut stream = client.within(connect).expect("the namespace is there").expect("a connection");
            stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            stream.write_all(&payload).expect("the bytes are taken");
        });
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("the bytes arrive");
        sender.join().expect("the sender is done");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(got.len(), payload.len());
        assert!(got == payload, "the bytes are others");
        carrier.join().expect("the carrier is done")
    })
}
