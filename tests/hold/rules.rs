// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the model leaves out of the hold: how long things take, and how an event is known again.

use std::collections::VecDeque;
use std::time::Duration;

use addonce::control::process::Process;
use addonce::daemon::hold::{Action, DOUBT, Hold, RECOVERIES, STALL, number, uuid};
use addonce::daemon::outstanding::{GIVE_UP, Outstanding};
use addonce::once::Time;

const NOW: Time = Duration::from_secs(1);

/// What it wants, all of which succeeds.
fn act(hold: &mut Hold, youngest_load: Option<Time>, now: Time) -> Vec<Action> {
    hold.update(youngest_load, now);
    let mut actions = Vec::new();
    while let Some(action) = hold.next_action() {
        hold.performed(action, true, now);
        actions.push(action);
    }
    actions
}

#[test]
fn a_load_holds_the_queue_for_three_minutes_and_no_longer() {
    let now = Duration::from_secs(1);
    let mut hold = Hold::new(1, None, 100, now);
    hold.outstanding.announced(7, b"/d", None, now);
    act(&mut hold, None, now);
    hold.hold(1, Some(101), None, now);
    hold.broadcast(7, None, true, now);
    let three_minutes = now + Duration::from_secs(180);
    let before = act(&mut hold, Some(now), three_minutes - Duration::from_secs(1));
    assert!(!before.contains(&Action::Unpublish), "{before:?}");
    assert!(act(&mut hold, Some(now), three_minutes).contains(&Action::Unpublish));
}

#[test]
fn a_load_that_holds_no_longer_does_not_keep_the_loop_awake() {
    let (began, now) = (NOW, NOW + Duration::from_secs(200));
    let mut hold = Hold::new(1, None, 100, began);
    hold.outstanding.announced(7, b"/d", None, now);
    act(&mut hold, Some(began), now);
    hold.hold(1, Some(101), None, now);
    act(&mut hold, Some(began), now);
    let due = hold.deadline().expect("the hold is to be renewed");
    assert!(due > now, "{due:?}");
}

#[test]
fn a_hold_program_is_replaced_before_an_udevd_kills_it_that_gives_programs_five_seconds() {
    let mut hold = Hold::new(1, None, 100, NOW);
    hold.outstanding.announced(7, b"/d", None, NOW);
    act(&mut hold, None, NOW);
    hold.hold(1, Some(101), None, NOW);
    hold.broadcast(7, None, true, NOW);
    // Its load goes on.
    act(&mut hold, Some(NOW), NOW);
    let due = hold.deadline().expect("it waits");
    assert!(due < NOW + Duration::from_secs(5), "{due:?}");
    let actions = act(&mut hold, Some(NOW), due);
    assert_eq!(actions, [Action::WriteEvent(102), Action::Answer(1)]);
}

/// The life of a daemon whose predecessors left this number: what it publishes, if it holds.
fn life(stale: Option<u32>, loads: bool) -> (Vec<Action>, Option<u32>) {
    let mut hold = Hold::new(8, stale, 100, NOW);
    let mut actions = act(&mut hold, None, NOW);
    actions.extend(act(&mut hold, None, NOW));
    if loads {
        hold.loaded();
        actions.extend(act(&mut hold, None, NOW));
    }
    let published = actions.iter().rev().find_map(|action| match action {
        Action::Publish(number) => Some(*number),
        _ => None,
    });
    (actions, published)
}

#[test]
fn daemons_that_die_one_after_the_other_ask_udev_again_three_times_and_then_leave_it_to_programs() {
    let mut stale = Some(0);
    for _ in 0..RECOVERIES {
        let (actions, published) = life(stale, false);
        assert_eq!(actions[0], Action::Recover);
        stale = published;
        assert!(stale.is_some(), "it holds");
    }
    assert_eq!(
        life(stale, false).0,
        [Action::GiveUp, Action::Forget],
        "no hold, and nothing for the next one"
    );
}

#[test]
fn a_daemon_in_whose_life_a_module_came_in_was_not_in_vain() {
    let mut stale = Some(0);
    for _ in 0..20 {
        let (actions, published) = life(stale, true);
        assert_eq!(actions[0], Action::Recover);
        stale = published;
        assert_eq!(stale, Some(0));
    }
}

