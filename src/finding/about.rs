//! What each code means, for people who meet one: `docs/findings.md` is made of this and of the codes' own words.

use std::fmt::Write as _;

use super::Code;
use super::Severity::{self, Block, Info, Warn};

/// How much a code can weigh, heaviest first, and what to do about it in general: each finding says it in particular.
struct About {
    severities: &'static [Severity],
    remedy: &'static str,
}

fn about(code: Code) -> About {
    let (severities, remedy): (&[Severity], _) = match code {
        Code::UnitUnreadable => (
            &[Block, Warn, Info],
            "write the unit in a form that kmsctl reads",
        ),
        Code::ConfigUnreadable => (&[Block, Warn], "put the config there, or disable the unit"),
        Code::ConfigInvalid => (
            &[Block, Warn],
            "mend the config at its line; tmkms refuses it as well",
        ),
        Code::ConfigShared => (&[Block], "disable and stop one of the two units"),
        Code::FenceClosed => (
            &[Block],
            "`kmsctl status` says which unit runs and how to go on",
        ),
        Code::FenceUnheeded => (
            &[Block, Warn],
            "`systemctl daemon-reload`, or take the marker away",
        ),
        Code::EnablementOdd => (&[Warn], "look at the unit's links; enable it the usual way"),
        Code::InputChanged => (&[Block, Warn], "plan again"),
        Code::NeedsDaemonReload => (
            &[Block],
            "look at the change, then `systemctl daemon-reload`",
        ),
        Code::KeyShared => (&[Block], "stop and disable all but one signer of the key"),
        Code::StateShared => (
            &[Block, Warn],
            "give each chain a state file of its own; copy none",
        ),
        Code::StateElsewhere => (&[Block], "name the state file that the key has signed with"),
        Code::StateUnknown => (
            &[Block],
            "find out whose it is; accept it only if it belongs to this key and chain",
        ),
        Code::StateUnreadable => (&[Block, Warn], "find out why; never delete a state file"),
        Code::StateBehind => (&[Block], "find the newest state file; never go back"),
        Code::StateLinked => (&[Block, Warn], "name the file itself in `state_file`"),
        Code::FileInTheWay => (&[Block], "look at the file, and move it away yourself"),
        Code::NotAFile => (&[Block], "take the link or folder away"),
        Code::StrayProcess => (
            &[Block],
            "end the process, or run it from a unit of its own",
        ),
        Code::ProcessDiffers => (
            &[Block],
            "restart the unit at a quiet moment, or put it back",
        ),
        Code::SignersTied => (&[Block], "take the tie between the units out"),
        Code::Laggard => (&[Block], "find out why it stopped, or plan without it"),
        Code::NameTaken => (&[Block], "choose another `--suffix`"),
        Code::EditRefused => (&[Block], "write the value in a plain form, then plan again"),
        Code::ProtocolRefused => (
            &[Block],
            "another protocol version (`--protocol`), or another tmkms (`--binary`)",
        ),
        Code::NoWayBack => (&[Warn], "keep the old binary where its unit names it"),
        Code::VersionUnknown => (&[Block, Warn], "ask the binary: `tmkms version`"),
        Code::MaxHeight => (
            &[Warn, Info],
            "take `max_height` out if it was meant for the old chain",
        ),
        Code::SeveralValidators => (&[Warn], "keep one [[validator]] of a chain"),
        Code::RunStateOdd => (&[Warn], "start, stop, enable or disable the unit first"),
        Code::KeyUnknown => (&[Warn], "let kmsctl reach the key's file or device"),
        Code::KeyUnfit => (&[Block, Warn], "put a key file there that tmkms takes"),
        Code::HsmRefused => (&[Block], "correct the auth key or its password file"),
        Code::HsmFull => (
            &[Warn],
            "wait 30 s: sessions of ended signers become free by themselves",
        ),
        Code::HsmSerial => (
            &[Block],
            "correct the serial number, or make sure of the device behind the connector",
        ),
        Code::HsmKeyUnfit => (
            &[Block],
            "correct the key's id, or what the auth key may do",
        ),
        Code::HsmKeyExportable => (&[Warn], "keep the wrap keys of the device under lock"),
        Code::HsmLoginBroad => (
            &[Warn],
            "give the signer an auth key that may only sign (`tmkms yubihsm setup` makes one)",
        ),
        Code::AccessDenied => (&[Block], "the chown or chmod that the finding names"),
        Code::AccessUnjudged => (&[Warn], "see for yourself that it can"),
        Code::SecretExposed => (&[Warn], "the chmod that the finding names"),
        Code::BinaryReplaced => (
            &[Block, Warn],
            "put the old tmkms back under a name of its own and plan with `--binary`",
        ),
        Code::NotConnected => (
            &[Warn],
            "expected while the validator is stopped; else look at its log and the network",
        ),
        Code::ConnectorAway => (
            &[Block, Info],
            "start and enable the unit of yubihsm-connector",
        ),
        Code::ClockAdrift => (&[Warn], "`timedatectl set-ntp true`"),
        Code::DiskFull => (&[Block], "make room before the night"),
        Code::JournalUnread => (
            &[Warn, Info],
            "run kmsctl as root, or look where the unit logs to",
        ),
        Code::ChainNotHalted => (
            &[Block],
            "wait until the chain's validators have stopped (`--wait-for-halt`)",
        ),
        Code::BelowHaltHeight => (
            &[Block],
            "wait for the chain (`--wait-for-halt`), or find out why the signer stopped",
        ),
        Code::OldSignerPastHalt => (
            &[Block],
            "find out which validator dials the signer, and whether the height is right",
        ),
        Code::FloorTooHigh => (
            &[Block],
            "take the `initial_height` of the new chain's genesis",
        ),
        Code::FloorInTheWay => (&[Block], "go without `--initial-height`"),
        Code::PeerUnknown => (&[Block], "see what the peer's command prints"),
        Code::NoPeers => (
            &[Info],
            "declare your other hosts (`--peer`), or compare `kmsctl heights` with them",
        ),
        Code::FieldUnknown => (
            &[Block],
            "take the field out, correct its name, or use a tmkms that knows it",
        ),
        Code::FieldIgnored => (&[Warn], "take the field out, or correct its name"),
        Code::ProtocolDeprecated => (&[Info], "nothing in a hurry"),
        Code::ProtocolOneWay => (&[Info], "write v0.34 where the way back may need it"),
        Code::ChainIdRefused => (&[Block], "1 to 50 of the characters `A-Za-z0-9-_.`"),
        Code::ChainRepeated => (&[Block], "keep one of them"),
        Code::ChainUnknown => (&[Block], "add the `[[chain]]`, or correct the id"),
        Code::ChainUnserved => (&[Warn], "add its `[[validator]]`, or take the chain out"),
        Code::ChainIdUnchecked => (
            &[Info],
            "make sure of the validator's chain, or use 0.13.1 or newer",
        ),
        Code::AddressRefused => (&[Block], "`tcp://PEER-ID@HOST:PORT`, or `unix:///PATH`"),
        Code::AddressOdd => (&[Warn], "`unix://` and the whole path, with three slashes"),
        Code::ProviderRefused => (&[Block], "one softsign key and one YubiHSM a process"),
        Code::SerialRefused => (&[Block], "ten digits, up to 4294967295"),
        Code::SerialUnchecked => (&[Info], "make sure of the device behind the connector"),
        Code::KeyFileRefused => (
            &[Block],
            "put the key there, in the form that `key_format` says",
        ),
        Code::KeyMissing => (&[Warn], "put the chain into the `chain_ids` of its key"),
        Code::KeysSeveral => (
            &[Warn],
            "leave the chain with the key that is its validator's",
        ),
        Code::PasswordFileRefused => (&[Block], "put it there, readable for tmkms' user alone"),
        Code::PasswordInline => (
            &[Warn],
            "keep it in a file, and name that in `password_file`",
        ),
        Code::IdentityKey => (&[Block, Warn], "`tmkms softsign keygen` makes one"),
        Code::PeerUnverified => (&[Warn], "put the node's id before the host"),
        Code::NoReconnect => (&[Warn], "leave `reconnect` out"),
        Code::TimeoutIgnored => (&[Warn], "take it out"),
        Code::NoValidator => (&[Warn], "add the `[[validator]]` that this signer serves"),
        Code::SignExtensions => (&[Warn], "tmkms 0.14.0 for chains with vote extensions"),
        Code::StateHook => (&[Block, Warn], "take `state_hook` out"),
        Code::StateRefused => (
            &[Block, Warn],
            "find out what wrote it, or make its folder; never delete one",
        ),
        Code::StateMissing => (
            &[Warn],
            "right for a chain never signed; else correct the path",
        ),
        Code::StateRelative => (&[Warn], "give `state_file` its whole path"),
        Code::HomePath => (&[Warn], "write the whole path"),
    };
    About { severities, remedy }
}

