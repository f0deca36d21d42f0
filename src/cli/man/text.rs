//! The manual's own words: what the command line can't say of itself. What stands between backticks is typed as it is.

/// What kmsctl is for.
pub const DESCRIPTION: &[&str] = &[
    "When a chain upgrades to a new chain id, every remote signer (tmkms) of a validator's key management host must move \
     at the halt: a new config, a new unit, a new state file, and the old one stopped first. By hand, at night, a slip \
     means missed blocks or a double signature. kmsctl plans the move days ahead, does it with one command, and takes it \
     back with one command.",
    "The night has four verbs. `plan` finds the signers from their systemd units, decides what moves, and shows every \
     changed line with its reason; it touches nothing. `stage` writes the new configs and units days before, and disturbs \
     no running service. `apply`, at the halt, closes each old unit, stops it, proves it dead, records how far it signed, \
     checks every state file against all that is known, and only then starts the new one. `rollback` is the mirror image, \
     by the same rules. A verb that changes something says what and asks first; `--yes` answers.",
    "The fence keeps two units of one key from running at the same time, whoever starts them. Both have a drop-in with an \
     assertion on a marker file: while the marker exists, every start fails aloud, a boot, a crash loop and a hand-typed \
     `systemctl start` included. In the middle of a switch both are closed, so that a power cut there leaves a signer \
     dark, never doubled.",
    "The memory is a host's journals below /var/lib/kmsctl. Each operation writes down what it is about to do before it \
     does it. So an interrupted one can be gone on with by `apply` or undone by `rollback`, and a state file that is \
     missing, or behind the highest height that was ever seen, keeps its signer from starting. kmsctl never writes, \
     moves, truncates or deletes a state file that tmkms has signed on. Keep this folder as long as the host signs: it guards against \
     double signatures.",
];

/// What a verb does, where its one line isn't enough.
pub fn of_verb(verb: &str) -> Option<&'static [&'static str]> {
    Some(match verb {
        "plan" => &[
            "Looks at the host, decides what moves to the new chain and under which names, and prints it as a diff with \
             heights, reasons and findings. No service, config or unit is touched. The plan is saved in /var/lib/kmsctl as \
             the current one.",
            "A finding says what is wrong, where and what to do. A blocking one ends with exit code 3, and `apply` repeats \
             it. Those that guard no fixed rule can be overruled, each by its code, with `--accept`.",
        ],
        "stage" => &[
            "Writes the plan's configs, units and drop-ins, closes the new units, and lets systemd read its units again. No \
             running service is touched, so it can be done days before the halt. `unstage` takes it all away again.",
        ],
        "unstage" => &[
            "Removes the files that `stage` wrote, where they are still as it wrote them and nothing uses them. New chain \
             state files stay.",
        ],
        "apply" => &[
            "Switches each signer of the plan: its old unit is closed and stopped, proven dead, its state recorded, and its \
             new unit opened, started and watched. What isn't staged yet is staged first. Where inputs changed since the \
             plan, it refuses and shows the difference.",
            "Before the first stop it asks whether the chain has halted: a signer that a validator is connected to is \
             watched for 15 seconds, and none may sign meanwhile; with `--halt-height` each signer that runs must have \
             precommitted that height, and none be past the next one; peers must answer and be as far. `--wait-for-halt` \
             waits for the height and then goes without asking again; exit code 6 where the time is over first, with \
             nothing changed.",
            "A new signer that doesn't come up takes all of them back by itself, as long as none has signed (exit code 4). \
             With `--await-signing` it is done only when each new state file goes on (exit code 7 where one doesn't). \
             `--initial-height` makes each new state file before tmkms does, so that nothing below that height is signed; \
             a state file that is there is never changed.",
            "After a crash or a power cut, `apply` goes on with the interrupted operation; it looks at every gate again, shows \
             how things stand, and asks.",
            "A unit that runs is no proof of a signature: watch `kmsctl heights` rise once the validators are back.",
        ],
        "rollback" => &[
            "Takes the newest switch back: the mirror image of `apply`, by the same rules. Stop the new chain's validators \
             first: while one has its signer sign, the way back is refused. The staged files stay, closed, and the new chain's state files are kept, in case it is tried again.",
        ],
        "init" => &[
            "Makes a new signer: a connection key, the consensus key where it is in a file, the state file, tmkms.toml and a \
             hardened unit. Everything is checked and rendered before anything is written; all of it is written or nothing, \
             nothing that is there is overwritten, and nothing is started. It ends with what to do next, in order.",
            "Stop the validator before you copy its priv_validator_key.json and priv_validator_state.json: a key without its \
             last signed height is a double signature waiting, so an import needs `--state`, `--height` or `--new-validator`.",
        ],
        "validator" => &[
            "On the validator's own host: sets priv_validator_laddr in its config.toml and comments out \
             priv_validator_key_file and priv_validator_state_file. Nothing else changes by a byte, the file is kept beside as \
             config.toml.kmsctl-backup, and `--undo` brings it back. It says which copies of the key endanger the validator \
             and how to close the port to all but the signer; it touches neither.",
        ],
        "state" => &[
            "`show` reads a state file of tmkms' or of CometBFT's; `convert` writes one as the other where no file is yet, \
             never below what this host's journals saw there. Where CometBFT's file doesn't say which block was voted for, \
             tmkms' closes that whole round.",
        ],
        "abandon" => &[
            "Closes the journal of an interrupted operation, for an operator who has put the host right by hand. Fence, units \
             and files stay as they are. `kmsctl status` names the operation, and afterwards shows who runs.",
        ],
        "doctor" => &[
            "Looks, in a fixed order and a line each, at units, processes, what the units' users can reach, secrets, binaries, \
             keys and YubiHSMs, connections to validators (seen, never dialled), state files, the clock, disks, the journal, \
             and at what the saved plan, or one for `--new-chain`, would meet. A finding says what to type. What can't be \
             judged, as under `--root`, is said. It changes nothing and exits with 3 where something is in the way.",
        ],
        "status" => &[
            "Shows each signer's units, whether they run, are enabled, and are open or closed, how far each chain was signed, \
             and which operation is open. It says what to type next. With `--json` it is one document for jq(1).",
        ],
        "heights" => &[
            "Reads the state files and shows each signer's height, round and step, made to be compared with other hosts. The \
             state file is the truth about signing. A height that can't be read ends with exit code 3.",
        ],
        _ => return None,
    })
}

