//! Whose a signer's connections are: those to a validator of a chain that is left tell that it may still run.

use std::net::SocketAddr;

use tmkms_core::config::KeyRef;

use super::Leaving;
use crate::inventory::Connection;

/// A validator that a signer dials.
#[derive(Clone, Debug)]
pub(super) struct Dialled {
    pub(super) addr: String,
    /// Its chain is one of those that are left.
    pub(super) left: bool,
}

impl Leaving {
    /// Whether one of these may be a validator's of a chain that is left: neither the device's connector, which tmkms
    /// stays connected to as well, nor a validator's of a chain that stays, nor a unix socket where no such validator is
    /// dialled on one. What no address tells counts.
    pub fn validator_among(&self, connections: &[Connection]) -> bool {
        connections.iter().any(|connection| match connection {
            Connection::Unix => {
                let mut left = self.dialled.iter().filter(|d| d.left);
                left.any(|d| d.addr.starts_with("unix:"))
            }
            Connection::Tcp(address) => {
                let keys = self.files.iter().flat_map(|f| &f.keys);
                let mut connectors = keys.filter_map(|key| match key {
                    KeyRef::Yubihsm { connector, .. } => Some(connector.as_str()),
                    _ => None,
                });
                !connectors.any(|c| is_at(c, address)) && !self.stays(address)
            }
        })
    }

    /// Whether only validators of chains that stay are at an address.
    fn stays(&self, address: &SocketAddr) -> bool {
        let dialled = |left: bool| {
            let mut same = self.dialled.iter().filter(|d| d.left == left);
            same.any(|d| is_at(&d.addr, address))
        };
        dialled(false) && !dialled(true)
    }
}

/// Whether what a config dials (`tcp://127.0.0.1:12345`, with or without a peer id or the scheme) is at this address. A
/// name is taken for any address with its port.
fn is_at(dialled: &str, address: &SocketAddr) -> bool {
    let place = dialled.strip_prefix("tcp://").unwrap_or(dialled);
    let place = place.split_once('@').map_or(place, |(_, place)| place);
    let Some((host, port)) = place.rsplit_once(':').filter(|_| !place.contains('/')) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let same = host
        .parse::<std::net::IpAddr>()
        .map_or(true, |ip| ip.to_canonical() == address.ip());
    same && port.parse() == Ok(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ChainFile;
    use crate::plan::safety::Side;

    #[test]
    fn a_connector_is_no_validator() {
        let connector = |addr: &str| ChainFile {
            chain: "a-1".into(),
            state_file: "/s".into(),
            keys: vec![KeyRef::Yubihsm {
                serial: None,
                connector: addr.into(),
                key: 1,
            }],
        };
        let leaving = |addr: &str| Leaving {
            signer: "a".into(),
            unit: "a.service".parse().unwrap_or_else(|e| panic!("{e:?}")),
            to: Side::New,
            pid: 1,
            files: vec![connector(addr)],
            stopped: false,
            dialled: Vec::new(),
        };
        let tcp = |address: &str| {
            let address = address.parse().unwrap_or_else(|e| panic!("{e}"));
            [Connection::Tcp(address)]
        };
        let here = leaving("tcp://127.0.0.1:12345");
        assert!(!here.validator_among(&tcp("127.0.0.1:12345")));
        assert!(here.validator_among(&tcp("127.0.0.1:12346")));
        assert!(here.validator_among(&tcp("127.0.0.2:12345")));
        assert!(!leaving("tcp://localhost:12345").validator_among(&tcp("127.0.0.1:12345")));
        assert!(!leaving("tcp://[::1]:12345").validator_among(&tcp("[::1]:12345")));
        assert!(
            !here.validator_among(&[Connection::Unix]),
            "no validator is dialled on one"
        );
    }

    #[test]
    fn a_validator_of_a_chain_that_stays_is_none_that_must_stop() {
        let leaving = |dialled: &[(&str, bool)]| Leaving {
            signer: "a".into(),
            unit: "a.service".parse().unwrap_or_else(|e| panic!("{e:?}")),
            to: Side::New,
            pid: 1,
            files: Vec::new(),
            stopped: false,
            dialled: dialled
                .iter()
                .map(|(addr, left)| Dialled {
                    addr: (*addr).into(),
                    left: *left,
                })
                .collect(),
        };
        let (stays, left) = (
            ("tcp://f00d@10.0.0.1:26658", false),
            ("10.0.0.2:26658", true),
        );
        let named = ("tcp://node.example:26658", false);
        let socket = ("unix:///run/a.sock", false);
        for (dialled, at, counts) in [
            (&[stays, left][..], "10.0.0.1:26658", false),
            (&[stays, left], "10.0.0.2:26658", true),
            (&[stays, left], "10.0.0.3:26658", true),
            (&[named, left], "10.0.0.9:26658", false),
            (&[named, left], "10.0.0.2:26658", true),
            (
                &[named, ("other.example:26658", true)],
                "10.0.0.9:26658",
                true,
            ),
            (
                &[named, ("other.example:26659", true)],
                "10.0.0.9:26658",
                false,
            ),
            (&[("10.0.0.1:26658", true), stays], "10.0.0.1:26658", true),
        ] {
            let address = at.parse().unwrap_or_else(|e| panic!("{e}"));
            let found = leaving(dialled).validator_among(&[Connection::Tcp(address)]);
            assert_eq!(found, counts, "{at} of {dialled:?}");
        }
        for (dialled, counts) in [
            (&[socket, left][..], false),
            (&[("unix:///run/b.sock", true), stays], true),
        ] {
            let found = leaving(dialled).validator_among(&[Connection::Unix]);
            assert_eq!(found, counts, "{dialled:?}");
        }
    }
}
