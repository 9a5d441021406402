//! What a run of `weft experiment mtu` measures: its axes, and the cells that they span.

use std::{collections::HashSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use weft_vxlan::mtu::{IPV4_MIN_MTU, IPV6_MIN_MTU};

use super::cell::{Cell, DfPolicy, Engine, Offload, Oversize, Tunnel, Underlay, serde_by_words};

/// The longest inner MTU: with all headers it still fits the largest packet of an outer IPv4 with options of Geneve.
const MAX_INNER_MTU: u16 = 65_000;
/// The kernel's veth devices take no more (`drivers/net/veth.c`: ETH_MAX_MTU).
const MAX_UNDERLAY_MTU: u32 = 65_535;

/// An inner MTU, as one asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InnerMtu {
    /// The largest that fits the hosts' links, which is what weft sets by itself, and so many bytes more or less.
    Fit(i32),
    /// The underlay's own: "1500 inside 1500".
    Underlay,
    /// So many bytes.
    Bytes(u16),
}

impl fmt::Display for InnerMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fit(0) => f.write_str("fit"),
            Self::Fit(more) => write!(f, "fit{more:+}"),
            Self::Underlay => f.write_str("underlay"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for InnerMtu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text {
            "fit" => Some(Self::Fit(0)),
            "underlay" => Some(Self::Underlay),
            _ => match text.strip_prefix("fit") {
                Some(more) if more.starts_with(['+', '-']) => more.parse().ok().map(Self::Fit),
                Some(_) => None,
                None => text.parse().ok().map(Self::Bytes),
            },
        };
        parsed.ok_or_else(|| {
            format!("`{text}` is no inner MTU: a number of bytes is, `fit`, `fit-100`, `fit+1` or `underlay`")
        })
    }
}

/// The MTU of the link in the middle, as one asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MiddleMtu {
    /// That of the hosts' links.
    Same,
    /// So many bytes.
    Bytes(u32),
}

impl fmt::Display for MiddleMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for MiddleMtu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = || text.parse().map(Self::Bytes);
        let wrong = |_| format!("`{text}` is no MTU of the middle link: a number of bytes is, or `same`");
        if text == "same" { Ok(Self::Same) } else { bytes().map_err(wrong) }
    }
}

serde_by_words!(InnerMtu);
serde_by_words!(MiddleMtu);

/// What is the same in all cells.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Conditions {
    /// How long each load runs in each cell, in seconds.
    pub seconds: f64,
    /// Payload that the UDP source offers, in Mbit/s.
    pub udp_mbit: f64,
    /// UDP payload of each datagram in bytes; `None`: what fills the inner MTU.
    pub udp_size: Option<u16>,
    /// Bytes of an answer of the request/response load.
    pub answer_len: u32,
    /// Wire frames that the link in the middle loses, in percent, each way.
    pub loss_percent: f64,
    /// How long a frame takes over the link in the middle, in milliseconds, each way.
    pub delay_ms: f64,
    /// Threads of each weft that forward.
    pub workers: u32,
    /// What the losses are drawn from.
    pub seed: u64,
}

/// The axes of a sweep; a cell for each combination.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// Who carries the frames.
    pub engine: Vec<Engine>,
    /// Encapsulations.
    pub encapsulation: Vec<Tunnel>,
    /// IP versions of the underlay.
    pub underlay: Vec<Underlay>,
    /// MTUs of the hosts' links.
    pub underlay_mtu: Vec<u32>,
    /// MTUs of the link in the middle.
    pub middle_mtu: Vec<MiddleMtu>,
    /// MTUs of the stations.
    pub inner_mtu: Vec<InnerMtu>,
    /// Whether ports have offloads.
    pub offload: Vec<Offload>,
    /// Outer DF bits.
    pub df: Vec<DfPolicy>,
    /// What becomes of IPv4 without DF that is too long.
    pub oversize: Vec<Oversize>,
    /// What is the same in all cells.
    pub conditions: Conditions,
}

