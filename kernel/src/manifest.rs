//! What a service says about itself: inert data from which documents, tables and checks are made.

use schemars::{Schema, SchemaGenerator};
use serde::Serialize;

use crate::config::Table;
use crate::events::EventDef;

/// Who may call a route. Deny is the default: there is no route without one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "with")]
pub enum Access {
    /// Anybody, signed in or not, for the stated reason.
    Anyone(&'static str),
    /// Any signed-in caller; the handler decides on the object.
    SignedIn,
    /// Callers whose roles grant this permission.
    May(Permission),
    /// Other services of the city only; never routed by the gateway.
    Workload,
}

/// A named right, such as `orders.place`, and the roles that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// Its name.
    pub name: &'static str,
    /// The roles that grant it.
    pub roles: &'static [&'static str],
    /// Of all roles there are, those whose holders act for their organisations and for nobody else.
    #[serde(skip)]
    pub for_orgs: &'static [&'static str],
}

/// How a changing route keeps a second try from having a second effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "with")]
pub enum Repeat {
    /// The route changes nothing.
    Reads,
    /// The kernel stores key and answer in the transaction of the effect.
    Keyed,
    /// A foreign protocol brings its own rule, stated here.
    Protocol(&'static str),
}

/// One route.
#[derive(Clone, Debug)]
pub struct RouteDoc {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path template, such as `/api/v1/orders/{id}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How repeats are handled.
    pub repeat: Repeat,
    /// One line for people.
    pub summary: &'static str,
    /// Name of its handler; also the operation's name in OpenAPI.
    pub operation: String,
    /// Parameters, body and answers.
    pub shape: fn(&mut SchemaGenerator) -> OperationShape,
}

/// What goes in and out of an operation.
#[derive(Clone, Debug, Default)]
pub struct OperationShape {
    /// Schema of the object of path parameters.
    pub path: Option<Schema>,
    /// Schema of the object of query parameters.
    pub query: Option<Schema>,
    /// Media type and schema of the body.
    pub body: Option<(&'static str, Schema)>,
    /// Status, media type and schema of each planned answer.
    pub answers: Vec<(u16, &'static str, Option<Schema>)>,
}

/// A refusal that callers may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalDoc {
    /// Stable code.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What it means and what to do.
    pub detail: &'static str,
}

/// A job, with what sets it off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobDoc {
    /// Its name; durable.
    pub name: &'static str,
    /// Such as `every 1s`, `cron 0 3 * * *`, `woken`, `timer`.
    pub trigger: String,
}

/// A synchronous call to another service; an exception that needs its reason, because events are the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CallDoc {
    /// The service that is called.
    pub service: &'static str,
    /// `METHOD path`.
    pub operation: &'static str,
    /// Why an event would not do.
    pub reason: &'static str,
}

/// Everything a service declares.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The crate's name.
    pub name: &'static str,
    /// The crate's one sentence.
    pub purpose: &'static str,
    /// Usual port.
    pub port: u16,
    /// Routes in reading order.
    pub routes: Vec<RouteDoc>,
    /// Event types it alone publishes.
    pub publishes: Vec<EventDef>,
    /// Event types it reacts to, and those it keeps a projection of.
    pub hears: Vec<EventDef>,
    /// Of those, the ones kept as projections.
    pub keeps: Vec<EventDef>,
    /// Jobs and timers.
    pub jobs: Vec<JobDoc>,
    /// Listed synchronous calls.
    pub calls: Vec<CallDoc>,
    /// Refusals of its own.
    pub refusals: Vec<RefusalDoc>,
    /// What may be set.
    pub settings: Option<Table>,
    /// Names of its own schema steps with their texts.
    pub migrations: Vec<(&'static str, &'static str)>,
}

/// A public route as the gateway needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicRoute {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path template.
    pub path: &'static str,
    /// The service behind it.
    pub service: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How repeats are handled; only reads and keyed calls may be retried.
    pub repeat: Repeat,
}

impl Manifest {
    /// The roles whose holders act for their organisations, as the permissions of its routes say.
    pub(crate) fn for_orgs(&self) -> Vec<&'static str> {
        let permissions = self.routes.iter().filter_map(|route| match route.access {
            Access::May(permission) => Some(permission.for_orgs),
            _ => None,
        });
        permissions.flatten().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The routes that the gateway offers.
    pub fn public_routes(&self) -> impl Iterator<Item = PublicRoute> + '_ {
        self.routes.iter().filter(|r| r.access != Access::Workload).map(|r| PublicRoute {
            method: r.method,
            path: r.path,
            service: self.name,
            access: r.access,
            repeat: r.repeat,
        })
    }
}
