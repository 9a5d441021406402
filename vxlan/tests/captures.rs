//! The codec against datagrams that other stacks sent and other tools decoded.
//!
//! Where the captures come from stands beside them, in `integration/data/pcaps/SOURCES.md`. What is outside the VXLAN
//! header (pcap, Ethernet, IPv4, UDP) is walked here by hand, so that nothing of weft vouches for weft.
#![allow(clippy::unwrap_used, reason = "the captures are constant, and a surprise in one is the test's failure")]

use std::{fs, path::PathBuf};

use weft_vxlan::{
    DecapError, HEADER_LEN, Header, ReservedBits, Vni, decap, encap,
    geneve::{self, GeneveOption, NoFrame, OptionList},
    gpe::{self, NotEthernet},
};

/// tcpdump's line for an inner frame, as far as it says something about bytes.
#[derive(PartialEq, Debug)]
struct InnerDecode {
    source: String,
    destination: String,
    ethertype: u16,
    len: usize,
}

#[test]
fn vni_and_inner_frames_are_those_tcpdump_prints() {
    let datagrams = datagrams("tcpdump-vxlan.pcap");
    let printed = tcpdump_decode("tcpdump-vxlan.out");
    assert_eq!(datagrams.len(), 10);
    assert_eq!(printed.len(), 10);
    for (datagram, (vni, inner)) in datagrams.iter().zip(printed) {
        let (decoded_vni, decoded_inner) = decap(&datagram.payload, ReservedBits::Drop).unwrap();
        assert_eq!(decoded_vni.get(), vni);
        assert_eq!(inner_decode(decoded_inner), inner);
    }
}

#[test]
fn the_udp_port_makes_no_difference_to_the_payload() {
    let old_port = datagrams("tcpdump-vxlan_port_8472.pcap");
    let payloads = |datagrams: &[Datagram]| datagrams.iter().map(|one| one.payload.clone()).collect::<Vec<_>>();
    assert!(old_port.iter().all(|one| one.destination_port == 8472));
    assert_eq!(payloads(&old_port), payloads(&datagrams("tcpdump-vxlan.pcap")));
}

#[test]
fn one_hundred_datagrams_of_aws_mirroring_carry_their_vni_and_whole_ip_packets() {
    let datagrams = datagrams("suricata-verify-vxlan-decoder-03_vxlan.pcap");
    assert_eq!(datagrams.len(), 100);
    for datagram in &datagrams {
        let (vni, inner) = decap(&datagram.payload, ReservedBits::Drop).unwrap();
        assert_eq!(vni.get(), 0x54fa11);
        assert_eq!(be16(inner, 12), 0x0800);
        assert_eq!(
            usize::from(be16(inner, 14 + 2)),
            inner.len() - 14,
            "the inner IPv4 total length fills the inner frame"
        );
    }
    assert_eq!(datagrams.iter().map(|one| one.payload.len()).max(), Some(1508 - 14 - 20 - 8));
}

#[test]
fn the_dns_answer_of_vni_37_is_found_inside() {
    let datagrams = datagrams("suricata-verify-vxlan-decoder-01_input.pcap");
    let vxlan: Vec<_> = datagrams.iter().filter(|one| one.destination_port == 4789).collect();
    assert_eq!(vxlan.len(), 1);
    let (vni, inner) = decap(&vxlan[0].payload, ReservedBits::Drop).unwrap();
    assert_eq!(vni.get(), 37);
    let inner = udp_datagram(inner).unwrap();
    assert_eq!((inner.destination_port, inner.payload.len()), (12_345, 0));
}

#[test]
fn arp_inside_is_a_frame_like_any_other() {
    let datagrams = datagrams("suricata-verify-arp_detect-arp-04-vxlan_vxlan-arp.pcap");
    assert_eq!(datagrams.len(), 2);
    for datagram in &datagrams {
        let (vni, inner) = decap(&datagram.payload, ReservedBits::Drop).unwrap();
        assert_eq!((vni.get(), be16(inner, 12), inner.len()), (100, 0x0806, 42));
    }
}

#[test]
fn what_encap_writes_is_what_the_other_stacks_sent() {
    for file in [
        "tcpdump-vxlan.pcap",
        "suricata-verify-vxlan-decoder-03_vxlan.pcap",
        "suricata-verify-arp_detect-arp-04-vxlan_vxlan-arp.pcap",
    ] {
        for datagram in datagrams(file) {
            let (vni, inner) = decap(&datagram.payload, ReservedBits::Drop).unwrap();
            let mut written = vec![0xee; datagram.payload.len()];
            assert_eq!(encap(vni, inner, &mut written), Ok(datagram.payload.len()));
            assert_eq!(written, datagram.payload, "{file}");
        }
    }
}

