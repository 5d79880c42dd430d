//! PURE: which URLs may be called under a policy, before anything is resolved.

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use url::{Host, Url};

use crate::{AddressClass, AddressPolicy, OutboundError, OutboundSettings, classify, connector::ConnectFailure};

/// Where a connection goes: an address that was judged already, or a name that must be resolved first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

/// Checks a provider's base URL when an operator enters it. A name is not resolved here: what it resolves to is judged
/// at every connection, because it may change.
pub fn check_base_url(base_url: &str, policy: AddressPolicy, settings: &OutboundSettings) -> Result<(), OutboundError> {
    let url = Url::parse(base_url).map_err(|error| OutboundError::InvalidUrl(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OutboundError::InvalidUrl(
            "user name and password do not belong into it".into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(OutboundError::InvalidUrl(
            "a base URL has no query and no fragment".into(),
        ));
    }
    let uri: Uri = url
        .as_str()
        .parse()
        .map_err(|_| OutboundError::InvalidUrl("it is not an absolute http or https URL".into()))?;
    read_target(&uri, policy, settings).map(drop).map_err(Into::into)
}

/// Judges scheme, port and host of a request, with every spelling of an IP address that a URL parser knows (decimal,
/// octal, hexadecimal, short, bracketed, percent-encoded, trailing dot) read as the address that it is.
pub(crate) fn read_target(
    uri: &Uri,
    policy: AddressPolicy,
    settings: &OutboundSettings,
) -> Result<Target, ConnectFailure> {
    let default_port = match (uri.scheme_str(), policy) {
        (Some("https"), _) => 443,
        (Some("http"), AddressPolicy::AllowPrivate) => 80,
        (Some("http"), AddressPolicy::PublicOnly) => {
            return Err(ConnectFailure::Forbidden(
                "plain http is not allowed for a public provider".into(),
            ));
        }
        _ => {
            return Err(ConnectFailure::InvalidUrl("the scheme must be https".into()));
        }
    };
    let authority = uri
        .authority()
        .ok_or_else(|| ConnectFailure::InvalidUrl("it has no host".into()))?;
    if authority.as_str().contains('@') {
        return Err(ConnectFailure::InvalidUrl(
            "user name and password do not belong into it".into(),
        ));
    }
    let port = match (authority.port_u16(), authority.port()) {
        (Some(0), _) => return Err(ConnectFailure::InvalidUrl("port 0 cannot be called".into())),
        (Some(port), _) => port,
        (None, None) => default_port,
        (None, Some(_)) => {
            return Err(ConnectFailure::InvalidUrl("the port is not a number".into()));
        }
    };
    if policy == AddressPolicy::PublicOnly && !settings.public_ports.contains(&port) {
        return Err(ConnectFailure::Forbidden(format!(
            "port {port} is not allowed for a public provider"
        )));
    }
    let host = Host::parse(authority.host())
        .map_err(|error| ConnectFailure::InvalidUrl(format!("the host is not valid: {error}")))?;
    let ip = match host {
        Host::Domain(host) => return Ok(Target::Name { host, port }),
        Host::Ipv4(ip) => IpAddr::V4(ip),
        Host::Ipv6(ip) => IpAddr::V6(ip),
    };
    judge(ip, policy)?;
    Ok(Target::Address(SocketAddr::new(ip, port)))
}

/// Refuses the answer of a resolver as a whole when one of its addresses is not allowed: a name that points outside
/// and inside at once is an attack or a mistake, and which address is taken would be chance.
pub(crate) fn judge_answer(addresses: &[SocketAddr], policy: AddressPolicy) -> Result<(), ConnectFailure> {
    if addresses.is_empty() {
        return Err(ConnectFailure::Resolve("the name has no address".into()));
    }
    addresses.iter().try_for_each(|address| judge(address.ip(), policy))
}

fn judge(ip: IpAddr, policy: AddressPolicy) -> Result<(), ConnectFailure> {
    match (classify(ip), policy) {
        (AddressClass::Public, _) | (AddressClass::Private, AddressPolicy::AllowPrivate) => Ok(()),
        (AddressClass::Private, AddressPolicy::PublicOnly) => {
            Err(ConnectFailure::Forbidden(format!("{ip} is not a public address")))
        }
        (AddressClass::Forbidden, _) => Err(ConnectFailure::Forbidden(format!(
            "{ip} is a reserved, link-local or metadata address"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(url: &str, policy: AddressPolicy) -> &'static str {
        match check_base_url(url, policy, &OutboundSettings::default()) {
            Ok(()) => "ok",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn every_spelling_of_an_inner_address_is_refused_for_a_public_provider() {
        let forbidden = [
            "https://127.0.0.1/v1",
            "https://127.0.0.1./v1",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://%31%32%37.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[0:0:0:0:0:ffff:a9fe:a9fe]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.1.2.3/",
            "https://0/",
            "https://0.0.0.0/",
            "https://255.255.255.255/",
            "https://①②⑦.0.0.1/",
            "http://api.example.com/",
            "http://2130706433/",
            "https://api.example.com:22/",
            "https://api.example.com:80/",
        ];
        for url in forbidden {
            assert_eq!(verdict(url, AddressPolicy::PublicOnly), "forbidden_address", "{url}");
        }
    }

    #[test]
    fn raw_request_uris_are_read_like_base_urls() {
        // A URI type keeps these spellings; only the check itself normalises them.
        let settings = OutboundSettings::default();
        for uri in [
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.1./",
            "https://[::ffff:a9fe:a9fe]/",
        ] {
            let uri: Uri = uri.parse().unwrap();
            let refused = read_target(&uri, AddressPolicy::PublicOnly, &settings);
            assert!(
                matches!(refused, Err(ConnectFailure::Forbidden(_))),
                "{uri}: {refused:?}"
            );
        }
        let uri: Uri = "http://2130706433:81/".parse().unwrap();
        assert_eq!(
            read_target(&uri, AddressPolicy::AllowPrivate, &settings),
            Ok(Target::Address("127.0.0.1:81".parse().unwrap()))
        );
    }

    #[test]
    fn ordinary_providers_pass_and_names_wait_for_their_resolution() {
        for url in [
            "https://api.openai.com/v1",
            "https://api.anthropic.com",
            "https://api.example.com.:8443/",
            "https://1.1.1.1/",
            "https://[2606:4700:4700::1111]/v1",
            "https://localhost/",
        ] {
            assert_eq!(verdict(url, AddressPolicy::PublicOnly), "ok", "{url}");
        }
    }

    #[test]
    fn a_private_provider_may_be_near_but_never_a_metadata_service() {
        for url in [
            "http://127.0.0.1:9999/v1",
            "http://10.0.0.7/",
            "https://[fd00::1]:1234/",
            "http://vllm.internal:8000/v1",
        ] {
            assert_eq!(verdict(url, AddressPolicy::AllowPrivate), "ok", "{url}");
        }
        for url in [
            "http://169.254.169.254/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "http://224.0.0.1/",
        ] {
            assert_eq!(verdict(url, AddressPolicy::AllowPrivate), "forbidden_address", "{url}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_said_to_be_none() {
        for url in [
            "",
            "api.openai.com",
            "ftp://api.openai.com/",
            "file:///etc/passwd",
            "https://",
            "https://user:secret@api.openai.com/",
            "https://key@api.openai.com/",
            "https://api.openai.com/?key=secret",
            "https://api.openai.com/#x",
            "https://api.openai.com:0/",
            "https://api.openai.com:99999/",
            "https://[::1/",
            "https://[fe80::1%25eth0]/",
        ] {
            assert_eq!(verdict(url, AddressPolicy::PublicOnly), "invalid_url", "{url}");
        }
    }

    #[test]
    fn one_inner_address_spoils_an_answer() {
        let public: SocketAddr = "1.1.1.1:443".parse().unwrap();
        let private: SocketAddr = "10.0.0.1:443".parse().unwrap();
        let metadata: SocketAddr = "169.254.169.254:443".parse().unwrap();
        let forbidden = |addresses: &[SocketAddr], policy| {
            matches!(judge_answer(addresses, policy), Err(ConnectFailure::Forbidden(_)))
        };
        assert_eq!(judge_answer(&[public], AddressPolicy::PublicOnly), Ok(()));
        assert!(forbidden(&[public, private], AddressPolicy::PublicOnly));
        assert!(forbidden(&[private, public], AddressPolicy::PublicOnly));
        assert_eq!(judge_answer(&[public, private], AddressPolicy::AllowPrivate), Ok(()));
        assert!(forbidden(&[private, metadata], AddressPolicy::AllowPrivate));
        assert!(matches!(
            judge_answer(&[], AddressPolicy::PublicOnly),
            Err(ConnectFailure::Resolve(_))
        ));
    }
}
