//! A validator that goes on asking while something else is done: its chain hasn't stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::SOON;
use crate::parts::{FakeValidator, Message, Signing};

const BLOCK: &str = "cd";

/// Has one round after the other prevoted at a height meanwhile, so that its signer goes on and no signer falls behind.
pub fn while_asking<T>(
    validator: &mut FakeValidator,
    height: u64,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // A failed assertion ends the asking too.
        let ends = Ends(&over);
        let asks = scope.spawn(|| -> Result<u32> {
            let mut round = 0;
            while !over.load(Ordering::SeqCst) {
                round += 1;
                let block = BLOCK.repeat(32);
                let vote = validator.sign(Message::Prevote, height, round, &block, SOON)?;
                ensure!(matches!(vote, Signing::Signed { .. }), "{vote:?}");
                thread::sleep(Duration::from_millis(200));
            }
            Ok(round)
        });
        let end = meanwhile();
        drop(ends);
        let rounds = asks.join().map_err(|_| anyhow!("the asking panicked"))??;
        ensure!(rounds > 0, "nothing was asked");
        end
    })
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
