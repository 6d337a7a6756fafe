-- What was heard of an order, before or after its delivery is known. Its row is also the lock that early news are judged under.
CREATE TABLE orders_heard (
    org_id UUID NOT NULL,
    order_id UUID NOT NULL,
    ready BOOLEAN NOT NULL,
    ended BOOLEAN NOT NULL,
    PRIMARY KEY (org_id, order_id)
);
CREATE TABLE deliveries (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    -- Counts published steps; a waiting delivery has published none.
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    ready BOOLEAN NOT NULL,
    customer_id UUID NOT NULL,
    code TEXT NOT NULL,
    restaurant_id UUID NOT NULL,
    restaurant_name TEXT NOT NULL,
    pick_up TEXT NOT NULL,
    deliver_to TEXT NOT NULL,
    courier_id UUID,
    courier_name TEXT,
    -- How many couriers gave it back.
    given_back BIGINT NOT NULL,
    reason TEXT,
    deadline_at TIMESTAMPTZ,
    traceparent TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    assigned_at TIMESTAMPTZ,
    picked_up_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX deliveries_id ON deliveries (id);
CREATE INDEX deliveries_courier ON deliveries (courier_id, id);
CREATE INDEX deliveries_status ON deliveries (status, id);
CREATE INDEX deliveries_waiting ON deliveries (created_at, id) WHERE status = 'WAITING';
-- Couriers, and what is theirs, belong to the platform: their organisation is always the nil one.
CREATE TABLE couriers (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    on_shift BOOLEAN NOT NULL,
    -- The order that they bring.
    busy_with UUID,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX couriers_free ON couriers (org_id, id) WHERE on_shift AND busy_with IS NULL;
CREATE TABLE shifts (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    courier_id UUID NOT NULL,
    began_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX shifts_open ON shifts (org_id, courier_id) WHERE ended_at IS NULL;
-- Where each courier was last.
CREATE TABLE positions (
    org_id UUID NOT NULL,
    courier_id UUID NOT NULL,
    longitude_e6 BIGINT NOT NULL,
    latitude_e6 BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, courier_id)
);
-- Who brought what, with the ways it ended: of those that have not ended, a courier has one and an order has one.
CREATE TABLE assignments (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    courier_id UUID NOT NULL,
    order_id UUID NOT NULL,
    assigned_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    ending TEXT,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX assignments_one_order ON assignments (org_id, courier_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX assignments_one_courier ON assignments (org_id, order_id) WHERE ended_at IS NULL;
CREATE INDEX assignments_order ON assignments (org_id, order_id);
