//! One signer that dialled in: its encrypted connection, its public key, and questions with a deadline.
//!
//! Every read and write ends at the question's deadline, however slowly the other side feeds bytes.

use crate::message::{Message, Protocol};
use crate::wire::{self, Answer, Request};
use ed25519_dalek::{Keypair, PublicKey, SecretKey};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tendermint_p2p::secret_connection::{DATA_MAX_SIZE, SecretConnection, Version};

/// No answer of a signer comes near it.
const LONGEST_ANSWER: usize = 16 * 1024;

/// A signer with an encrypted connection and a known public key.
pub struct Signer {
    public_key: PublicKey,
    protocol: Protocol,
    chain_id: String,
    line: Mutex<Line>,
    socket: TcpStream,
}

struct Line {
    connection: SecretConnection<Timed>,
    until: Deadline,
}

impl Signer {
    /// Shakes hands on a fresh socket as `identity` and asks for the public key, all before `until`.
    pub fn welcome(
        socket: TcpStream,
        identity: &[u8; 32],
        chain_id: &str,
        protocol: Protocol,
        until: Instant,
    ) -> Result<Self, String> {
        let io = |error: io::Error| format!("preparing the socket: {error}");
        socket.set_nodelay(true).map_err(io)?;
        let deadline = Deadline(Arc::new(Mutex::new(until)));
        let timed = Timed {
            socket: socket.try_clone().map_err(io)?,
            until: deadline.clone(),
        };
        let version = match protocol {
            Protocol::V0_33 => Version::V0_33,
            Protocol::V0_34 => Version::V0_34,
        };
        let connection = SecretConnection::new(timed, keypair(identity)?, version)
            .map_err(|error| format!("handshake: {}", error.detail()))?;

        let mut line = Line {
            connection,
            until: deadline,
        };
        let request = wire::encode(&Request::PublicKey, chain_id, protocol);
        let public_key = match line.exchange(&request, protocol, until) {
            Ok(Answer::PublicKey(key)) => {
                PublicKey::from_bytes(&key).map_err(|error| format!("its public key: {error}"))?
            }
            Ok(other) => return Err(format!("asked for its public key, it answered {other:?}")),
            Err(error) => return Err(format!("asked for its public key: {error}")),
        };
        Ok(Self {
            public_key,
            protocol,
            chain_id: chain_id.to_owned(),
            line: Mutex::new(line),
            socket,
        })
    }

    /// The consensus key it says it signs with.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Asks whether it is there.
    pub fn ping(&self, until: Instant) -> io::Result<()> {
        let request = wire::encode(&Request::Ping, &self.chain_id, self.protocol);
        match self.line().exchange(&request, self.protocol, until)? {
            Answer::Pong => Ok(()),
            other => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a ping was answered with {other:?}"),
            )),
        }
    }

    /// Asks it to sign. The answer is as it came: nothing is verified yet.
    pub fn sign(&self, message: &Message, until: Instant) -> io::Result<Answer> {
        let request = wire::encode(&Request::Sign(message), &self.chain_id, self.protocol);
        self.line().exchange(&request, self.protocol, until)
    }

    /// Ends the connection for both sides.
    pub fn hang_up(&self) {
        // A socket that is already gone can't be shut down, which is just as well.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn exchange(
        &mut self,
        request: &[u8],
        protocol: Protocol,
        until: Instant,
    ) -> io::Result<Answer> {
        self.until.set(until);
        self.connection.write_all(request)?;
        let invalid = |why: String| io::Error::new(ErrorKind::InvalidData, why);
        let mut read = Vec::new();
        loop {
            // A whole frame each time: the connection's reader can't hand one out in pieces.
            let mut frame = [0; DATA_MAX_SIZE];
            let length = self.connection.read(&mut frame)?;
            if length == 0 {
                return Err(invalid("an empty frame".to_owned()));
            }
            read.extend_from_slice(&frame[..length]);
            if let Some(body) = wire::split(&read, LONGEST_ANSWER).map_err(invalid)? {
                return wire::decode(body, protocol).map_err(invalid);
            }
        }
    }
}

/// The node identity made from a seed.
pub fn keypair(seed: &[u8; 32]) -> Result<Keypair, String> {
    let secret =
        SecretKey::from_bytes(seed).map_err(|error| format!("the node identity: {error}"))?;
    let public = PublicKey::from(&secret);
    Ok(Keypair { secret, public })
}

#[derive(Clone)]
struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    fn set(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn left(&self) -> io::Result<std::time::Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match until.saturating_duration_since(Instant::now()) {
            left if left.is_zero() => Err(ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

/// A socket whose reads and writes end at a deadline.
struct Timed {
    socket: TcpStream,
    until: Deadline,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.until.left()?))?;
        self.socket.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.until.left()?))?;
        self.socket.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A socket timeout shows as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}
