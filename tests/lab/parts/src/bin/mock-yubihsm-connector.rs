//! A **mock** YubiHSM behind the HTTP interface of yubihsm-connector, with ready-made test keys.
//!
//! The keys are made from their ids, so anybody has them: they are test keys, never a validator's. The mock has sixteen
//! session slots, never gives one back when a client just exits, and panics on the seventeenth, so use a fresh one per
//! test. It opens with authentication key 1 and the password "password", or the one that `--password` says: a word that
//! nothing else contains can be looked for in what a program says.

use ed25519_dalek::{PublicKey, SecretKey};
use kmsctl_lab_parts::args::Args;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::thread;
use yubihsm::connector::http::Server;
use yubihsm::{
    Capability, Client, Connector, Credentials, Domain, HttpConfig, asymmetric, authentication,
    object,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "mock-yubihsm-connector: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::read(std::env::args().skip(1), &["listen", "keys", "password"])?;
    let address = address(args.require("listen")?)?;
    let connector = Connector::mockhsm();
    let public_keys = put_keys(&connector, args.require("keys")?, args.get("password"))?;

    let config = HttpConfig {
        addr: address.ip().to_string(),
        port: address.port(),
        timeout_ms: 5000,
    };
    let server = Server::new(&config, connector)
        .map_err(|error| format!("listening on {address}: {error}"))?;
    thread::spawn(end_with_stdin);

    let mut out = io::stdout();
    writeln!(
        out,
        "{}",
        json!({ "listening": address.to_string(), "public_keys": public_keys })
    )
    .and_then(|()| out.flush())
    .map_err(|error| format!("writing to stdout: {error}"))?;
    loop {
        // One client's broken request is no reason to leave the others without an HSM.
        if let Err(error) = server.handle_request() {
            let _ = writeln!(io::stderr(), "mock-yubihsm-connector: {error}");
        }
    }
}

/// Reads an address and, for port 0, finds a free port: the server can't say which one it took.
fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("--listen {text}: {error}");
    let address: SocketAddr = text.parse().map_err(|error| wrong(&error))?;
    if address.port() != 0 {
        return Ok(address);
    }
    TcpListener::bind(address)
        .and_then(|free| free.local_addr())
        .map_err(|error| wrong(&error))
}

/// Puts a test key for every id and returns the public keys in hex; with a password, that is the login's from then on.
fn put_keys(
    connector: &Connector,
    ids: &str,
    password: Option<&str>,
) -> Result<Map<String, serde_json::Value>, String> {
    let client = Client::open(connector.clone(), Credentials::default(), true)
        .map_err(|error| format!("opening the mock: {error}"))?;
    let mut public_keys = Map::new();
    for id in ids.split(',') {
        let id: object::Id = id
            .trim()
            .parse()
            .map_err(|error| format!("--keys {ids}: {id:?}: {error}"))?;
        let seed = Sha256::digest(format!("kmsctl lab test key {id}"));
        let secret = SecretKey::from_bytes(&seed).map_err(|error| format!("key {id}: {error}"))?;
        client
            .put_asymmetric_key(
                id,
                object::Label::from("lab test key"),
                Domain::DOM1,
                Capability::SIGN_EDDSA,
                asymmetric::Algorithm::Ed25519,
                seed.to_vec(),
            )
            .map_err(|error| format!("putting key {id}: {error}"))?;
        public_keys.insert(
            id.to_string(),
            hex::encode(PublicKey::from(&secret).as_bytes()).into(),
        );
    }
    if let Some(password) = password {
        login(&client, password).map_err(|error| format!("setting the password: {error}"))?;
    }
    Ok(public_keys)
}

/// Puts authentication key 1 anew, able to do all that it was.
fn login(client: &Client, password: &str) -> Result<(), yubihsm::client::Error> {
    client.delete_object(1, object::Type::AuthenticationKey)?;
    client.put_authentication_key(
        1,
        object::Label::from("lab login"),
        Domain::all(),
        Capability::all(),
        Capability::all(),
        authentication::Algorithm::YubicoAes,
        authentication::Key::derive_from_password(password.as_bytes()),
    )?;
    Ok(())
}

/// Ends the process with the stdin of whoever started it, so that none is left behind.
#[expect(clippy::exit, reason = "the server's loop can't be told to end")]
fn end_with_stdin() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    std::process::exit(0);
}
