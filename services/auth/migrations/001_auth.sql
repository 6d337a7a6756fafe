-- People, their sessions and the keys belong to the platform, not to one organisation: a person may act for several.
-- So org_id is the nil UUID in every row here; it stays in front of each key because row guards are made by that rule.
CREATE TABLE accounts (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    email TEXT NOT NULL,
    email_folded TEXT NOT NULL,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    roles TEXT NOT NULL,
    orgs TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, email_folded)
);
-- One sign-in on one device. Ended ones stay a while, so that people can see them.
CREATE TABLE sessions (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    client_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    active BOOLEAN NOT NULL,
    reason TEXT,
    auth_time TIMESTAMPTZ NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,
    last_used_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    PRIMARY KEY (org_id, id),
    CHECK (active = (ended_at IS NULL))
);
CREATE INDEX sessions_user ON sessions (user_id, opened_at, id);
CREATE INDEX sessions_due ON sessions (expires_at) WHERE active;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
-- A used code stays until it is purged, so that a second use is noticed and ends the session of the first.
CREATE TABLE auth_codes (
    org_id UUID NOT NULL,
    code_hash BYTEA NOT NULL,
    user_id UUID NOT NULL,
    client_id TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scope TEXT NOT NULL,
    nonce TEXT,
    challenge TEXT NOT NULL,
    auth_time TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ,
    session_id UUID,
    PRIMARY KEY (org_id, code_hash),
    CHECK ((used_at IS NULL) = (session_id IS NULL))
);
CREATE INDEX auth_codes_expires ON auth_codes (expires_at);
-- The family of a refresh token is its session. successor is sealed under a key made from the token itself.
CREATE TABLE refresh_tokens (
    org_id UUID NOT NULL,
    token_hash BYTEA NOT NULL,
    session_id UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    rotated_at TIMESTAMPTZ,
    successor BYTEA,
    PRIMARY KEY (org_id, token_hash),
    CHECK (successor IS NULL OR rotated_at IS NOT NULL)
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_sealed ON refresh_tokens (rotated_at) WHERE successor IS NOT NULL;
-- private_key is sealed under a secret that is not in this database.
CREATE TABLE signing_keys (
    org_id UUID NOT NULL,
    kid TEXT NOT NULL,
    private_key BYTEA NOT NULL,
    modulus BYTEA NOT NULL,
    exponent BYTEA NOT NULL,
    published_at TIMESTAMPTZ NOT NULL,
    signs_from TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, kid)
);
