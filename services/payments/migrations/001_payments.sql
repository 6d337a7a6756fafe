-- What was heard of an order, before or after its payment is known. Its row is also the lock under which all decide.
CREATE TABLE orders_heard (
    org_id UUID NOT NULL,
    order_id UUID NOT NULL,
    ended BOOLEAN NOT NULL,
    accepted BOOLEAN NOT NULL,
    touched BIGINT NOT NULL,
    PRIMARY KEY (org_id, order_id)
);
CREATE TABLE payments (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    customer_id UUID NOT NULL,
    customer_email TEXT NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    captured_minor BIGINT NOT NULL CHECK (captured_minor BETWEEN 0 AND amount_minor),
    -- Refunds that are asked for or done; it can never pass what was captured.
    promised_minor BIGINT NOT NULL CHECK (promised_minor BETWEEN 0 AND captured_minor),
    refunded_minor BIGINT NOT NULL CHECK (refunded_minor BETWEEN 0 AND promised_minor),
    masked_card TEXT NOT NULL,
    decline_code TEXT,
    retry_until TIMESTAMPTZ,
    closed BOOLEAN NOT NULL,
    attempts BIGINT NOT NULL,
    refunds BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX payments_order ON payments (org_id, order_id);
CREATE INDEX payments_by_id ON payments (id);
CREATE INDEX payments_by_order ON payments (order_id);
CREATE INDEX payments_customer ON payments (customer_id, created_at, id);
CREATE INDEX payments_newest ON payments (created_at, id);
CREATE TABLE payment_attempts (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    payment_id UUID NOT NULL,
    order_id UUID NOT NULL,
    number BIGINT NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    card_token TEXT NOT NULL,
    masked_card TEXT NOT NULL,
    -- The provider's keys are fixed here before the first call that uses them.
    authorize_key TEXT NOT NULL,
    operation_key TEXT NOT NULL,
    keyed_at TIMESTAMPTZ NOT NULL,
    provider_id TEXT,
    challenge_url TEXT,
    decline_code TEXT,
    tries BIGINT NOT NULL,
    next_try_at TIMESTAMPTZ,
    last_error TEXT,
    traceparent TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX attempts_number ON payment_attempts (org_id, payment_id, number);
CREATE UNIQUE INDEX attempts_one_live ON payment_attempts (org_id, payment_id) WHERE state NOT IN ('DECLINED', 'EXPIRED', 'VOIDED');
CREATE INDEX attempts_due ON payment_attempts (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX attempts_by_order ON payment_attempts (order_id);
CREATE INDEX attempts_key ON payment_attempts (operation_key);
CREATE TABLE refunds (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    payment_id UUID NOT NULL,
    order_id UUID NOT NULL,
    number BIGINT NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    key TEXT NOT NULL,
    keyed_at TIMESTAMPTZ NOT NULL,
    reason TEXT NOT NULL,
    requested_by UUID,
    failure_code TEXT,
    tries BIGINT NOT NULL,
    next_try_at TIMESTAMPTZ,
    last_error TEXT,
    traceparent TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX refunds_number ON refunds (org_id, payment_id, number);
CREATE UNIQUE INDEX refunds_key ON refunds (org_id, key);
CREATE INDEX refunds_due ON refunds (next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX refunds_by_order ON refunds (order_id);
-- Append only: no statement of this service changes or removes a row. A correction is a new transfer.
CREATE TABLE ledger_transfers (
    org_id UUID NOT NULL,
    source_event_id UUID NOT NULL,
    leg BIGINT NOT NULL,
    payment_id UUID NOT NULL,
    order_id UUID NOT NULL,
    kind TEXT NOT NULL,
    debit_account TEXT NOT NULL,
    credit_account TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    provider_key TEXT NOT NULL,
    booked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, source_event_id, leg),
    CHECK (debit_account <> credit_account)
);
CREATE UNIQUE INDEX ledger_one_capture ON ledger_transfers (org_id, payment_id) WHERE kind = 'CAPTURE';
CREATE INDEX ledger_payment ON ledger_transfers (payment_id, booked_at);
CREATE INDEX ledger_provider_key ON ledger_transfers (provider_key);
-- Events of the provider that were taken; the second delivery of one does nothing.
CREATE TABLE provider_events (
    org_id UUID NOT NULL,
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, event_id)
);
CREATE INDEX provider_events_received ON provider_events (received_at);
