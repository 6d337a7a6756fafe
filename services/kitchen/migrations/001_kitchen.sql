-- One row for each item that was ever limited; without a daily stock it is not limited now.
CREATE TABLE stock (
    org_id UUID NOT NULL,
    restaurant_id UUID NOT NULL,
    item_id UUID NOT NULL,
    name TEXT NOT NULL,
    daily_stock BIGINT CHECK (daily_stock >= 0),
    on_hand BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    -- Day of the restaurant's local time, counted from 1970, to which the figures belong.
    restocked_day BIGINT NOT NULL,
    PRIMARY KEY (org_id, restaurant_id, item_id),
    CHECK (reserved >= 0 AND reserved <= on_hand)
);
CREATE INDEX stock_item ON stock (restaurant_id, item_id);
CREATE INDEX stock_due ON stock (restocked_day) WHERE daily_stock IS NOT NULL;
CREATE TABLE reservations (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    restaurant_id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    missing TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
-- What exactly was set aside, so that exactly that is put back or used up.
CREATE TABLE reservation_lines (
    org_id UUID NOT NULL,
    order_id UUID NOT NULL,
    item_id UUID NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (org_id, order_id, item_id)
);
CREATE TABLE tickets (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    restaurant_id UUID NOT NULL,
    -- Counts published steps; an open ticket has published none.
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    code TEXT NOT NULL,
    lines TEXT NOT NULL,
    prep_minutes BIGINT NOT NULL,
    reason TEXT,
    accept_by TIMESTAMPTZ,
    ready_at TIMESTAMPTZ,
    opened_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX tickets_id ON tickets (id);
CREATE INDEX tickets_status ON tickets (org_id, status, id);
