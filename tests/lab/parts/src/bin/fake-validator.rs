//! A **fake** validator: the privval listener of a validator node, without a node, a chain or a block behind it.
//!
//! It stands in for what a real tmkms dials: it shakes hands, asks for votes and proposals as told on stdin, and verifies
//! every signature over its own chain's sign bytes. It must never run where a real validator's signer could reach it: a
//! signer signs whatever it is asked here.

use kmsctl_lab_parts::args::Args;
use kmsctl_lab_parts::listener::Signers;
use kmsctl_lab_parts::message::Protocol;
use kmsctl_lab_parts::record::Record;
use kmsctl_lab_parts::signer::keypair;
use kmsctl_lab_parts::validator::Validator;
use rand_core::{OsRng, RngCore};
use serde_json::json;
use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use tendermint_p2p::secret_connection::PublicKey as NodeKey;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "fake-validator: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::read(
        std::env::args().skip(1),
        &["listen", "chain-id", "protocol", "public-key"],
    )?;
    let protocol = Protocol::parse(args.require("protocol")?)?;
    let chain_id = args.require("chain-id")?.to_owned();
    let expected = args.get("public-key").map(public_key).transpose()?;
    let address = args.require("listen")?;
    let listener =
        TcpListener::bind(address).map_err(|error| format!("listening on {address}: {error}"))?;
    let listening = listener
        .local_addr()
        .map_err(|error| format!("listening on {address}: {error}"))?;

    let mut identity = [0; 32];
    OsRng.fill_bytes(&mut identity);
    let peer_id = NodeKey::from(&keypair(&identity)?).peer_id();

    let signers = Arc::new(Signers::default());
    signers.welcome_all(listener, identity, &chain_id, protocol);
    let mut validator = Validator {
        chain_id,
        protocol,
        expected,
        signers,
        record: Record::default(),
    };

    let answer = |value: serde_json::Value| {
        let mut out = io::stdout().lock();
        writeln!(out, "{value}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("writing to stdout: {error}"))
    };
    answer(json!({ "listening": listening.to_string(), "peer_id": peer_id.to_string() }))?;
    for line in io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| format!("reading stdin: {error}"))?;
        answer(validator.obey(&String::from_utf8_lossy(&line)))?;
    }
    Ok(())
}

fn public_key(text: &str) -> Result<ed25519_dalek::PublicKey, String> {
    let bytes = hex::decode(text).map_err(|error| format!("--public-key: {error}"))?;
    ed25519_dalek::PublicKey::from_bytes(&bytes).map_err(|error| format!("--public-key: {error}"))
}
