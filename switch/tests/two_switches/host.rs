//! A host: smoltcp's stack at the end of a cable.

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::ChecksumCapabilities,
    socket::{icmp, tcp},
    time::Instant,
    wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr},
};

use super::cable::Cable;

const BUFFER_LEN: usize = 64 << 10;
const IDENT: u16 = 0x77;

pub(crate) struct Host {
    pub(crate) cable: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    icmp: SocketHandle,
}

impl Host {
    /// Has the addresses 10.0.0.`last`/24, fd00::`last`/64 and 02:00:00:00:00:`last`.
    pub(crate) fn new(last: u8, mut cable: Cable, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, last]).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut cable, now);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, last), 24)).unwrap();
            addresses.push(IpCidr::new(IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)), 64)).unwrap();
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_LEN]);
        let tcp = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let packets = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 2048]);
        let icmp = sockets.add(icmp::Socket::new(packets(), packets()));
        sockets.get_mut::<icmp::Socket<'_>>(icmp).bind(icmp::Endpoint::Ident(IDENT)).unwrap();
        Self { cable, interface, sockets, tcp, icmp }
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.cable, &mut self.sockets);
    }

    pub(crate) fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    pub(crate) fn listen(&mut self, port: u16) {
        self.tcp().abort();
        self.tcp().listen(port).unwrap();
    }

    pub(crate) fn connect(&mut self, remote: (IpAddress, u16)) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        socket.abort();
        socket.connect(self.interface.context(), remote, 40_000).unwrap();
    }

    pub(crate) fn send_echo_request(&mut self, to: IpAddress, seq_no: u16) {
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.icmp);
        let data = b"are you there?";
        match to {
            IpAddress::Ipv4(_) => {
                let request = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no, data };
                let room = socket.send(request.buffer_len(), to).unwrap();
                request.emit(&mut Icmpv4Packet::new_unchecked(room), &ChecksumCapabilities::default());
            }
            IpAddress::Ipv6(address) => {
                let request = Icmpv6Repr::EchoRequest { ident: IDENT, seq_no, data };
                let source = self.interface.get_source_address_ipv6(&address);
                let room = socket.send(request.buffer_len(), to).unwrap();
                let mut packet = Icmpv6Packet::new_unchecked(room);
                request.emit(&source, &address, &mut packet, &ChecksumCapabilities::default());
            }
        }
    }

    /// Sequence numbers of the echo replies that have come from `from`.
    pub(crate) fn echo_replies(&mut self, from: IpAddress) -> Vec<u16> {
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.icmp);
        let mut replies = Vec::new();
        while let Ok((bytes, source)) = socket.recv() {
            // Type 0 of ICMP and 129 of ICMPv6 are replies; smoltcp has verified the checksum.
            if source == from && (bytes[0] == 0 || bytes[0] == 129) {
                replies.push(u16::from_be_bytes([bytes[6], bytes[7]]));
            }
        }
        replies
    }
}