/// Whether a finding of this code may block.
pub(super) fn can_block(code: Code) -> bool {
    about(code).severities.contains(&Block)
}

/// `docs/findings.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Findings\n\n\
         What `check`, `plan` and `apply` find has a code, which stays the same; scripts may match on it. Each finding says \
         where it is, why it\nmatters and what to do. `block` ends `check` with 3, and `apply` refuses while it holds. \
         `plan --accept CODE` overrules those\nthat say so here: each of the others names the rule that it guards, which no flag turns off, or says what else keeps \
         it. What\nnever blocks (–) needs no overruling.\n\n\
         This page is made from the code by `SNAPSHOTS=overwrite cargo test --test findings`.\n\n\
         | code | weighs | means | what to do | `--accept` |\n|---|---|---|---|---|\n",
    );
    for (code, meaning) in codes() {
        let about = about(code);
        let words = about.severities.iter().map(|severity| match severity {
            Block => "block",
            Warn => "warn",
            Info => "info",
        });
        let weighs = words.collect::<Vec<_>>().join(", ");
        let accept = match (code.acceptable(), code.guard()) {
            (true, _) => "yes".to_owned(),
            (false, Some(guard)) => format!("no: {guard}"),
            (false, None) => "–".to_owned(),
        };
        let meaning = meaning.replace('\n', " ").replace('|', "\\|");
        // Writing to memory doesn't fail.
        writeln!(
            page,
            "| `{code}` | {weighs} | {meaning} | {} | {accept} |",
            about.remedy
        )
        .ok();
    }
    page
}

/// Every code with the words that stand above it, in its order.
fn codes() -> Vec<(Code, String)> {
    let schema = schemars::schema_for!(Code).to_value();
    let all = schema["oneOf"].as_array().into_iter().flatten();
    let mut codes: Vec<(Code, String)> = all
        .filter_map(|one| {
            let code = one["const"].as_str()?.parse().ok()?;
            Some((code, one["description"].as_str()?.to_owned()))
        })
        .collect();
    codes.sort_by_key(|(code, _)| code.to_string());
    codes
}
