use super::*;
use std::boxed::Box;
use std::vec::Vec;

/// A table with `count` threads in the queue, the idle thread running.
fn table(count: usize) -> (Box<Policy>, Vec<ThreadId>) {
    let mut policy = Box::new(Policy::new());
    let ids: Vec<_> = (0..count).map(|_| policy.admit("test").unwrap()).collect();
    for id in &ids {
        policy.make_ready(id.slot);
    }
    (policy, ids)
}

fn yields(policy: &mut Policy) -> u32 {
    let _ = policy.give_way();
    policy.current().number()
}

#[test]
fn threads_take_turns() {
    let (mut policy, _) = table(3);
    let order: Vec<_> = (0..7).map(|_| yields(&mut policy)).collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn who_is_woken_ahead_runs_next_and_then_takes_turns() {
    let (mut policy, _) = table(3);
    let _ = policy.give_way();
    let mut list = List::new();
    assert!(!policy.wake_first_ahead(&mut list));
    let _ = policy.wait_in(&mut list);
    assert!(policy.wake_first_ahead(&mut list));
    let order: Vec<_> = (0..4).map(|_| yields(&mut policy)).collect();
    assert_eq!(order, [1, 3, 2, 1]);
}

#[test]
fn a_lone_thread_keeps_the_processor() {
    let (mut policy, ids) = table(1);
    let _ = policy.give_way();
    let (from, to) = (ids[0].slot, ids[0].slot);
    assert_eq!(policy.give_way(), Switch { from, to });
    assert_eq!(policy.thread(to).runs, 1);
}

#[test]
fn the_idle_thread_runs_when_nobody_else_wants_to() {
    let (mut policy, ids) = table(1);
    let _ = policy.give_way();
    let switch = policy.sleep_until(50);
    assert_eq!(switch.to, Slot::IDLE);
    assert!(policy.is_idle());
    assert_eq!(policy.give_way().to, Slot::IDLE);
    policy.wake_sleepers(50);
    assert_eq!(policy.give_way().to, ids[0].slot);
}

#[test]
fn sleepers_wake_in_the_order_of_their_time() {
    let (mut policy, _) = table(4);
    let _ = policy.give_way();
    for until in [40, 10, 30, 10] {
        let _ = policy.sleep_until(until);
    }
    assert!(policy.is_idle());
    let mut order = Vec::new();
    for now in [9, 10, 39, 100] {
        policy.wake_sleepers(now);
        let _ = policy.give_way();
        while !policy.is_idle() {
            order.push((now, policy.current().number()));
            let _ = policy.wait_in(&mut List::new());
        }
        assert!(policy.earliest().is_none_or(|at| at > now));
    }
    assert_eq!(order, [(10, 2), (10, 4), (39, 3), (100, 1)]);
}

#[test]
fn time_is_sliced_only_among_several_threads() {
    let (mut policy, ids) = table(2);
    assert!(!policy.wants_tick(), "the idle thread gives way at once");
    let _ = policy.give_way();
    assert!(policy.wants_tick());
    let _ = policy.sleep_until(100);
    assert_eq!(policy.current(), ids[1]);
    assert!(!policy.wants_tick(), "one thread alone needs no tick");
    assert_eq!(policy.earliest(), Some(100));
    let _ = policy.exit();
    assert!(policy.is_idle() && !policy.wants_tick());
}

#[test]
fn waiters_wake_first_come_first_served() {
    let (mut policy, ids) = table(3);
    let mut list = List::new();
    let _ = policy.give_way();
    for _ in 0..3 {
        let _ = policy.wait_in(&mut list);
    }
    assert!(policy.is_idle());
    assert!(policy.wake_first(&mut list));
    assert_eq!(policy.give_way().to, ids[0].slot);
    while policy.wake_first(&mut list) {}
    assert_eq!(yields(&mut policy), 2);
    assert_eq!(yields(&mut policy), 3);
}

#[test]
fn joiners_wake_when_the_thread_ends_and_its_place_is_free_after_that() {
    let (mut policy, ids) = table(2);
    let _ = policy.give_way();
    let switch = policy.wait_for(ids[1]).unwrap();
    assert_eq!(switch.to, ids[1].slot);
    let _ = policy.exit();
    assert_eq!(policy.current(), ids[0]);
    assert_eq!(policy.wait_for(ids[1]), None);
    assert_eq!(policy.next_dead(), None, "its joiner frees it");
    policy.release(ids[1].slot);
    let new = policy.admit("new").unwrap();
    assert_eq!((new.slot, new.number()), (ids[1].slot, 3));
    assert_eq!(
        policy.wait_for(ids[1]),
        None,
        "another thread has its place"
    );
}

#[test]
fn detached_threads_are_found_dead_once() {
    let (mut policy, ids) = table(2);
    policy.detach(ids[0]);
    let _ = policy.give_way();
    let _ = policy.exit();
    let _ = policy.exit();
    policy.detach(ids[1]);
    assert_eq!(policy.next_dead(), Some(ids[0].slot));
    assert_eq!(policy.next_dead(), Some(ids[1].slot));
    assert_eq!(policy.next_dead(), None);
}

#[test]
fn the_table_fills_up_and_refuses() {
    let (mut policy, ids) = table(MAX_THREADS - 1);
    assert_eq!(policy.admit("one too many"), None);
    policy.release(ids[7].slot);
    assert_eq!(policy.admit("fits").map(|id| id.slot), Some(ids[7].slot));
}

#[test]
fn who_is_roused_wakes_before_its_time_and_only_then() {
    let (mut policy, ids) = table(3);
    let _ = policy.give_way();
    let _ = policy.sleep_until(50);
    let _ = policy.sleep_until(NEVER);
    assert_eq!(policy.earliest(), Some(50));
    assert!(policy.rouse(ids[0]));
    assert!(!policy.rouse(ids[0]), "it is ready");
    assert!(!policy.rouse(ids[2]), "it runs");
    assert_eq!(policy.earliest(), None, "nobody waits for a moment");
    policy.wake_sleepers(NEVER - 1);
    let stranger = ThreadId {
        number: 99,
        ..ids[1]
    };
    assert!(!policy.rouse(stranger));
    assert!(policy.rouse(ids[1]));
    let order: Vec<_> = (0..4).map(|_| yields(&mut policy)).collect();
    assert_eq!(order, [1, 2, 3, 1]);
}
