//! From a name to its addresses, once.

use std::{collections::HashMap, net::IpAddr};

use async_trait::async_trait;

/// Whatever knows the addresses of names.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All addresses of `host`, in the order in which they should be tried.
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The resolver of the operating system, `/etc/hosts` and search domains included.
pub struct System;

#[async_trait]
impl Lookup for System {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Names that were written down. What is not in the list does not exist.
pub struct Fixed(pub HashMap<String, Vec<IpAddr>>);

#[async_trait]
impl Lookup for Fixed {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.0.get(host).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}
