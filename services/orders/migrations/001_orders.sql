-- A cart belongs to its customer, who is of no organisation: org_id is the nil UUID, so that there is one cart a person.
CREATE TABLE carts (
    org_id UUID NOT NULL,
    customer_id UUID NOT NULL,
    restaurant_id UUID NOT NULL,
    lines TEXT NOT NULL,
    discount_code TEXT,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, customer_id)
);
CREATE INDEX carts_updated ON carts (updated_at);
-- org_id is the restaurant's organisation. Names, prices and the address are copies by value, as they were.
CREATE TABLE orders (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    code TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('PENDING', 'AWAITING_ACCEPTANCE', 'CONFIRMED', 'PREPARING', 'READY', 'OUT_FOR_DELIVERY', 'DELIVERED', 'FAILED', 'REJECTED', 'EXPIRED', 'CANCELLED')),
    reason TEXT,
    customer_id UUID NOT NULL,
    customer_email TEXT NOT NULL,
    channel TEXT NOT NULL,
    restaurant_id UUID NOT NULL,
    restaurant_name TEXT NOT NULL,
    pick_up TEXT NOT NULL,
    auto_accept BOOLEAN NOT NULL,
    prep_minutes BIGINT NOT NULL,
    currency TEXT NOT NULL,
    subtotal_minor BIGINT NOT NULL CHECK (subtotal_minor >= 0),
    discount_minor BIGINT NOT NULL CHECK (discount_minor >= 0 AND discount_minor <= subtotal_minor),
    delivery_fee_minor BIGINT NOT NULL CHECK (delivery_fee_minor >= 0),
    tax_minor BIGINT NOT NULL CHECK (tax_minor >= 0 AND tax_minor <= total_minor),
    total_minor BIGINT NOT NULL CHECK (total_minor = subtotal_minor - discount_minor + delivery_fee_minor),
    discount_org_id UUID,
    discount_code TEXT,
    card TEXT NOT NULL,
    deliver_to TEXT NOT NULL,
    payment_ok BOOLEAN NOT NULL,
    stock_ok BOOLEAN NOT NULL,
    kitchen_ok BOOLEAN NOT NULL,
    courier_id UUID,
    deadline_at TIMESTAMPTZ,
    placed_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, code),
    -- An order waits for something until a stated time, or it has ended.
    CHECK ((deadline_at IS NULL) = (status IN ('DELIVERED', 'FAILED', 'REJECTED', 'EXPIRED', 'CANCELLED')))
);
CREATE INDEX orders_id ON orders (id);
CREATE INDEX orders_customer ON orders (customer_id, placed_at, id);
CREATE INDEX orders_org_placed ON orders (org_id, placed_at, id);
CREATE INDEX orders_placed ON orders (placed_at, id);
CREATE INDEX orders_deadline ON orders (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE TABLE order_items (
    org_id UUID NOT NULL,
    order_id UUID NOT NULL,
    line_no BIGINT NOT NULL,
    item_id UUID NOT NULL,
    name TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0),
    unit_price_minor BIGINT NOT NULL,
    line_total_minor BIGINT NOT NULL,
    tax_basis_points BIGINT NOT NULL,
    choices TEXT NOT NULL,
    PRIMARY KEY (org_id, order_id, line_no),
    FOREIGN KEY (org_id, order_id) REFERENCES orders (org_id, id)
);
-- One row for each version of an order, written in the transaction that made it.
CREATE TABLE order_status_history (
    org_id UUID NOT NULL,
    order_id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    caused_by TEXT NOT NULL,
    actor_id UUID,
    trace_id TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, order_id, version),
    FOREIGN KEY (org_id, order_id) REFERENCES orders (org_id, id)
);
-- org_id is the organisation that pays for the discount; the nil UUID is the platform.
CREATE TABLE discounts (
    org_id UUID NOT NULL,
    code TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('percent', 'fixed')),
    value BIGINT NOT NULL CHECK (value > 0),
    currency TEXT,
    minimum_minor BIGINT NOT NULL CHECK (minimum_minor >= 0),
    starts_at TIMESTAMPTZ,
    ends_at TIMESTAMPTZ,
    per_customer_limit BIGINT NOT NULL CHECK (per_customer_limit > 0),
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, code),
    CHECK (kind = 'percent' OR currency IS NOT NULL)
);
CREATE TABLE discount_uses (
    org_id UUID NOT NULL,
    code TEXT NOT NULL,
    customer_id UUID NOT NULL,
    uses BIGINT NOT NULL CHECK (uses >= 0),
    PRIMARY KEY (org_id, code, customer_id)
);
