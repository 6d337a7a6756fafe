//! The newest events of an outbox in memory: whoever follows closely is served from here, and the table is not read.
//!
//! Filled by the SQLite writer after each COMMIT, where the row's number is the position. It holds a gapless stretch or
//! says that it does not know; then the table is asked.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::wire::proto;

/// Events and bytes of payload kept: a few seconds of a busy service.
const EVENTS: usize = 2048;
const BYTES: usize = 4 << 20;

/// What one answer may hold.
pub(super) struct Room {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// The newest events, or nothing where somebody else gives the positions.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Option<Kept>>);

#[derive(Default)]
struct Kept {
    /// Everything after this position is here.
    after: i64,
    events: VecDeque<proto::Event>,
    bytes: usize,
}

impl Recent {
    /// Begins behind what is durable already; only an engine that publishes by COMMIT calls this.
    pub(crate) fn begin_after(&self, head: i64) {
        *self.0.lock() = Some(Kept { after: head, ..Kept::default() });
    }

    /// Takes what a COMMIT made durable, in the order of its positions.
    pub(crate) fn committed(&self, events: Vec<proto::Event>) {
        let mut kept = self.0.lock();
        let Some(kept) = kept.as_mut() else { return };
        for event in events {
            let last = kept.events.back().map_or(kept.after, |last| last.position);
            if event.position != last + 1 {
                // Rows came from elsewhere in between: what is known begins anew.
                *kept = Kept { after: event.position - 1, ..Kept::default() };
            }
            kept.bytes += event.data.len();
            kept.events.push_back(event);
            while kept.events.len() > EVENTS || kept.bytes > BYTES {
                let Some(oldest) = kept.events.pop_front() else { break };
                kept.after = oldest.position;
                kept.bytes -= oldest.data.len();
            }
        }
    }

    /// Forgets everything, because the table no longer holds all of it.
    pub(super) fn forget(&self) {
        if let Some(kept) = self.0.lock().as_mut() {
            let last = kept.events.back().map_or(kept.after, |last| last.position);
            *kept = Kept { after: last, ..Kept::default() };
        }
    }

    /// Events of these types (of all, if none is named) in (after, end], and how far that reaches; none if it is not known.
    pub(super) fn between(
        &self,
        after: i64,
        end: i64,
        types: &[String],
        room: &Room,
    ) -> Option<(Vec<proto::Event>, i64)> {
        let kept = self.0.lock();
        let kept = kept.as_ref().filter(|kept| kept.after <= after)?;
        let last = kept.events.back().map_or(kept.after, |last| last.position);
        if end > last {
            return None;
        }
        let (mut found, mut bytes): (Vec<proto::Event>, _) = (Vec::new(), 0);
        let from = kept.events.partition_point(|event| event.position <= after);
        for event in kept.events.range(from..).take_while(|event| event.position <= end) {
            if !types.is_empty() && !types.contains(&event.r#type) {
                continue;
            }
            bytes += event.data.len();
            if let Some(reached) = found.last().filter(|_| found.len() >= room.events || bytes > room.bytes) {
                let reached = reached.position;
                return Some((found, reached));
            }
            found.push(event.clone());
        }
        Some((found, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: i64, kind: &str, bytes: usize) -> proto::Event {
        proto::Event { position, r#type: kind.to_owned(), data: "x".repeat(bytes), ..proto::Event::default() }
    }

    const WIDE: Room = Room { events: 100, bytes: 1 << 20 };

    fn positions(found: Option<(Vec<proto::Event>, i64)>) -> Option<(Vec<i64>, i64)> {
        found.map(|(events, upto)| (events.iter().map(|e| e.position).collect(), upto))
    }

    #[test]
    fn a_stretch_is_given_whole_or_not_at_all() {
        let recent = Recent::default();
        recent.committed(vec![event(1, "a", 1)]);
        assert_eq!(positions(recent.between(0, 1, &[], &WIDE)), None, "nobody said where it begins");
        recent.begin_after(10);
        recent.committed(vec![event(11, "a", 1), event(12, "b", 1), event(13, "a", 1)]);
        assert_eq!(positions(recent.between(10, 13, &[], &WIDE)), Some((vec![11, 12, 13], 13)));
        assert_eq!(positions(recent.between(11, 12, &["a".to_owned()], &WIDE)), Some((vec![], 12)));
        assert_eq!(positions(recent.between(9, 13, &[], &WIDE)), None, "what came before is not here");
        assert_eq!(positions(recent.between(10, 14, &[], &WIDE)), None, "what comes after is not here yet");
        recent.committed(vec![event(15, "a", 1)]);
        assert_eq!(positions(recent.between(13, 15, &[], &WIDE)), None, "somebody else wrote 14");
        assert_eq!(positions(recent.between(14, 15, &[], &WIDE)), Some((vec![15], 15)));
    }

    #[test]
    fn an_answer_keeps_to_its_room_and_says_how_far_it_came() {
        let recent = Recent::default();
        recent.begin_after(0);
        recent.committed((1..=9).map(|n| event(n, "a", 10)).collect());
        let two = Room { events: 2, bytes: 1000 };
        assert_eq!(positions(recent.between(0, 9, &[], &two)), Some((vec![1, 2], 2)));
        let bytes = Room { events: 100, bytes: 25 };
        assert_eq!(positions(recent.between(2, 9, &[], &bytes)), Some((vec![3, 4], 4)));
        let one = Room { events: 100, bytes: 1 };
        assert_eq!(positions(recent.between(4, 9, &[], &one)), Some((vec![5], 5)), "one always fits");
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_more_room() {
        let recent = Recent::default();
        recent.begin_after(0);
        recent.committed((1..=3000).map(|n| event(n, "a", 1)).collect());
        assert!(recent.between(0, 3000, &[], &WIDE).is_none());
        assert!(recent.between(3000 - 2048, 3000, &[], &WIDE).is_some());
        recent.committed(vec![event(3001, "a", BYTES)]);
        assert!(recent.between(2999, 3001, &[], &WIDE).is_none());
        assert!(recent.between(3000, 3001, &[], &WIDE).is_some());
        recent.forget();
        assert!(recent.between(3000, 3001, &[], &WIDE).is_none());
        assert_eq!(positions(recent.between(3001, 3001, &[], &WIDE)), Some((vec![], 3001)));
    }
}