/// The sender fills the reserved fields with a tag of its own. The RFC has a receiver ignore that, the kernel refuses it.
#[test]
fn reserved_fields_in_use_are_refused_as_the_kernel_does_or_ignored_as_the_rfc_says() {
    let datagrams = datagrams("suricata-verify-vxlan-non-zero-reserved-fields_input.pcap");
    assert_eq!(datagrams.len(), 10);
    for datagram in &datagrams {
        assert!(matches!(decap(&datagram.payload, ReservedBits::Drop), Err(DecapError::ReservedBits(_))));
        let (vni, inner) = decap(&datagram.payload, ReservedBits::Ignore).unwrap();
        assert_eq!(vni.get(), 11);
        assert_eq!(be16(inner, 12), 0x0800);
    }
    assert_eq!(datagrams[0].payload[..HEADER_LEN], [0xff, 0x01, 0xd1, 0xf2, 0, 0, 11, 0]);
}

/// VXLAN-GPE keeps the I flag and says with its P flag and the last reserved byte of the first word that something else
/// than Ethernet follows, here NSH. Only the strict policy sees that: whoever ignores reserved bits takes NSH for Ethernet.
#[test]
fn vxlan_gpe_is_refused_for_its_p_flag_and_next_protocol() {
    let datagrams = datagrams("tcpdump-nsh-over-vxlan-gpe.pcap");
    let payload = &datagrams[0].payload;
    let (header, _) = Header::parse(payload).unwrap();
    assert_eq!(header.to_bytes(), [0x0c, 0, 0, 4, 0xff, 0xff, 0xff, 0]);
    assert_eq!(decap(payload, ReservedBits::Drop), Err(DecapError::ReservedBits(header)));
    assert_eq!(decap(payload, ReservedBits::Ignore).unwrap().0, Vni::MAX);
}

/// Geneve has its own UDP port, so this reaches a VTEP only by a wrong configuration. The number of option words in its
/// first byte looks like the I flag whenever it has that bit, as here (10 words); the rest of the byte and the protocol type
/// lie where VXLAN reserves, and that is what gives it away.
#[test]
fn geneve_is_refused_for_its_length_and_protocol_type() {
    let datagrams = datagrams("tcpdump-geneve-gcp.pcap");
    let payload = &datagrams[0].payload;
    let (header, _) = Header::parse(payload).unwrap();
    assert_eq!(header.to_bytes()[..4], [0x0a, 0, 0x08, 0x00]);
    assert_eq!(decap(payload, ReservedBits::Drop), Err(DecapError::ReservedBits(header)));
}

/// Where it belongs, the header is understood, and refused for what it says is inside: NSH is protocol 4.
#[test]
fn nsh_in_vxlan_gpe_is_no_ethernet() {
    let datagrams = datagrams("tcpdump-nsh-over-vxlan-gpe.pcap");
    let (header, _) = Header::parse(&datagrams[0].payload).unwrap();
    assert_eq!(datagrams[0].destination_port, gpe::DEFAULT_PORT);
    assert!(!header.has_any_of(ReservedBits::Drop.mask() & !gpe::USED_BITS));
    assert_eq!(header.ethernet_inside(), Err(NotEthernet::Protocol(4)));
}

/// tshark's decode of the same datagram: three options of class 0x0132 (Google) and types 1 to 3 with 8, 20 and 12 bytes
/// each, their headers counted, and IPv4 behind them.
#[test]
fn the_options_of_a_google_load_balancer_are_those_that_tshark_prints() {
    let datagrams = datagrams("tcpdump-geneve-gcp.pcap");
    let payload = &datagrams[0].payload;
    assert_eq!(datagrams[0].destination_port, geneve::DEFAULT_PORT);
    assert_eq!(geneve::decap(payload), Err(NoFrame::Protocol(0x0800).into()));

    let (header, rest) = geneve::Header::parse(payload).unwrap();
    assert_eq!((header.vni().get(), header.options_len(), header.is_control()), (0, 40, false));
    let options: Vec<GeneveOption<'_>> = geneve::Options::new(&rest[..40]).map(Result::unwrap).collect();
    let shapes: Vec<_> = options.iter().map(|option| (option.class, option.kind, 4 + option.data.len())).collect();
    assert_eq!(shapes, [(0x0132, 1, 8), (0x0132, 2, 20), (0x0132, 3, 12)]);
    assert_eq!(options[1].data[..8], [0x08, 0, 0, 0x0d, 0xc0, 0xa8, 0x64, 0x02]);

    let mut written = OptionList::new();
    options.iter().for_each(|option| written.push(*option).unwrap());
    assert_eq!(written.as_bytes(), &rest[..40]);
    // an Ethernet frame behind the same options would be taken
    let mut ethernet = payload.clone();
    ethernet[2..4].copy_from_slice(&geneve::ETHERNET.to_be_bytes());
    let (vni, read, inner) = geneve::decap(&ethernet).unwrap();
    assert_eq!((vni.get(), read.as_bytes(), inner), (0, &rest[..40], &rest[40..]));
    let mut again = vec![0xee; ethernet.len()];
    assert_eq!(geneve::encap(vni, &written, inner, &mut again), Ok(ethernet.len()));
    assert_eq!(again, ethernet);
}

