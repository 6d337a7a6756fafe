//! What a registry has to promise, as named cases that run on every backend; each is shown to notice a planted fault.

mod cases;
mod cut;
mod fault;
mod name_server;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

pub use cases::CASES;
pub use cut::Cut;
pub use fault::{Fault, Faulty};
pub use name_server::NameServer;

use crate::registry::{Announcement, Backend, Directory, Instance, Rotation};
use crate::task::Tasks;

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

/// A backend that a suite may cut off, empty, and enter instances into.
pub trait Stand: Send + Sync {
    /// A client of it, as a process of its own would have.
    fn backend(&self) -> Arc<dyn Backend>;
    /// The way to it is cut, or whole again.
    fn cut(&self, cut: bool);
    /// It forgets everything.
    fn wipe(&self) -> BoxFuture<'_, ()>;
    /// Enters an instance where the platform does that; backends that take entries from instances do nothing.
    fn enter(&self, _who: &Instance) {}
    /// Takes it out again, in the same way.
    fn remove(&self, _who: &Instance) {}
    /// The time to live of the suite.
    fn ttl(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// What a case found: nothing, or what was promised and is not so.
pub type Verdict = Result<(), String>;

/// One promise.
pub struct Case {
    /// Its stable name.
    pub name: &'static str,
    /// The promise, as a sentence.
    pub shows: &'static str,
    /// Whether it is about instances that enter themselves.
    pub of_entries: bool,
    /// A fault that it has to notice.
    pub notices: Fault,
    /// The same in words.
    pub fault: &'static str,
    /// Looks whether it is kept.
    pub run: fn(Arc<dyn Stand>) -> BoxFuture<'static, Verdict>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A process that reads the list, and those that are on it.
pub(super) struct City {
    stand: Arc<dyn Stand>,
    /// Unlike those of any other case, because engines are shared.
    service: String,
    pub(super) directory: Directory,
    pub(super) rotation: Rotation,
    _tasks: Tasks,
}

/// An instance of the suite's service.
pub(super) struct Member {
    pub(super) who: Instance,
    stand: Arc<dyn Stand>,
    tasks: Tasks,
    announcement: Announcement,
}

impl City {
    pub(super) fn new(stand: &Arc<dyn Stand>) -> Self {
        let service = format!("case-{}", crate::ids::fresh().simple());
        let (directory, tasks) = (Directory::default(), Tasks::new());
        let rotation = Rotation::new(stand.backend(), directory.clone(), stand.ttl());
        rotation.follow(&tasks, [service.clone()]);
        Self { stand: stand.clone(), service, directory, rotation, _tasks: tasks }
    }

    /// An instance at this port that is entered as long as `ready` says so.
    pub(super) fn member(&self, port: u16, ready: impl Fn() -> bool + Clone + Send + Sync + 'static) -> Member {
        let who = Instance::new(self.service.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let (tasks, backend) = (Tasks::new(), self.stand.backend());
        let rotation = Rotation::new(backend, Directory::default(), self.stand.ttl());
        let look = move || -> BoxFuture<'static, bool> { Box::pin(std::future::ready(ready())) };
        let announcement = rotation.announce(&tasks, who.clone(), look);
        self.stand.enter(&who);
        Member { who, stand: self.stand.clone(), tasks, announcement }
    }

    /// The same, always ready.
    pub(super) fn ready(&self, port: u16) -> Member {
        self.member(port, || true)
    }

    pub(super) fn listed(&self) -> Vec<u16> {
        self.directory.instances(&self.service).iter().map(SocketAddr::port).collect()
    }

    pub(super) fn ttl(&self) -> Duration {
        self.stand.ttl()
    }

    /// Waits until exactly these ports are listed.
    pub(super) async fn lists(&self, ports: &[u16]) -> Verdict {
        self.lists_within(ports, NEVER).await
    }

    pub(super) async fn lists_within(&self, ports: &[u16], within: Duration) -> Verdict {
        let began = Instant::now();
        while began.elapsed() < within {
            if self.listed() == ports {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(format!("{ports:?} should be listed, and {:?} are after {within:?}", self.listed()))
    }

    /// Looks for a while whether these ports stay listed.
    pub(super) async fn keeps(&self, ports: &[u16], during: Duration) -> Verdict {
        let began = Instant::now();
        while began.elapsed() < during {
            if self.listed() != ports {
                return Err(format!("{ports:?} should stay, and {:?} are listed", self.listed()));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Member {
    /// Stops in good order.
    pub(super) async fn stop(self) {
        self.announcement.leave().await;
        self.stand.remove(&self.who);
        self.tasks.drain(NEVER).await;
    }

    /// Dies without a word; a platform notices.
    pub(super) fn kill(self) {
        self.stand.remove(&self.who);
        drop(self.tasks);
    }
}
