//! tshark as a reader of captures: its fields, and what it thinks of checksums.

use std::path::Path;

use anyhow::ensure;

// Values of tshark's *.checksum.status (epan/proto.h: proto_checksum_enum_e).
pub(crate) const BAD: &str = "0";
pub(crate) const GOOD: &str = "1";
pub(crate) const UNVERIFIED: &str = "2";
pub(crate) const ABSENT: &str = "3";

/// One row a packet: all values of each of these fields. `arguments` are more of tshark's.
pub(crate) fn fields(file: &Path, arguments: &[&str], fields: &[&str]) -> anyhow::Result<Vec<Vec<Vec<String>>>> {
    let mut command = std::process::Command::new("tshark");
    command.arg("-r").arg(file).arg("-n").args(arguments);
    for protocol in ["ip", "udp", "tcp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    command.args(["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let values = |field: &str| field.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
    let rows = String::from_utf8(output.stdout)?;
    Ok(rows.lines().map(|row| row.split('\t').map(values).collect()).collect())
}

/// Whether the checksum of TCP is right: its status, itself, and what tshark makes it.
pub(crate) fn is_good_tcp(status: &[String], checksum: &[String], calculated: &[String]) -> bool {
    // The kernel writes a sum of zero as 0xffff (net/core/dev.c:skb_checksum_help), which is the same number to every
    // receiver, but bad to tshark.
    let is_minus_zero = || *checksum == ["0xffff"] && *calculated == ["0x0000"];
    status.iter().all(|status| status == GOOD) || is_minus_zero()
}

/// How many packets of a capture had a checksum of each kind, all of them right.
#[derive(Default, Debug)]
pub(crate) struct Checksums {
    pub(crate) tcp: usize,
    pub(crate) udp: usize,
}

impl Checksums {
    /// # Errors
    /// The first packet with a wrong checksum.
    pub(crate) fn of(file: &Path) -> anyhow::Result<Self> {
        const FIELDS: [&str; 7] = [
            "ip.checksum.status",
            "udp.checksum.status",
            "tcp.checksum.status",
            "tcp.checksum",
            "tcp.checksum_calculated",
            "icmp.checksum.status",
            "icmpv6.checksum.status",
        ];
        let mut seen = Self::default();
        for (index, row) in fields(file, &[], &FIELDS)?.iter().enumerate() {
            let [ip, udp, tcp, tcp_sum, calculated, icmp, icmpv6] = &row[..] else {
                anyhow::bail!("a field is missing")
            };
            let good = [ip, udp, icmp, icmpv6].into_iter().flatten().all(|status| status == GOOD);
            ensure!(good && is_good_tcp(tcp, tcp_sum, calculated), "packet {}: {row:?}", index + 1);
            seen.tcp += usize::from(!tcp.is_empty());
            seen.udp += usize::from(!udp.is_empty());
        }
        Ok(seen)
    }
}
