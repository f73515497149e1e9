//! Owns where requests may go: to public addresses over https, and beyond that only where the configuration says so.
//!
//! A name is judged by the addresses it resolves to, which are the ones that are connected to, so that a name that changes
//! its mind gains nothing. An address in the URL itself never meets a resolver and is judged before anything is sent.
//!
//! **Invariant:** no request leaves without [`EgressPolicy::judge`]; no client is built without [`PolicyResolver`] as its resolver.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use toolfleet_core::fault::Fault;
use url::{Host, Url};

/// Where requests may go.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    /// Networks that are not public and may be called all the same.
    pub private: Vec<Network>,
    /// Whether requests may travel without TLS.
    pub http: bool,
    /// The hosts of proxies, whose addresses the operator answers for.
    pub proxies: Vec<String>,
}

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u32,
}

/// Why an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} {problem}")]
pub(crate) struct Refused {
    host: String,
    problem: String,
}

impl EgressPolicy {
    /// Public addresses over https, and nothing else.
    pub fn public() -> Self {
        Self::default()
    }

    /// Public addresses and this machine, with or without TLS: for development and tests.
    pub fn with_loopback() -> Self {
        let loopback = [
            Network { base: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 8 },
            Network { base: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
        ];
        Self { private: loopback.into(), http: true, proxies: Vec::new() }
    }

    /// Every address, with or without TLS: for a command that an operator runs by hand.
    pub fn anywhere() -> Self {
        let all = [
            Network { base: IpAddr::V4(Ipv4Addr::UNSPECIFIED), bits: 0 },
            Network { base: IpAddr::V6(Ipv6Addr::UNSPECIFIED), bits: 0 },
        ];
        Self { private: all.into(), http: true, proxies: Vec::new() }
    }

    fn is_proxy(&self, host: &str) -> bool {
        self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(host))
    }

    /// Judges a URL before anything is sent to it.
    pub(crate) fn judge(&self, url: &Url) -> Result<(), Fault> {
        self.judged(url).map_err(|refused| refused.fault())
    }

    fn judged(&self, url: &Url) -> Result<(), Refused> {
        let refused = |problem: &str| {
            Err(Refused { host: url.host_str().unwrap_or("the URL").to_owned(), problem: problem.to_owned() })
        };
        match url.scheme() {
            "https" => {}
            "http" if self.http => {}
            "http" => {
                return refused("is addressed without TLS; use https, or set TOOLFLEET_ALLOW_HTTP=true");
            }
            _ => return refused("is addressed by another scheme than https"),
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.address(url.host_str().unwrap_or_default(), address.into()),
            Some(Host::Ipv6(address)) => self.address(url.host_str().unwrap_or_default(), address.into()),
            Some(Host::Domain(name)) if self.is_proxy(name) => refused("is the proxy itself"),
            Some(Host::Domain(_)) => Ok(()),
            None => refused("names no host"),
        }
    }

    fn address(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let address = plain(address);
        if is_public(address) || self.private.iter().any(|network| network.holds(address)) {
            return Ok(());
        }
        let problem = format!(
            "has the address {address}, which is not public; TOOLFLEET_ALLOW_PRIVATE_ADDRESSES names the networks that may be called"
        );
        Err(Refused { host: host.to_owned(), problem })
    }
}

impl Refused {
    pub(crate) fn fault(&self) -> Fault {
        Fault::AddressRefused { detail: self.to_string() }
    }
}

/// The resolver of every client: it hands out no address that may not be called.
#[derive(Debug, Clone)]
pub(crate) struct PolicyResolver(pub(crate) Arc<EgressPolicy>);

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            if reach.is_proxy(host) {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let mut refused = None;
            let mut allowed = Vec::with_capacity(found.len());
            for address in found {
                match reach.address(host, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if allowed.is_empty() => Err(why.into()),
                Some(_) | None => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

impl Network {
    /// Whether the address lies within.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.base, plain(address)) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.bits)).unwrap_or(0);
                (base.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.bits)).unwrap_or(0);
                (base.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no network; accepted are for example 10.0.0.0/8, 192.168.1.7 and fd00::/8")
        };
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.trim().parse().map_err(|_| wrong()))?;
        if bits > most { Err(wrong()) } else { Ok(Self { base, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
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

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890).
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
        // 2000::/3 is all that is given out; within it documentation, ORCHID, Teredo and benchmarking are not.
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

    fn judge(reach: &EgressPolicy, url: &str) -> Result<(), String> {
        reach.judged(&Url::parse(url).unwrap()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_in_every_way_of_writing_it() {
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
            let error = judge(&EgressPolicy::public(), &format!("https://{host}/mcp")).expect_err(host);
            assert!(error.contains("not public"), "{host}: {error}");
        }
        for host in
            ["8.8.8.8", "[2606:4700::1111]", "[::ffff:8.8.8.8]", "example.com", "172.32.0.1", "100.128.0.1"]
        {
            assert_eq!(judge(&EgressPolicy::public(), &format!("https://{host}/mcp")), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_network_that_the_configuration_names_may_be_called_and_no_other() {
        let private = vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let reach = EgressPolicy { private, ..EgressPolicy::public() };
        for host in ["10.1.255.1", "[::ffff:10.1.0.1]", "[fd12::1]"] {
            assert_eq!(judge(&reach, &format!("https://{host}/")), Ok(()), "{host}");
        }
        for host in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "[fe80::1]"] {
            judge(&reach, &format!("https://{host}/")).expect_err(host);
        }
    }

    #[test]
    fn https_is_required_unless_the_configuration_says_otherwise() {
        let error = judge(&EgressPolicy::public(), "http://example.com/").unwrap_err();
        assert!(error.contains("TOOLFLEET_ALLOW_HTTP"), "{error}");
        assert_eq!(
            judge(&EgressPolicy { http: true, ..EgressPolicy::public() }, "http://example.com/"),
            Ok(())
        );
    }

    #[test]
    fn a_network_that_is_none_says_what_is_accepted() {
        for text in ["", "10.0.0.0/33", "fd00::/129", "localhost", "10.0.0.0/x"] {
            assert!(text.parse::<Network>().unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().holds("9.9.9.9".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_gives_no_address() {
        let name = || "localhost".parse::<Name>().unwrap();
        let error = PolicyResolver(Arc::new(EgressPolicy::public())).resolve(name()).await.err().unwrap();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
        let allowed = PolicyResolver(Arc::new(EgressPolicy::with_loopback())).resolve(name()).await.unwrap();
        assert!(allowed.count() > 0);
        let proxied = EgressPolicy { proxies: vec!["localhost".to_owned()], ..EgressPolicy::public() };
        assert!(PolicyResolver(Arc::new(proxied)).resolve(name()).await.is_ok());
    }
}
