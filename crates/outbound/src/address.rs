//! PURE: what kind of address an IP is. The tables follow the IANA special-purpose address registries
//! (RFC 6890 and its updates) plus the metadata services of the large clouds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What a connection to an address would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// A globally routed unicast address.
    Public,
    /// Loopback, a private network, a carrier's shared space or a unique local address.
    Private,
    /// Never a provider: metadata services, link-local, multicast, broadcast, unspecified, documentation, benchmarking,
    /// reserved space, and every form that hides one address inside another.
    Forbidden,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], tail: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(
        Ipv6Addr::new(head[0], head[1], head[2], head[3], tail[0], tail[1], tail[2], tail[3]),
        prefix,
    )
}

/// Metadata services that live inside otherwise ordinary ranges; looked at before everything else.
const METADATA_V4: [Ipv4Net; 4] = [
    v4(169, 254, 0, 0, 16),     // AWS, Google, Azure, Oracle, and all of link-local
    v4(100, 100, 100, 200, 32), // Alibaba
    v4(168, 63, 129, 16, 32),   // Azure's host agent
    v4(192, 0, 0, 192, 32),     // Oracle, old
];

const METADATA_V6: [Ipv6Net; 2] = [
    v6([0xfd00, 0x0ec2, 0, 0], [0, 0, 0, 0x0254], 128), // AWS
    v6([0xfd20, 0x00ce, 0, 0], [0, 0, 0, 0x0254], 128), // Google
];

const PRIVATE_V4: [Ipv4Net; 5] = [
    v4(10, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10), // carrier-grade NAT
];

const FORBIDDEN_V4: [Ipv4Net; 10] = [
    v4(0, 0, 0, 0, 8),
    v4(192, 0, 0, 0, 24),    // IETF protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(198, 18, 0, 0, 15),   // benchmarking
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved and broadcast
];

const PRIVATE_V6: [Ipv6Net; 2] = [
    v6([0, 0, 0, 0], [0, 0, 0, 1], 128),
    v6([0xfc00, 0, 0, 0], [0, 0, 0, 0], 7),
];

/// The only part of IPv6 that is routed globally today; anything outside is unassigned or special (mapped, NAT64,
/// link-local, site-local, multicast, unspecified, discard).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], [0, 0, 0, 0], 3);

const FORBIDDEN_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0, 0], [0, 0, 0, 0], 23), // IETF protocol assignments, Teredo, ORCHID
    v6([0x2001, 0x0db8, 0, 0], [0, 0, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0], [0, 0, 0, 0], 16), // 6to4
    v6([0x3fff, 0, 0, 0], [0, 0, 0, 0], 20), // documentation
    v6([0x2620, 0x004f, 0x8000, 0], [0, 0, 0, 0], 48), // AS112
];

/// The class of an address. Whatever is not known to be fine is forbidden.
pub fn classify(ip: IpAddr) -> AddressClass {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    let within = |nets: &[Ipv4Net]| nets.iter().any(|net| net.contains(&ip));
    if within(&METADATA_V4) || within(&FORBIDDEN_V4) {
        AddressClass::Forbidden
    } else if within(&PRIVATE_V4) {
        AddressClass::Private
    } else {
        AddressClass::Public
    }
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    let within = |nets: &[Ipv6Net]| nets.iter().any(|net| net.contains(&ip));
    if within(&METADATA_V6) {
        AddressClass::Forbidden
    } else if within(&PRIVATE_V6) {
        AddressClass::Private
    } else if GLOBAL_V6.contains(&ip) && !within(&FORBIDDEN_V6) {
        AddressClass::Public
    } else {
        AddressClass::Forbidden
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressClass::*, *};

    #[test]
    fn every_special_range_is_known_at_both_of_its_ends() {
        let cases = [
            ("1.1.1.1", Public),
            ("8.8.8.8", Public),
            ("0.0.0.0", Forbidden),
            ("0.255.255.255", Forbidden),
            ("1.0.0.0", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Private),
            ("100.127.255.255", Private),
            ("100.128.0.0", Public),
            ("100.100.100.200", Forbidden),
            ("127.0.0.1", Private),
            ("127.255.255.255", Private),
            ("128.0.0.0", Public),
            ("168.63.129.16", Forbidden),
            ("169.253.255.255", Public),
            ("169.254.0.0", Forbidden),
            ("169.254.169.254", Forbidden),
            ("169.254.255.255", Forbidden),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("192.0.0.192", Forbidden),
            ("192.0.2.1", Forbidden),
            ("192.88.99.1", Forbidden),
            ("192.167.255.255", Public),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("192.169.0.0", Public),
            ("198.18.0.1", Forbidden),
            ("198.19.255.255", Forbidden),
            ("198.51.100.7", Forbidden),
            ("203.0.113.7", Forbidden),
            ("223.255.255.255", Public),
            ("224.0.0.1", Forbidden),
            ("239.255.255.255", Forbidden),
            ("240.0.0.1", Forbidden),
            ("255.255.255.255", Forbidden),
            ("2606:4700:4700::1111", Public),
            ("2a00:1450:4001:81b::200e", Public),
            ("::", Forbidden),
            ("::1", Private),
            ("::2", Forbidden),
            ("::7f00:1", Forbidden),
            ("::ffff:127.0.0.1", Forbidden),
            ("::ffff:169.254.169.254", Forbidden),
            ("::ffff:8.8.8.8", Forbidden),
            ("64:ff9b::a9fe:a9fe", Forbidden),
            ("64:ff9b:1::1", Forbidden),
            ("100::1", Forbidden),
            ("2001::1", Forbidden),
            ("2001:1ff:ffff::1", Forbidden),
            ("2001:200::1", Public),
            ("2001:db8::1", Forbidden),
            ("2002:7f00:1::", Forbidden),
            ("2003::1", Public),
            ("3fff::1", Forbidden),
            ("3fff:1000::1", Public),
            ("4000::1", Forbidden),
            ("5f00::1", Forbidden),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fd00:ec2::254", Forbidden),
            ("fe80::1", Forbidden),
            ("febf::1", Forbidden),
            ("fec0::1", Forbidden),
            ("ff02::1", Forbidden),
        ];
        for (text, expected) in cases {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(classify(ip), expected, "{text}");
        }
    }
}
