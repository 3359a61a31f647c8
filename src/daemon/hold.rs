// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hold: one event kept in udevd's queue while there is work, so that `udevadm settle` waits for it. docs/DESIGN.md has the
//! protocol and why it is right; tests/hold/ runs this machine against a model of udevd.
//!
//! The one idea: whoever saw `hold` was announced before `hold` went, so after [`Action::Unpublish`], a [`Action::Fence`] and one
//! drain of the socket all of them are known; only then the waiting programs are answered. Without a hold each event runs a
//! program that waits for its own modules. That is always right, so whatever cannot be done ends in it.
//!
//! Pure: no descriptor, no clock, no thread. Facts and time go in, [`Action`]s come out.

use std::collections::VecDeque;
use std::time::Duration;

use super::outstanding::{ASK_AFTER, GivenUp, Outstanding};
use crate::control::process::Process;
use crate::once::{ClientId, Limits, Time};

/// So many events outstanding, and a hold is taken. Fewer (a device is plugged in) ask by a program each, which costs less.
pub const TAKE_FROM: usize = 8;
/// A program that has waited so long is replaced: udevd kills it after 180 s or what `udev.event_timeout=` says. A renewal makes a
/// silent udevd speak, too.
pub const RENEW_AFTER: Duration = Duration::from_secs(3);
/// The same without progress: it may be what occupies udevd's only worker. Doubles while nothing moves.
pub const STALL: Duration = Duration::from_secs(1);
/// The same where devices were asked for again since: they may wait behind the program. Long for an udevd that has more workers and is
/// at work on them, short for thousands of devices of which [`AGAIN_AT_ONCE`] are done each time.
pub const AGAIN_STALL: Duration = Duration::from_millis(20);
/// The program of an event should have come by then; else another event is written, and what was announced is in doubt: an
/// udevd that was restarted has lost it. Events before it in the queue may take their time.
pub const START: Duration = Duration::from_secs(30);
/// After this, and again after this, it is asked whether the udevd that ran the last program is there at all.
pub const DOUBT: Duration = Duration::from_secs(1);
/// What is asked of udev again is outstanding so many at a time; fewer where these were too many for the socket's buffer.
pub const AGAIN_AT_ONCE: usize = 64;
/// So often in a row everything is asked of udev again in vain, over the lives of daemons that die of it, too; then once more without
/// a hold, so that each event has a program, and that modprobe where need be.
pub const RECOVERIES: u32 = 3;
/// A hold that could not be taken is tried again after this, doubling up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the loop is to do. It performs one after the other and reports each by [`Hold::performed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Write a `change` event with this number ([`uuid`]) for /sys/module/kernel.
    WriteEvent(u64),
    /// Make `hold` appear, with this number in it: so many recoveries in a row have not been completed.
    Publish(u32),
    /// Make `hold` invisible to the rules, and keep what tells a successor of it.
    Unpublish,
    /// Write an event that no rule is for. When that returns, the kernel has told us of all events that it had told udevd of:
    /// it goes from socket to socket with a mutex held (lib/kobject_uevent.c, `uevent_sock_mutex`).
    Fence,
    /// Remove what tells a successor.
    Forget,
    /// Answer this client's `Hold`. What the next process is to remember is to be written before.
    Answer(ClientId),
    /// Something may be lost: go through all devices with a MODALIAS, from the beginning, and write `add UUID ADDONCE=again`
    /// to their `uevent` files: no more of them at a time than [`Hold::room`] says.
    Recover,
    /// Write `add UUID ADDONCE=ask` to the `uevent` files of [these devices](Outstanding::ask), [`AGAIN_AT_ONCE`] at most, with the
    /// SEQNUM in it. A program of that event asks even during a hold.
    Ask,
    /// Something may be lost, and it was asked for again in vain too often: write the same to all of them at once, and look at
    /// nothing else before. Their events have programs, which a death of ours does not hurt.
    GiveUp,
}

