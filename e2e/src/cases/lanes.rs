//! Who plays where: a few stages beside each other, and each test takes one that suits it.
//!
//! Most rows wait for a server that does not answer, and while one waits another may use the processor.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::cases::stage::Stage;
use crate::failure::Failure;
use crate::failure::Result;
use crate::plain::Condition;
use crate::plain::Etc;
use crate::plain::Lane;

/// How many there are at most. Each is a server with its daemons, and they share two emulated processors.
pub const LANES: usize = 4;
/// How many tests may be asked for at once: some wait for the one stage whose server is as they want it.
pub const AT_ONCE: usize = 3 * LANES;

/// The stages, which are started when they are needed and taken down with this.
#[derive(Debug, Default)]
pub struct Lanes {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    // In this order taken down: the last world takes `/etc` with it.
    idle: Vec<Stage>,
    /// What the servers of the stages in use are like, or are becoming.
    busy: Vec<Condition>,
    started: usize,
    etc: Option<Arc<Etc>>,
}

/// What a test gets.
enum Found {
    Idle(Stage),
    New(Lane, Arc<Etc>),
}

impl Lanes {
    /// Runs steps on a stage whose server is in a condition already, or is easily brought into it.
    ///
    /// # Errors
    /// When no stage could be started, or what the steps answer.
    pub fn perform<T: Send>(
        &self,
        condition: Condition,
        steps: impl FnOnce(&mut Stage) -> Result<T> + Send,
    ) -> Result<T> {
        let stage = match self.take(condition)? {
            Found::Idle(stage) => Ok(stage),
            Found::New(lane, etc) => Stage::start(lane, &etc),
        };
        let outcome = match stage {
            Ok(mut stage) => {
                let outcome = stage.perform(steps);
                self.state().idle.push(stage);
                outcome
            }
            Err(why) => Err(Failure::new(format!("there is no world: {why}"))),
        };
        let mut state = self.state();
        if let Some(place) = state.busy.iter().position(|busy| *busy == condition) {
            state.busy.swap_remove(place);
        }
        drop(state);
        self.freed.notify_all();
        outcome
    }

    fn take(&self, condition: Condition) -> Result<Found> {
        let mut state = self.state();
        loop {
            if let Some(found) = state.find(condition)? {
                state.busy.push(condition);
                return Ok(found);
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Nothing: the test has to wait.
    fn find(&mut self, condition: Condition) -> Result<Option<Found>> {
        // To spoil a server and to mend it again takes seconds: one of them is enough for each condition.
        let spoiled = |condition| condition != Condition::Healthy;
        if spoiled(condition) && self.busy.contains(&condition) {
            return Ok(None);
        }
        let reluctance = |stage: &Stage| {
            let now = stage.world.condition();
            if now == condition { 0 } else { 1 + usize::from(spoiled(now) != spoiled(condition)) }
        };
        let best = (0..self.idle.len()).min_by_key(|place| reluctance(&self.idle[*place]));
        if let Some(place) = best {
            return Ok(Some(Found::Idle(self.idle.swap_remove(place))));
        }
        if self.started == LANES {
            return Ok(None);
        }
        self.started += 1;
        let etc = match &self.etc {
            Some(etc) => Arc::clone(etc),
            None => Arc::clone(self.etc.insert(Arc::new(Etc::cover()?))),
        };
        Ok(Some(Found::New(Lane::create(self.started)?, etc)))
    }
}
