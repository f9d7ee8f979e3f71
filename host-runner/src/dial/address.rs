//! Which addresses may be dialled on behalf of a step.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{PoisonError, RwLock},
};

use ipnet::IpNet;
use tokio::sync::watch;

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reachable from everywhere.
    Public,
    /// Of this host or this site: dialled only where the owner named its range. The text is the kind in words.
    Private(&'static str),
    /// Not dialled, whatever a rule says. The text is the kind in words.
    Never(&'static str),
}

/// The addresses at which clouds hand credentials to whoever asks. Azure's lies among the public ones.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)];

/// The class of `address`, by the IANA registries of special-purpose addresses (RFC 6890 and its successors).
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&address) {
        return Class::Never("a cloud's metadata service");
    }
    match address.octets() {
        [0, ..] => Class::Never("unspecified"),
        [127, ..] => Class::Private("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private("private"),
        [100, 64..=127, ..] => Class::Private("shared by carriers"),
        [169, 254, ..] => Class::Private("link-local"),
        [192, 0, 0, _] => Class::Never("reserved for protocols"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Never("documentation"),
        [192, 88, 99, _] => Class::Never("a 6to4 relay"),
        [198, 18..=19, ..] => Class::Never("benchmarking"),
        [224..=239, ..] => Class::Never("multicast"),
        [240..=255, ..] => Class::Never("reserved or broadcast"),
        _ => Class::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&address) {
        return Class::Never("a cloud's metadata service");
    }
    if address == Ipv6Addr::LOCALHOST {
        return Class::Private("loopback");
    }
    match address.segments() {
        // An IPv4 address in IPv6's clothes would be judged as neither.
        [0, 0, 0, 0, 0, 0xffff, ..] => Class::Never("a mapped IPv4 address"),
        [0, 0, 0, 0, 0, 0, ..] => Class::Never("unspecified or a compatible IPv4 address"),
        [0x64, 0xff9b, ..] => Class::Never("translated to IPv4 (NAT64)"),
        [0x100, 0, 0, 0, ..] => Class::Never("discarded"),
        [0xfc00..=0xfdff, ..] => Class::Private("unique local"),
        [0xfe80..=0xfebf, ..] => Class::Private("link-local"),
        [0xfec0..=0xfeff, ..] => Class::Never("site-local"),
        [0xff00..=0xffff, ..] => Class::Never("multicast"),
        [0x2001, 0, ..] => Class::Never("a Teredo tunnel"),
        [0x2001, 0x2, 0, ..] => Class::Never("benchmarking"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Never("documentation"),
        [0x2001, 0x1..=0x1ff, ..] => Class::Never("reserved for protocols"),
        [0x2002, ..] => Class::Never("a 6to4 tunnel"),
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Never("not assigned"),
    }
}

/// An address or a name to which a step's connection must not go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Prohibited {
    /// No rule can allow it.
    #[error("{host} leads to {address}, which is never called on behalf of a step: {kind}")]
    Never {
        /// The name.
        host: String,
        /// Its address.
        address: IpAddr,
        /// Its kind in words.
        kind: &'static str,
    },
    /// No rule names its range.
    #[error("{host} leads to {address} ({kind}), and no rule names that range")]
    Unlisted {
        /// The name.
        host: String,
        /// Its address.
        address: IpAddr,
        /// Its kind in words.
        kind: &'static str,
    },
    /// Some addresses are public and some private: somebody plays with the resolver.
    #[error("{host} leads to public and to private addresses at once ({address}); such a name is not called")]
    Mixed {
        /// The name.
        host: String,
        /// One of the private ones.
        address: IpAddr,
    },
    /// The orchestrator.
    #[error("{host}:{port} is this runner's orchestrator, which is never called on behalf of a step")]
    Orchestrator {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// The orchestrator's places: closed to steps.
///
/// On loopback, where it may have neighbours, its port is closed; anywhere else, its address.
#[derive(Debug, Default)]
pub struct Barred {
    names: Vec<(String, u16)>,
    addresses: RwLock<BTreeSet<(IpAddr, u16)>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

impl Barred {
    /// Bars `host:port` by its name; a literal address is barred as such.
    pub fn new(host: &str, port: u16) -> Self {
        let barred = Self {
            names: vec![(host.to_ascii_lowercase(), port)],
            addresses: RwLock::default(),
            count: watch::Sender::new(0),
        };
        if let Ok(address) = host.parse() {
            barred.add(address, port);
        }
        barred
    }

    /// Bars an address at which the orchestrator was found.
    pub fn add(&self, address: IpAddr, port: u16) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.insert((address, port)) {
            self.count.send_replace(addresses.len());
        }
    }

    /// How many addresses are barred. None is ever let go.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Told when there are more.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// All of them.
    pub fn addresses(&self) -> Vec<(IpAddr, u16)> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Refuses the orchestrator's name, before anything is resolved.
    pub fn check_name(&self, host: &str, port: u16) -> Result<(), Prohibited> {
        if self.names.iter().any(|(name, own)| name == host && *own == port) {
            return Err(Prohibited::Orchestrator { host: host.to_owned(), port });
        }
        Ok(())
    }

    fn holds(&self, address: IpAddr, port: u16) -> bool {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.iter().any(|(own, own_port)| *own == address && (*own_port == port || !own.is_loopback()))
    }
}

/// Judges all addresses of a name together: one bad address condemns the name.
pub fn judge(
    host: &str,
    port: u16,
    addresses: &[IpAddr],
    private: &[IpNet],
    barred: &Barred,
) -> Result<(), Prohibited> {
    let (mut public, mut inside) = (false, None);
    for address in addresses {
        if barred.holds(*address, port) {
            return Err(Prohibited::Orchestrator { host: host.to_owned(), port });
        }
        match classify(*address) {
            Class::Public => public = true,
            Class::Private(kind) => inside = inside.or(Some((*address, kind))),
            Class::Never(kind) => {
                return Err(Prohibited::Never { host: host.to_owned(), address: *address, kind });
            }
        }
    }
    if let (true, Some((address, _))) = (public, inside) {
        return Err(Prohibited::Mixed { host: host.to_owned(), address });
    }
    for address in addresses {
        if let Class::Private(kind) = classify(*address)
            && !private.iter().any(|range| range.contains(address))
        {
            return Err(Prohibited::Unlisted { host: host.to_owned(), address: *address, kind });
        }
    }
    Ok(())
}

/// Judges addresses where the owner named every range, public ones too.
pub fn judge_listed(host: &str, addresses: &[IpAddr], permitted: &[IpNet]) -> Result<(), Prohibited> {
    for address in addresses {
        let kind = match classify(*address) {
            Class::Never(kind) => {
                return Err(Prohibited::Never { host: host.to_owned(), address: *address, kind });
            }
            Class::Private(kind) => kind,
            Class::Public => "public",
        };
        if !permitted.iter().any(|range| range.contains(address)) {
            return Err(Prohibited::Unlisted { host: host.to_owned(), address: *address, kind });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_special_range_has_its_class() {
        fn check(expect: fn(&'static str) -> Class, addresses: &[&str]) {
            for text in addresses {
                let found = classify(address(text));
                let (Class::Private(kind) | Class::Never(kind)) = found else { panic!("{text}: {found:?}") };
                assert_eq!(found, expect(kind), "{text}");
            }
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2606:4700::1111",
            "2001:200::1",
            "2003::1",
            "3ffe::1",
            "2600::",
        ] {
            assert_eq!(classify(address(text)), Class::Public, "{text}");
        }
        check(
            Class::Private,
            &[
                "127.0.0.1",
                "127.255.255.255",
                "10.0.0.0",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.1",
                "100.64.0.0",
                "100.127.255.255",
                "169.254.0.1",
                "::1",
                "fc00::1",
                "fdff::1",
                "fe80::1",
                "febf::1",
            ],
        );
        check(
            Class::Never,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "192.0.0.1",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "192.88.99.1",
                "198.18.0.0",
                "198.19.255.255",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "::2",
                "::7f00:1",
                "::ffff:127.0.0.1",
                "::ffff:8.8.8.8",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b:1::1",
                "100::1",
                "2001::1",
                "2001:2::1",
                "2001:db8::1",
                "2001:10::1",
                "2002:7f00:1::",
                "3fff::1",
                "fec0::1",
                "ff02::1",
                "4000::1",
                "1::1",
                "e000::1",
            ],
        );
        check(
            Class::Never,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "100.100.100.200",
                "192.0.0.192",
                "168.63.129.16",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "::ffff:a9fe:a9fe",
            ],
        );
    }

    #[test]
    fn one_bad_address_condemns_the_name() {
        let barred = Barred::new("remit.corp.example", 443);
        barred.add(address("10.30.0.9"), 443);
        barred.add(address("127.0.0.1"), 8443);
        let check = |addresses: &[&str], port: u16, private: &[&str], expect: &str| {
            let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
            let private: Vec<IpNet> = private.iter().map(|text| text.parse().unwrap()).collect();
            let found = judge("a.example", port, &addresses, &private, &barred);
            let kind = match &found {
                Ok(()) => "ok",
                Err(Prohibited::Never { .. }) => "never",
                Err(Prohibited::Unlisted { .. }) => "unlisted",
                Err(Prohibited::Mixed { .. }) => "mixed",
                Err(Prohibited::Orchestrator { .. }) => "orchestrator",
            };
            assert_eq!(kind, expect, "{addresses:?} {private:?}");
        };
        check(&["1.1.1.1"], 443, &[], "ok");
        check(&["1.1.1.1", "2606:4700::1"], 443, &[], "ok");
        check(&["10.1.0.1"], 443, &[], "unlisted");
        check(&["10.1.0.1"], 443, &["10.1.0.0/16"], "ok");
        check(&["10.1.0.1", "10.2.0.1"], 443, &["10.1.0.0/16"], "unlisted");
        check(&["1.1.1.1", "10.1.0.1"], 443, &["10.1.0.0/16"], "mixed");
        check(&["10.1.0.1", "1.1.1.1"], 443, &[], "mixed");
        check(&["127.0.0.1"], 443, &["0.0.0.0/0"], "ok");
        check(&["169.254.169.254"], 80, &["0.0.0.0/0", "169.254.0.0/16"], "never");
        check(&["168.63.129.16"], 80, &["0.0.0.0/0"], "never");
        check(&["::ffff:10.1.0.1"], 443, &["10.1.0.0/16", "::/0"], "never");
        check(&["64:ff9b::a01:1"], 443, &["::/0"], "never");
        check(&["10.30.0.9"], 443, &["10.0.0.0/8"], "orchestrator");
        check(&["10.30.0.9"], 5432, &["10.0.0.0/8"], "orchestrator");
        check(&["127.0.0.1"], 8443, &["127.0.0.0/8"], "orchestrator");
        check(&["127.0.0.1"], 8444, &["127.0.0.0/8"], "ok");
    }

    #[test]
    fn the_orchestrators_name_is_barred_before_it_is_resolved() {
        let barred = Barred::new("Remit.corp.example", 443);
        assert!(barred.check_name("remit.corp.example", 443).is_err());
        assert!(barred.check_name("remit.corp.example", 444).is_ok());
        assert!(barred.check_name("other.corp.example", 443).is_ok());
        assert!(
            judge(
                "x.example",
                9,
                &[address("10.9.9.9")],
                &["10.0.0.0/8".parse().unwrap()],
                &Barred::new("10.9.9.9", 9)
            )
            .is_err()
        );
    }

    #[test]
    fn listed_targets_are_in_a_list_public_ones_too() {
        fn check(text: &str, permitted: &str, expect: bool) {
            let found = judge_listed("n1", &[address(text)], &[permitted.parse().unwrap()]);
            assert_eq!(found.is_ok(), expect, "{text} {permitted}: {found:?}");
        }
        check("10.20.1.1", "10.20.0.0/16", true);
        check("10.21.1.1", "10.20.0.0/16", false);
        check("1.1.1.1", "10.20.0.0/16", false);
        check("1.1.1.1", "1.1.1.0/24", true);
        check("127.0.0.1", "127.0.0.1/32", true);
        check("169.254.169.254", "169.254.0.0/16", false);
        check("::ffff:10.20.1.1", "::/0", false);
    }
}
