//! What the lab's stand-ins are made of: the fake validator's wire, listener, record and commands.
//!
//! Everything here faces the real tmkms over loopback. It is test equipment: it never runs a chain, it holds no key
//! worth anything, and it must never call a signature good that it didn't verify itself.

pub mod args;
pub mod command;
pub mod listener;
pub mod message;
pub mod record;
pub mod signer;
pub mod validator;
pub mod wire;
