//! The connections of a process, as `/proc` shows them. Only seen: a validator takes one signer's connection, and one made
//! to look would be that one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::inventory::Connection;

/// proc(5), `/proc/net/tcp`: the state of an established connection; of a connected unix socket, `/proc/net/unix`.
const TCP_ESTABLISHED: &str = "01";
const UNIX_CONNECTED: &str = "03";
/// Standard input, output and error: where a service's own output goes is no validator.
const STANDARD: [&str; 3] = ["0", "1", "2"];

/// What the kernel says of its sockets, read once for each network that processes are in: it walks through all places that
/// a connection may have, which takes milliseconds however few there are.
#[derive(Default)]
pub struct Tables(BTreeMap<PathBuf, BTreeMap<String, Connection>>);

impl Tables {
    /// The established connections of the process whose folder in `/proc` this is.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at.
    pub fn established(&mut self, folder: &Path) -> io::Result<Vec<Connection>> {
        let sockets = sockets(folder)?;
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        let network = std::fs::read_link(folder.join("ns/net"))?;
        let table = match self.0.entry(network) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let table = table(folder)?;
                // Of a process that is ending nothing is there any more.
                std::fs::read_link(folder.join("ns/net"))?;
                unread.insert(table)
            }
        };
        let found = sockets.iter().filter_map(|inode| table.get(inode));
        Ok(found.cloned().collect())
    }
}

/// The sockets of a process, by inode.
fn sockets(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut sockets = BTreeSet::new();
    for entry in std::fs::read_dir(folder.join("fd"))? {
        let entry = entry?;
        let name = entry.file_name();
        if STANDARD.iter().any(|standard| name == **standard) {
            continue;
        }
        // Closed since the folder was read.
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:["));
        sockets.extend(inode.and_then(|t| t.strip_suffix(']')).map(str::to_owned));
    }
    Ok(sockets)
}

/// The established connections of the network that a process is in, by inode.
fn table(folder: &Path) -> io::Result<BTreeMap<String, Connection>> {
    let mut table = BTreeMap::new();
    let there = read(&folder.join("net/tcp"))?;
    let there = there.ok_or(io::ErrorKind::NotFound)?;
    table.extend(there.lines().skip(1).filter_map(tcp));
    // A kernel may have no IPv6.
    let six = read(&folder.join("net/tcp6"))?.unwrap_or_default();
    table.extend(six.lines().skip(1).filter_map(tcp));
    let unix = read(&folder.join("net/unix"))?.unwrap_or_default();
    table.extend(unix.lines().skip(1).filter_map(self::unix));
    Ok(table)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        // A unix socket's name may be any bytes.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn tcp(row: &str) -> Option<(String, Connection)> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let (remote, state, inode) = (fields.get(2)?, fields.get(3)?, fields.get(9)?);
    let address = address(remote).filter(|_| *state == TCP_ESTABLISHED)?;
    Some(((*inode).to_owned(), Connection::Tcp(address)))
}

fn unix(row: &str) -> Option<(String, Connection)> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let (state, inode) = (fields.get(5)?, fields.get(6)?);
    (*state == UNIX_CONNECTED).then(|| ((*inode).to_owned(), Connection::Unix))
}

/// `0100007F:1F90`: each 32 bits as the machine keeps them, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    if !matches!((ip.len(), port.len()), (8 | 32, 4)) {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| {
            let word = std::str::from_utf8(word).ok()?;
            Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
        })
        .collect();
    let ip = match words?.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        words @ [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn own() -> Vec<Connection> {
        let mut tables = Tables::default();
        tables.established(Path::new("/proc/self")).unwrap()
    }

    #[test]
    fn an_established_connection_is_seen_with_its_other_end_and_no_other() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else {
                // A machine without IPv6.
                assert_ne!(listen, "127.0.0.1:0");
                continue;
            };
            let there = listener.local_addr().unwrap();
            let to_it = || own().contains(&Connection::Tcp(there));
            assert!(!to_it(), "listening is no connection");
            let dialled = TcpStream::connect(there).unwrap();
            assert!(to_it());
            let (taken, _) = listener.accept().unwrap();
            drop((taken, dialled));
            assert!(!to_it());
        }
    }

    #[test]
    fn a_unix_connection_is_seen() {
        let count = || own().iter().filter(|c| **c == Connection::Unix).count();
        let before = count();
        let pair = UnixStream::pair().unwrap();
        assert_eq!(count(), before + 2);
        drop(pair);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let little = cfg!(target_endian = "little");
        let (four, mapped) = match little {
            true => ("0100007F:1F90", "0000000000000000FFFF00000100007F:1F90"),
            false => ("7F000001:1F90", "00000000000000000000FFFF7F000001:1F90"),
        };
        let local = "127.0.0.1:8080".parse().ok();
        assert_eq!(address(four), local);
        assert_eq!(address(mapped), local, "an IPv4 address in an IPv6 socket");
        for odd in [
            "",
            ":",
            "0100007F",
            "0100007:1F90",
            "zz:1",
            "0100007F:12345",
        ] {
            assert_eq!(address(odd), None, "{odd}");
        }
    }
}
