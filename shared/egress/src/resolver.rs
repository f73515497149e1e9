//! The DNS resolver of every client: it returns only addresses that the policy allows.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::policy::EgressPolicy;

/// Resolves a name and drops the addresses that may not be called.
#[derive(Debug, Clone)]
pub(crate) struct PolicyResolver(pub(crate) Arc<EgressPolicy>);

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            if policy.is_proxy(host) {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let mut refused = None;
            let mut allowed = Vec::with_capacity(found.len());
            for address in found {
                match policy.check_address(host, address.ip()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::AddressRefused;

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_gives_no_address() {
        let name = || "localhost".parse::<Name>().unwrap();
        let error = PolicyResolver(Arc::new(EgressPolicy::public())).resolve(name()).await.err().unwrap();
        assert!(error.downcast_ref::<AddressRefused>().is_some(), "{error}");
        let allowed = PolicyResolver(Arc::new(EgressPolicy::with_loopback())).resolve(name()).await.unwrap();
        assert!(allowed.count() > 0);
        let proxied = EgressPolicy { proxies: vec!["localhost".to_owned()], ..EgressPolicy::public() };
        assert!(PolicyResolver(Arc::new(proxied)).resolve(name()).await.is_ok());
    }
}