/// The state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hold {
    /// What is on its way through udevd. That the kernel announced something is told to it.
    pub outstanding: Outstanding,
    take_from: usize,
    phase: Phase,
    /// The program of the newest event, which may come after the release, or of an older one where that does not come.
    program: Program,
    /// The number of the newest event.
    newest: u64,
    /// Whose worker spoke first, or who ran the last program, where that is known.
    pub udevd: Option<Process>,
    /// Who is to be answered: one, and those of a predecessor. They are connected, so there is a bound for them.
    holders: Vec<ClientId>,
    recovery: Recovery,
    /// Events were lost since the devices are gone through.
    once_more: bool,
    /// So many are asked for at a time.
    at_once: usize,
    /// Begun in a row, and not completed, and no module came in.
    recoveries: u32,
    /// A successor would find something.
    evidence: bool,
    /// `again` events were written since the socket was last empty.
    unread: bool,
    /// `again` events were written since the newest event.
    overtaken: bool,
    /// A request came by a broadcast alone since the last time that there was no load: no program waits for it.
    unasked: bool,
    /// When the youngest load began.
    youngest_load: Option<Time>,
    /// The last renewal, and the time without progress after which the next one follows.
    renewed: Time,
    stall: Duration,
    /// The last program came to nothing: no `hold` before the next one has come.
    is_lost: bool,
    /// No event is written before this time.
    not_before: Time,
    pause: Duration,
    actions: VecDeque<Action>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Phase {
    /// There is no hold: programs ask.
    #[default]
    Idle,
    /// `hold` is there.
    Held,
    /// `hold` is gone. Whoever has seen it is known once the socket was `drained` after that.
    Releasing { drained: bool },
    /// The daemon ends. Who waits finds the next one.
    Stopped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Program {
    /// None is expected.
    #[default]
    None,
    /// Its event is in udevd's queue `since` then, and udevd was there when it was last `looked` for, or the event was written.
    Pending { since: Time, looked: Time },
    /// It waits since then.
    Here(ClientId, Time),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Recovery {
    #[default]
    None,
    /// Something is lost, and udevd gives no sign of life.
    Owed,
    /// Devices are gone through.
    Walking,
    /// All were asked for; the last may be unread.
    Walked,
}

impl Hold {
    /// No hold. `stale` is what a dead predecessor left: the number in its [`Action::Publish`]. `first` is where the numbers of
    /// events begin; a predecessor's must not come again, so it is the time since boot in nanoseconds, say.
    pub fn new(take_from: usize, stale: Option<u32>, first: u64, now: Time) -> Self {
        let mut hold = Self {
            outstanding: Outstanding::new(now),
            take_from,
            newest: first,
            at_once: AGAIN_AT_ONCE,
            recoveries: stale.unwrap_or(0),
            evidence: stale.is_some(),
            renewed: now,
            stall: STALL,
            not_before: now,
            pause: PAUSE,
            ..Self::default()
        };
        if stale.is_some() {
            hold.recover(now);
        }
        hold
    }

    /// Whether nothing is left to do or to wait for, so that a daemon that was started on demand may go.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
            && self.outstanding.is_empty()
            && self.actions.is_empty()
            && !self.is_recovering()
    }

    // Facts from the socket.

    /// udevd broadcasts an event: that of the hold with this [`number`], or one that may be a request. Returns whether it is news:
    /// no program has asked for it before.
    pub fn broadcast(&mut self, seqnum: u64, own: Option<u64>, is_request: bool, now: Time) -> bool {
        let is_news = self.outstanding.broadcast(seqnum, now);
        self.revive(now);
        self.unasked |= is_news && is_request;
        if own == Some(self.newest) && matches!(self.program, Program::Pending { .. }) {
            // Its program was killed before it came, or there is none.
            self.lose(now);
        }
        is_news
    }

    /// The socket's buffer was too small: events were lost.
    pub fn overflow(&mut self, now: Time) {
        // What is asked for again comes after what is on its way: udevd keeps the order of one device's events.
        self.outstanding.forget();
        if self.is_recovering() {
            // It may be our own doing: the answers to what was asked at once did not fit.
            (self.once_more, self.at_once) = (true, (self.at_once / 2).max(1));
        } else {
            self.recover(now);
        }
    }

    /// The socket was found empty. To be told in every turn of the loop: what udevd does not say counts only then. Before its silence
    /// is taken for the loss of its queue, the system is asked whether it lives, or whichever there is: one whose workers are all busy
    /// with slow rules says nothing either, nor does one that was told to wait.
    pub fn drained(&mut self, is_alive: impl FnOnce(Option<Process>) -> bool, now: Time) {
        // Not in each turn: in a storm there are thousands, and a look costs as much as all the rest of one.
        let is_doubtful = self.udevd.is_some()
            && matches!(self.program, Program::Pending { looked, .. } if now >= looked + DOUBT);
        let is_late = matches!(self.program, Program::Pending { since, .. } if now >= since + START);
        let is_silent = is_late || self.outstanding.is_silent(now);
        if (is_doubtful || is_silent) && is_alive(self.udevd) {
            if is_silent {
                self.outstanding.alive = now;
            }
            if let Program::Pending { since, looked } = &mut self.program {
                *looked = now;
                if is_silent {
                    *since = now;
                }
            }
        } else if is_doubtful {
            // It took the event along.
            self.outstanding.doubt(now);
            self.lose(now);
        }
        match self.outstanding.tick(now) {
            GivenUp::Nothing => {}
            // Without a hold they had programs of their own: what is lost now would be lost without us, too.
            _ if self.phase == Phase::Idle => {}
            GivenUp::Lost => self.recover(now),
            GivenUp::Silent => {
                self.recovery = Recovery::Owed;
                self.program = Program::None;
            }
        }
        if let Phase::Releasing { drained } = &mut self.phase {
            *drained |= self.actions.is_empty();
        }
        self.unread = false;
        if self.recovery == Recovery::Walked {
            self.recovery = Recovery::None;
            if self.once_more {
                self.walk();
            }
        }
    }

    // Facts from clients.

    /// A program asks for the modules of this event.
    pub fn asked(&mut self, seqnum: u64, now: Time) {
        self.outstanding.asked(seqnum, now);
        self.revive(now);
    }

    /// A hold program came, of the event with this number; this udevd runs it.
    pub fn hold(&mut self, client: ClientId, event: Option<u64>, udevd: Option<Process>, now: Time) {
        self.outstanding.alive = now;
        self.revive(now);
        if udevd.is_some() && self.udevd.is_some() && udevd != self.udevd {
            // What the last one had in its queue is in no queue any more.
            self.outstanding.doubt(now);
        }
        self.udevd = udevd.or(self.udevd);
        let is_newest = event == Some(self.newest);
        if is_newest {
            (self.program, self.is_lost) = (Program::None, false);
            self.outstanding.begun(now);
            let is_stuck = now >= self.outstanding.progress + ASK_AFTER;
            self.actions.extend(is_stuck.then_some(Action::Ask));
        }
        let waits = match self.phase {
            // For the successor.
            Phase::Stopped if self.evidence => return,
            Phase::Stopped => false,
            // Until there is an event in the queue that is ours.
            Phase::Idle => self.is_recovering(),
            // An old one goes: the newest is in udevd's queue.
            Phase::Held | Phase::Releasing { .. } => is_newest || self.program == Program::None,
        };
        if !waits {
            return self.actions.push_back(Action::Answer(client));
        }
        self.holders.push(client);
        if self.phase != Phase::Idle {
            self.program = Program::Here(client, now);
        }
    }

    /// A client that holds, or that waits for the modules of its event, is gone without an answer.
    pub fn gone(&mut self, client: ClientId, now: Time) {
        if matches!(self.program, Program::Here(program, _) if program == client) {
            self.lose(now);
        }
        let holders = self.holders.len();
        self.holders.retain(|holder| *holder != client);
        // What it asked for goes on.
        self.unasked |= holders == self.holders.len();
    }

    // The loop.

    /// A module came in: what was asked for again was not in vain, and is not when we die now.
    pub fn loaded(&mut self) {
        if self.recoveries > 0 && self.phase == Phase::Held && self.actions.is_empty() {
            self.recoveries = 0;
            self.publish();
        }
    }

    /// Takes stock after each turn of the loop, when all that has come is taken in. `youngest_load` is when the load that
    /// began last did so, of those that run or wait.
    pub fn update(&mut self, youngest_load: Option<Time>, now: Time) {
        // One that is older counts no more.
        self.youngest_load = youngest_load.filter(|began| now < *began + Limits::HOLD);
        self.unasked &= youngest_load.is_some();
        if !self.actions.is_empty() {
            return;
        }
        if matches!(self.program, Program::Pending { since, .. } if now >= since + START) {
            // Nor has what was announced before it, it may be.
            self.outstanding.doubt(now);
            self.program = Program::None;
        }
        match self.phase {
            Phase::Stopped => {}
            Phase::Idle => self.take(now),
            Phase::Held if !self.has_work(now) => self.actions.push_back(Action::Unpublish),
            Phase::Releasing { drained } if !self.has_work(now) => {
                if drained {
                    self.release();
                }
            }
            Phase::Held | Phase::Releasing { .. } => self.keep(now),
        }
    }

    fn take(&mut self, now: Time) {
        if self.is_wanted(now) || self.recovery == Recovery::Owed {
            self.write(now);
        } else if self.evidence && !self.has_work(now) {
            self.actions.push_back(Action::Forget);
        }
        if !self.is_unasked(now) && self.actions.is_empty() {
            self.answer();
        }
    }

    fn keep(&mut self, now: Time) {
        let is_held = self.phase == Phase::Held;
        match self.program {
            Program::None if now >= self.not_before && !(self.is_lost && is_held) => self.write(now),
            // Nobody waits for us: whoever comes now is to ask.
            Program::None if is_held => self.actions.push_back(Action::Unpublish),
            Program::None => {}
            _ if !is_held && now >= self.not_before && !self.is_lost => self.publish(),
            _ if self.renewal().is_some_and(|due| due <= now) => self.write(now),
            _ => {}
        }
    }

    fn release(&mut self) {
        self.phase = Phase::Idle;
        self.stall = STALL;
        if self.recovery == Recovery::None {
            self.recoveries = 0;
            self.actions.push_back(Action::Forget);
        }
        self.answer();
    }

    fn write(&mut self, now: Time) {
        if now >= self.not_before {
            self.actions.push_back(Action::WriteEvent(self.newest + 1));
        }
    }

    fn publish(&mut self) {
        self.actions.push_back(Action::Publish(self.recoveries));
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// An action was performed, or failed; before the next one is asked for, and before anything else is told.
    pub fn performed(&mut self, action: Action, success: bool, now: Time) {
        match action {
            Action::WriteEvent(number) if success => self.written(number, now),
            Action::Publish(_) if success => {
                (self.phase, self.evidence) = (Phase::Held, true);
            }
            Action::WriteEvent(_) | Action::Publish(_) => {
                self.back_off(now);
                if self.phase == Phase::Idle && self.is_recovering() {
                    // What is asked for again needs udevd's workers.
                    self.answer();
                }
            }
            Action::Unpublish if self.phase == Phase::Held => {
                self.phase = Phase::Releasing { drained: false };
                self.actions.push_back(Action::Fence);
            }
            Action::Forget => self.evidence = false,
            _ => {}
        }
    }

    fn written(&mut self, number: u64, now: Time) {
        (self.newest, self.overtaken) = (number, false);
        // Without progress since the last renewal the next one takes longer.
        let moved = self.outstanding.progress > self.renewed || self.holders.is_empty();
        self.stall = if moved { STALL } else { (self.stall * 2).min(RENEW_AFTER) };
        self.renewed = now;
        if self.phase == Phase::Idle && (self.is_lost || !self.is_wanted(now)) {
            // Only to see whether udevd lives, and runs its program.
            return self.back_off(now);
        }
        self.program = Program::Pending { since: now, looked: now };
        if self.phase != Phase::Held && !self.is_lost {
            self.publish();
        }
        self.answer();
    }

    /// The daemon ends. What is held is left to whoever comes next: the programs that wait start it.
    pub fn stop(&mut self) {
        self.actions.clear();
        if self.phase == Phase::Held {
            self.actions.push_back(Action::Unpublish);
        }
        self.phase = Phase::Stopped;
    }

    fn answer(&mut self) {
        if !self.holders.is_empty() {
            // They were there until now, so a hold can be had.
            self.pause = PAUSE;
        }
        self.actions.extend(self.holders.drain(..).map(Action::Answer));
    }

    /// When [`Self::update`] is to be called at the latest.
    pub fn deadline(&self) -> Option<Time> {
        // When it would act, and has work then.
        let at = |due: Time| Some(due).filter(|due| self.has_work(*due));
        let (writes, given_up) = (Some(self.not_before), self.outstanding.deadline());
        let due = match self.phase {
            Phase::Idle => {
                let is_meant = |at: &Time| self.is_wanted(*at) || self.recovery == Recovery::Owed;
                [given_up, writes.filter(is_meant), None, None]
            }
            Phase::Held | Phase::Releasing { .. } => {
                let loads = self.youngest_load.map(|began| began + Limits::HOLD);
                let program = match self.program {
                    Program::None => None,
                    Program::Pending { since, .. } => at(since + START),
                    Program::Here(..) => self.renewal().and_then(|due| at(due.max(self.not_before))),
                };
                let publishes = self.phase != Phase::Held && (self.program == Program::None || !self.is_lost);
                [given_up, loads, program, writes.filter(|_| publishes).and_then(at)]
            }
            Phase::Stopped => return None,
        };
        due.into_iter().flatten().min()
    }

    // What is asked of udev again.

    /// How many `add UUID ADDONCE=again` may be written now.
    pub fn room(&self, now: Time) -> usize {
        let is_first = self.phase == Phase::Idle && now >= self.not_before;
        if self.recovery != Recovery::Walking || self.unread || is_first {
            return 0;
        }
        self.at_once.saturating_sub(self.outstanding.len())
    }

    /// Some were written, and those were all that there are.
    pub fn asked_again(&mut self, some: bool, all: bool) {
        self.unread |= some;
        self.overtaken |= some;
        if all && self.recovery == Recovery::Walking {
            self.recovery = Recovery::Walked;
        }
    }

    // Within.

    fn has_work(&self, now: Time) -> bool {
        self.has_loads(now) || !self.outstanding.is_empty() || self.is_recovering()
    }

    /// Whether there is work that no program waits for.
    fn is_unasked(&self, now: Time) -> bool {
        self.is_recovering() || self.unasked && self.has_loads(now)
    }

    fn has_loads(&self, now: Time) -> bool {
        self.youngest_load.is_some_and(|began| now < began + Limits::HOLD)
    }

    fn is_recovering(&self) -> bool {
        matches!(self.recovery, Recovery::Walking | Recovery::Walked)
    }

    fn is_wanted(&self, now: Time) -> bool {
        self.is_unasked(now) || self.outstanding.len() >= self.take_from
    }

    /// When the program that waits is to be replaced.
    fn renewal(&self) -> Option<Time> {
        let Program::Here(_, since) = self.program else { return None };
        let age = since + RENEW_AFTER;
        if self.outstanding.is_empty() {
            return Some(age);
        }
        let progress = self.outstanding.progress;
        let stall = match self.overtaken {
            true => AGAIN_STALL,
            false if progress > self.renewed => STALL,
            false => self.stall,
        };
        Some(age.min(progress.max(self.renewed).max(since) + stall))
    }

    fn lose(&mut self, now: Time) {
        self.program = Program::None;
        if std::mem::replace(&mut self.is_lost, true) {
            self.back_off(now);
        }
    }

    fn back_off(&mut self, now: Time) {
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// udevd gave a sign of life.
    fn revive(&mut self, now: Time) {
        if self.recovery == Recovery::Owed {
            self.recover(now);
        }
    }

    fn recover(&mut self, now: Time) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.unread = false;
        self.recoveries += 1;
        if self.recoveries <= RECOVERIES {
            self.at_once = AGAIN_AT_ONCE;
            return self.walk();
        }
        (self.recovery, self.recoveries, self.program) = (Recovery::None, 0, Program::None);
        self.actions.extend((self.phase == Phase::Held).then_some(Action::Unpublish));
        self.actions.push_back(Action::GiveUp);
        self.actions.extend((self.phase == Phase::Idle).then_some(Action::Forget));
        self.answer();
        self.pause = LONGEST_PAUSE;
        self.back_off(now);
    }

    fn walk(&mut self) {
        (self.recovery, self.once_more) = (Recovery::Walking, false);
        self.actions.push_back(Action::Recover);
    }
}

/// The SYNTH_UUID of the event with this number.
pub fn uuid(number: u64) -> String {
    format!("addadd00-0ace-4000-{:04x}-{:012x}", number >> 48, number & 0xffff_ffff_ffff)
}

/// The number of the event with this SYNTH_UUID; none where it is not one of ours.
pub fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("addadd00-0ace-4000-")?.replace('-', "");
    u64::from_str_radix(&digits, 16).ok().filter(|&number| uuid(number) == text)
}
