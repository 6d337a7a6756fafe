//! From a request on the service's port to its handler: who calls, may they, was it asked before.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{RequestExt as _, Router};
use http::{Method, Response};

use super::answer::Answer;
use super::assertion::{Identity, Signer};
use super::nul;
use super::problem::Problem;
use super::refusal::Fail;
use super::request::{Request, unauthenticated};
use super::routes::{Route, Routes, Run};
use super::server::{Limits, read_body};
use crate::clock::Clock;
use crate::idempotency::{self, AnswersAtHand, Claim, Slot};
use crate::manifest::{Access, Repeat, RouteDoc};
use crate::store::{Scope, Store};
use crate::telemetry::{HttpMeasures, Name, Role, RouteMeasures, Span, Trace, key};

/// What every request of a service needs.
pub(crate) struct Front<S> {
    pub(crate) service: &'static str,
    pub(crate) state: Arc<S>,
    pub(crate) store: Store,
    pub(crate) signer: Signer,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) keep_answers: Duration,
    pub(crate) at_hand: Option<AnswersAtHand>,
    pub(crate) measures: HttpMeasures,
    /// Roles whose holders act for their organisations and for nobody else.
    pub(crate) for_orgs: Vec<&'static str>,
}

/// The handler's own part of a request.
const HANDLE: Name = Name("handle", "");
/// Looking whether the request was answered before.
const IDEMPOTENCY: Name = Name("idempotency", "");

/// One row with what it needs to be served.
struct Served<S> {
    front: Arc<Front<S>>,
    doc: RouteDoc,
    run: Run<S>,
    measures: RouteMeasures,
}

/// The router of a service's own routes.
pub(crate) fn router<S: Send + Sync + 'static>(routes: Routes<S>, front: &Arc<Front<S>>) -> Router {
    let mut router = Router::new();
    for Route { doc, run } in routes.rows {
        let path = doc.path;
        let method = method_filter(doc.method);
        let measures = front.measures.route(doc.method, path);
        let served = Arc::new(Served { front: front.clone(), doc, run, measures });
        let handler: MethodRouter = on(method, serve::<S>).with_state(served);
        router = router.route(path, handler);
    }
    router.method_not_allowed_fallback(|| async {
        Problem::new(405, "method_not_allowed", "This address takes other methods; see Allow.")
    })
}

fn method_filter(method: &'static str) -> MethodFilter {
    let known = Method::from_bytes(method.as_bytes()).ok().and_then(|m| MethodFilter::try_from(m).ok());
    known.expect("route tables are made by methods that name one")
}

async fn serve<S: Send + Sync + 'static>(
    State(served): State<Arc<Served<S>>>,
    request: axum::extract::Request,
) -> Response<Body> {
    let header = request.headers().get("traceparent").and_then(|v| v.to_str().ok());
    let parent = header.and_then(Trace::parse).unwrap_or_default();
    let (method, path) = (served.doc.method, served.doc.path);
    let mut span = Span::at(parent.child(), parent, Role::Server, Name(method, path));
    span.set(key::HTTP_REQUEST_METHOD, method);
    span.set(key::HTTP_ROUTE, path);
    let measured = served.measures.begun();
    let answer = async {
        let response = match served.handle(request).await {
            Ok(answer) => answer.into_response(),
            Err(problem) => axum::response::IntoResponse::into_response(problem),
        };
        measured.answered(response.status().as_u16());
        response
    };
    span.watch(answer, |span, response| span.answered(response.status().as_u16())).await
}