impl Sweep {
    /// The sweep that is made if nothing else is asked for: some minutes.
    pub fn standard() -> Self {
        Self {
            engine: vec![Engine::Weft],
            encapsulation: Tunnel::ALL.to_vec(),
            underlay: vec![Underlay::Ipv4],
            underlay_mtu: vec![1500, 9000],
            middle_mtu: vec![MiddleMtu::Same],
            inner_mtu: vec![
                InnerMtu::Bytes(576),
                InnerMtu::Bytes(1280),
                InnerMtu::Bytes(1500),
                InnerMtu::Bytes(4000),
                InnerMtu::Fit(0),
                InnerMtu::Underlay,
            ],
            offload: vec![Offload::On, Offload::Off],
            df: vec![DfPolicy::Set, DfPolicy::Unset, DfPolicy::Inherit],
            oversize: vec![Oversize::Fragment],
            conditions: Conditions {
                seconds: 0.4,
                udp_mbit: 100.0,
                udp_size: None,
                answer_len: 16 << 10,
                loss_percent: 0.0,
                delay_ms: 0.0,
                workers: 1,
                seed: 1,
            },
        }
    }

    /// A sweep of less than a minute, for a first look.
    pub fn quick() -> Self {
        let standard = Self::standard();
        Self {
            underlay_mtu: vec![1500],
            inner_mtu: vec![InnerMtu::Bytes(576), InnerMtu::Fit(0), InnerMtu::Underlay],
            df: vec![DfPolicy::Set],
            conditions: Conditions { seconds: 0.2, ..standard.conditions.clone() },
            ..standard
        }
    }

