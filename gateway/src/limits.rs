//! How much one caller may ask: token buckets by address and by principal, and the headers that say so.
//!
//! With Redis all gateways take from the same buckets. Without it, or while it is away, each gives its share by itself: the
//! limit divided by the gateways that are listed.

use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use kernel::http::problem::Problem;
use kernel::limit::{SharedLimit, Taken};
use kernel::redis::Redis;
use kernel::registry::Directory;
use uuid::Uuid;

use crate::door::Refusal;

/// The header that says how much is left.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The header that says how much there is.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A number of requests per time; unused ones may be made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Its name, as the limit headers show it.
    pub name: &'static str,
    /// How many.
    pub requests: u32,
    /// In which time.
    pub per: Duration,
    /// How long a request may be held back instead of refused.
    pub wait: Duration,
}

impl Rate {
    /// So many requests a second, refused at once above that.
    pub const fn per_second(name: &'static str, requests: u32) -> Self {
        Self { name, requests, per: Duration::from_secs(1), wait: Duration::ZERO }
    }
}

/// Rates by the tier that a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// The tier of everybody else.
    pub free: Rate,
    /// Tier `premium`.
    pub premium: Rate,
    /// Tier `enterprise`.
    pub enterprise: Rate,
}

impl Default for Tiers {
    fn default() -> Self {
        Self {
            free: Rate::per_second("free", 100),
            premium: Rate::per_second("premium", 500),
            enterprise: Rate::per_second("enterprise", 2000),
        }
    }
}

/// The tier of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Free,
    Premium,
    Enterprise,
}

impl Tier {
    pub(crate) fn named(name: Option<&str>) -> Self {
        match name {
            Some("premium") => Self::Premium,
            Some("enterprise") => Self::Enterprise,
            _ => Self::Free,
        }
    }
}

/// What the limit headers show. It becomes text only once it is known that it is shown: a signed-in caller's limit
/// takes the place of the address's.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    policy: HeaderValue,
    name: &'static str,
    left: u32,
    seconds: u64,
}

impl Shown {
    /// Puts the headers on an answer that says nothing of limits itself.
    pub(crate) fn on(self, headers: &mut HeaderMap) {
        if let Entry::Vacant(place) = headers.entry(RATE_LIMIT) {
            place.insert(self.left());
            headers.insert(RATE_LIMIT_POLICY, self.policy);
        }
    }

    fn left(&self) -> HeaderValue {
        // Put together by hand: it is on every answer, and a format costs a third more.
        let (left, seconds) = (self.left.to_string(), self.seconds.to_string());
        let text = ["\"", self.name, "\";r=", &left, ";t=", &seconds].concat();
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }
}

type Keyed<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// How many gateways there are, as far as the directory knows; at least this one.
#[derive(Clone)]
struct Gateways(Directory);

impl Gateways {
    fn count(&self) -> NonZeroU32 {
        let listed = self.0.all().get(crate::NAME).map_or(0, Vec::len);
        u32::try_from(listed).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }
}

/// Redis, and what the buckets do without it.
pub(crate) struct Together {
    pub(crate) redis: Option<Redis>,
    pub(crate) directory: Directory,
}

struct Buckets<K: Hash + Eq + Clone> {
    shared: Option<SharedLimit<K>>,
    gateways: Gateways,
    limiter: Keyed<K>,
    burst: NonZeroU32,
    rate: Rate,
    policy: HeaderValue,
}