impl<S: Send + Sync + 'static> Served<S> {
    async fn handle(&self, request: axum::extract::Request) -> Result<Answer, Problem> {
        let (workload, identity) = self.admit(&request)?;
        let scope = reach(self.doc.access, identity.as_ref(), &self.front.for_orgs);
        let request = Arc::new(self.collect(request, workload, identity).await?);
        let answered = async {
            match (&self.run, self.doc.repeat) {
                (Run::Unit(_), Repeat::Keyed) => self.once(request).await,
                (Run::Plain(run), _) => {
                    Span::step(HANDLE).around(run(self.front.state.clone(), request)).await.map_err(Problem::from)
                }
                (Run::Unit(_), _) => Err(Fail::Fault("a unit route is always keyed".into()).into()),
            }
        };
        scope.around(answered).await
    }

    /// Who calls, if they may.
    fn admit(&self, request: &axum::extract::Request) -> Result<(String, Option<Identity>), Problem> {
        let _span = Span::step(Name("guard", ""));
        let now = self.front.clock.now();
        let (workload, identity) =
            self.front.signer.verify(request.headers(), self.front.service, now).map_err(|_| {
                Problem::new(
                    401,
                    "unverified_caller",
                    "This port serves the city's own services; come through the gateway.",
                )
            })?;
        guard(self.doc.access, identity.as_ref())?;
        Ok((workload, identity))
    }

    async fn collect(
        &self,
        mut request: axum::extract::Request,
        workload: String,
        identity: Option<Identity>,
    ) -> Result<Request, Problem> {
        let raw: RawPathParams =
            request.extract_parts().await.map_err(|_| Problem::new(400, "bad_path", "The path does not decode."))?;
        let params = raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (parts, body) = request.into_parts();
        let body = read_body(body, &self.front.limits).await.map_err(Problem::from)?;
        let request = Request {
            method: parts.method,
            uri: parts.uri,
            route: self.doc.path,
            params,
            headers: parts.headers,
            body,
            identity,
            workload,
        };
        nul::refuse(&request)?;
        Ok(request)
    }

    /// Runs the handler in one unit with its key: the same key again gets the same answer and no second effect.
    async fn once(&self, request: Arc<Request>) -> Result<Answer, Problem> {
        let slot = Slot::of(&request)?;
        let Some(at_hand) = &self.front.at_hand else { return self.decide(slot, request).await };
        if let Some(known) = at_hand.find(&slot).await {
            return known.map_err(Problem::from);
        }
        let answer = self.decide(slot.clone(), request).await?;
        at_hand.keep(&slot, &answer, self.front.keep_answers);
        Ok(answer)
    }

    /// The database says whether this request is the first with its key.
    async fn decide(&self, slot: Slot, request: Arc<Request>) -> Result<Answer, Problem> {
        let Run::Unit(run) = self.run.clone() else {
            return Err(Fail::Fault("a keyed route runs in a unit".into()).into());
        };
        let (state, keep, in_unit) = (self.front.state.clone(), self.front.keep_answers, slot.clone());
        let done = self.front.store.write(move |tx| {
            let (run, state, request, slot) = (run.clone(), state.clone(), request.clone(), in_unit.clone());
            async move {
                if let Claim::Done(answer) = Span::step(IDEMPOTENCY).around(slot.claim(&tx, keep)).await? {
                    return Ok(answer);
                }
                let answer = Span::step(HANDLE).around(run(tx.share(), state, request)).await?;
                if !idempotency::keeps(answer.status) {
                    // Kept with its key, it would be the answer for a day; a refusal is an error of the handler.
                    return Err(Fail::Fault(format!(
                        "a handler answered {} by hand; it must return a Fail",
                        answer.status
                    )));
                }
                slot.settle(&tx, &answer).await?;
                Ok(answer)
            }
        });
        match done.await.map_err(Fail::from) {
            Ok(answer) => Ok(answer),
            Err(Fail::Refused(problem)) if idempotency::keeps(problem.status) && !is_about_the_key(&problem) => {
                self.keep_refusal(slot, *problem).await
            }
            Err(fail) => Err(fail.into()),
        }
    }

    /// A refusal that is a decision is stored, so that repeating the request meets the same decision.
    async fn keep_refusal(&self, slot: Slot, problem: Problem) -> Result<Answer, Problem> {
        let (answer, keep) = (Answer::from(problem), self.front.keep_answers);
        let kept = self.front.store.write(move |tx| {
            let (slot, answer) = (slot.clone(), answer.clone());
            async move {
                match slot.claim(&tx, keep).await? {
                    Claim::Done(earlier) => Ok(earlier),
                    Claim::Fresh => {
                        slot.settle(&tx, &answer).await?;
                        Ok::<_, Fail>(answer)
                    }
                }
            }
        });
        kept.await.map_err(|e| Problem::from(Fail::from(e)))
    }
}

