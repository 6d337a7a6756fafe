//! Where a request enters: the route table, then the handlers in its order.
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::audit::{Lookup, Page};
use crate::cards::{CardDetails, TEST_CARDS};
use crate::faults::FaultRates;
use crate::network::{Network, Work};
use crate::problem::{Code, Problem};
use crate::request::{Body, Keyed, Nothing, require_api_key};
use crate::{audit, authorizations, faults, idempotency, money};

type Net = State<Arc<Network>>;
type Id = Result<Path<String>, PathRejection>;

pub(crate) fn router(network: Arc<Network>) -> Router {
    let merchant = Router::new()
        .route("/v1/authorizations", post(authorise))
        .route("/v1/authorizations/{id}", get(show_authorization))
        .route("/v1/authorizations/{id}/capture", post(capture))
        .route("/v1/authorizations/{id}/void", post(void))
        .route("/v1/refunds", post(refund))
        .route("/v1/lookup", get(lookup))
        .route("/v1/books", get(books))
        .route("/v1/books/summary", get(summary))
        .route("/v1/webhook_endpoint", put(set_webhook_endpoint).get(show_webhook_endpoint))
        .route("/v1/faults", put(set_faults).get(show_faults))
        .route("/v1/faults/counts", get(fault_counts))
        .route_layer(from_fn_with_state(Arc::clone(&network), require_api_key));
    // What a cardholder's own browser calls: the card form and the challenge page know no API key.
    let cardholder = Router::new()
        .route("/v1/tokens", post(tokenise))
        .route("/v1/authorizations/{id}/challenge", post(answer_challenge));
    Router::new()
        .merge(merchant)
        .merge(cardholder)
        .route("/v1/test-cards", get(test_cards))
        .route("/livez", get(alive))
        .fallback(async || Problem::from(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::from(Code::MethodNotAllowed))
        .with_state(network)
}

async fn authorise(State(net): Net, request: Keyed<authorizations::Request>) -> Result<Response, Problem> {
    idempotency::perform(&net, request.call, |work| authorizations::authorise(work, request.body)).await
}

async fn show_authorization(State(net): Net, id: Id) -> Result<Json<Value>, Problem> {
    let id = path(id)?;
    let show = move |work: &Work<'_>| Ok(authorizations::find(work, &id)?.snapshot(&work.rules.base_url));
    Ok(Json(net.work(None, show).await?))
}

async fn capture(State(net): Net, id: Id, request: Keyed<money::CaptureRequest>) -> Result<Response, Problem> {
    let id = path(id)?;
    idempotency::perform(&net, request.call, move |work| money::capture(work, &id, request.body)).await
}

async fn void(State(net): Net, id: Id, request: Keyed<Nothing>) -> Result<Response, Problem> {
    let id = path(id)?;
    idempotency::perform(&net, request.call, move |work| authorizations::void(work, &id)).await
}

async fn refund(State(net): Net, request: Keyed<money::RefundRequest>) -> Result<Response, Problem> {
    idempotency::perform(&net, request.call, |work| money::refund(work, request.body)).await
}

async fn lookup(State(net): Net, wanted: Result<Query<Lookup>, QueryRejection>) -> Result<Json<Value>, Problem> {
    let wanted = query(wanted)?;
    Ok(Json(net.work(None, move |work| audit::lookup(work, &wanted.reference)).await?))
}

async fn books(State(net): Net, page: Result<Query<Page>, QueryRejection>) -> Result<Json<Value>, Problem> {
    let page = query(page)?;
    Ok(Json(net.read(None, move |work| audit::books(work, &page)).await?))
}

async fn summary(State(net): Net) -> Result<Json<Value>, Problem> {
    Ok(Json(net.read(None, audit::summary).await?))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookEndpoint {
    url: String,
}

async fn set_webhook_endpoint(State(net): Net, body: Body<WebhookEndpoint>) -> Result<Json<Value>, Problem> {
    net.set_webhook_url(body.0.url).await?;
    show_webhook_endpoint(State(net)).await
}

async fn show_webhook_endpoint(State(net): Net) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "url": *net.webhook_url.read() })))
}

async fn set_faults(State(net): Net, rates: Body<FaultRates>) -> Result<Json<FaultRates>, Problem> {
    Ok(Json(net.set_faults(rates.0).await?))
}

async fn show_faults(State(net): Net) -> Json<FaultRates> {
    Json(net.rules.read().faults.clone())
}

async fn fault_counts(State(net): Net) -> Result<Json<Value>, Problem> {
    Ok(Json(net.read(None, faults::counts).await?))
}

async fn tokenise(State(net): Net, card: Body<CardDetails>) -> Result<Json<Value>, Problem> {
    Ok(Json(net.read(None, |work| authorizations::tokenise(work, card.0)).await?))
}

async fn answer_challenge(
    State(net): Net,
    id: Id,
    answer: Body<authorizations::ChallengeAnswer>,
) -> Result<Json<Value>, Problem> {
    let id = path(id)?;
    Ok(Json(net.work(None, move |work| authorizations::answer_challenge(work, &id, answer.0)).await?))
}

async fn test_cards() -> Json<Value> {
    Json(json!({ "test_cards": TEST_CARDS }))
}

/// Alive means that the books can still be written.
async fn alive(State(net): Net) -> Result<Json<Value>, Problem> {
    net.read(None, |_| Ok(())).await?;
    Ok(Json(json!({ "status": "ok" })))
}

fn path(id: Id) -> Result<String, Problem> {
    id.map(|Path(id)| id).map_err(|_| Code::InvalidParameter.into())
}

fn query<T>(wanted: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    wanted.map(|Query(wanted)| wanted).map_err(|_| Code::InvalidParameter.into())
}