    /// Says what makes no sense.
    ///
    /// # Errors
    /// The first thing that does not, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let Conditions { seconds, udp_mbit, udp_size, answer_len, loss_percent, delay_ms, workers, seed: _ } =
            &self.conditions;
        for (name, is_empty) in [
            ("engine", self.engine.is_empty()),
            ("encapsulation", self.encapsulation.is_empty()),
            ("underlay", self.underlay.is_empty()),
            ("underlay MTU", self.underlay_mtu.is_empty()),
            ("middle MTU", self.middle_mtu.is_empty()),
            ("inner MTU", self.inner_mtu.is_empty()),
            ("offload", self.offload.is_empty()),
            ("df", self.df.is_empty()),
            ("oversize", self.oversize.is_empty()),
        ] {
            if is_empty {
                return Err(format!("no {name} is asked for: name at least one"));
            }
        }
        let within = |name: &str, value: f64, least: f64, most: f64| {
            let is_good = (least..=most).contains(&value);
            if is_good { Ok(()) } else { Err(format!("{name} is {value}, and must be from {least} to {most}")) }
        };
        within("--seconds", *seconds, 0.05, 3600.0)?;
        within("--udp-rate", *udp_mbit, 0.01, 100_000.0)?;
        within("--loss", *loss_percent, 0.0, 100.0)?;
        within("--delay", *delay_ms, 0.0, 5_000.0)?;
        within("--workers", f64::from(*workers), 1.0, 256.0)?;
        within("--answer", f64::from(*answer_len), 1.0, f64::from(64 << 20))?;
        if let Some(size) = udp_size {
            // Sequence number and time stand in each.
            within("--udp-size", f64::from(*size), 16.0, 65_000.0)?;
        }
        let smallest = if self.underlay.contains(&Underlay::Ipv6) { IPV6_MIN_MTU } else { IPV4_MIN_MTU };
        let middles = self.middle_mtu.iter().filter_map(|middle| match middle {
            MiddleMtu::Same => None,
            MiddleMtu::Bytes(bytes) => Some(*bytes),
        });
        for mtu in self.underlay_mtu.iter().copied().chain(middles) {
            within("an MTU of the underlay", f64::from(mtu), f64::from(smallest), f64::from(MAX_UNDERLAY_MTU))?;
        }
        if self.cells().0.is_empty() {
            return Err("no combination of these MTUs leaves room for a packet".to_owned());
        }
        Ok(())
    }

    /// The cells, each once, those of one plot side by side; and in words what was asked for and is no cell.
    pub fn cells(&self) -> (Vec<Cell>, Vec<String>) {
        let (mut cells, mut seen, mut left_out) = (Vec::new(), HashSet::new(), Vec::new());
        for path in self.paths() {
            for &inner in &self.inner_mtu {
                match inner_mtu(inner, &path) {
                    Ok(inner_mtu) => {
                        let cell = Cell { inner_mtu, ..path.clone() };
                        if seen.insert(cell.key()) {
                            cells.push(cell);
                        }
                    }
                    Err(why) if left_out.contains(&why) => {}
                    Err(why) => left_out.push(why),
                }
            }
        }
        let foreign = self.encapsulation.iter().any(|tunnel| *tunnel != Tunnel::VXLAN);
        if foreign && self.engine.contains(&Engine::Kernel) {
            left_out.push("the kernel is measured with VXLAN only".to_owned());
        }
        (cells, left_out)
    }

    /// All combinations but for the inner MTU.
    fn paths(&self) -> Vec<Cell> {
        let mut paths = vec![Cell {
            engine: Engine::Weft,
            tunnel: Tunnel::VXLAN,
            underlay: Underlay::Ipv4,
            underlay_mtu: 0,
            middle_mtu: 0,
            inner_mtu: 0,
            offload: Offload::On,
            df: DfPolicy::Set,
            oversize: Oversize::Fragment,
        }];
        fn spread<T: Copy>(paths: &mut Vec<Cell>, axis: &[T], set: impl Fn(Cell, T) -> Cell) {
            *paths = paths.iter().flat_map(|path| axis.iter().map(|&value| set(path.clone(), value))).collect();
        }
        spread(&mut paths, &self.underlay, |cell, underlay| Cell { underlay, ..cell });
        spread(&mut paths, &self.underlay_mtu, |cell, underlay_mtu| Cell { underlay_mtu, ..cell });
        spread(&mut paths, &self.middle_mtu, |cell, middle| {
            let middle_mtu = match middle {
                MiddleMtu::Same => cell.underlay_mtu,
                MiddleMtu::Bytes(bytes) => bytes,
            };
            Cell { middle_mtu, ..cell }
        });
        spread(&mut paths, &self.engine, |cell, engine| Cell { engine, ..cell });
        spread(&mut paths, &self.encapsulation, |cell, tunnel| Cell { tunnel, ..cell });
        spread(&mut paths, &self.offload, |cell, offload| Cell { offload, ..cell });
        spread(&mut paths, &self.df, |cell, df| Cell { df, ..cell });
        spread(&mut paths, &self.oversize, |cell, oversize| match cell.engine {
            Engine::Weft => Cell { oversize, ..cell },
            // It has no choice.
            Engine::Kernel => Cell { oversize: Oversize::Outer, ..cell },
        });
        paths.retain(|cell| cell.engine == Engine::Weft || cell.tunnel == Tunnel::VXLAN);
        paths
    }

    /// What differs from another sweep, in words; nothing if they are the same.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let values = |sweep: &Self| -> serde_json::Map<String, serde_json::Value> {
            let mut object = match serde_json::to_value(sweep) {
                Ok(serde_json::Value::Object(object)) => object,
                Ok(_) | Err(_) => serde_json::Map::new(),
            };
            if let Some(serde_json::Value::Object(conditions)) = object.remove("conditions") {
                object.extend(conditions);
            }
            object
        };
        let (ours, theirs) = (values(self), values(other));
        let differs = |(name, value): (&String, &serde_json::Value)| {
            let other = theirs.get(name).unwrap_or(&serde_json::Value::Null);
            (value != other).then(|| format!("{name} is {value} and not {other}"))
        };
        ours.iter().filter_map(differs).collect()
    }
}

