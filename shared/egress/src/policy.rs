//! The address policy: public addresses over https, and beyond that only what the configuration allows.
//!
//! A host name is checked by the addresses it resolves to, which are the ones that are connected to, so a name that changes its
//! addresses gains nothing. An address literal in a URL never reaches the resolver and is checked before anything is sent.
//!
//! **Invariant:** no request is sent without [`EgressPolicy::check`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use url::{Host, Url};

/// Where requests may go.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    /// Networks that are not public and may be called all the same.
    pub private: Vec<Network>,
    /// Whether requests may be sent without TLS.
    pub http: bool,
    /// The hosts of proxies, whose addresses are not checked: the operator configured them.
    pub proxies: Vec<String>,
}

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// The policy does not allow an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} {problem}")]
pub struct AddressRefused {
    host: String,
    problem: String,
}

impl EgressPolicy {
    /// Public addresses over https, and nothing else.
    pub fn public() -> Self {
        Self::default()
    }

    /// Public and loopback addresses, with or without TLS: for development and tests.
    pub fn with_loopback() -> Self {
        let loopback = [
            Network::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
            Network::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        ];
        Self { private: loopback.into(), http: true, proxies: Vec::new() }
    }

    /// Every address, with or without TLS: for a command that an operator runs.
    pub fn anywhere() -> Self {
        let all = [
            Network::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Network::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        ];
        Self { private: all.into(), http: true, proxies: Vec::new() }
    }

    pub(crate) fn is_proxy(&self, host: &str) -> bool {
        self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(host))
    }

    /// Checks a URL before anything is sent to it.
    pub fn check(&self, url: &Url) -> Result<(), AddressRefused> {
        let refused = |problem: &str| {
            Err(AddressRefused {
                host: url.host_str().unwrap_or("the URL").to_owned(),
                problem: problem.to_owned(),
            })
        };
        match url.scheme() {
            "https" | "wss" => {}
            "http" | "ws" if self.http => {}
            "http" => {
                return refused("is addressed without TLS; use https, or set TOOLFLEET_ALLOW_HTTP=true");
            }
            "ws" => {
                return refused("is addressed without TLS; use wss, or set TOOLFLEET_ALLOW_HTTP=true");
            }
            _ => return refused("is addressed by another scheme than https"),
        }
        match url.host() {
            Some(Host::Ipv4(address)) => {
                self.check_address(url.host_str().unwrap_or_default(), address.into())
            }
            Some(Host::Ipv6(address)) => {
                self.check_address(url.host_str().unwrap_or_default(), address.into())
            }
            Some(Host::Domain(name)) if self.is_proxy(name) => refused("is the proxy itself"),
            Some(Host::Domain(_)) => Ok(()),
            None => refused("names no host"),
        }
    }

    pub(crate) fn check_address(&self, host: &str, address: IpAddr) -> Result<(), AddressRefused> {
        let address = embedded_ipv4(address);
        if is_public(address) || self.private.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        let problem = format!(
            "has the address {address}, which is not public; TOOLFLEET_ALLOW_PRIVATE_ADDRESSES names the networks that may be called"
        );
        Err(AddressRefused { host: host.to_owned(), problem })
    }
}

impl Network {
    /// Whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&embedded_ipv4(address))
    }

    fn new(base: IpAddr, prefix: u8) -> Self {
        Self(IpNet::new(base, prefix).unwrap_or_else(|_| IpNet::from(base)))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let address = || trimmed.parse::<IpAddr>().map(IpNet::from);
        match trimmed.parse::<IpNet>().or_else(|_| address()) {
            Ok(network) => Ok(Self(network)),
            Err(_) => Err(format!(
                "`{text}` is no network; accepted are for example 10.0.0.0/8, 192.168.1.7 and fd00::/8"
            )),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The IPv4 address that an IPv6 address embeds: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_ipv4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0, 0, 0, 0, 0, 0) if g != 0 => v4(g, h),
        (0x2002, ..) => v4(b, c),
        _ => address,
    }
}

/// Whether an address belongs to the public internet (IANA's special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || matches!(
                    (a, b, c),
                    (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _) | (240..=255, ..)
                );
            !special
        }
        // Only 2000::/3 is allocated; within it documentation, ORCHID, Teredo and benchmarking are not public.
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            (0x2000..=0x3fff).contains(&a)
                && !matches!((a, b), (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &EgressPolicy, url: &str) -> Result<(), String> {
        policy.check(&Url::parse(url).unwrap()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_private_address_is_refused_however_it_is_written() {
        for host in [
            "169.254.169.254",
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "127.1",
            "127.0.0.1.",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:169.254.169.254]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::169.254.169.254]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[2001::1]",
        ] {
            let error = check(&EgressPolicy::public(), &format!("https://{host}/mcp")).expect_err(host);
            assert!(error.contains("not public"), "{host}: {error}");
        }
        for host in
            ["8.8.8.8", "[2606:4700::1111]", "[::ffff:8.8.8.8]", "example.com", "172.32.0.1", "100.128.0.1"]
        {
            assert_eq!(check(&EgressPolicy::public(), &format!("https://{host}/mcp")), Ok(()), "{host}");
        }
    }

    #[test]
    fn only_configured_private_networks_may_be_called() {
        let private = vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let policy = EgressPolicy { private, ..EgressPolicy::public() };
        for host in ["10.1.255.1", "[::ffff:10.1.0.1]", "[fd12::1]"] {
            assert_eq!(check(&policy, &format!("https://{host}/")), Ok(()), "{host}");
        }
        for host in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "[fe80::1]"] {
            check(&policy, &format!("https://{host}/")).expect_err(host);
        }
    }

    #[test]
    fn https_is_required_unless_http_is_allowed() {
        let error = check(&EgressPolicy::public(), "http://example.com/").unwrap_err();
        assert!(error.contains("TOOLFLEET_ALLOW_HTTP"), "{error}");
        let error = check(&EgressPolicy::public(), "ws://example.com/").unwrap_err();
        assert!(error.contains("use wss, or set TOOLFLEET_ALLOW_HTTP=true"), "{error}");
        assert_eq!(check(&EgressPolicy::public(), "wss://example.com/"), Ok(()));
        check(&EgressPolicy::public(), "wss://10.0.0.1/").unwrap_err();
        assert_eq!(
            check(&EgressPolicy { http: true, ..EgressPolicy::public() }, "http://example.com/"),
            Ok(())
        );
    }

    #[test]
    fn an_invalid_network_names_the_accepted_forms() {
        for text in ["", "10.0.0.0/33", "fd00::/129", "localhost", "10.0.0.0/x"] {
            assert!(text.parse::<Network>().unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("9.9.9.9".parse().unwrap()));
    }
}