/// Paths, and what they hold.
pub const FILES: &[(&str, &str)] = &[
    (
        "/etc/kmsctl/kmsctl.toml",
        "Defaults for flags, by their long names; a table for each verb. An example is in /usr/share/doc/kmsctl/examples.",
    ),
    (
        "/etc/kmsctl/fence/UNIT.closed",
        "The markers: while one exists, its unit doesn't start. Don't make or remove one by hand.",
    ),
    (
        "/etc/systemd/system/UNIT.d/zz-kmsctl.conf",
        "The drop-in of an old and a new unit, with the assertion on its marker.",
    ),
    (
        "/var/lib/kmsctl",
        "The memory: the current plan, each operation's journal and way back, and the lock that lets one kmsctl at a time \
         change the host.",
    ),
    (
        "DIR/run/kmsctl",
        "Below `--root` `DIR` only: what the modelled services do.",
    ),
];

pub const ENVIRONMENT: &[(&str, &str)] = &[(
    "NO_COLOR",
    "Where it is set and not empty, output has no colours, unless `--color` asks for them.",
)];

pub const EXAMPLES_OF: &[&str] = &[
    "The night on the guide's host: three signers, `tmkms-01.service` to `tmkms-03.service`, from commercio-2_2 to \
     commercio-3.",
];

/// The examples: a sentence of why, and what is typed.
pub const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "Days before, look at what would change, then write it:",
        &["# kmsctl plan --new-chain commercio-3", "# kmsctl stage"],
    ),
    (
        "At the halt, with the validators stopped, compare the heights with your other hosts and switch:",
        &["# kmsctl heights", "# kmsctl apply"],
    ),
    (
        "The same without a hand at the keyboard: wait for the halt height, switch, and wait for signatures:",
        &["# kmsctl apply --yes --halt-height 2233550 --wait-for-halt 2h --await-signing 30m"],
    ),
    (
        "Once the validators are back, see them sign:",
        &["# watch kmsctl heights"],
    ),
    (
        "Where the chain's upgrade failed, stop the validators and go back:",
        &["# kmsctl rollback"],
    ),
    (
        "After a crash, ask what is true and what to type:",
        &["# kmsctl status"],
    ),
    (
        "Rehearse all of it on a folder that holds a host's units, configs and state files:",
        &[
            "$ kmsctl --root DIR plan --new-chain commercio-3",
            "$ kmsctl --root DIR apply --yes",
        ],
    ),
];

pub const EXIT_STATUS_OF_VERB: &str = "As kmsctl(1) says.";

/// Pages of others.
pub const SEE_ALSO: &[&str] = &["systemctl(1)", "systemd.unit(5)", "jq(1)"];
