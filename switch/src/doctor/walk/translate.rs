//! Addresses that are translated on the way, and back again for the answer (`net/netfilter/nf_nat_core.c`).

use std::net::IpAddr;

use super::{Walker, filter, packet::Packet};
use crate::doctor::world::At;

/// A connection that a namespace translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Translation {
    space: usize,
    /// As its first packet came.
    original: Packet,
    /// As it left.
    translated: Packet,
}

impl Walker<'_> {
    /// The answer of a connection whose source was translated here gets its first destination back, as it comes in.
    pub(super) fn back_at_entry(&self, space: usize, packet: Packet) -> Option<Packet> {
        let it = self.translation_of(space, packet)?;
        Some(Packet { destination: it.original.source, destination_port: it.original.source_port, ..packet })
    }

    /// The answer of a connection whose destination was translated here gets its first source back, as it leaves.
    pub(super) fn back_at_exit(&self, space: usize, packet: Packet) -> Option<Packet> {
        let fits = |it: &&Translation| {
            it.space == space
                && packet.reply != it.original.reply
                && it.original.source == packet.destination
                && it.translated.destination == packet.source
                && it.original.destination != packet.source
        };
        let it = self.translations.iter().rev().find(fits)?;
        Some(Packet { source: it.original.destination, source_port: it.original.destination_port, ..packet })
    }

    fn translation_of(&self, space: usize, packet: Packet) -> Option<&Translation> {
        let fits = |it: &&Translation| {
            it.space == space
                && packet.reply != it.original.reply
                && it.translated.source == packet.destination
                && it.translated.destination == packet.source
        };
        self.translations.iter().rev().find(fits)
    }

    /// A destination that a rule put in the place of another, and that nobody has.
    pub(super) fn translated_to_nobody(&self) -> Option<(usize, IpAddr)> {
        let nobodys = |it: &&Translation| {
            it.translated.destination != it.original.destination
                && self.survey.owners(it.translated.destination).is_empty()
        };
        self.translations.iter().find(nobodys).map(|it| (it.space, it.translated.destination))
    }

    /// The namespace that put this source in the place of another.
    pub(super) fn disguiser(&self, source: IpAddr) -> Option<usize> {
        let is_it = |it: &&Translation| it.translated.source == source && it.original.source != source;
        self.translations.iter().find(is_it).map(|it| it.space)
    }

    /// Does what a translating rule says, and remembers it.
    pub(super) fn translate(
        &mut self,
        space: usize,
        packet: Packet,
        to: filter::Translation,
        out: Option<At>,
        iif: Option<At>,
    ) -> Option<Packet> {
        let address_of = |at: At, ipv6: bool| -> Option<IpAddr> {
            let mut addresses = self.survey.space(at.space).addresses_of(at.link);
            addresses.find(|it| it.prefix.address.is_ipv6() == ipv6 && !it.link_local).map(|it| it.prefix.address)
        };
        let mut translated = packet;
        match to {
            filter::Translation::Masquerade => translated.source = address_of(out?, packet.is_ipv6())?,
            filter::Translation::Source(source, port) => {
                translated.source = source;
                translated.source_port = port.unwrap_or(packet.source_port);
            }
            filter::Translation::Destination(destination, port) => {
                translated.destination = destination;
                translated.destination_port = port.unwrap_or(packet.destination_port);
            }
            filter::Translation::Redirect(port) => {
                translated.destination = match iif {
                    Some(at) => address_of(at, packet.is_ipv6())?,
                    None => packet.source,
                };
                translated.destination_port = port.unwrap_or(packet.destination_port);
            }
        }
        translated.redirected |= translated.destination != packet.destination;
        translated.disguised |= translated.source != packet.source;
        // Both of a namespace's translations, of source and destination, are of one connection.
        let known = self.translations.iter_mut().find(|it| it.space == space && it.translated == packet);
        match known {
            Some(known) => known.translated = translated,
            None => self.translations.push(Translation { space, original: packet, translated }),
        }
        Some(translated)
    }

    /// Whether a namespace has any rule or chain of translation.
    pub(super) fn translates(&self, space: usize) -> bool {
        let ruleset = self.survey.space(space).nft.as_ref();
        ruleset.is_some_and(|ruleset| ruleset.chains.iter().any(|chain| chain.kind == "nat"))
    }
}
