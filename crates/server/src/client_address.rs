//! Whose address a request came from. Forwarding headers are believed only from configured proxies. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// The client's address: the connection's own, or, behind trusted proxies, the last address in `X-Forwarded-For` that
/// is not one of theirs. Read from the right, because everything to the left was written by whoever stands there.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let is_trusted = |address: &IpAddr| {
        let address = address.to_canonical();
        trusted_proxies.iter().any(|network| network.contains(&address))
    };
    let mut client = peer.to_canonical();
    let hops = forwarded_for.rev().flat_map(|header| header.rsplit(',')).map(str::trim);
    for hop in hops {
        if !is_trusted(&client) {
            break;
        }
        // a trusted proxy passed on what is no address: the last one known is as near as we get
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        client = address.to_canonical();
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().expect("a network")).collect();
        client_address(peer.parse().expect("an address"), headers.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn headers_of_strangers_are_ignored() {
        assert_eq!(seen("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
        assert_eq!(seen("203.0.113.9", &["198.51.100.1"], &["10.0.0.0/8"]), "203.0.113.9");
    }

    #[test]
    fn behind_trusted_proxies_the_last_untrusted_address_counts() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1, 10.0.0.7"], &trusted), "198.51.100.1");
        assert_eq!(seen("::ffff:10.0.0.1", &["198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("fd00::1", &["2001:db8::5"], &trusted), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &[], &trusted), "10.0.0.1");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, 198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1", "198.51.100.1"], &trusted), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1, <script>"], &trusted), "10.0.0.1");
    }
}
