//! A night: kmsctl's verbs run on the world, deaths, boots, and the ends that are promised.

use std::path::Path;
use std::rc::Rc;

use kmsctl::cli::{self, plan};
use kmsctl::exit::{Exit, Failure};
use kmsctl::floor::Floor;
use kmsctl::host::{Entry, Host, Job};
use kmsctl::journal::store::History;
use kmsctl::paths::ManagedPath;
use kmsctl::peers::Peers;
use kmsctl::plan::Request;
use kmsctl::unit::UnitName;

use crate::disk::Loss;
use crate::fate::Fate;
use crate::fleet::{self, FIRST, NEW, NOT_ENABLED, NOT_RUNNING, SIGNERS};
use crate::hands::{self, Between};
use crate::state::State;
use crate::world::World;

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
    pub between: Between,
    /// Whether switches lay floors.
    pub floors: bool,
}

impl Night {
    pub fn of(state: State) -> Night {
        Night {
            world: World::of(state),
            between: Between::default(),
            floors: false,
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
        {
            let state = &mut *night.world.state.borrow_mut();
            state.others_started = false;
            state.halts();
        }
        night.plan().unwrap();
        night.sound("planned");
        night
    }

    /// What a second kmsctl would do at the same time.
    pub fn second(&self) -> Rc<dyn Fn()> {
        let (world, between) = (Rc::downgrade(&self.world), self.between);
        Rc::new(move || {
            let world = world.upgrade().unwrap();
            let systemd = world.systemd.borrow_mut().take();
            let host = hands::open(&world, between).unwrap();
            let own = world.state.borrow().processes;
            let said = cli::run_on(
                host,
                &["kmsctl", "--no-settings", "--quiet", "--yes", "apply"],
            );
            if let Ok(exit) = said {
                let mut state = world.state.borrow_mut();
                let how = format!("a second kmsctl ended with {exit:?}");
                state.witness.broke("S9", how);
            }
            world.state.borrow_mut().alive.retain(|p| *p != own);
            *world.systemd.borrow_mut() = systemd;
        })
    }

    fn open(&self) -> Host {
        hands::open(&self.world, self.between).unwrap()
    }

    fn by_hand(&self, job: &Job) {
        drop(self.open());
        self.world.job(job);
        self.world.process_ends();
    }

    /// Makes the plan the current one, as `kmsctl plan` does; the verb itself would print it.
    ///
    /// # Errors
    /// What blocks it.
    pub fn plan(&self) -> Result<(), String> {
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
        let history = History::read(&host).map_err(|e| format!("{e:#}"))?;
        let (plan, _) = plan::make(&mut host, &request, &Peers::default(), &history)
            .map_err(|f| format!("{:#}", f.error))?;
        let bytes = serde_json::to_vec(&plan).unwrap();
        let saved = host.memory.replace(plan::CURRENT, &bytes);
        saved.map_err(|e| format!("{e:#}"))?;
        self.world.process_ends();
        match plan.blocks().next() {
            None => Ok(()),
            Some(block) => Err(format!("{block:?}")),
        }
    }

    /// Runs a verb to its end, or to the process's.
    pub fn kmsctl(&self, verb: &str) -> Said {
        let mut words = vec!["kmsctl", "--no-settings", "--quiet", "--yes", verb];
        if self.floors && verb == "apply" {
            words.extend(["--initial-height", FIRST]);
        }
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

    /// Whether an operation is open that touched signers.
    pub fn is_half_way(&self) -> bool {
        let host = self.open();
        let history = History::read(&host).unwrap();
        drop(host);
        self.world.process_ends();
        history.open().is_some_and(|j| j.switched())
    }

    /// systemd does what it was asked for before the process died.
    pub fn finish_jobs(&self) {
        drop(self.open());
        self.world.finish_jobs();
        self.world.process_ends();
    }

    /// The power goes and comes back.
    pub fn power_cut(&self, loss: Loss, spared: bool) {
        self.world.cut_off(loss, spared);
        self.boots();
    }

    fn boots(&self) {
        drop(self.open());
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

    /// Goes to the new chain, or back, whatever was left open, as kmsctl's own words say; the promised end then.
    #[track_caller]
    pub fn ends(&self, to_new: bool, at: &str) {
        let ran = self.not_running_runs();
        let went = self.goes(to_new);
        self.sound(at);
        // Where tmkms lost a signature or a whole file with the power, being refused is right, and its own start fails.
        if !self.world.state.borrow().witness.lost {
            assert_eq!(went, Ok(()), "{at}");
            self.all_on(to_new, at);
            if !to_new {
                self.has_no_floors(at);
            }
            // What a boot started is moved, and not left stopped.
            assert!(!ran || self.not_running_runs(), "{at}: it ran before");
        }
    }

    /// Whether the signer runs that didn't when the plan was made.
    fn not_running_runs(&self) -> bool {
        let state = self.world.state.borrow();
        let runs = |new| state.running.contains_key(&fleet::unit(NOT_RUNNING, new));
        runs(false) || runs(true)
    }

    fn goes(&self, to_new: bool) -> Result<(), String> {
        let verb = if to_new { "apply" } else { "rollback" };
        if !to_new {
            // As the guide has it: the new chain's validators are stopped first.
            self.world.state.borrow_mut().fate.new_chain_lives = false;
        }
        let mut words = vec![verb];
        let mut tries = 0;
        while let Some(verb) = words.pop() {
            tries += 1;
            let why = match self.kmsctl(verb) {
                Said::Done => continue,
                Said::Died => return Err("nothing was to die".into()),
                Said::Failed(failure) => format!("{verb}: {:#}", failure.error),
            };
            let moved = self.world.state.borrow().others_started;
            if tries > 4 {
                return Err(why);
            } else if why.contains("`kmsctl unstage` goes on with it") {
                words.extend([verb, "unstage"]);
            } else if !to_new && why.contains("kmsctl unstage") {
                words.push("unstage");
            } else if moved && why.contains("plan again") {
                // A boot, or another hand, started what wasn't running when the plan was made.
                self.plan()?;
                words.push(verb);
            } else {
                return Err(why);
            }
        }
        Ok(())
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

    /// What kmsctl laid and tmkms never signed on is gone.
    #[track_caller]
    fn has_no_floors(&self, at: &str) {
        let floor = Floor::below(Path::new("/"), FIRST.parse().unwrap()).bytes();
        let state = self.world.state.borrow();
        let folder = Path::new("/var/lib/tmkms");
        // What a death left there under another name is nobody's state file.
        let names = state.disk.list(folder).unwrap();
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            let left = state.disk.read(&folder.join(name)).unwrap();
            assert!(*left != *floor, "{at}: {name} is a floor still");
        }
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
                NOT_RUNNING if state.others_started => runs,
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
