CREATE TABLE restaurants (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    menu_version BIGINT NOT NULL CHECK (menu_version > 0),
    name TEXT NOT NULL,
    -- Folded in the service, because the two engines do not agree on upper and lower case.
    name_folded TEXT NOT NULL,
    cuisine TEXT NOT NULL,
    cuisine_folded TEXT NOT NULL,
    street TEXT NOT NULL,
    city TEXT NOT NULL,
    longitude_e6 BIGINT NOT NULL,
    latitude_e6 BIGINT NOT NULL,
    currency TEXT NOT NULL,
    utc_offset_minutes BIGINT NOT NULL,
    hours TEXT NOT NULL,
    paused BOOLEAN NOT NULL,
    auto_accept BOOLEAN NOT NULL,
    prep_minutes BIGINT NOT NULL CHECK (prep_minutes > 0),
    delivery_fee_minor BIGINT NOT NULL CHECK (delivery_fee_minor >= 0),
    minimum_order_minor BIGINT NOT NULL CHECK (minimum_order_minor >= 0),
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX restaurants_id ON restaurants (id);
CREATE INDEX restaurants_name ON restaurants (name_folded, id);
CREATE INDEX restaurants_cuisine ON restaurants (cuisine_folded, name_folded, id);
-- The hours once more, as minutes of the local week, to be searched by.
CREATE TABLE opening_hours (
    org_id UUID NOT NULL,
    restaurant_id UUID NOT NULL,
    from_minute BIGINT NOT NULL,
    to_minute BIGINT NOT NULL CHECK (to_minute > from_minute),
    PRIMARY KEY (org_id, restaurant_id, from_minute)
);
CREATE TABLE menu_items (
    org_id UUID NOT NULL,
    restaurant_id UUID NOT NULL,
    id UUID NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    category TEXT NOT NULL,
    price_minor BIGINT NOT NULL CHECK (price_minor >= 0),
    tax_basis_points BIGINT NOT NULL CHECK (tax_basis_points >= 0),
    sold_out BOOLEAN NOT NULL,
    daily_stock BIGINT CHECK (daily_stock >= 0),
    options TEXT NOT NULL,
    PRIMARY KEY (org_id, restaurant_id, id)
);
CREATE INDEX menu_items_order ON menu_items (org_id, restaurant_id, position, id);