fn is_about_the_key(problem: &Problem) -> bool {
    idempotency::IdempotencyRefusal::DOCS.iter().any(|doc| doc.code == problem.code) || problem.code == "busy"
}

/// Whose rows a caller's request may touch.
///
/// Who is here only by roles that act for organisations is held to their own. Everybody else belongs to no tenant, and
/// what is theirs lies with many organisations. There the handler judges each object.
fn reach(access: Access, identity: Option<&Identity>, for_orgs: &[&str]) -> Scope {
    let acts_for_org = |role: &str| for_orgs.contains(&role);
    let (Some(who), false) = (identity, matches!(access, Access::Anyone(_) | Access::Workload)) else {
        return Scope::Everybody;
    };
    let counts = |role: &str| match access {
        Access::May(permission) => permission.roles.contains(&role),
        _ => true,
    };
    let mut by = who.roles.iter().map(String::as_str).filter(|role| counts(role)).peekable();
    if by.peek().is_some() && by.all(acts_for_org) {
        return Scope::Orgs(who.orgs.as_slice().into());
    }
    Scope::Everybody
}

/// Decides on the route alone; the handler decides on the object.
pub fn guard(access: Access, identity: Option<&Identity>) -> Result<(), Problem> {
    match (access, identity) {
        (Access::Anyone(_), _) | (Access::SignedIn, Some(_)) | (Access::Workload, None) => Ok(()),
        (Access::May(permission), Some(who)) => {
            if who.roles.iter().any(|role| permission.roles.contains(&role.as_str())) {
                return Ok(());
            }
            Err(Problem::new(403, "forbidden", format!("Your roles do not grant {}.", permission.name)))
        }
        (Access::Workload, Some(_)) => Err(Problem::new(403, "forbidden", "Only services may call this.")),
        (Access::SignedIn | Access::May(_), None) => Err(unauthenticated()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::manifest::Permission;

    const OURS: Uuid = Uuid::from_u128(1);
    const KEEP: Permission = Permission { name: "shop.keep", roles: &["KEEPER", "OVERSEER"], for_orgs: &["KEEPER"] };

    fn somebody(roles: &[&str]) -> Identity {
        Identity {
            user_id: Uuid::from_u128(9),
            email: "somebody@example.org".into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            orgs: vec![OURS],
            auth_time: 0,
            session: None,
        }
    }

    #[test]
    fn who_acts_for_an_organisation_alone_is_held_to_it() {
        let ours = Scope::Orgs([OURS].into());
        for (access, roles, expected) in [
            (Access::May(KEEP), &["KEEPER"][..], &ours),
            (Access::May(KEEP), &["KEEPER", "GUEST"], &ours),
            (Access::May(KEEP), &["KEEPER", "OVERSEER"], &Scope::Everybody),
            (Access::SignedIn, &["KEEPER"], &ours),
            (Access::SignedIn, &["KEEPER", "GUEST"], &Scope::Everybody),
            (Access::SignedIn, &[], &Scope::Everybody),
            (Access::Anyone("all may look"), &["KEEPER"], &Scope::Everybody),
        ] {
            assert_eq!(reach(access, Some(&somebody(roles)), KEEP.for_orgs), *expected, "{access:?} {roles:?}");
        }
        assert_eq!(reach(Access::Workload, None, KEEP.for_orgs), Scope::Everybody);
    }
}
