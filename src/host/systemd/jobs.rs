//! Jobs: asked for in one thread, their ends seen in another, so that whoever asks goes on while systemd works.
//!
//! Job ends arrive as signals. A signal stream that is held and not polled blocks method calls once its queue is full: so
//! its thread polls it from before the first call. A job may end before its own call returns: what ended is kept until
//! its name is known.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use zbus::export::ordered_stream::OrderedStreamExt;

use super::manager::{JobRemovedStream, ManagerProxy};
use crate::host::{Ended, Job, JobEnd, Ticket};

/// What the threads tell.
enum News {
    /// systemd's name of a job that was asked for, or why it has none.
    Begun(Ticket, Result<String, String>),
    /// A job's name and its result, whoever asked for it.
    Removed(String, String),
    /// No more signals come.
    Gone,
}

pub struct Jobs {
    wanted: mpsc::Sender<(Ticket, Job)>,
    news: mpsc::Receiver<News>,
    asked: u64,
    /// Asked for, and not named yet.
    unnamed: usize,
    named: HashMap<String, Ticket>,
    /// What ended while a job wasn't named yet: it may be that one.
    early: HashMap<String, String>,
}

impl Jobs {
    pub fn watch(stream: JobRemovedStream, manager: ManagerProxy<'static>) -> Result<Jobs> {
        let (tell, news) = mpsc::channel();
        let (wanted, asked_for) = mpsc::channel();
        let ends = tell.clone();
        let thread = thread::Builder::new().name("job-ends".into());
        thread.spawn(move || removed(stream, &ends))?;
        let thread = thread::Builder::new().name("job-begins".into());
        thread.spawn(move || begun(&manager, &asked_for, &tell))?;
        Ok(Jobs {
            wanted,
            news,
            asked: 0,
            unnamed: 0,
            named: HashMap::new(),
            early: HashMap::new(),
        })
    }

    pub fn begin(&mut self, job: &Job) -> Result<Ticket> {
        self.asked += 1;
        let ticket = Ticket(self.asked.to_string());
        let asked = self.wanted.send((ticket.clone(), job.clone()));
        asked.context("no more jobs can be asked for")?;
        self.unnamed += 1;
        Ok(ticket)
    }

    pub fn next_end(&mut self, within: Duration) -> Result<Option<JobEnd>> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let news = match self.news.recv_timeout(left) {
                Ok(news) => news,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => News::Gone,
            };
            if let Some(end) = self.heard(news)? {
                return Ok(Some(end));
            }
        }
    }

    fn heard(&mut self, news: News) -> Result<Option<JobEnd>> {
        let end = match news {
            News::Begun(ticket, Ok(job)) => {
                self.unnamed -= 1;
                match self.early.remove(&job) {
                    Some(result) => Some((ticket, Ended::Job(result))),
                    None => {
                        self.named.insert(job, ticket);
                        None
                    }
                }
            }
            News::Begun(ticket, Err(why)) => {
                self.unnamed -= 1;
                Some((ticket, Ended::Refused(why)))
            }
            News::Removed(job, result) => match self.named.remove(&job) {
                Some(ticket) => Some((ticket, Ended::Job(result))),
                None => {
                    self.early.insert(job, result);
                    None
                }
            },
            News::Gone => bail!("the connection to systemd ended: job ends are no longer seen"),
        };
        if self.unnamed == 0 {
            // What is left was begun by others.
            self.early.clear();
        }
        Ok(end.map(|(ticket, ended)| JobEnd { ticket, ended }))
    }
}

fn removed(mut stream: JobRemovedStream, tell: &mpsc::Sender<News>) {
    zbus::block_on(async {
        while let Some(signal) = stream.next().await {
            let Ok(args) = signal.args() else { continue };
            let news = News::Removed(args.job.to_string(), args.result.clone());
            if tell.send(news).is_err() {
                return;
            }
        }
    });
    tell.send(News::Gone).ok();
}

fn begun(
    manager: &ManagerProxy<'_>,
    asked_for: &mpsc::Receiver<(Ticket, Job)>,
    tell: &mpsc::Sender<News>,
) {
    for (ticket, job) in asked_for {
        let name = zbus::block_on(begin(manager, &job));
        let news = News::Begun(ticket, name.map_err(|e| format!("{e:#}")));
        if tell.send(news).is_err() {
            return;
        }
    }
}

async fn begin(manager: &ManagerProxy<'_>, job: &Job) -> Result<String> {
    let (name, word, unit) = match job {
        Job::Start(unit) => {
            // A unit that failed too often would be refused.
            manager.reset_failed_unit(unit.as_str()).await.ok();
            let name = manager.start_unit(unit.as_str(), "replace").await;
            (name, "start", unit)
        }
        Job::Stop(unit) => {
            let name = manager.stop_unit(unit.as_str(), "replace").await;
            (name, "stop", unit)
        }
    };
    let name = name.with_context(|| format!("asking systemd to {word} {unit}"))?;
    Ok(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> (Jobs, mpsc::Sender<News>, mpsc::Receiver<(Ticket, Job)>) {
        let (tell, news) = mpsc::channel();
        let (wanted, asked_for) = mpsc::channel();
        let jobs = Jobs {
            wanted,
            news,
            asked: 0,
            unnamed: 0,
            named: HashMap::new(),
            early: HashMap::new(),
        };
        (jobs, tell, asked_for)
    }

    fn stop(unit: &str) -> Job {
        Job::Stop(unit.parse().unwrap())
    }

    #[test]
    fn a_job_that_ends_before_it_is_named_is_known_and_others_pass_by() {
        let (mut jobs, tell, _asked_for) = jobs();
        let (first, second) = (
            jobs.begin(&stop("a.service")).unwrap(),
            jobs.begin(&stop("b.service")).unwrap(),
        );
        let removed = |name: &str, result: &str| News::Removed(name.into(), result.into());
        for news in [
            removed("/job/9", "done"),
            removed("/job/2", "failed"),
            News::Begun(first.clone(), Ok("/job/1".into())),
            News::Begun(second.clone(), Ok("/job/2".into())),
            removed("/job/8", "done"),
            removed("/job/1", "done"),
        ] {
            tell.send(news).unwrap();
        }
        let ended = |ticket: &Ticket, result: &str| {
            Some(JobEnd {
                ticket: ticket.clone(),
                ended: Ended::Job(result.into()),
            })
        };
        let mut next = || jobs.next_end(Duration::ZERO).unwrap();
        assert_eq!(next(), ended(&second, "failed"));
        assert_eq!(next(), ended(&first, "done"));
        assert_eq!(next(), None);
        assert!(jobs.early.is_empty() && jobs.named.is_empty());
    }

    #[test]
    fn what_systemd_refuses_and_the_end_of_all_news_are_told() {
        let (mut jobs, tell, _asked_for) = jobs();
        let ticket = jobs.begin(&stop("a.service")).unwrap();
        tell.send(News::Begun(ticket.clone(), Err("no such unit".into())))
            .unwrap();
        let refused = Ended::Refused("no such unit".into());
        assert_eq!(
            jobs.next_end(Duration::ZERO).unwrap(),
            Some(JobEnd {
                ticket,
                ended: refused
            })
        );
        tell.send(News::Gone).unwrap();
        assert!(jobs.next_end(Duration::from_secs(9)).is_err());
    }
}
