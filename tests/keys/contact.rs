//! The live seam against connectors that are away, silent, full, or something else: always an answer in time, never a
//! panic, and always the address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use kmsctl::host::hsm::{Adapter, Answer, Hsm, LIMIT, Live, Password, Question, Trouble};

const PASSWORD: &str = "made-up-for-a-fake-connector";

fn ask(addr: &str) -> Result<Answer, Trouble> {
    let begun = Instant::now();
    let answer = Live.ask(Question {
        adapter: Adapter::Http { addr: addr.into() },
        auth_key: 1,
        password: Password::new(PASSWORD.to_owned().into()),
        keys: [1].into(),
    });
    assert!(begun.elapsed() < LIMIT + Duration::from_secs(1));
    assert!(!format!("{answer:?}").contains(PASSWORD));
    answer
}

/// A server that gives each request the next of these bodies, the last one again and again; none is silence.
fn serve(bodies: &'static [Option<&'static [u8]>]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut next = 0;
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            if stream.read(&mut asked).is_err() {
                continue;
            }
            if let Some(body) = bodies[next.min(bodies.len() - 1)] {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body].concat()).ok();
            }
            next += 1;
            open.push(stream);
        }
    });
    format!("tcp://{address}")
}

#[track_caller]
fn says(trouble: Result<Answer, Trouble>, addr: &str, words: &str) {
    let trouble = trouble.unwrap_err().to_string();
    let address = addr.trim_start_matches("tcp://");
    assert!(
        trouble.contains(address) && trouble.contains(words),
        "{trouble}"
    );
}

const READY: Option<&[u8]> = Some(b"status=OK\nserial=*\nversion=3.0.4\n");

#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let addr = format!("tcp://{free}");
    let answer = ask(&addr);
    assert!(matches!(answer, Err(Trouble::Unreachable(_))), "{answer:?}");
    says(answer, &addr, "Connection refused");
}

#[test]
fn no_address() {
    for addr in ["http://127.0.0.1:1", "127.0.0.1", "tcp://127.0.0.1:123456"] {
        assert!(matches!(ask(addr), Err(Trouble::Failed(why)) if why.contains(addr)));
    }
}

#[test]
fn a_listener_that_never_answers() {
    let addr = serve(&[None]);
    says(ask(&addr), &addr, "no answer within");
}

#[test]
fn a_device_that_never_answers() {
    let addr = serve(&[READY, None]);
    says(ask(&addr), &addr, "doesn't answer within");
}

#[test]
fn something_else_listens() {
    let addr = serve(&[Some(b"<html>")]);
    says(
        ask(&addr),
        &addr,
        "doesn't answer as a yubihsm-connector does",
    );
}

#[test]
fn a_connector_without_a_device() {
    let addr = serve(&[Some(b"status=NO_DEVICE\nserial=*\n")]);
    says(ask(&addr), &addr, "has no YubiHSM");
}

#[test]
fn all_sessions_are_taken() {
    // An error response of one byte: sessions full.
    let addr = serve(&[READY, Some(&[0x7f, 0, 1, 5])]);
    let answer = ask(&addr);
    assert!(matches!(answer, Err(Trouble::Full(_))), "{answer:?}");
    says(answer, &addr, "all 16 sessions");
}

#[test]
fn no_such_authentication_key() {
    let addr = serve(&[READY, Some(&[0x7f, 0, 1, 0x0b])]);
    let answer = ask(&addr);
    assert!(matches!(answer, Err(Trouble::Refused(_))), "{answer:?}");
    says(answer, &addr, "has no authentication key 1");
}

#[test]
fn a_wrong_password() {
    // A session, a challenge, and a cryptogram that no password gives.
    let addr = serve(&[
        READY,
        Some(&[
            0x83, 0, 17, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
        ]),
    ]);
    let answer = ask(&addr);
    assert!(matches!(answer, Err(Trouble::Refused(_))), "{answer:?}");
    says(answer, &addr, "doesn't take this password");
}

#[test]
fn garbage_is_no_panic() {
    let bodies: [&'static [Option<&'static [u8]>]; 8] = [
        &[READY, Some(b"")],
        &[READY, Some(b"\x83")],
        &[READY, Some(&[0x83, 0, 0])],
        &[READY, Some(&[0x83, 0, 1, 0xff])],
        &[READY, Some(&[0x85, 0, 2, 1, 2])],
        &[READY, Some(&[0, 0, 0])],
        &[READY, Some(&[0xff; 64])],
        &[READY, Some(&[0x83, 0xff, 0xff, 0])],
    ];
    for body in bodies {
        let addr = serve(body);
        says(ask(&addr), &addr, "127.0.0.1");
    }
}

/// What a contact leaves in memory while it waits for a device, or after it: not the password.
#[test]
fn a_password_does_not_outlive_its_question() {
    // Neither the password nor what it is looked for with may stand in memory by this test's own doing.
    let masked: Vec<u8> = (0..40).map(|n: u8| (b'a' + n % 26) ^ 0x5a ^ n).collect();
    let plain = |at: usize| masked[at] ^ 0x5a;
    let password = || {
        let mut text = String::with_capacity(masked.len());
        text.extend((0..masked.len()).map(|at| char::from(plain(at) & 0x7f)));
        zeroize::Zeroizing::new(text)
    };
    let there = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        maps.lines().any(|line| {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with("rw") {
                return false;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            use std::os::unix::fs::FileExt;
            if memory.read_exact_at(&mut bytes, from).is_err() {
                return false;
            }
            // Most pages are empty. The copies that are read here are wiped before the next is looked at.
            let pages = (0..bytes.len()).step_by(4096);
            let mut full = pages.filter(|at| bytes[*at..*at + 4096] != [0; 4096]);
            let found = full.any(|at| {
                let end = (at + 4096 + masked.len()).min(bytes.len());
                let mut places = bytes[at..end].windows(masked.len());
                places.any(|w| w.iter().enumerate().all(|(at, b)| *b == plain(at) & 0x7f))
            });
            zeroize::Zeroize::zeroize(&mut bytes);
            found
        })
    };
    let held = password();
    assert!(there(), "what is there is found");
    drop(held);
    assert!(!there());
    // The device never answers the login.
    let addr = serve(&[READY, None]);
    let answer = Live.ask(Question {
        adapter: Adapter::Http { addr },
        auth_key: 1,
        password: Password::new(password()),
        keys: [1].into(),
    });
    assert!(answer.is_err());
    assert!(!there());
}
