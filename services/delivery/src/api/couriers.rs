//! Handlers about the caller as a courier: shift and place.

use std::sync::Arc;

use contracts::Place;
use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::{Body, Caller, Fail, Json};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Delivery;
use crate::couriers::{Beginner, always_on_shift, begin_shift, name_from};
use crate::delivery::Refusal;
use crate::store::{self, CourierRow};

/// A shift that begins or ends.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShiftChange {
    /// Whether one takes deliveries.
    #[garde(skip)]
    pub(crate) on: bool,
    /// Where one is; needed the first time.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) place: Option<Place>,
    /// What customers are to call one; as before if absent.
    #[serde(default)]
    #[garde(length(min = 1, max = 80))]
    pub(crate) name: Option<String>,
}

/// A place one has come to.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    /// Where one is now.
    #[garde(skip)]
    pub(crate) place: Place,
}

/// A courier as they see themselves.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CourierView {
    /// The courier.
    courier_id: Uuid,
    /// What customers call them.
    name: String,
    /// Whether they take deliveries.
    on_shift: bool,
    /// The order that they bring.
    busy_with: Option<Uuid>,
    /// Where they were last.
    place: Option<Place>,
    /// When that was.
    seen_at: Option<Timestamp>,
}

pub(crate) async fn change_shift(
    tx: Tx,
    state: Arc<Delivery>,
    caller: Caller,
    Body(change): Body<ShiftChange>,
) -> Result<Json<CourierView>, Fail> {
    if let Some(place) = change.place {
        check_place(place)?;
    }
    let known = store::courier(&tx, caller.id()).await?;
    if change.on {
        let name = name(&caller, known, change.name)?;
        let who = Beginner { id: caller.id(), name, place: change.place };
        if !begin_shift(&tx, &state.settings.get(), &who).await? {
            return Err(Refusal::PlaceNeeded.into());
        }
    } else if always_on_shift(&state.settings.get(), caller.id()) {
        return Err(Refusal::DemoShift.into());
    } else if known.is_none() {
        return Err(Refusal::NotOnShift.into());
    } else {
        store::end_shift(&tx, caller.id()).await?;
    }
    show(&tx, caller.id()).await
}

fn name(caller: &Caller, known: Option<CourierRow>, wanted: Option<String>) -> Result<String, Fail> {
    let Some(wanted) = wanted else {
        return Ok(known.map_or_else(|| name_from(&caller.email), |courier| courier.name));
    };
    if wanted.trim().is_empty() || wanted.chars().any(char::is_control) {
        return Err(Fail::invalid("/name", "must be readable"));
    }
    if kernel::cards::looks_like_a_card(&wanted) {
        return Err(Fail::invalid("/name", "looks like a card number, which does not belong here"));
    }
    Ok(wanted)
}

fn check_place(place: Place) -> Result<(), Fail> {
    if place.exists() { Ok(()) } else { Err(Fail::invalid("/place", "is not a place on Earth")) }
}

pub(crate) async fn move_courier(
    tx: Tx,
    _: Arc<Delivery>,
    caller: Caller,
    Body(to): Body<Move>,
) -> Result<Json<CourierView>, Fail> {
    check_place(to.place)?;
    let known = store::courier(&tx, caller.id()).await?;
    if !known.is_some_and(|courier| courier.on_shift || courier.busy_with.is_some()) {
        return Err(Refusal::NotOnShift.into());
    }
    store::put_position(&tx, caller.id(), to.place).await?;
    show(&tx, caller.id()).await
}

async fn show(tx: &Tx, id: Uuid) -> Result<Json<CourierView>, Fail> {
    let courier = store::courier(tx, id).await?.ok_or_else(Fail::not_found)?;
    let position = store::position(tx, id).await?;
    Ok(Json(CourierView {
        courier_id: id,
        name: courier.name,
        on_shift: courier.on_shift,
        busy_with: courier.busy_with,
        place: position.as_ref().map(store::PositionRow::place),
        seen_at: position.map(|position| position.at),
    }))
}
