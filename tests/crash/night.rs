//! A night: kmsctl's verbs run on the world, deaths, boots, and the ends that are promised.

use std::rc::Rc;

use kmsctl::cli::{self, plan};
use kmsctl::exit::{Exit, Failure};
use kmsctl::host::{Entry, Host, Job};
use kmsctl::journal::store::History;
use kmsctl::paths::ManagedPath;
use kmsctl::plan::Request;
use kmsctl::unit::UnitName;

use crate::disk::Loss;
use crate::fate::Fate;
use crate::fleet::{self, NEW, NOT_ENABLED, NOT_RUNNING, SIGNERS};
use crate::hands;
use crate::world::{State, World};

/// How a verb ended, as whoever typed it sees it.
#[derive(Debug)]
pub enum Said {
    Done,
    /// The process died on the way.
    Died,
    Failed(Failure),
}

pub struct Night {
    pub world: Rc<World>,
    /// What stands between kmsctl and the world; as it is, unless a test breaks something.
    pub between: fn(Host, &Rc<World>) -> Host,
}

impl Night {
    pub fn of(state: State) -> Night {
        Night {
            world: World::of(state),
            between: |host, _| host,
        }
    }

    /// The fleet as it stands, a plan made.
    pub fn planned(fate: Fate) -> Night {
        let night = Night::of(State::new(fate));
        night.world.state.borrow_mut().disk.install(
            kmsctl::host::model::RUNNING,
            r#"{"format_version":1,"starts":0,"units":{}}"#,
        );
        night.boots();
        night.by_hand(&Job::Stop(fleet::unit(NOT_RUNNING, false)));
        night.world.state.borrow_mut().was_dark = false;
        night.plan();
        night.sound("planned");
        night
    }

    fn open(&self) -> Host {
        (self.between)(hands::open(&self.world).unwrap(), &self.world)
    }

    fn by_hand(&self, job: &Job) {
        drop(hands::open(&self.world).unwrap());
        self.world.job(job);
        self.world.process_ends();
    }

    /// Makes the plan the current one, as `kmsctl plan` does; the verb itself would print it.
    pub fn plan(&self) {
        let request = Request {
            new_chain: NEW.parse().unwrap(),
            from_chain: None,
            signers: Default::default(),
            suffix: None,
            protocol: None,
            binary: None,
            config_dir: None,
            max_spread: 1,
            accept: Default::default(),
        };
        let mut host = self.open();
        let plan = plan::make(&mut host, &request).unwrap_or_else(|f| panic!("{:#}", f.error));
        assert!(plan.blocks().next().is_none(), "{:?}", plan.findings);
        let bytes = serde_json::to_vec(&plan).unwrap();
        host.memory.replace(plan::CURRENT, &bytes).unwrap();
        self.world.process_ends();
    }

    /// Runs a verb to its end, or to the process's.
    pub fn kmsctl(&self, verb: &str) -> Said {
        let words = ["kmsctl", "--no-settings", "--quiet", "--yes", verb];
        let outcome = cli::run_on(self.open(), &words);
        let died = self.world.state.borrow().alive.is_empty();
        self.world.process_ends();
        match outcome {
            _ if died => Said::Died,
            Ok(Exit::Done) => Said::Done,
            Ok(exit) => panic!("{verb} ended with {exit:?}"),
            Err(failure) => Said::Failed(failure),
        }
    }

    /// systemd does what it was asked for before the process died.
    pub fn finish_jobs(&self) {
        drop(hands::open(&self.world).unwrap());
        self.world.finish_jobs();
        self.world.process_ends();
    }

    /// The power goes and comes back.
    pub fn power_cut(&self, loss: Loss, spared: bool) {
        self.world.cut_off(loss, spared);
        self.boots();
    }

    fn boots(&self) {
        drop(hands::open(&self.world).unwrap());
        for unit in self.world.enabled() {
            self.world.job(&Job::Start(unit));
        }
        // What isn't enabled is started by hand again, as it always was.
        for new in [false, true] {
            self.world.job(&Job::Start(fleet::unit(NOT_ENABLED, new)));
        }
        self.world.process_ends();
    }

    /// Every rule held at every instant until now.
    #[track_caller]
    pub fn sound(&self, at: &str) {
        let broken = &self.world.state.borrow().witness.broken;
        assert!(broken.is_empty(), "{at}: {broken:#?}");
    }

    /// Goes to the new chain, or back, whatever was left open; returns where the fleet has to be then.
    #[track_caller]
    pub fn ends(&self, to_new: bool, at: &str) {
        let said = self.kmsctl(if to_new { "apply" } else { "rollback" });
        match said {
            Said::Done => {}
            Said::Died => {
                self.sound(at);
                panic!("{at}: nothing was to die");
            }
            Said::Failed(failure) if failure.exit == Exit::Refused && !to_new => {
                let why = format!("{:#}", failure.error);
                // Nothing was switched: unstaging is the way back.
                assert!(why.contains("unstage"), "{at}: {why}");
                let said = self.kmsctl("unstage");
                assert!(matches!(said, Said::Done), "{at}: {said:?}");
            }
            Said::Failed(failure) => {
                let why = format!("{:#}", failure.error);
                let dark = self.world.state.borrow().was_dark;
                // After a boot the fleet may run otherwise than when it was planned, as long as nothing was switched.
                assert!(dark && why.contains("plan again"), "{at}: {why}");
                self.plan();
                let said = self.kmsctl("apply");
                assert!(matches!(said, Said::Done), "{at}: {said:?}");
            }
        }
        self.sound(at);
        self.all_on(to_new, at);
    }

    /// The promised end: every signer on one side, as before; nothing interrupted.
    #[track_caller]
    pub fn all_on(&self, new: bool, at: &str) {
        let host = self.open();
        let open = History::read(&host).unwrap().open().map(|j| j.operation);
        drop(host);
        self.world.process_ends();
        assert_eq!(open, None, "{at}: an operation is open");
        self.stands(new, at);
    }

    /// Who runs, who is closed, what is enabled.
    #[track_caller]
    pub fn stands(&self, new: bool, at: &str) {
        let state = self.world.state.borrow();
        let enabled = self.world.enabled();
        let closed = |unit: &UnitName| {
            let marker = ManagedPath::fence(unit);
            state.disk.entry(marker.as_path()).unwrap().is_some()
        };
        for n in 1..=SIGNERS {
            let (here, there) = (fleet::unit(n, new), fleet::unit(n, !new));
            let runs = state.running.contains_key(&here);
            let should = match n {
                // A boot starts what is enabled.
                NOT_RUNNING if state.was_dark => runs,
                NOT_RUNNING => false,
                _ => true,
            };
            assert_eq!(runs, should, "{at}: {here} runs");
            assert!(!state.running.contains_key(&there), "{at}: {there} runs");
            assert!(!closed(&here), "{at}: {here} is closed");
            let unit = ManagedPath::unit(&there);
            let staged = state.disk.entry(unit.as_path()).unwrap().is_some();
            assert_eq!(closed(&there), staged, "{at}: {there} is closed");
            let wanted = enabled.contains(&here);
            assert_eq!(wanted, n != NOT_ENABLED, "{at}: {here} is enabled");
            assert!(!enabled.contains(&there), "{at}: {there} is enabled");
        }
        let alias = "/etc/systemd/system/signer-five.service";
        let Ok(Some(Entry::Link(target))) = state.disk.entry(alias.as_ref()) else {
            panic!("{at}: no second name");
        };
        let named = ManagedPath::unit(&fleet::unit(5, new));
        assert_eq!(target, named.as_path(), "{at}: the second name");
    }
}