#[test]
fn a_geneve_datagram_cut_anywhere_is_taken_or_refused_without_a_panic() {
    let datagrams = datagrams("tcpdump-geneve-gcp.pcap");
    let mut payload = datagrams[0].payload.clone();
    payload[2..4].copy_from_slice(&geneve::ETHERNET.to_be_bytes());
    for len in 0..payload.len() {
        assert_eq!(geneve::decap(&payload[..len]).is_ok(), len >= 8 + 40, "{len} bytes");
    }
}

#[test]
fn every_datagram_cut_anywhere_is_taken_or_refused_without_a_panic() {
    for file in ["tcpdump-vxlan.pcap", "tcpdump-nsh-over-vxlan-gpe.pcap", "tcpdump-geneve-gcp.pcap"] {
        for datagram in datagrams(file) {
            for len in 0..datagram.payload.len() {
                let taken = decap(&datagram.payload[..len], ReservedBits::Ignore);
                assert_eq!(taken.is_ok(), len >= HEADER_LEN, "{file}, {len} bytes");
            }
        }
    }
}

#[test]
fn the_pcap_reader_reads_both_byte_orders_and_both_clocks() {
    for magic in [0xa1b2_c3d4_u32, 0xa1b2_3c4d] {
        for to_bytes in [u32::to_be_bytes, u32::to_le_bytes] {
            let words = [magic, 0x0002_0004, 0, 0, 65_535, 1, 10, 20, 3, 60];
            let mut file: Vec<u8> = words.into_iter().flat_map(to_bytes).collect();
            file.extend([7, 8, 9]);
            assert_eq!(pcap_frames(&file), [[7, 8, 9]]);
        }
    }
}

/// One UDP datagram of a capture.
struct Datagram {
    destination_port: u16,
    payload: Vec<u8>,
}

fn datagrams(file: &str) -> Vec<Datagram> {
    pcap_frames(&fs::read(capture(file)).unwrap()).into_iter().map(|frame| udp_datagram(frame).unwrap()).collect()
}

fn capture(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "integration", "data", "pcaps", file].iter().collect()
}

/// The frames of a classic pcap file (the "savefile" format of libpcap), microseconds or nanoseconds, either byte order.
fn pcap_frames(file: &[u8]) -> Vec<&[u8]> {
    const FILE_HEADER_LEN: usize = 24;
    const RECORD_HEADER_LEN: usize = 16;
    let magic = file[..4].try_into().unwrap();
    let word: fn([u8; 4]) -> u32 = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
        (0xa1b2_c3d4 | 0xa1b2_3c4d, _) => u32::from_le_bytes,
        (_, 0xa1b2_c3d4 | 0xa1b2_3c4d) => u32::from_be_bytes,
        (other, _) => panic!("{other:08x} is not the magic number of a pcap file"),
    };
    let word_at = |at: usize| word(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(word_at(20), 1, "the link type is Ethernet");

    let mut frames = Vec::new();
    let mut at = FILE_HEADER_LEN;
    while at < file.len() {
        let captured_len = word_at(at + 8);
        at += RECORD_HEADER_LEN;
        frames.push(&file[at..at + captured_len]);
        at += captured_len;
    }
    frames
}

/// The UDP datagram in an untagged, unfragmented IPv4 frame.
fn udp_datagram(frame: &[u8]) -> Option<Datagram> {
    let packet = frame.get(14..).filter(|_| be16(frame, 12) == 0x0800)?;
    let header_len = usize::from(packet[0] & 0xf) * 4;
    let udp = packet.get(header_len..usize::from(be16(packet, 2))).filter(|_| packet[9] == 17)?;
    let payload = udp.get(8..usize::from(be16(udp, 4)))?;
    Some(Datagram { destination_port: be16(udp, 2), payload: payload.to_vec() })
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn inner_decode(frame: &[u8]) -> InnerDecode {
    let mac = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    InnerDecode {
        destination: mac(&frame[..6]),
        source: mac(&frame[6..12]),
        ethertype: be16(frame, 12),
        len: frame.len(),
    }
}

/// VNI and inner frame of each packet, from two lines of tcpdump:
/// `... VXLAN, flags [I] (0x08), vni 100` and
/// `00:16:3e:37:f6:04 > 00:30:88:01:00:02, ethertype IPv4 (0x0800), length 98: ...`.
fn tcpdump_decode(file: &str) -> Vec<(u32, InnerDecode)> {
    let text = fs::read_to_string(capture(file)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let between = |line: &str, before: &str, after: &str| -> String {
        let (_, rest) = line.split_once(before).unwrap();
        rest.split_once(after).unwrap().0.to_owned()
    };
    lines
        .chunks_exact(2)
        .map(|pair| {
            let (_, vni) = pair[0].rsplit_once("vni ").unwrap();
            let inner = pair[1];
            let decode = InnerDecode {
                source: inner.split_once(" > ").unwrap().0.to_owned(),
                destination: between(inner, " > ", ","),
                ethertype: u16::from_str_radix(&between(inner, "(0x", ")"), 16).unwrap(),
                len: between(inner, ", length ", ":").parse().unwrap(),
            };
            (vni.trim().parse().unwrap(), decode)
        })
        .collect()
}