#[test]
fn an_overflow_after_three_recoveries_in_vain_ends_the_hold_and_its_program() {
    let mut hold = Hold::new(1, Some(RECOVERIES - 1), 100, NOW);
    act(&mut hold, None, NOW);
    assert!(act(&mut hold, None, NOW).contains(&Action::Publish(RECOVERIES)));
    hold.hold(1, Some(101), None, NOW);
    hold.asked_again(true, true);
    hold.drained(|_| false, NOW);
    hold.overflow(NOW);
    let actions = act(&mut hold, None, NOW);
    assert_eq!(actions, [Action::Unpublish, Action::GiveUp, Action::Answer(1), Action::Fence]);
    hold.outstanding.announced(7, b"/d", None, NOW);
    assert_eq!(act(&mut hold, None, NOW), [], "its program asks");
    hold.outstanding.asked(7, NOW);
    hold.drained(|_| false, NOW);
    assert_eq!(act(&mut hold, None, NOW), [Action::Forget]);
}

#[test]
fn what_an_udevd_had_that_was_restarted_is_asked_for_again_after_ten_seconds() {
    let now = Duration::from_secs(1);
    let mut hold = Hold::new(1, None, 100, now);
    let act = |hold: &mut Hold, now| act(hold, None, now);
    hold.outstanding.announced(7, b"/d", None, now);
    assert!(act(&mut hold, now).contains(&Action::WriteEvent(101)));
    hold.hold(1, Some(101), Some(Process { pid: 500, started: 0 }), now);
    let later = now + STALL;
    assert!(act(&mut hold, later).contains(&Action::WriteEvent(102)), "event 7 does not come");
    hold.hold(2, Some(102), Some(Process { pid: 600, started: 70 }), later);
    hold.drained(|_| false, later + GIVE_UP / 2);
    assert!(!act(&mut hold, later + GIVE_UP / 2).contains(&Action::Recover));
    hold.broadcast(8, None, false, later + GIVE_UP / 2);
    hold.drained(|_| false, later + GIVE_UP);
    assert!(act(&mut hold, later + GIVE_UP).contains(&Action::Recover));
}

/// The udevd that has run a hold's first program, that hold, and when its renewal was written, which is in that one's queue: event 7
/// does not come.
fn renewing() -> (Process, Hold, Time) {
    let (udevd, renewed) = (Process { pid: 500, started: 0 }, NOW + STALL);
    let mut hold = Hold::new(1, None, 100, NOW);
    hold.outstanding.announced(7, b"/d", None, NOW);
    act(&mut hold, None, NOW);
    hold.hold(1, Some(101), Some(udevd), NOW);
    assert!(act(&mut hold, None, renewed).contains(&Action::WriteEvent(102)));
    (udevd, hold, renewed)
}

#[test]
fn an_udevd_that_lives_and_is_busy_for_a_minute_has_lost_nothing() {
    let (udevd, mut hold, mut now) = renewing();
    // Its workers are in slow rules: neither a broadcast nor the program of this event comes.
    for _ in 0..60 {
        now += STALL;
        hold.drained(|doubted| doubted == Some(udevd), now);
        assert_eq!(act(&mut hold, None, now), []);
        assert_eq!(hold.outstanding.len(), 1);
    }
    // Where it is dead, nothing speaks for it.
    let mut dead = hold.clone();
    dead.drained(|_| false, now + GIVE_UP);
    assert_eq!(dead.outstanding.len(), 0);
    hold.hold(2, Some(102), Some(udevd), now);
    assert!(hold.broadcast(7, None, true, now));
    hold.drained(|_| false, now);
    let end = [act(&mut hold, None, now), act(&mut hold, None, now)].concat();
    assert!(end.contains(&Action::Unpublish) && !end.contains(&Action::Recover), "{end:?}");
}

#[test]
fn an_udevd_that_has_not_spoken_yet_and_is_busy_has_lost_nothing() {
    let mut hold = Hold::new(8, None, 100, NOW);
    hold.outstanding.announced(7, b"/d", None, NOW);
    for (is_busy, outstanding) in [(true, 1), (false, 0)] {
        let now = NOW + GIVE_UP * (1 + u32::from(!is_busy));
        hold.drained(|doubted| doubted.is_none() && is_busy, now);
        assert_eq!(hold.outstanding.len(), outstanding, "as long as its file says that it is busy");
    }
}

