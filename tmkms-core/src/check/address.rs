//! Addresses as tmkms reads them: by the URL standard, for schemes that the standard knows nothing of.
//!
//! Written by hand for the two schemes there are: what is refused here must be refused by tmkms, and the reverse.

/// An address that tmkms takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `tcp://…`, or no scheme.
    Tcp {
        /// Whether it names the peer's id.
        peer_id: bool,
    },
    /// `unix://…`.
    Unix {
        /// The socket's path, as tmkms uses it.
        path: String,
        /// What stands between `unix://` and the path, and is passed over.
        host: String,
    },
}

/// Reads an address.
///
/// # Errors
/// Why tmkms refuses it, as a clause.
pub(super) fn parse(text: &str, minor: u64) -> Result<Address, String> {
    // From tendermint 0.35 on, which is tmkms 0.14, an abstract socket is taken before anything is read.
    if minor >= 14
        && let Some(path) = text.strip_prefix("unix://").filter(|p| p.starts_with('@'))
    {
        return Ok(Address::Unix {
            path: path.to_owned(),
            host: String::new(),
        });
    }
    let prefixed = match text.contains("://") {
        true => text.to_owned(),
        false => format!("tcp://{text}"),
    };
    let trimmed = prefixed.trim_matches(|c: char| c <= ' ');
    let url: String = trimmed
        .chars()
        .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
        .collect();
    let (scheme, rest) = url.split_once(':').ok_or("it has no scheme")?;
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(letters) {
        return Err("its scheme isn't one".to_owned());
    }
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "tcp" && scheme != "unix" {
        return Err(format!(
            "it begins with {scheme}:, and tmkms knows tcp:// and unix://"
        ));
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return match scheme.as_str() {
            "tcp" => Err("it has no host".to_owned()),
            _ => Ok(Address::Unix {
                path: rest.to_owned(),
                host: String::new(),
            }),
        };
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let path = &after[..after.find(['?', '#']).unwrap_or(after.len())];
    let (user, host_and_port) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let (host, port) = host_and_port_of(host_and_port, minor)?;
    let user_name = user.and_then(|u| u.split(':').next()).unwrap_or_default();
    let has_user = user.is_some_and(|u| !u.is_empty());
    if host.is_empty() && (has_user || port.is_some()) {
        return Err("it has no host".to_owned());
    }
    if user.is_some() && host_and_port.is_empty() {
        return Err("it has no host".to_owned());
    }
    if scheme == "unix" {
        return Ok(Address::Unix {
            path: path.to_owned(),
            host: authority.to_owned(),
        });
    }
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    if !user_name.is_empty() && !is_peer_id(user_name) {
        return Err("what stands before the @ isn't a peer id of 40 hex digits".to_owned());
    }
    match port {
        Some(Some(_)) => Ok(Address::Tcp {
            peer_id: !user_name.is_empty(),
        }),
        _ => Err("it has no port".to_owned()),
    }
}

/// A host, and its port: none without a colon, no number after an idle one.
fn host_and_port_of(text: &str, minor: u64) -> Result<(&str, Option<Option<u16>>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest
                .split_once(']')
                .ok_or("its [ has no ] that ends the IPv6 address")?;
            inner
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| "what stands in [ ] isn't an IPv6 address")?;
            match after.strip_prefix(':') {
                Some(port) => (&text[..inner.len() + 2], Some(port)),
                None if after.is_empty() => (text, None),
                None => return Err("something stands between ] and the port".to_owned()),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    // The bar was forbidden later than the others.
    let forbidden = |c: char| {
        matches!(
            c,
            '\0' | ' ' | '#' | '/' | '<' | '>' | '?' | '@' | '\\' | '^'
        ) || (c == '|' && minor > 12)
            || (matches!(c, '[' | ']' | ':') && !text.starts_with('['))
    };
    if let Some(bad) = host.chars().find(|c| forbidden(*c)) {
        return Err(format!("its host has {bad:?} in it"));
    }
    let port = match port {
        None => None,
        Some("") => Some(None),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let port = digits.trim_start_matches('0');
            let port = if port.is_empty() { "0" } else { port };
            Some(Some(port.parse().map_err(|_| "its port is past 65535")?))
        }
        Some(_) => return Err("its port isn't a number".to_owned()),
    };
    Ok((host, port))
}

fn is_peer_id(text: &str) -> bool {
    let upper = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 40 && (text.bytes().all(upper) || text.bytes().all(lower))
}
