//! Units that wait for the writer: those for whose answer somebody waits go before those that follow events or timers.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

use super::QUEUE;
use crate::store::job::Job;

/// A unit that can wait has its turn after this many others, so that no load keeps it out for ever.
const TURNS: usize = 16;

pub(super) enum Command {
    Run(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// The writer's end of the channel, sorted.
pub(super) struct Queue {
    commands: mpsc::Receiver<Command>,
    first: VecDeque<Box<dyn Job>>,
    later: VecDeque<Box<dyn Job>>,
    /// Units in a row that went before one that could wait.
    ahead: usize,
    closing: Option<oneshot::Sender<()>>,
}

impl Queue {
    pub(super) fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self { commands, first: VecDeque::new(), later: VecDeque::new(), ahead: 0, closing: None }
    }

    /// The next unit, however long it takes to come; none once the store is closed and all that came before that is done.
    pub(super) fn wait(&mut self) -> Option<Box<dyn Job>> {
        loop {
            if let Some(job) = self.next() {
                return Some(job);
            }
            if self.closing.is_some() {
                return None;
            }
            let command = self.commands.blocking_recv()?;
            self.sort(command);
        }
    }

    /// The next unit of those that are here.
    pub(super) fn next(&mut self) -> Option<Box<dyn Job>> {
        while self.closing.is_none() && self.first.len() + self.later.len() < QUEUE {
            let Ok(command) = self.commands.try_recv() else { break };
            self.sort(command);
        }
        if (self.first.is_empty() || self.ahead >= TURNS)
            && let Some(job) = self.later.pop_front()
        {
            self.ahead = 0;
            return Some(job);
        }
        // Counted only while somebody waits for it.
        self.ahead = if self.later.is_empty() { 0 } else { self.ahead + 1 };
        self.first.pop_front()
    }

    fn sort(&mut self, command: Command) {
        match command {
            Command::Run(job) if job.can_wait() => self.later.push_back(job),
            Command::Run(job) => self.first.push_back(job),
            Command::Close(done) => self.closing = Some(done),
        }
    }

    /// Takes no more; gives those that came too late, and whoever asked for the end.
    pub(super) fn close(mut self) -> (Vec<Box<dyn Job>>, Option<oneshot::Sender<()>>) {
        self.commands.close();
        let mut late: Vec<Box<dyn Job>> = self.first.drain(..).chain(self.later.drain(..)).collect();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Run(job) = command {
                late.push(job);
            }
        }
        (late, self.closing)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::db::{Conn, TxShared};
    use crate::store::job::{End, Running};
    use crate::store::scope::{Scope, ScopeCell};

    struct Waits(bool);

    impl Job for Waits {
        fn scope(&self) -> Scope {
            Scope::Everybody
        }
        fn can_wait(&self) -> bool {
            self.0
        }
        fn run(&self, _: Conn, _: ScopeCell) -> (Running, Arc<TxShared>) {
            unreachable!("nobody runs it")
        }
        fn finish(self: Box<Self>, _: End) {}
    }

    fn queue(jobs: impl IntoIterator<Item = bool>) -> (mpsc::Sender<Command>, Queue) {
        let (send, receive) = mpsc::channel(64);
        for can_wait in jobs {
            assert!(send.try_send(Command::Run(Box::new(Waits(can_wait)))).is_ok());
        }
        (send, Queue::new(receive))
    }

    #[test]
    fn who_is_waited_for_goes_first_and_nobody_is_kept_out() {
        let (_send, mut queue) = queue([true, true].into_iter().chain(std::iter::repeat_n(false, 40)));
        let order: Vec<bool> = std::iter::from_fn(|| queue.next().map(|job| job.can_wait())).collect();
        let turns: Vec<usize> = order.iter().enumerate().filter(|(_, can_wait)| **can_wait).map(|(at, _)| at).collect();
        assert_eq!((order.len(), turns), (42, vec![TURNS, 2 * TURNS + 1]));
    }

    #[test]
    fn what_came_before_the_end_is_done_and_what_came_after_it_is_not() {
        let (send, mut queue) = queue([true, false]);
        let (done, _closed) = oneshot::channel();
        assert!(send.try_send(Command::Close(done)).is_ok());
        assert!(send.try_send(Command::Run(Box::new(Waits(false)))).is_ok());
        let order: Vec<bool> = std::iter::from_fn(|| queue.wait().map(|job| job.can_wait())).collect();
        assert_eq!(order, [false, true]);
        let (late, done) = queue.close();
        assert_eq!((late.len(), done.is_some()), (1, true));
    }
}