fn inner_mtu(asked: InnerMtu, path: &Cell) -> Result<u16, String> {
    let budget = path.tunnel.budget(path.underlay);
    let bytes = match asked {
        InnerMtu::Bytes(bytes) => i64::from(bytes),
        InnerMtu::Underlay => i64::from(path.underlay_mtu),
        InnerMtu::Fit(more) => i64::from(path.underlay_mtu) - i64::from(budget.overhead()) + i64::from(more),
    };
    let good = u16::try_from(bytes).ok().filter(|mtu| (IPV4_MIN_MTU..=MAX_INNER_MTU).contains(mtu));
    good.ok_or_else(|| format!("inner MTU {asked} in an underlay of {} is {bytes}, which is no MTU", path.underlay_mtu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_every_combination_once() {
        let sweep = Sweep::standard();
        let (cells, left_out) = sweep.cells();
        // 1500 is Ethernet's own MTU and the first underlay's: five and six inner MTUs.
        assert_eq!(cells.len(), 4 * (5 + 6) * 2 * 3);
        let keys: HashSet<_> = cells.iter().map(Cell::key).collect();
        assert_eq!(keys.len(), cells.len());
        assert!(left_out.is_empty());
    }

    #[test]
    fn inner_mtus_follow_the_headers_of_each_path() {
        let sweep = Sweep {
            encapsulation: vec![Tunnel::VXLAN, "geneve+16".parse().unwrap()],
            underlay: vec![Underlay::Ipv4, Underlay::Ipv6],
            underlay_mtu: vec![1500],
            middle_mtu: vec![MiddleMtu::Same, MiddleMtu::Bytes(1400)],
            inner_mtu: vec![InnerMtu::Fit(0)],
            offload: vec![Offload::On],
            df: vec![DfPolicy::Set],
            ..Sweep::standard()
        };
        let inner: Vec<_> = sweep.cells().0.iter().map(|cell| cell.inner_mtu).collect();
        assert_eq!(inner, [1450, 1434, 1450, 1434, 1430, 1414, 1430, 1414]);
        assert!(sweep.cells().0.iter().all(|cell| cell.fits_underlay() && cell.fits() == (cell.middle_mtu == 1500)));
    }

    #[test]
    fn what_is_no_cell_is_told() {
        let sweep = Sweep {
            engine: vec![Engine::Weft, Engine::Kernel],
            encapsulation: vec![Tunnel::VXLAN, "geneve".parse().unwrap()],
            underlay_mtu: vec![1500],
            inner_mtu: vec![InnerMtu::Fit(-1450), InnerMtu::Fit(0)],
            ..Sweep::quick()
        };
        let (cells, left_out) = sweep.cells();
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert!(left_out[0].contains("is 0, which is no MTU"), "{left_out:?}");
        assert!(cells.iter().all(|cell| cell.engine == Engine::Weft || cell.tunnel == Tunnel::VXLAN));
        assert!(cells.iter().any(|cell| cell.engine == Engine::Kernel));
    }

    #[test]
    fn inner_and_middle_mtus_are_read_as_they_are_written() {
        for text in ["fit", "fit+1", "fit-100", "underlay", "1450"] {
            assert_eq!(text.parse::<InnerMtu>().unwrap().to_string(), text);
        }
        for text in ["fits", "fit100", "fit+", "", "-1", "65536", "1450B"] {
            assert!(text.parse::<InnerMtu>().unwrap_err().contains("is no inner MTU"), "{text}");
        }
        assert_eq!("same".parse::<MiddleMtu>(), Ok(MiddleMtu::Same));
        assert!("some".parse::<MiddleMtu>().is_err());
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        let with = |change: fn(&mut Sweep)| {
            let mut sweep = Sweep::quick();
            change(&mut sweep);
            sweep.check().unwrap_err()
        };
        assert_eq!(Sweep::standard().check(), Ok(()));
        assert_eq!(Sweep::quick().check(), Ok(()));
        assert!(with(|sweep| sweep.df.clear()).starts_with("no df is asked for"));
        assert!(with(|sweep| sweep.conditions.seconds = 0.0).contains("must be from 0.05 to 3600"));
        assert!(with(|sweep| sweep.conditions.loss_percent = 101.0).starts_with("--loss is 101"));
        assert!(with(|sweep| sweep.underlay_mtu = vec![60]).contains("must be from 68"));
        let small_for_six = |sweep: &mut Sweep| {
            sweep.underlay.push(Underlay::Ipv6);
            sweep.middle_mtu = vec![MiddleMtu::Bytes(1000)];
        };
        assert!(with(small_for_six).contains("must be from 1280"));
        assert!(with(|sweep| sweep.inner_mtu = vec![InnerMtu::Bytes(0)]).contains("leaves room"));
    }

    #[test]
    fn differences_are_told_by_name() {
        let (one, mut other) = (Sweep::quick(), Sweep::quick());
        assert!(one.differences(&other).is_empty());
        other.conditions.seconds = 2.0;
        other.df = vec![DfPolicy::Inherit];
        let mut differences = one.differences(&other);
        differences.sort();
        assert_eq!(differences, ["df is [\"set\"] and not [\"inherit\"]", "seconds is 0.2 and not 2.0"]);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Sweep>(&json).unwrap(), one);
    }
}