impl<K: Hash + Eq + Clone + Display + Send + Sync + 'static> Buckets<K> {
    fn new(rate: &Rate, together: &Together) -> Self {
        let burst = NonZeroU32::new(rate.requests).unwrap_or(NonZeroU32::MIN);
        let each = (rate.per / burst.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(each).expect("longer than nothing").allow_burst(burst);
        let policy = format!("\"{}\";q={burst};w={}", rate.name, rate.per.as_secs().max(1));
        Self {
            shared: together.redis.as_ref().map(|redis| SharedLimit::new(redis, rate.name, burst.get(), rate.per)),
            gateways: Gateways(together.directory.clone()),
            burst,
            limiter: RateLimiter::keyed(quota).with_middleware(),
            rate: rate.clone(),
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("")),
        }
    }

    async fn try_take(&self, key: &K) -> Result<Shown, Duration> {
        let Some(shared) = &self.shared else { return self.try_take_here(key) };
        match shared.take(key).await {
            Ok(Taken::One { left }) => Ok(self.shown(left, self.rate.per)),
            Ok(Taken::NotBefore(wait)) => Err(wait),
            Err(_away) => self.try_take_here(key),
        }
    }

    /// One request takes as many tokens here as there are gateways, so that together they give no more than one would.
    fn try_take_here(&self, key: &K) -> Result<Shown, Duration> {
        let each = self.gateways.count().min(self.burst);
        match self.limiter.check_key_n(key, each) {
            Ok(Ok(state)) => Ok(self.shown(state.remaining_burst_capacity() / each, self.rate.per)),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.limiter.clock().now())),
            // Not more than a burst, so it fits.
            Err(_) => Err(self.rate.per),
        }
    }

    fn shown(&self, left: u32, until: Duration) -> Shown {
        let seconds = until.as_secs() + u64::from(until.subsec_nanos() > 0);
        Shown { policy: self.policy.clone(), name: self.rate.name, left, seconds }
    }

    async fn take(&self, key: &K) -> Result<Shown, Refusal> {
        if self.shared.is_none()
            && let Ok(shown) = self.try_take_here(key)
        {
            return Ok(shown);
        }
        // On the heap: most requests neither ask others nor wait, and would carry the room for it along.
        Box::pin(self.wait_for(key)).await
    }

    async fn wait_for(&self, key: &K) -> Result<Shown, Refusal> {
        let mut patience = self.rate.wait;
        let wait = loop {
            match self.try_take(key).await {
                Ok(shown) => return Ok(shown),
                Err(wait) if wait > patience => break wait,
                Err(wait) => {
                    // Others wait for the same moment and one of them may win it.
                    patience -= wait;
                    tokio::time::sleep(wait).await;
                }
            }
        };
        let shown = self.shown(0, wait);
        let problem = Problem::new(429, "rate_limited", "too many requests; come back a little later")
            .retry_after(wait)
            .header(RATE_LIMIT, shown.left())
            .header(RATE_LIMIT_POLICY, shown.policy);
        Err(Box::new(problem))
    }
}

/// All buckets of this gateway.
pub(crate) struct Limiters {
    addresses: Buckets<IpAddr>,
    free: Buckets<Uuid>,
    premium: Buckets<Uuid>,
    enterprise: Buckets<Uuid>,
}

impl Limiters {
    pub(crate) fn new(per_address: &Rate, tiers: &Tiers, together: &Together) -> Self {
        Self {
            addresses: Buckets::new(per_address, together),
            free: Buckets::new(&tiers.free, together),
            premium: Buckets::new(&tiers.premium, together),
            enterprise: Buckets::new(&tiers.enterprise, together),
        }
    }

    pub(crate) async fn take_for_address(&self, address: IpAddr) -> Result<Shown, Refusal> {
        self.addresses.take(&network(address)).await
    }

    pub(crate) async fn take_for(&self, user: Uuid, tier: Tier) -> Result<Shown, Refusal> {
        let buckets = match tier {
            Tier::Free => &self.free,
            Tier::Premium => &self.premium,
            Tier::Enterprise => &self.enterprise,
        };
        buckets.take(&user).await
    }

    /// Drops buckets that are full again: they say nothing.
    pub(crate) fn forget(&self) {
        self.addresses.limiter.retain_recent();
        for buckets in [&self.free, &self.premium, &self.enterprise] {
            buckets.limiter.retain_recent();
        }
    }
}

/// One household gets a whole /64 of IPv6: limiting its single addresses would limit nothing.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}