#[test]
fn an_udevd_with_one_worker_is_asked_for_thousands_of_devices_again_within_seconds() {
    // Their SEQNUMs, and the numbers of the holds' events, in udevd's queue.
    let mut queue: VecDeque<Result<u64, u64>> = VecDeque::new();
    let (mut now, mut client, mut devices) = (NOW, 0, 1..=3000_u64);
    let mut hold = Hold::new(8, Some(1), 100, now);
    let mut worker = None;
    while !hold.is_idle() {
        for action in act(&mut hold, None, now) {
            match action {
                Action::WriteEvent(number) => queue.push_back(Err(number)),
                Action::Answer(answered) if worker == Some(answered) => worker = None,
                _ => {}
            }
        }
        let again: Vec<u64> = devices.by_ref().take(hold.room(now)).collect();
        again.iter().for_each(|seqnum| hold.outstanding.announced(*seqnum, b"/d", None, now));
        hold.asked_again(!again.is_empty(), devices.is_empty());
        match worker.is_none().then(|| queue.pop_front()).flatten() {
            Some(Ok(seqnum)) => {
                hold.broadcast(seqnum, None, true, now);
            }
            Some(Err(number)) => {
                client += 1;
                worker = Some(client);
                hold.hold(client, Some(number), None, now);
            }
            None if again.is_empty() => now = now.max(hold.deadline().unwrap_or(now)),
            None => {}
        }
        queue.extend(again.into_iter().map(Ok));
        hold.drained(|_| false, now);
        assert!(now < NOW + Duration::from_secs(3), "{:?} are left", devices);
    }
    assert!(devices.is_empty());
}

#[test]
fn a_number_is_found_in_the_uuid_it_was_written_in() {
    for event in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
        assert_eq!(number(&uuid(event)), Some(event), "{}", uuid(event));
        assert_eq!(uuid(event).len(), 36);
    }
    assert_eq!(number("5b7b0b0e-1c5c-4c6e-9d5a-2f6f6a0f7c11"), None);
    assert_eq!(number("addadd00-0ace-4000-0000-0000000000zz"), None);
}

#[test]
fn an_event_that_is_announced_to_us_after_udevd_was_done_with_it_is_not_outstanding() {
    let mut outstanding = Outstanding::new(NOW);
    assert!(outstanding.broadcast(7, NOW), "nobody has asked for it");
    outstanding.announced(7, b"/d", None, NOW);
    assert!(outstanding.is_empty());
    outstanding.asked(8, NOW);
    assert!(!outstanding.broadcast(8, NOW), "its program has asked for it");
    outstanding.announced(8, b"/d", None, NOW);
    outstanding.announced(9, b"/d", None, NOW);
    assert_eq!(outstanding.len(), 1, "9");
}

#[test]
fn what_was_over_before_the_socket_was_open_is_waited_for_half_a_second_though_udevd_has_others() {
    let mut outstanding = Outstanding::new(NOW);
    let at = |ms| NOW + Duration::from_millis(ms);
    outstanding.presume(5, 8, NOW);
    outstanding.asked(5, NOW);
    outstanding.begun(at(100));
    outstanding.broadcast(6, at(300));
    outstanding.tick(at(900));
    assert_eq!(outstanding.presumed.len(), 2, "5 is not done, and one of them may wait for it");
    outstanding.broadcast(5, at(1000));
    for (seqnum, ms) in [(20, 1200), (21, 1400)] {
        outstanding.announced(seqnum, b"/d", None, at(ms));
        outstanding.broadcast(seqnum, at(ms));
    }
    outstanding.tick(at(1499));
    assert_eq!(outstanding.presumed.len(), 2);
    assert_eq!(outstanding.deadline(), Some(at(1500)));
    outstanding.tick(at(1500));
    assert!(outstanding.is_empty());
}

#[test]
fn an_event_that_udevd_does_not_finish_is_waited_for_no_longer_where_its_device_is_gone() {
    let mut outstanding = Outstanding::new(NOW);
    outstanding.announced(5, b"/devices/a", None, NOW);
    assert_eq!(outstanding.ask(1), [(5, Box::from(*b"/devices/a"))]);
    assert_eq!(outstanding.len(), 1);
    outstanding.gone(5);
    assert!(outstanding.is_empty());
}

#[test]
fn a_hold_whose_event_went_with_its_udevd_ends_after_a_second() {
    for is_alive in [true, false] {
        let (udevd, mut hold, renewed) = renewing();
        let drained = |hold: &mut Hold, at| {
            hold.drained(|asked| is_alive && asked == Some(udevd), at);
            act(hold, None, at)
        };
        assert_eq!(drained(&mut hold, renewed + DOUBT / 2), []);
        let is_ended = drained(&mut hold, renewed + DOUBT).contains(&Action::Unpublish);
        assert_eq!(is_ended, !is_alive);
    }
}

#[test]
fn udevd_is_looked_for_once_a_second_and_not_in_each_turn_of_the_loop() {
    let (_, mut hold, renewed) = renewing();
    let mut looks = 0;
    let turns = 400;
    for turn in 1..=turns {
        let now = renewed + DOUBT * 4 * turn / turns;
        hold.drained(
            |_| {
                looks += 1;
                true
            },
            now,
        );
    }
    assert_eq!(looks, 4);
}
