//! Which `Host` and `Origin` a request may name: a web page that makes a browser send requests to this machine (DNS rebinding) names its own.

use axum::http::{HeaderMap, header};
use url::Url;

/// The names of this machine to itself.
const LOOPBACK: [&str; 4] = ["localhost", "127.0.0.1", "[::1]", "::1"];

/// The accepted hosts and origins.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The beginning of the names of the settings that allow more, such as `TOOLFLEET_GATEWAY`.
    pub settings: &'static str,
    /// Whether the names of this machine to itself are accepted, with any port.
    pub loopback: bool,
    /// Hosts, with the port where it is not the scheme's own. If there are none and loopback is not accepted, any host is.
    pub hosts: Vec<String>,
    /// Origins such as `https://app.example.com`.
    pub origins: Vec<String>,
}

impl Hosts {
    /// Checks a request.
    ///
    /// # Errors
    /// It names another host or another origin: the text says which setting allows it.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or_default());
        let any = !self.loopback && self.hosts.is_empty();
        if !any && !host.is_some_and(|host| self.allows_host(host)) {
            let allows = self.settings;
            return Err(format!(
                "the header Host names another host; an operator allows it with {allows}_ALLOWED_HOSTS"
            ));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let own =
            host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, of_origin)| of_origin == host));
        if self.allows_origin(origin) || (own && !any) {
            return Ok(());
        }
        let allows = self.settings;
        Err(format!(
            "the header Origin names another origin; an operator allows it with {allows}_ALLOWED_ORIGINS"
        ))
    }

    fn allows_host(&self, host: &str) -> bool {
        let names =
            |one: &String| without_port_of_scheme(one).eq_ignore_ascii_case(without_port_of_scheme(host));
        self.hosts.iter().any(names) || (self.loopback && is_loopback(host))
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let listed = self.origins.iter().any(|one| one.trim_end_matches('/').eq_ignore_ascii_case(origin));
        listed
            || (self.loopback
                && Url::parse(origin)
                    .is_ok_and(|url| url.host_str().is_some_and(|host| LOOPBACK.contains(&host))))
    }
}

/// The host without the port that its scheme has anyway.
fn without_port_of_scheme(host: &str) -> &str {
    host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host)
}

/// Whether the host of such a header is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) | None => host,
    };
    LOOPBACK.iter().any(|one| one.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &Hosts, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        hosts.check(&headers).is_ok()
    }

    #[test]
    fn a_page_of_elsewhere_does_not_reach_this_machine() {
        let local = Hosts { loopback: true, ..Hosts::default() };
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST:80"] {
            assert!(check(&local, host, None), "{host}");
        }
        for host in ["evil.example.com", "localhost.evil.example.com", "127.0.0.1.evil.example.com:80", ""] {
            assert!(!check(&local, host, None), "{host}");
        }
        assert!(check(&local, "localhost:1", Some("http://localhost:5173")));
        assert!(!check(&local, "localhost:1", Some("https://evil.example.com")));
        assert!(!check(&local, "localhost:1", Some("null")));
        assert!(!check(&local, "evil.example.com", Some("http://evil.example.com")));
    }

    #[test]
    fn an_operator_names_hosts_and_origins() {
        let public = Hosts {
            settings: "TOOLFLEET_X",
            loopback: false,
            hosts: vec!["tools.example.com".to_owned()],
            origins: vec!["https://app.example.com".to_owned()],
        };
        assert!(check(&public, "tools.example.com", None));
        assert!(
            check(&public, "tools.example.com:443", None) && !check(&public, "tools.example.com:8443", None)
        );
        assert!(check(&public, "tools.example.com", Some("https://app.example.com")));
        assert!(check(&public, "tools.example.com", Some("https://tools.example.com")));
        assert!(!check(&public, "tools.example.com", Some("https://evil.example.com")));
        assert!(!check(&public, "localhost", None));
        assert!(check(&Hosts::default(), "whatever", None));
        assert!(!check(&Hosts::default(), "whatever", Some("http://whatever")));
    }
}
