//! Who a process is connected to, read from the kernel's tables: nobody is dialled.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The kernel's word for an established connection.
const ESTABLISHED: &str = "01";

/// The far ends of a process's established TCP connections.
pub fn peers(folder: &Path) -> io::Result<Vec<SocketAddr>> {
    let mut own = BTreeSet::new();
    for entry in std::fs::read_dir(folder.join("fd"))? {
        // One may be closed while it is looked at.
        let Ok(target) = std::fs::read_link(entry?.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        own.extend(
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned),
        );
    }
    let mut peers = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        match std::fs::read_to_string(folder.join(table)) {
            Ok(text) => peers.extend(text.lines().skip(1).filter_map(|line| peer(line, &own))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(peers)
}

/// The far end of a line of the table, where the connection stands and is one of these sockets.
fn peer(line: &str, own: &BTreeSet<String>) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, remote, ESTABLISHED, _, _, _, _, _, inode, ..] = fields[..] else {
        return None;
    };
    let (address, port) = remote.split_once(':').filter(|_| own.contains(inode))?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = (0..address.len() / 8)
        .map(|n| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()?;
    // Each word is printed as this machine keeps it in memory.
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match <[u8; 16]>::try_from(&bytes[..]) {
        Ok(six) => Ipv6Addr::from(six).to_canonical(),
        Err(_) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..]).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn own_connections_are_seen_and_nobody_elses() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                continue;
            };
            let far = listener.local_addr().unwrap();
            let own = Path::new("/proc/self");
            assert!(!peers(own).unwrap().contains(&far));
            let stream = TcpStream::connect(far).unwrap();
            assert!(peers(own).unwrap().contains(&far));
            assert!(!peers(Path::new("/proc/1")).is_ok_and(|p| p.contains(&far)));
            drop(stream);
        }
    }
}
