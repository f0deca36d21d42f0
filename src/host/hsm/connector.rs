//! A `yubihsm-connector` asked how it is: one plain request, no session, no password.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::Trouble;

/// What a connector may take to answer at all.
const LIMIT: Duration = Duration::from_secs(3);
/// No status is longer.
const LARGEST: u64 = 16 << 10;

/// What a connector says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// It has a device.
    pub device: bool,
    pub version: Option<String>,
}

/// A connector's address in the form of a config: the host and the port of `tcp://HOST:PORT`.
///
/// # Errors
/// Another form, in a clause.
pub fn host_and_port(addr: &str) -> Result<(&str, u16), Trouble> {
    let wrong = || Trouble::Failed(format!("{addr} is no address of the form tcp://HOST:PORT"));
    let rest = addr.strip_prefix("tcp://").unwrap_or(addr);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', ' ']) {
        return Err(wrong());
    }
    Ok((host, port.parse().map_err(|_| wrong())?))
}

/// Asks a connector how it is.
///
/// # Errors
/// Nothing listens there, or it doesn't answer in time; what answers is no connector.
pub fn status(addr: &str) -> Result<Status, Trouble> {
    let (host, port) = host_and_port(addr)?;
    let unreachable = |why: &dyn std::fmt::Display| {
        Trouble::Unreachable(format!(
            "the connector at {host}:{port} can't be reached: {why}"
        ))
    };
    let until = Instant::now() + LIMIT;
    let mut addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|e| unreachable(&e))?;
    let address = addresses
        .next()
        .ok_or_else(|| unreachable(&"no such host"))?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(|e| unreachable(&e))?;
    let request = format!(
        "GET /connector/status HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    );
    let mut text = Vec::new();
    let answered = stream
        .set_write_timeout(Some(LIMIT))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| read(&mut stream, until, &mut text));
    answered.map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            unreachable(&format!("no answer within {} s", LIMIT.as_secs()))
        }
        _ => unreachable(&e),
    })?;
    parse(&String::from_utf8_lossy(&text)).ok_or_else(|| {
        Trouble::Failed(format!(
            "what listens at {host}:{port} doesn't answer as a yubihsm-connector does"
        ))
    })
}

/// Reads until the other side is done, or has said its whole body.
fn read(stream: &mut TcpStream, until: Instant, text: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut piece)?;
        text.extend_from_slice(&piece[..read]);
        if read == 0 || whole(text) || text.len() as u64 > LARGEST {
            return Ok(());
        }
    }
}

/// Some servers keep the connection open after the body.
fn whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is = name.eq_ignore_ascii_case("content-length");
        is.then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

fn parse(text: &str) -> Option<Status> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.lines().next()?.split(' ').nth(1)?;
    // Yubico's writes `status=OK`; the one inside tmkms writes the value on a line of its own.
    let words: Vec<&str> = body.split(['=', '\n']).map(str::trim).collect();
    let value = |name: &str| {
        let mut pairs = words.chunks_exact(2);
        pairs.find_map(|pair| (pair[0] == name).then_some(pair[1]))
    };
    let status = value("status").filter(|_| code == "200")?;
    let version = value("version").filter(|v| v.chars().all(|c| c.is_ascii_graphic()));
    Some(Status {
        device: status == "OK",
        version: version.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_configs_write_them() {
        for (addr, expected) in [
            ("tcp://127.0.0.1:12345", Some(("127.0.0.1", 12345))),
            ("hsm.example:1", Some(("hsm.example", 1))),
            ("tcp://[::1]:12345", Some(("[::1]", 12345))),
            ("tcp://127.0.0.1", None),
            ("http://127.0.0.1:12345", None),
            ("unix:///run/hsm", None),
            ("tcp://:1", None),
            ("tcp://a:99999", None),
            ("", None),
        ] {
            assert_eq!(host_and_port(addr).ok(), expected, "{addr}");
        }
    }

    #[test]
    fn what_a_connector_says() {
        let said = "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\nstatus=NO_DEVICE\nserial=*\nversion=3.0.4\npid=1";
        let status = parse(said).unwrap();
        assert_eq!(
            (status.device, status.version.as_deref()),
            (false, Some("3.0.4"))
        );
        assert!(parse(&said.replace("NO_DEVICE", "OK")).unwrap().device);
        let tmkms = "HTTP/1.1 200 OK\r\n\r\nstatus\nOK\nserial\n*\nversion\n0.42.1";
        assert!(parse(tmkms).unwrap().device);
        for other in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert!(!whole(said.as_bytes()) && whole(said.replace("60", "40").as_bytes()));
    }
}
