-- What people want; who never said has no row. People belong to no organisation: theirs is always the nil one.
CREATE TABLE preferences (
    org_id UUID NOT NULL,
    user_id UUID NOT NULL,
    email BOOLEAN NOT NULL,
    sms BOOLEAN NOT NULL,
    push BOOLEAN NOT NULL,
    kinds TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
-- Where to reach people, as events told last.
CREATE TABLE contacts (
    org_id UUID NOT NULL,
    user_id UUID NOT NULL,
    email TEXT NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
-- Whose order it is. Without a customer the row only says that somebody asked before the order was heard of.
CREATE TABLE orders_heard (
    org_id UUID NOT NULL,
    order_id UUID NOT NULL,
    customer_id UUID,
    code TEXT NOT NULL,
    restaurant_name TEXT NOT NULL,
    PRIMARY KEY (org_id, order_id)
);
-- Couriers who were found for orders that were not heard of yet.
CREATE TABLE held_couriers (
    org_id UUID NOT NULL,
    event_id UUID NOT NULL,
    order_id UUID NOT NULL,
    courier TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    PRIMARY KEY (org_id, event_id)
);
CREATE INDEX held_couriers_order ON held_couriers (org_id, order_id);
-- One row for each event and channel, written before anything is sent.
CREATE TABLE messages (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    event_id UUID NOT NULL,
    user_id UUID NOT NULL,
    order_id UUID NOT NULL,
    via TEXT NOT NULL,
    template TEXT NOT NULL,
    address TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    status TEXT NOT NULL,
    tries BIGINT NOT NULL,
    next_try_at TIMESTAMPTZ,
    error TEXT,
    trace_id TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX messages_once ON messages (org_id, event_id, via);
CREATE INDEX messages_due ON messages (next_try_at, id) WHERE next_try_at IS NOT NULL;
CREATE INDEX messages_newest ON messages (created_at, id);
CREATE INDEX messages_user ON messages (user_id, created_at, id);
CREATE INDEX messages_order ON messages (order_id, created_at, id);
-- What the built-in channel has delivered: a mailbox that one can look into.
CREATE TABLE mailbox (
    org_id UUID NOT NULL,
    message_id UUID NOT NULL,
    user_id UUID NOT NULL,
    order_id UUID NOT NULL,
    via TEXT NOT NULL,
    address TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, message_id)
);
CREATE INDEX mailbox_user ON mailbox (user_id, sent_at, message_id);
