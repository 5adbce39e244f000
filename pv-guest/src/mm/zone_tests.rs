use super::*;
use std::collections::BTreeSet;
use std::vec::Vec;

/// A deterministic stream of numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A model: the set of frames in use, and runs that were handed out.
#[derive(Default)]
struct Model {
    used: BTreeSet<u64>,
    runs: Vec<(u64, u64)>,
    ever: BTreeSet<u64>,
}

impl Model {
    fn add(&mut self, taken: Taken, count: u64) {
        for frame in taken.frame..taken.frame + count {
            assert!(
                self.used.insert(frame),
                "frame {frame} was handed out twice"
            );
            let was_known = !self.ever.insert(frame);
            assert!(!(taken.is_fresh && was_known), "frame {frame} is not fresh");
        }
        self.runs.push((taken.frame, count));
    }
}

#[test]
fn random_use_hands_each_frame_to_one_owner() {
    for seed in 1..60 {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (seed << 32));
        let (first, frames) = (numbers.below(1 << 20), 1 + numbers.below(300));
        let mut bits = std::vec![u64::MAX / 3; words_for(frames) as usize];
        let mut zone = Zone::new(first, frames, &mut bits);
        let mut model = Model::default();
        for _ in 0..2000 {
            step(&mut zone, &mut model, &mut numbers);
            assert_eq!(zone.free(), zone.total() - model.used.len() as u64);
            let is_inside = |frame: &u64| (first..first + frames).contains(frame);
            assert!(model.used.iter().all(is_inside));
        }
    }
}

fn step(zone: &mut Zone, model: &mut Model, numbers: &mut Numbers) {
    match numbers.below(5) {
        0 | 1 => match zone.take() {
            Some(taken) => model.add(taken, 1),
            None => assert_eq!(zone.free(), 0),
        },
        2 => {
            let (count, align) = (1 + numbers.below(20), 1 << numbers.below(4));
            if let Some(taken) = zone.take_run(count, align) {
                assert_eq!(taken.frame % align, 0);
                model.add(taken, count);
            }
        }
        _ if model.runs.is_empty() => {}
        _ => {
            let at = numbers.below(model.runs.len() as u64) as usize;
            let (frame, count) = model.runs.swap_remove(at);
            assert!(zone.put(frame, count));
            assert!(!zone.put(frame, count), "freed twice");
            for frame in frame..frame + count {
                model.used.remove(&frame);
            }
        }
    }
}

#[test]
fn every_frame_can_be_taken_and_given_back() {
    let mut bits = [0; 3];
    let mut zone = Zone::new(100, 130, &mut bits);
    for frame in 100..230 {
        let is_fresh = true;
        assert_eq!(zone.take(), Some(Taken { frame, is_fresh }));
    }
    assert_eq!(zone.take(), None);
    assert!(zone.put(163, 2));
    let (frame, is_fresh) = (163, false);
    assert_eq!(zone.take(), Some(Taken { frame, is_fresh }));
    assert_eq!(zone.take_run(2, 1), None);
    assert_eq!(zone.take().map(|t| t.frame), Some(164));
}

#[test]
fn what_is_not_the_zones_is_refused() {
    let mut bits = [0; 1];
    let mut zone = Zone::new(10, 20, &mut bits);
    assert!(!zone.put(9, 1) && !zone.put(10, 1) && !zone.put(u64::MAX, 1));
    assert_eq!(zone.take_run(21, 1), None);
    assert_eq!(zone.take_run(u64::MAX, 1), None);
    assert_eq!(zone.take_run(4, 16).map(|t| t.frame), Some(16));
    assert!(!zone.put(16, 5) && !zone.put(15, 2));
    assert!(zone.put(16, 4));
    assert_eq!(zone.take_run(1, u64::MAX), None);
}

#[test]
fn frames_skipped_for_alignment_are_free() {
    let mut bits = [0; 1];
    let mut zone = Zone::new(1, 40, &mut bits);
    assert_eq!(zone.take_run(8, 8).map(|t| t.frame), Some(8));
    assert_eq!(zone.free(), 32);
    assert_eq!(zone.take().map(|t| t.frame), Some(1));
}

#[test]
fn frames_that_were_given_back_are_found_by_runs() {
    let mut bits = [0; 8];
    let mut zone = Zone::new(1000, 500, &mut bits);
    assert_eq!(zone.take_freed(0, 1, 100), None, "nobody had any");
    assert!(zone.take_run(400, 1).is_some());
    let free = zone.free();
    for (first, count) in [(1001, 3), (1010, 200), (1390, 10)] {
        assert!(zone.put(first, count));
    }
    assert_eq!(zone.take_freed(0, 5, 64), Some((1010, 64)));
    assert_eq!(zone.take_freed(1074, 5, 64), Some((1074, 64)));
    assert_eq!(zone.take_freed(1138, 5, 500), Some((1138, 72)));
    assert_eq!(zone.take_freed(1210, 5, 500), Some((1390, 10)));
    assert_eq!(zone.take_freed(1400, 1, 500), None);
    assert_eq!(zone.take_freed(0, 4, 500), None);
    assert_eq!(zone.take_freed(0, 0, 500), Some((1001, 3)));
    assert_eq!((zone.free(), zone.take_freed(0, 1, 1)), (free, None));
    assert!(zone.put(1010, 64) && zone.put(1001, 3));
}
